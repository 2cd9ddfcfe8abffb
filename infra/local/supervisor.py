"""Starts the parts in the order in which they need each other, starts again what dies, ends all of them together."""

from __future__ import annotations

import asyncio
import signal
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import msgspec

from infra.local.children import die_with_parent
from infra.local.ledger import Ledger, end_group

START_LIMIT_S = 60.0
STOP_PATIENCE_S = 8.0
READY_POLL_S = 0.05
PAUSE_FIRST_S = 0.2
PAUSE_LONGEST_S = 5.0
SETTLED_AFTER_S = 10.0  # a part that lived this long was well: its next death begins the back-off anew
LOG_TAIL_LINES = 8

Say = Callable[[str], None]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A program of the system: how it is started, and the address that says when it is ready.

    Parts of one ``level`` start together, once everything of the lower levels is ready. ``key`` names its log.
    """

    key: str
    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    ready_url: str
    ready_statuses: frozenset[int] | None = frozenset({200})  # None: any answer will do
    level: int = 0


class NotStarted(Exception):
    """A part did not come up: which one, what it said last, and where the rest of it is."""


class _Running:
    """One part while it is watched: its process now, and what became of earlier ones."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.process: asyncio.subprocess.Process | None = None
        self.started_at = 0.0
        self.deaths_in_a_row = 0
        self.restarts = 0
        self.watch: asyncio.Task[None] | None = None


class Supervisor:
    """All parts of one system; ``folder`` holds ``logs`` and ``run``, ``say`` gets a line for what is worth knowing."""

    def __init__(self, folder: Path, say: Say, *, trust: ssl.SSLContext | None = None) -> None:
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._ledger = Ledger(folder / "run" / "ledger")
        self._say = say
        self._trust = trust
        self._running: dict[str, _Running] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def restarts(self) -> dict[str, int]:
        """How often each part had to be started again."""
        return {key: running.restarts for key, running in self._running.items()}

    def pid(self, key: str) -> int | None:
        """The process of a part, None while it has none."""
        process = self._running[key].process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self, parts: Sequence[Part], limit_s: float = START_LIMIT_S) -> None:
        """Start every part, level by level, each ready before the next. Raises ``NotStarted``; then nothing is left."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2), trust_env=False)
        try:
            for level in sorted({part.level for part in parts}):
                async with asyncio.TaskGroup() as group:
                    for part in parts:
                        if part.level == level:
                            group.create_task(self._bring_up(part, limit_s))
        except BaseExceptionGroup as problems:
            await self.stop()
            raise problems.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise
        for part in parts:
            running = self._running[part.key]
            running.watch = asyncio.create_task(self._keep(running))

    async def end(self, keys: Collection[str]) -> None:
        """End these parts: the last started first, so that nothing works against a part that is gone already."""
        ending = [running for key, running in self._running.items() if key in keys]
        for running in ending:
            if running.watch is not None:
                running.watch.cancel()
        await asyncio.gather(*(running.watch for running in ending if running.watch), return_exceptions=True)
        for level in sorted({running.part.level for running in ending}, reverse=True):
            await asyncio.gather(*(self._end(running) for running in ending if running.part.level == level))

    async def stop(self) -> None:
        """End everything that was started."""
        await self.end(self._running.keys())
        if self._session is not None:
            await self._session.close()
            self._session = None
        await asyncio.to_thread(self._ledger.reap)

    def force(self) -> None:
        """End everything now, unasked: somebody pressed Ctrl-C twice."""
        for running in self._running.values():
            if running.process is not None and running.process.returncode is None:
                end_group(running.process.pid, signal.SIGKILL)

    async def _bring_up(self, part: Part, limit_s: float) -> None:
        running = self._running[part.key] = _Running(part)
        await self._spawn(running, "wb")
        if not await self._is_ready(running, limit_s):
            assert running.process is not None
            code = running.process.returncode
            what = f"ended with {_exit(code)}" if code is not None else f"was not ready within {limit_s:.0f} s"
            raise NotStarted(f"{part.name} {what}; it said: {self._tail(part)}")

    async def _spawn(self, running: _Running, mode: str) -> None:
        part = running.part
        with (self._logs / f"{part.key}.log").open(mode) as log:
            try:
                running.process = await asyncio.create_subprocess_exec(
                    *part.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=asyncio.subprocess.STDOUT,
                    env=part.environment,
                    start_new_session=True,  # Ctrl-C is for the supervisor, which ends the parts in order
                    preexec_fn=die_with_parent(signal.SIGTERM),
                )
            except OSError as error:
                raise NotStarted(f"{part.name} cannot be started: {part.command[0]}: {error.strerror}") from error
        running.started_at = time.monotonic()
        self._ledger.note(part.key, running.process.pid)

    async def _is_ready(self, running: _Running, limit_s: float) -> bool:
        """Ask until it answers as a ready part does; False when it ended or the limit passed."""
        assert running.process is not None
        deadline = time.monotonic() + limit_s
        while running.process.returncode is None and time.monotonic() < deadline:
            if await self._answers(running.part):
                return True
            await asyncio.sleep(READY_POLL_S)
        return False

    async def _answers(self, part: Part) -> bool:
        assert self._session is not None
        try:
            async with self._session.get(part.ready_url, ssl=self._trust or True) as answer:
                return part.ready_statuses is None or answer.status in part.ready_statuses
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _keep(self, running: _Running) -> None:
        """Start the part again whenever it ends, later each time it does not get well."""
        while True:
            assert running.process is not None
            code = await running.process.wait()
            lived_s = time.monotonic() - running.started_at
            running.deaths_in_a_row = 0 if lived_s > SETTLED_AFTER_S else running.deaths_in_a_row + 1
            pause_s = min(PAUSE_FIRST_S * 2**running.deaths_in_a_row, PAUSE_LONGEST_S)
            self._say(f"{running.part.name} ended with {_exit(code)}; it is started again in {pause_s:.1f} s")
            await asyncio.sleep(pause_s)
            running.restarts += 1
            try:
                await self._spawn(running, "ab")
            except NotStarted as problem:
                self._say(str(problem))
                continue
            if await self._is_ready(running, START_LIMIT_S):
                self._say(f"{running.part.name} is back after {time.monotonic() - running.started_at:.1f} s")

    async def _end(self, running: _Running) -> None:
        process = running.process
        if process is None or process.returncode is not None:
            return
        end_group(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_PATIENCE_S)
            return
        self._say(f"{running.part.name} does not end by itself within {STOP_PATIENCE_S:.0f} s; it is ended by force")
        end_group(process.pid, signal.SIGKILL)
        await process.wait()

    def _tail(self, part: Part) -> str:
        log = self._logs / f"{part.key}.log"
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        last = "\n  ".join(lines[-LOG_TAIL_LINES:]) or "nothing"
        return f"{last}\n  (all of it: {log})"


def _exit(code: int) -> str:
    """An exit status in words: ``code 2``, ``signal SIGKILL``."""
    if code >= 0:
        return f"code {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
