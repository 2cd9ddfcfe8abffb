"""What a contender sees when it decides: the counts of now, and totals of the past of which it may take any window."""

from __future__ import annotations

from array import array
from typing import Protocol, TypeVar

from msgspec import Struct

S = TypeVar("S")


class Sight:
    """The service at the whole second ``at``, from the first second of a replay on.

    Each list holds running totals at the end of every second, with a zero before the first: a window costs one
    subtraction whatever its length. ``arrivals``, ``started`` and ``completed`` count requests, ``in_work`` and
    ``waiting`` request seconds, ``ready_s`` replica seconds. What was refused off-hours is in none of them.
    """

    def __init__(self, ready: int, starting: int = 0) -> None:
        self.at = 0
        self.ready = ready
        self.starting = starting
        self.leaving = 0  # told to go, and not gone yet
        self.queued = 0.0  # requests that wait now
        self.arrivals = array("d", [0.0])
        self.started = array("d", [0.0])
        self.completed = array("d", [0.0])
        self.in_work = array("d", [0.0])
        self.waiting = array("d", [0.0])
        self.ready_s = array("d", [0.0])
        self.starts_s: list[float] = []  # every start that has finished, oldest first

    def passed(self, arrived: float, started: float, completed: float, working: float, queued: float) -> None:
        """One more second is over."""
        self.arrivals.append(self.arrivals[-1] + arrived)
        self.started.append(self.started[-1] + started)
        self.completed.append(self.completed[-1] + completed)
        self.in_work.append(self.in_work[-1] + working)
        self.waiting.append(self.waiting[-1] + queued)
        self.ready_s.append(self.ready_s[-1] + self.ready)
        self.queued = queued

    @property
    def asked(self) -> int:
        """Replicas that are there or will be: ready and starting."""
        return self.ready + self.starting

    def arrivals_per_s(self, window_s: int) -> float:
        """Over the last ``window_s`` seconds, or as many as there are."""
        return _mean(self.arrivals, window_s)

    def concurrency(self, window_s: int) -> float:
        """Mean number of requests in work or waiting."""
        return _mean(self.in_work, window_s) + _mean(self.waiting, window_s)

    def busy_share(self, window_s: int, concurrency: float) -> float | None:
        """Share (0..1) of what the ready replicas could have had in work; None while none was ready."""
        could = _mean(self.ready_s, window_s) * concurrency
        return min(1.0, _mean(self.in_work, window_s) / could) if could > 0 else None


def _mean(totals: array[float], window_s: int) -> float:
    now = len(totals) - 1
    since = max(0, now - window_s)
    return (totals[now] - totals[since]) / (now - since) if now > since else 0.0


class Wish(Struct, frozen=True):
    """How many replicas (ready + starting) there shall be; ``off``: what finds none is refused instead of held."""

    count: int
    off: bool = False


class Rule(Protocol[S]):
    """A way to decide. It looks every ``tick_s`` whole seconds, and ``wake_s`` seconds after a request found no replica
    at all, neither ready nor starting (None: only with its next tick)."""

    @property
    def name(self) -> str: ...

    @property
    def tick_s(self) -> int: ...

    @property
    def wake_s(self) -> int | None: ...

    @property
    def begins(self) -> int | None:
        """The ready replicas it begins with; None: as many as the first minutes need."""

    def initial(self) -> S:
        """The state before the first look."""

    def decide(self, state: S, seen: Sight) -> tuple[Wish, S]:
        """What is wanted now, and what to remember of it."""


class Terms(Struct, frozen=True, kw_only=True):
    """What a peer's rule may count on: bounds, what one replica carries (requests per second, requests at once), and
    the share of that which the rule aims to keep busy."""

    min: int
    max: int
    rate: float
    concurrency: float
    share: float = 0.7

    def within(self, count: int) -> int:
        """The count, held to the bounds."""
        return min(self.max, max(self.min, count))
