"""Function apps written by tests, and the host serving them on a free loopback port, with time that tests step."""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from infra.local.functions.host import Host, Parts, bind, prepare

T = TypeVar("T")
HEAD = """
import asyncio, json, logging, threading
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
"""


def write_app(folder: Path, source: str, host: Mapping[str, Any] | None = None) -> Path:
    """A folder with this function_app.py (below the usual head) and host.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "function_app.py").write_text(HEAD + textwrap.dedent(source))
    (folder / "host.json").write_text(json.dumps({"version": "2.0", **(host or {})}))
    return folder


async def until(look: Callable[[], Awaitable[T]], deadline_s: float = 20.0) -> T:
    """The first true answer of ``look``."""
    async with asyncio.timeout(deadline_s):
        while not (found := await look()):  # noqa: ASYNC110 - what is waited for happens outside this loop
            await asyncio.sleep(0.02)
    return found


async def written(path: Path) -> str:
    """What a function writes into this file, once it is there."""

    async def look() -> str:
        return await asyncio.to_thread(lambda: path.read_text() if path.exists() else "")

    return await until(look)


class StepClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, at: float) -> None:
        self._at = at
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self._changed = asyncio.Event()

    def now(self) -> float:
        return self._at

    async def sleep_until(self, at: float) -> None:
        if at <= self._at:
            await asyncio.sleep(0)
            return
        event = asyncio.Event()
        self._sleepers.append((at, event))
        self._changed.set()
        await event.wait()

    def move_to(self, at: float) -> None:
        """Let time pass; who slept until then or less wakes."""
        self._at = at
        for sleeper in [s for s in self._sleepers if s[0] <= at]:
            self._sleepers.remove(sleeper)
            sleeper[1].set()

    async def asleep_until(self) -> float:
        """Wait until somebody sleeps; until when the first of them does."""
        while not self._sleepers:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 5)
        return min(at for at, _ in self._sleepers)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A host at work."""

    http: httpx.AsyncClient
    parts: Parts
    host: Host
    port: int

    @property
    def master(self) -> dict[str, str]:
        return {"x-functions-key": self.parts.keys.master}


@asynccontextmanager
async def serving(
    folder: Path,
    env: Mapping[str, str] | None = None,
    *,
    verify: str | None = None,
    clock: StepClock | None = None,
    grace_s: float = 5.0,
) -> AsyncIterator[Running]:
    """The host serving this folder, stopped with the block."""
    parts = prepare(folder, folder / "keys.json", env or {}, verify)
    listener = bind("127.0.0.1", 0)
    port = int(listener.getsockname()[1])
    host = Host(parts, clock, grace_s)
    task = asyncio.create_task(host.serve(listener))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as http:
            yield Running(http=http, parts=parts, host=host, port=port)
    finally:
        host.stop()
        await task
