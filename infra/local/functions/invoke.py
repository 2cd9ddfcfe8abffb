"""Calling a function as Azure's worker does: asynchronous ones on the loop, the others in threads, results checked."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import azure.functions as func
from azure.functions.meta import Datum

from infra.local.functions.app import Function, Output, converter_of

log = logging.getLogger(__name__)
current = contextvars.ContextVar("invocation", default="")
GENERIC = (
    (str, "string"),
    ((bytes, bytearray), "bytes"),
    (dict, "dict"),
    (list, "list"),
    (int, "int"),
    (float, "double"),
)
_local = threading.local()


class FunctionFailed(Exception):
    """The function raised, took too long, or gave what its bindings do not take; the log has said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a call gave: its result in the binding's own form, and what it set on its outputs."""

    returned: Datum | None
    outputs: tuple[tuple[Output, Datum], ...]


@dataclass(frozen=True, slots=True)
class _Trace:
    trace_parent: str = ""
    trace_state: str = ""
    attributes: tuple[()] = ()


@dataclass(frozen=True, slots=True)
class _Retry:
    retry_count: int = 0
    max_retry_count: int = 0
    exception: None = None


class Context(func.Context):
    """What a function may ask about its own call."""

    def __init__(self, function: Function, invocation_id: str) -> None:
        self._function = function
        self._invocation_id = invocation_id

    @property
    def invocation_id(self) -> str:
        return self._invocation_id

    @property
    def thread_local_storage(self) -> Any:
        return _local

    @property
    def function_name(self) -> str:
        return self._function.name

    @property
    def function_directory(self) -> str:
        return self._function.folder

    @property
    def trace_context(self) -> Any:
        return _Trace()

    @property
    def retry_context(self) -> Any:
        return _Retry()


class Out(func.Out[Any]):
    """Where a function puts an output."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        self._value = val

    def get(self) -> Any:
        return self._value


class Invoker:
    """Runs functions; ``timeout_s`` is host.json's functionTimeout."""

    def __init__(self, timeout_s: float | None, env: Mapping[str, str] = os.environ) -> None:
        self._timeout_s = timeout_s
        threads = env.get("PYTHON_THREADPOOL_THREAD_COUNT", "")
        self._threads = ThreadPoolExecutor(int(threads) if threads.isdecimal() and int(threads) else None, "function")
        self._in_threads = 0

    async def call(self, function: Function, argument: object) -> Outcome:
        """One invocation. Raises FunctionFailed, after a log record with the stack."""
        invocation_id = str(uuid.uuid4())
        token = current.set(f"{function.name} {invocation_id[:8]}")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._run(function, argument, invocation_id)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                log.error("the host stopped before function %s had ended", function.name)
                raise
            log.exception("function %s cancelled itself", function.name)
            raise FunctionFailed from error
        except TimeoutError as error:
            log.exception("function %s failed or took longer than functionTimeout", function.name)
            raise FunctionFailed from error
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            log.exception("function %s failed", function.name)
            raise FunctionFailed from error
        finally:
            current.reset(token)

    def close(self) -> bool:
        """Take no more; whether no thread is still at work. One that ran past its timeout cannot be ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        return self._in_threads == 0

    def _left_thread(self, future: asyncio.Future[Any]) -> None:
        self._in_threads -= 1
        if not future.cancelled():
            future.exception()  # asked for, so that asyncio does not report it a second time

    async def _run(self, function: Function, argument: object, invocation_id: str) -> Outcome:
        arguments: dict[str, Any] = {function.argument: argument}
        outs = {output.name: Out() for output in function.outputs}
        arguments |= outs
        if function.wants_context:
            arguments["context"] = Context(function, invocation_id)
        if function.is_async:
            _local.invocation_id = invocation_id
            result = await function.call(**arguments)
        else:
            loop = asyncio.get_running_loop()
            run = contextvars.copy_context().run
            self._in_threads += 1
            future = loop.run_in_executor(self._threads, run, _call, function, arguments, invocation_id)
            future.add_done_callback(self._left_thread)
            # Shielded: a thread goes on when its caller gives up, and is counted until it ends.
            result = await asyncio.shield(future)
        if result is not None and function.returned is None:
            raise RuntimeError(
                f"function {function.name} has no binding for a result and returned a {type(result).__name__}"
            )
        given = [(output, outs[output.name].get()) for output in function.outputs]
        return Outcome(
            returned=None if function.returned is None else _encode(function.returned, result),
            outputs=tuple((output, _encode(output, value)) for output, value in given if value is not None),
        )


def _call(function: Function, arguments: dict[str, Any], invocation_id: str) -> Any:
    _local.invocation_id = invocation_id
    try:
        return function.call(**arguments)
    except SystemExit as error:
        raise RuntimeError(f"function {function.name} called exit({error.code})") from error
    finally:
        _local.invocation_id = None


def _encode(output: Output, value: Any) -> Datum:
    """The value in the form the binding takes, made by azure.functions' own converter."""
    if output.annotation in (str, bytes) and output.name != "$return":
        return _generic(output, value)
    converter = converter_of(output.kind)
    try:
        encoded: Datum = converter.encode(value, expected_type=output.annotation)
    except NotImplementedError as error:
        raise TypeError(f"a {output.kind} output takes no {type(value).__name__}") from error
    return encoded


def _generic(output: Output, value: Any) -> Datum:
    """What the worker makes of a value for an ``Out[str]`` or ``Out[bytes]``."""
    for kind, name in GENERIC:
        if isinstance(value, kind):
            return Datum(type=name, value=bytes(value) if isinstance(value, bytearray) else value)
    raise TypeError(f"the output {output.name} takes no {type(value).__name__}")
