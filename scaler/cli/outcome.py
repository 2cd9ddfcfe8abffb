"""How a command ends: exit codes, and errors as one sentence on stderr."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from scaler.cli.pipes import stop_writing
from scaler.errors import BadSetting, Unavailable

OK, NO, BAD_INPUT, UNREACHABLE = 0, 1, 2, 3

F = TypeVar("F", bound=Callable[..., Any])


def ending(command: F) -> F:
    """The command, with its errors told in a sentence and turned into exit codes."""

    @functools.wraps(command)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BadSetting as error:
            complain(str(error))
            raise typer.Exit(BAD_INPUT) from error
        except Unavailable as error:
            complain(str(error))
            raise typer.Exit(UNREACHABLE) from error
        except BrokenPipeError as error:
            stop_writing()
            raise typer.Exit(OK) from error
        except Exception as error:
            code = _of_client(error)
            if code is None:
                raise
            complain(str(error))
            raise typer.Exit(code) from error

    return told  # type: ignore[return-value]


def complain(sentence: str) -> None:
    """One line on stderr."""
    print(f"error: {sentence}", file=sys.stderr)


def _of_client(error: Exception) -> int | None:
    """The client is imported by the commands that need it, so its errors are known here only if it was."""
    client = sys.modules.get("scaler.cli.client")
    if client is None:
        return None
    if isinstance(error, client.Unreachable):
        return UNREACHABLE
    if isinstance(error, client.Refusal):
        return int(error.exit_code)
    return None
