"""How many groups may still be created and deleted: Azure takes 100 in five minutes and 300 in an hour, each way, of a
subscription in a region. Pure.

Each service remembers what it asked for, by minute; a pass over several services adds that up. A tick of one service
alone sees only its own share: should that be too little, Azure says 429, and is listened to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from scaler.conditions import condition
from scaler.model import Condition

Kind = Literal["create", "delete"]
MINUTE_S = 60.0
LIMITS = ((300.0, 100), (3600.0, 300))  # (span in seconds, as many)
KEPT_BACK = 5  # for others in the subscription, and for requests whose answer was lost


class Asked(Struct, frozen=True):
    """So many requests of a kind in a region within the minute that began at ``minute``."""

    minute: float
    region: str
    kind: Kind
    count: int


class Allowance:
    """What is left now, over all services of a pass; services take from it in turn."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._asked: Counter[tuple[str, str, float]] = Counter()  # by kind, region and span

    def know(self, asked: Iterable[Asked]) -> None:
        """Count what a service asked for in the past."""
        for s in asked:
            for span_s, _ in LIMITS:
                if self._now - span_s - MINUTE_S < s.minute <= self._now + MINUTE_S:  # a clock may have been ahead
                    self._asked[s.kind, s.region, span_s] += s.count

    def left(self, kind: Kind, region: str) -> int:
        """How many more Azure takes now."""
        return max(0, min(most - KEPT_BACK - self._asked[kind, region, span_s] for span_s, most in LIMITS))

    def take(self, kind: Kind, region: str, count: int) -> None:
        self.know([Asked(self._now, region, kind, count)])


def remembered(before: Sequence[Asked], asked: Mapping[tuple[Kind, str], int], now: float) -> tuple[Asked, ...]:
    """What a service asked for within the last hour, with what it asks for now."""
    minute = now - now % MINUTE_S
    total: Counter[tuple[float, str, Kind]] = Counter()
    for s in before:
        if now - LIMITS[-1][0] - MINUTE_S < s.minute <= now + MINUTE_S:
            total[s.minute, s.region, s.kind] += s.count
    for (kind, region), count in asked.items():
        total[minute, region, kind] += count
    return tuple(Asked(minute, region, kind, count) for (minute, region, kind), count in sorted(total.items()) if count)


def conditions(allowance: Allowance, regions: Iterable[str], now: float) -> list[Condition]:
    """The regions that take no more for now."""
    return [condition("rate_budget", now, about=r) for r in regions if not allowance.left("create", r)]
