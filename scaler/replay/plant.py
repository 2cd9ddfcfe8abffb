"""The world a contender acts on: replicas that start slowly, a queue in front of them, and people who will not wait.

Time runs in whole seconds. Requests wait first in, first out. One replica serves ``rate`` requests per second; a
request that takes two seconds or longer holds its place in a replica for that long, shorter ones are a flow. A request
is *late* when it waited longer than ``slo_wait_s`` and was served, *lost* when it gave up after ``patience_s``, and
*refused* when it found no ready replica while the service was off. A replica is billed from the second it is asked for
until it is deleted: ``leaving_s`` after it was told to go, and not before what it has in work is done.

What is left out: requests of unequal length, balancing between replicas, starts that fail, regions without room.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from scaler.replay.queue import Queue
from scaler.replay.sight import Sight

LONG_S = 2.0
Floats = NDArray[np.float64]


class World(Struct, frozen=True, kw_only=True):
    """One replica, and those who ask. ``rate`` = requests per second of a busy replica, ``request_s`` = seconds of work
    in a request. ``starts_s`` are the durations of cold starts in the order they are drawn, begun anew at the end."""

    rate: float
    request_s: float
    slo_wait_s: float
    patience_s: float = 60.0
    leaving_s: int = 15
    starts_s: tuple[float, ...] = (90.0,)

    @property
    def concurrency(self) -> float:
        """Requests in work in one busy replica, by Little's law."""
        return self.rate * self.request_s

    @property
    def is_long(self) -> bool:
        """Whether requests are followed one by one."""
        return self.request_s >= LONG_S


class Course(Struct, frozen=True, kw_only=True):
    """What became of a replay: arrays of one number a second. ``billed`` and ``ready`` count replicas, the others
    requests; ``waiting`` those who still waited at the end."""

    billed: Floats
    ready: Floats
    served: Floats
    late: Floats
    lost: Floats
    refused: Floats
    waiting: float
    cold_starts: int
    changes: int


class Plant:
    """Replicas and queue at second ``sight.at``: ``serve`` lets time pass, ``ask`` changes the replicas."""

    def __init__(self, world: World, arrivals: Sequence[float], ready: int) -> None:
        self.world = world
        self.off = False
        self.sight = Sight(ready)
        self._arrivals = arrivals
        self._starting: list[tuple[int, float]] = []  # (asked at, ready at), in the order asked
        self._leaving: list[tuple[int, int]] = []  # (told to go at, how many)
        self._gone = 0  # so many of those entries are deleted by now
        self._queue = Queue(world.slo_wait_s, world.patience_s)
        self._in_work: deque[tuple[int, float]] = deque()  # long requests: (done at, how many)
        self._working = 0.0
        self._places = max(1, round(world.concurrency))
        self._creates = self._changes = 0
        size = len(arrivals)
        zeros = np.zeros(size).tobytes()
        self._billed, self._overhang = array("d", zeros), array("d", zeros)
        self._late, self._lost, self._refused = array("d", zeros), array("d", zeros), array("d", zeros)

    def ask(self, count: int) -> None:
        """Have ``count`` replicas, ready or starting. Of those too many, what starts goes first, newest first."""
        seen, starts_s = self.sight, self.world.starts_s
        have = seen.ready + seen.starting
        self._changes += count != have
        for _ in range(count - have):
            self._starting.append((seen.at, seen.at + starts_s[self._creates % len(starts_s)]))
            self._creates += 1
        given_up = min(len(self._starting), max(0, have - count))
        del self._starting[len(self._starting) - given_up :]
        seen.starting = len(self._starting)
        if going := max(0, have - count - given_up):
            seen.ready -= going
            self._leaving.append((seen.at, going))
            seen.leaving += going

    def serve(self, until: int) -> None:
        """Let time pass to second ``until``; replicas become ready on the way."""
        seen = self.sight
        while seen.at < until:
            end = min([until, *(math.ceil(ready_at) for _, ready_at in self._starting)])
            end = max(end, seen.at + 1)
            self._billed[seen.at : end] = array("d", [seen.ready + seen.starting]) * (end - seen.at)
            if self.world.is_long:
                self._follow(seen.at, end)
            else:
                self._flow(seen.at, end)
            seen.at = end
            self._become_ready()
        while self._gone < len(self._leaving) and self._leaving[self._gone][0] + self.world.leaving_s <= seen.at:
            seen.leaving -= self._leaving[self._gone][1]
            self._gone += 1

    def course(self) -> Course:
        """What became of it, once all time has passed."""
        seen = self.sight
        leaving = np.zeros(len(self._arrivals) + 1)
        for at, count in self._leaving:
            leaving[at] += count
            leaving[min(at + self.world.leaving_s, len(self._arrivals))] -= count
        return Course(
            billed=np.array(self._billed) + np.maximum(np.cumsum(leaving)[:-1], self._overhang),
            ready=np.diff(seen.ready_s),
            served=np.diff(seen.started),
            late=np.array(self._late),
            lost=np.array(self._lost),
            refused=np.array(self._refused),
            waiting=self._queue.total,
            cold_starts=self._creates,
            changes=self._changes,
        )

    def _become_ready(self) -> None:
        seen = self.sight
        for asked_at, ready_at in [s for s in self._starting if s[1] <= seen.at]:
            self._starting.remove((asked_at, ready_at))
            seen.ready += 1
            seen.starts_s.append(ready_at - asked_at)
        seen.starting = len(self._starting)

    def _flow(self, start: int, end: int) -> None:
        """Short requests: each second the ready replicas serve up to ``rate`` each."""
        seen, queue, arrivals, request_s = self.sight, self._queue, self._arrivals, self.world.request_s
        room = seen.ready * self.world.rate
        closed = self.off and seen.ready == 0
        for at in range(start, end):
            came = arrivals[at]
            if closed:
                self._refused[at] = came + queue.clear()
                came = 0.0
            if queue.total:
                self._lost[at] = queue.give_up(at)
            if not queue.total and came <= room:
                served = came
            else:
                queue.join(at, came)
                served, self._late[at] = queue.take(at, room)
            seen.passed(came, served, served, served * request_s, queue.total)

    def _follow(self, start: int, end: int) -> None:
        """Long requests: each holds one of a replica's places until it is done, also in a replica told to go."""
        seen, queue, places = self.sight, self._queue, self._places
        length_s = math.ceil(self.world.request_s)
        closed = self.off and seen.ready == 0
        for at in range(start, end):
            done = self._done(at)
            came = self._arrivals[at]
            if closed:
                self._refused[at] = came + queue.clear()
                came = 0.0
            self._lost[at] = queue.give_up(at)
            queue.join(at, came)
            begun, self._late[at] = queue.take(at, seen.ready * places - self._working)
            if begun:
                self._in_work.append((at + length_s, begun))
                self._working += begun
            self._overhang[at] = math.ceil(max(0.0, self._working - seen.ready * places) / places)
            seen.passed(came, begun, done, self._working, queue.total)

    def _done(self, at: int) -> float:
        done = 0.0
        while self._in_work and self._in_work[0][0] <= at:
            done += self._in_work.popleft()[1]
        self._working -= done
        return done
