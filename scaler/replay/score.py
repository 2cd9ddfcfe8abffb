"""What a replay comes to, and how sure a difference between two of them is.

    economic cost = replica hours + price of lateness x (late + 3 x lost requests) x replica time of a request

so a policy may pay for replicas or for waiting, and both stand in one figure (replica hours). Refused requests have no
price: refusing off-hours is the operator's own rule.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from scaler.replay.plant import Course, Floats, World

LOST_AS_LATE = 3.0
HOUR_S = 3600
FEWEST_HOURS = 12
DRAWS = 2000
SURE = 0.95


class Price(Struct, frozen=True, kw_only=True):
    """What lateness costs (replica time per replica time of a late request), and a replica hour in money, if known."""

    lateness: float
    replica_hour: float | None = None
    currency: str = "EUR"


class Score(Struct, frozen=True, kw_only=True):
    """The sums of one replay. ``cost`` is the economic cost in replica hours, ``money`` what the replicas cost."""

    name: str
    replica_hours: float
    money: float | None
    requests: float
    served: float
    late: float
    lost: float
    refused: float
    waiting: float
    cold_starts: int
    changes: int
    most_ready: int
    cost: float

    @property
    def late_share(self) -> float:
        """Of the requests that were not refused, how many waited too long or gave up."""
        asked = self.requests - self.refused
        return (self.late + self.lost) / asked if asked > 0 else 0.0


class Interval(Struct, frozen=True, kw_only=True):
    """A difference of economic cost in replica hours (the other minus the first), its 95 % interval, and the first's
    cost, of which it is a share. ``low`` and ``high`` are None where too few hours were played to tell."""

    difference: float
    low: float | None
    high: float | None
    of: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves the sign in no doubt."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def score(name: str, course: Course, requests: float, world: World, price: Price) -> Score:
    """The sums of a course."""
    hours = float(course.billed.sum()) / HOUR_S
    return Score(
        name=name,
        replica_hours=hours,
        money=None if price.replica_hour is None else hours * price.replica_hour,
        requests=requests,
        served=float(course.served.sum()),
        late=float(course.late.sum()),
        lost=float(course.lost.sum()),
        refused=float(course.refused.sum()),
        waiting=course.waiting,
        cold_starts=course.cold_starts,
        changes=course.changes,
        most_ready=int(course.ready.max(initial=0)),
        cost=float(hourly(course, world, price).sum()),
    )


def hourly(course: Course, world: World, price: Price) -> Floats:
    """The economic cost of each hour."""
    a_second = course.billed + price.lateness * (course.late + LOST_AS_LATE * course.lost) / world.rate
    starts = np.arange(0, len(a_second), HOUR_S)
    sums: Floats = np.add.reduceat(a_second, starts) / HOUR_S
    return sums


def compare(first: Floats, other: Floats, seed: int) -> Interval:
    """How much more the other costs, with an interval from a circular block bootstrap over the hours: they are drawn in
    runs of n^(1/3), for an hour resembles the one before it (Politis and Romano, 1992; the length after Hall, 1995)."""
    apart = other - first
    hours, total = len(apart), float(apart.sum())
    if hours < FEWEST_HOURS:
        return Interval(difference=total, low=None, high=None, of=float(first.sum()))
    length = max(1, round(hours ** (1 / 3)))
    blocks = -(-hours // length)
    begins = np.random.default_rng(seed).integers(0, hours, (DRAWS, blocks))
    drawn: NDArray[np.int_] = (begins[:, :, None] + np.arange(length)) % hours
    sums = apart[drawn.reshape(DRAWS, -1)[:, :hours]].sum(axis=1)
    low, high = np.quantile(sums, [(1 - SURE) / 2, (1 + SURE) / 2])
    return Interval(difference=total, low=float(low), high=float(high), of=float(first.sum()))
