"""Load for one HTTP server: closed and open loops over keep-alive connections, and what came back.

Closed: every connection sends its next request as soon as it has its answer; how much a server can do.
Open: requests are due at random times (Poisson) whatever the server does, and are late from then on; how it behaves
at a given rate. Both run in processes of their own, pinned to given cores, so that they take nothing from the server.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import socket
import time
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import uvloop

KEEP = 97  # one answer in so many is kept, to be looked at after the timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What to do: `rate` 0 is a closed loop; `connections` is their number, in an open loop the most of them."""

    port: int
    requests: tuple[bytes, ...]
    connections: int
    seconds: float
    warm_s: float = 0.5
    rate: float = 0.0
    seed: int = 1
    cores: tuple[int, ...] = ()


@dataclass(slots=True)
class Outcome:
    """Counts of the seconds after the warm-up; seconds by status (0: the connection broke) since a request was due, and
    since it was sent: what lies between is the load's own delay.
    """

    seconds: float = 0.0
    latencies_s: dict[int, list[float]] = field(default_factory=dict)
    since_sent_s: dict[int, list[float]] = field(default_factory=dict)
    kept: list[tuple[int, bytes]] = field(default_factory=list)  # which request, and the body of its answer
    offered: int = 0
    unanswered: int = 0

    @property
    def per_second(self) -> float:
        """Answers with status 200 a second."""
        return len(self.latencies_s.get(200, ())) / self.seconds

    @property
    def statuses(self) -> Counter[int]:
        return Counter({status: len(times) for status, times in self.latencies_s.items()})

    def quantile_ms(self, share: float, status: int = 200, *, since_sent: bool = False) -> float:
        """Milliseconds within which `share` of the answers of a status came."""
        times = sorted((self.since_sent_s if since_sent else self.latencies_s).get(status, ()))
        return 1e3 * times[min(len(times) - 1, int(share * len(times)))] if times else float("nan")

    def add(self, other: Outcome) -> None:
        """Joins what another process saw at the same time."""
        self.seconds = max(self.seconds, other.seconds)
        for mine, others in ((self.latencies_s, other.latencies_s), (self.since_sent_s, other.since_sent_s)):
            for status, times in others.items():
                mine.setdefault(status, []).extend(times)
        self.kept += other.kept
        self.offered += other.offered
        self.unanswered += other.unanswered


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole request."""
    lines = [f"POST {path} HTTP/1.1", "host: bench", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class _Connection(asyncio.Protocol):
    """At most one request in hand."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._buffer = b""
        self._need = 0
        self._transport: Any = None
        self.which, self.due, self.sent_at, self.busy = 0, 0.0, 0.0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport

    def send(self, which: int, due: float) -> None:
        self.which, self.due, self.busy = which, due, True
        self.sent_at = time.perf_counter()
        self._buffer, self._need = b"", 0
        self._transport.write(self._load.work.requests[which])

    def data_received(self, data: bytes) -> None:
        self._buffer = buffer = self._buffer + data if self._buffer else data
        if not self._need:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            at = buffer.find(b"content-length: ", 0, end)
            self._need = end + 4 + int(buffer[at + 16 : buffer.find(b"\r", at)])
            self._body_at = end + 4
        if len(buffer) >= self._need:
            self.busy = False
            self._load.done(self, int(buffer[9:12]), buffer[self._body_at : self._need])

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._load.lost(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Load:
    def __init__(self, work: Work) -> None:
        self.work = work
        self.outcome = Outcome()
        self.idle: deque[_Connection] = deque()
        self.waiting: deque[float] = deque()
        self.open: set[_Connection] = set()
        self.recording = False
        self.closing = False
        self._sent = work.seed
        self._answers = 0

    async def connect(self) -> None:
        _, made = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self), "127.0.0.1", self.work.port
        )
        self.open.add(made)
        self.idle.append(made)

    def send(self, connection: _Connection, due: float) -> None:
        self._sent += 1
        connection.send(self._sent % len(self.work.requests), due)

    def done(self, connection: _Connection, status: int, body: bytes) -> None:
        now = time.perf_counter()
        if self.recording:
            self.outcome.latencies_s.setdefault(status, []).append(now - connection.due)
            self.outcome.since_sent_s.setdefault(status, []).append(now - connection.sent_at)
            self._answers += 1
            if status == 200 and self._answers % KEEP == 1:
                self.outcome.kept.append((connection.which, body))
        if self.closing:
            return
        if not self.work.rate:
            self.send(connection, now)
        elif self.waiting:
            self.send(connection, self.waiting.popleft())
        else:
            self.idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self.open.discard(connection)
        if self.closing:
            return
        if connection.busy and self.recording:
            self.outcome.latencies_s.setdefault(0, []).append(time.perf_counter() - connection.due)

    async def closed_loop(self) -> None:
        for _ in range(self.work.connections):
            await self.connect()
        for connection in list(self.idle):
            self.send(connection, time.perf_counter())
        await asyncio.sleep(self.work.warm_s)
        self.recording, begun_at = True, time.perf_counter()
        await asyncio.sleep(self.work.seconds)
        self.outcome.seconds = time.perf_counter() - begun_at
        self.outcome.offered = self._answers

    async def open_loop(self) -> None:
        work, chance = self.work, random.Random(self.work.seed)  # noqa: S311 - arrivals, not secrets
        while len(self.open) < min(work.connections, 64):
            await self.connect()
        due = begun_at = time.perf_counter()
        begins, ends = begun_at + work.warm_s, begun_at + work.warm_s + work.seconds
        opening: set[asyncio.Task[None]] = set()
        while (now := time.perf_counter()) < ends:
            self.recording = now >= begins
            while due <= now:
                self.outcome.offered += self.recording
                if self.idle:
                    self.send(self.idle.popleft(), due)
                else:
                    self.waiting.append(due)
                due += chance.expovariate(work.rate)
            lacking = min(len(self.waiting), work.connections - len(self.open) - len(opening), 8 - len(opening))
            for _ in range(lacking):
                task = asyncio.ensure_future(self._join())
                opening.add(task)
                task.add_done_callback(opening.discard)
            await asyncio.sleep(0.0 if due - time.perf_counter() < 0.002 else 0.001)
        self.outcome.seconds = time.perf_counter() - begins
        self.outcome.unanswered = len(self.waiting) + sum(connection.busy for connection in self.open)
        await asyncio.gather(*opening)

    async def _join(self) -> None:
        await self.connect()
        if self.waiting and not self.closing:
            self.send(self.idle.pop(), self.waiting.popleft())

    async def run(self) -> Outcome:
        try:
            await (self.open_loop() if self.work.rate else self.closed_loop())
        finally:
            self.recording, self.closing = False, True
            for connection in list(self.open):
                connection.close()
        return self.outcome


def play(work: Work) -> Outcome:
    """Does the work in this process."""
    if work.cores:
        os.sched_setaffinity(0, work.cores)
    return uvloop.run(_Load(work).run())


class Players:
    """Processes that play; `with Players(2, cores) as players: players.play(work)` shares each work among them."""

    def __init__(self, processes: int, cores: tuple[int, ...] = ()) -> None:
        self._processes, self._cores = processes, cores
        self._pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> Players:
        list(self._pool.map(time.sleep, [0.2] * self._processes))  # so that all have started before anything is timed
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def play(self, work: Work) -> Outcome:
        """The joined outcome."""
        count = min(self._processes, work.connections)
        share = [work.connections // count + (i < work.connections % count) for i in range(count)]
        works = [
            replace(work, connections=share[i], rate=work.rate / count, seed=work.seed + 1009 * i, cores=self._cores)
            for i in range(count)
        ]
        joined = Outcome()
        for outcome in self._pool.map(play, works):
            joined.add(outcome)
        return joined
