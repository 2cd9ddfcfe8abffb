"""Who may call: the master key, keys of the whole host and keys of single functions, kept in one file of mode 600."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from infra.local.functions.errors import StartError

log = logging.getLogger(__name__)


class Level(IntEnum):
    """What a caller may do; more includes less."""

    ANONYMOUS = 0
    FUNCTION = 1
    ADMIN = 2


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Keys:
    """The keys by name; function names in lower case."""

    master: str
    host: dict[str, str]
    functions: dict[str, dict[str, str]]

    def level(self, given: str | None, function: str | None = None) -> Level:
        """What the key ``given`` allows on ``function``. Every key is compared, in a time that tells nothing."""
        if not given:
            return Level.ANONYMOUS
        digest = _digest(given)
        is_master = hmac.compare_digest(digest, _digest(self.master))
        of_function = self.functions.get(function.lower(), {}) if function else {}
        matches = [hmac.compare_digest(digest, _digest(key)) for key in (*self.host.values(), *of_function.values())]
        if is_master:
            return Level.ADMIN
        return Level.FUNCTION if any(matches) and function else Level.ANONYMOUS


def load_keys(path: Path, functions: Iterable[str]) -> Keys:
    """Read the file; make it, or the keys of new functions in it, where they are missing. Raises StartError."""
    raw = _read(path)
    missing = {
        "master": raw.get("master") or new_key(),
        "functionKeys": raw.get("functionKeys") or {"default": new_key()},
    }
    known = dict(raw.get("functions", {}))
    for name in functions:
        known.setdefault(name, {"default": new_key()})
    complete = {**raw, **missing, "functions": known}
    if complete != raw:
        _write(path, complete)
    elif path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning("the keys in %s can be read by other users of this machine; chmod 600 it", path)
    return Keys(
        master=complete["master"],
        host=complete["functionKeys"],
        functions={name.lower(): keys for name, keys in complete["functions"].items()},
    )


def new_key() -> str:
    """A key of 256 random bits."""
    return secrets.token_urlsafe(32)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"the key file {path} cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise StartError(f"the key file {path} is not JSON (line {error.lineno}); mend it or delete it") from error
    if not _is_well_formed(raw):
        raise StartError(
            f'the key file {path} must look like {{"master": "…", "functionKeys": {{"default": "…"}}, '
            '"functions": {"name": {"default": "…"}}} with no empty key; mend it or delete it'
        )
    return dict(raw)


def _is_well_formed(raw: Any) -> bool:
    if not isinstance(raw, dict):
        return False
    functions = raw.get("functions", {})
    return (
        (isinstance(raw.get("master", "-"), str) and raw.get("master", "-") != "")
        and _are_keys(raw.get("functionKeys", {}))
        and isinstance(functions, dict)
        and all(_are_keys(keys) for keys in functions.values())
    )


def _are_keys(keys: Any) -> bool:
    return isinstance(keys, dict) and all(isinstance(key, str) and key for key in keys.values())


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
        aside.replace(path)
    except OSError as error:
        raise StartError(f"the key file {path} cannot be written: {error}") from error
