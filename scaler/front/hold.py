"""The hold of one service: requests that no replica has taken wait here, and it is decided when each is tried again.

Envoy sends a request here when it knows no healthy replica, or after a try on a replica failed, and keeps the body. The
answer is ``again`` (Envoy tries a replica next), or a final refusal. A request comes back as often as it fails:

============================  =====================================================================================
it comes because              it waits until
============================  =====================================================================================
there is no replica           every Envoy has a list with one that is ready
a replica was full (503)      it is its turn (``turns.py``): the others are full as well, or it would not be here
a replica went away           another one answers, or a new one is listed; the fourth time it is given up, for it may
                              be the request that does it
Envoy has ejected them all    one of them answers
============================  =====================================================================================

and never longer than the hold limit, counted from when Envoy first saw it.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from scaler.front.applied import Applied
from scaler.front.endpoints import Endpoint, Endpoints
from scaler.front.news import News, first
from scaler.front.probe import Connect, Prober, connects
from scaler.front.turns import Turn, Turns

PROBE_S = 0.5  # between two looks at whether somebody answers again
PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
CRASHES = 4  # replicas that may go away with a request before it is given up
WAITING = 1000  # requests that may wait for one service
STREAMS = 50_000  # requests remembered between two visits
STREAM_S = 600.0
SOON_S = 5.0  # Retry-After of what is refused for now
NEVER_OPENS_S = 3600.0  # Retry-After of a service that is off with no opening in sight


class Visit(Struct, frozen=True, kw_only=True):
    """One arrival of a request, as Envoy's headers tell it. ``attempt`` counts from 1; the first was ``started_at``."""

    stream: str
    attempt: int
    started_at: float


class Answer(Struct, frozen=True, kw_only=True):
    """``again``: Envoy shall try a replica now. Else a final 503 with a reason and a time to come back."""

    again: bool = False
    name: str = ""
    detail: str = ""
    retry_after_s: float = SOON_S


AGAIN = Answer(again=True)


@dataclass(slots=True)
class _Stream:
    """What is remembered of a request from visit to visit."""

    seen_at: float
    attempt: int = 0
    visits: int = 0
    crashes: int = 0
    dead: frozenset[Endpoint] = frozenset()  # replicas that were missing when it was last here


@dataclass(slots=True)
class _Wait:
    """What one visit waits for: its turn, or anybody not in ``known``, or, from ``not_before``, anybody who answers."""

    stream: _Stream
    known: frozenset[Endpoint]
    not_before: float
    deadline: float
    turn: Turn | None = None  # of one that was refused: then nothing else lets it go


class Hold:
    """Counts and holds the requests of one service. ``news`` fires when anything changes that others tell about."""

    def __init__(
        self,
        service: str,
        *,
        hold_limit_s: float,
        connect: Connect = connects,
        clock: Callable[[], float] = time.time,
        waiting_limit: int = WAITING,
    ) -> None:
        self.endpoints = Endpoints(service=service, hold_limit_s=hold_limit_s)
        self.learned_at: float | None = None  # when the table was last read; None: not since this process began
        self.applied = Applied()
        self.changed = News()  # the list, what Envoy has of it, off or not
        self.news = News()  # the counts
        self.waiting = 0
        self.arrivals_total = 0
        self.expired_total = 0
        self.refused_off_hours_total = 0
        self._hold_limit_s = hold_limit_s
        self._waiting_limit = waiting_limit
        self._clock = clock
        self._prober = Prober(connect)
        self._turns = Turns()
        self._streams: dict[str, _Stream] = {}
        self._closing = False
        self.applied.served(self.endpoints)

    @property
    def known(self) -> bool:
        """Whether the table was read since this process began."""
        return self.learned_at is not None

    def learn(self, endpoints: Endpoints) -> None:
        """The table was read."""
        news = not self.known or endpoints != self.endpoints
        self.endpoints, self.learned_at = endpoints, self._clock()
        if not news:
            return
        self.applied.served(endpoints)
        self.changed.fire()

    def close(self) -> None:
        """Send everybody back to Envoy, which keeps trying until somebody holds again."""
        self._closing = True
        self.changed.fire()

    async def visit(self, visit: Visit, gone: asyncio.Future[None]) -> Answer | None:
        """Wait, and say how it goes on; None when the client went away meanwhile (``gone``)."""
        now = self._clock()
        stream = self._stream(visit, now)
        failed_tries = visit.attempt - stream.attempt - 1
        stream.attempt, stream.visits = max(visit.attempt, stream.attempt), stream.visits + 1
        if stream.visits == 1:
            self.arrivals_total += 1
        if self.endpoints.is_off(now):
            return self._off(now)
        if self.waiting >= self._waiting_limit and stream.visits == 1:
            self.expired_total += 1
            self.news.fire()
            return Answer(name="too-many-waiting", detail=f"{self.waiting} requests wait for a replica already.")
        self.waiting += 1
        self.news.fire()
        try:
            return await self._held(visit, stream, failed_tries, gone)
        finally:
            self.waiting -= 1
            self.news.fire()

    async def _held(
        self, visit: Visit, stream: _Stream, failed_tries: int, gone: asyncio.Future[None]
    ) -> Answer | None:
        now = self._clock()
        wait = _Wait(stream=stream, known=self._usable(now), not_before=now, deadline=self._deadline(visit, now))
        if failed_tries > 0:
            await self._after_failure(wait, failed_tries)
            if stream.crashes >= CRASHES:
                return self._given_up(stream)
        elif wait.known:
            wait.not_before += _pause(stream.visits)
        try:
            while not gone.done():
                changed = self.changed.next()
                answer = await self._look(wait, self._clock())
                if answer is not None:
                    return answer
                if not changed.done():
                    await first(changed, gone, *([wait.turn] if wait.turn else []), timeout_s=self._rest_s(wait))
            return None
        finally:
            if wait.turn is not None:
                wait.turn.cancel()

    def _rest_s(self, wait: _Wait) -> float:
        """Seconds until there is something to look at although nothing happened."""
        now = self._clock()
        if wait.turn is None and self._usable(now):
            return min(wait.deadline, wait.not_before) - now
        return wait.deadline - now

    async def _look(self, wait: _Wait, now: float) -> Answer | None:
        """How the visit ends, if it ends now."""
        if self.endpoints.is_off(now):
            return self._off(now)
        usable = self._usable(now)
        refused = wait.turn is not None
        if self._closing or (wait.turn.done() if wait.turn else usable - wait.known):
            return AGAIN
        if now >= wait.deadline:
            self.expired_total += 1
            reason = "Every replica was full" if refused else "No replica became ready"
            return Answer(name="no-replica", detail=f"{reason} for as long as a request may wait.")
        if usable and not refused and now >= wait.not_before:
            alive = await self._prober.alive(usable)
            if alive:
                wait.stream.dead = usable - alive
                return AGAIN
            wait.not_before = now + PROBE_S
        return None

    async def _after_failure(self, wait: _Wait, failed_tries: int) -> None:
        """A try on a replica failed: what to wait for depends on whether one is missing, or all are there but full."""
        stream, listed = wait.stream, wait.known
        dead = listed - await self._prober.alive(listed)
        missing = len(dead - stream.dead) if listed else 1
        stream.crashes += min(missing, failed_tries)
        stream.dead = dead
        if listed and not dead:
            self._turns.refused()
            wait.turn = self._turns.take(wait.deadline)
        elif stream.visits > len(listed):
            wait.not_before += _pause(stream.visits - len(listed))

    def _given_up(self, stream: _Stream) -> Answer:
        self.expired_total += 1
        detail = f"{stream.crashes} replicas went away while they had this request."
        return Answer(name="replicas-went-away", detail=detail)

    def _off(self, now: float) -> Answer:
        self.refused_off_hours_total += 1
        self.news.fire()
        opens_at = self.endpoints.opens_at
        wait_s = NEVER_OPENS_S if opens_at is None else max(1.0, opens_at - now)
        return Answer(name="off-hours", detail="This service is switched off at this time.", retry_after_s=wait_s)

    def _usable(self, now: float) -> frozenset[Endpoint]:
        return self.applied.usable(self.endpoints, now)

    def _deadline(self, visit: Visit, now: float) -> float:
        limit_s = min(self._hold_limit_s, self.endpoints.hold_limit_s)
        believable = math.isfinite(visit.started_at) and now - 86_400 < visit.started_at <= now
        return (visit.started_at if believable else now) + limit_s

    def _stream(self, visit: Visit, now: float) -> _Stream:
        stream = self._streams.pop(visit.stream, None) or _Stream(seen_at=now)
        stream.seen_at = now
        self._streams[visit.stream] = stream  # last again: the dict is in the order of the visits
        while len(self._streams) > 1:
            oldest = next(iter(self._streams))
            if len(self._streams) <= STREAMS and now - self._streams[oldest].seen_at < STREAM_S:
                break
            del self._streams[oldest]
        return stream


def _pause(times: int) -> float:
    """Seconds, doubled with each time, and never the same for two: they shall not all come at once."""
    longest_s: float = min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(times - 1, 10))
    return longest_s * random.uniform(0.5, 1.5)  # noqa: S311
