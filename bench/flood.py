"""A flood for one HTTP server: requests that are due whatever it does, from a client as cheap as Python allows.

`bench.load` spends as much on a request as a small model's server, so it cannot offer three times what that can do.
Here is one epoll loop over plain sockets, requests made beforehand, and the kernel's own time stamp on every answer:
what an answer waited until this process read it is not counted against the server.
"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from bench.load import Work

TIMESTAMPS = 35  # SO_TIMESTAMPNS, which the socket module does not name
TIMESPEC = struct.Struct("qq")
READ_BYTES = 2**18
SEND_BYTES = 2**20


@dataclass(slots=True)
class Seen:
    """What came back after the warm-up: seconds from sending to the last byte's arrival in the kernel, by status."""

    seconds: float = 0.0
    sent: int = 0
    due: int = 0
    not_sent: int = 0  # due, but no connection was free until the end
    waited_s: dict[int, array[float]] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Answers with status 200 a second."""
        return len(self.waited_s.get(200, ())) / self.seconds

    def quantile_ms(self, status: int, share: float) -> float:
        times = sorted(self.waited_s.get(status, ()))
        return 1e3 * times[min(len(times) - 1, int(share * len(times)))] if times else float("nan")


class _Seat:
    """One connection with at most one request in hand."""

    __slots__ = ("missing", "sent_at", "socket", "status")

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)  # a request fits: send takes it whole
        self.socket.setsockopt(socket.SOL_SOCKET, TIMESTAMPS, 1)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.missing = self.status = 0
        self.sent_at = 0.0


class _Client:
    def __init__(self, work: Work) -> None:
        self.work, self.seen = work, Seen()
        self.epoll = select.epoll()
        self.seats = {seat.socket.fileno(): seat for seat in (_Seat(work.port) for _ in range(work.connections))}
        for number in self.seats:
            self.epoll.register(number, select.EPOLLIN)
        self.idle = deque(self.seats.values())
        self.next = 0
        self.begins = float("inf")

    def send(self, seat: _Seat) -> None:
        requests = self.work.requests
        self.next = (self.next + 1) % len(requests)
        request = requests[self.next]
        seat.sent_at = time.time()
        if seat.socket.send(request) != len(request):
            raise RuntimeError("a request did not fit into the socket's buffer")
        self.seen.sent += seat.sent_at >= self.begins

    def read(self, seat: _Seat) -> bool:
        """Whether the answer is complete now."""
        data, told, _, _ = seat.socket.recvmsg(READ_BYTES, 64)
        if not data:
            raise ConnectionResetError("the server closed a connection in a flood")
        if seat.missing:
            seat.missing -= len(data)
        else:
            end = data.index(b"\r\n\r\n")
            at = data.index(b"content-length: ", 0, end) + 16
            seat.status = int(data[9:12])
            seat.missing = end + 4 + int(data[at : data.index(b"\r", at)]) - len(data)
        if seat.missing:
            return False
        if seat.sent_at >= self.begins:
            whole_s, nanoseconds = TIMESPEC.unpack(told[0][2])
            waited_s = whole_s + nanoseconds * 1e-9 - seat.sent_at
            self.seen.waited_s.setdefault(seat.status, array("f")).append(waited_s)
        return True

    def poll(self, timeout_s: float, after: Any) -> None:
        """Reads what there is and calls `after` with every connection that has its answer."""
        seats, read = self.seats, self.read
        for number, _ in self.epoll.poll(timeout_s, len(seats)):
            seat = seats[number]
            if read(seat):
                after(seat)

    def closed_loop(self) -> None:
        ends = self.begins + self.work.seconds
        while self.idle:
            self.send(self.idle.popleft())
        while time.time() < ends:
            self.poll(0.05, self.send)

    def open_loop(self) -> None:
        chance, rate = random.Random(1), self.work.rate  # noqa: S311 - arrivals, not secrets
        due = time.time()
        ends, waiting = self.begins + self.work.seconds, 0
        while (now := time.time()) < ends:
            while due <= now:
                waiting += 1
                self.seen.due += due >= self.begins
                due += chance.expovariate(rate)
            while waiting and self.idle:
                waiting -= 1
                self.send(self.idle.popleft())
            self.poll(0.0 if waiting else max(0.0, due - now), self.idle.append)
        self.seen.not_sent = waiting

    def run(self) -> Seen:
        self.begins = time.time() + self.work.warm_s
        try:
            (self.open_loop if self.work.rate else self.closed_loop)()
            self.seen.seconds = time.time() - self.begins
        finally:
            for seat in self.seats.values():
                seat.socket.close()
        return self.seen


def _pour(work: Work) -> Seen:
    if work.cores:
        os.sched_setaffinity(0, work.cores)
    return _Client(work).run()


def pour(work: Work) -> Seen:
    """Does it in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        seen: Seen = pool.apply(_pour, (work,))
    return seen
