"""How much Azure allows: groups and cores of a region, creations and deletions by the hour, requests by the second."""

from __future__ import annotations

import math

from msgspec import Struct, field

FIVE_MINUTES_S, HOUR_S = 300.0, 3600.0


class Limits(Struct, frozen=True, kw_only=True):
    """The numbers; the defaults are those of an ordinary subscription."""

    groups: int = 100
    cores: float = 100.0
    changes_per_hour: int = 300  # creations; deletions have as many of their own
    changes_per_5_minutes: int = 100
    reads: int = 250
    reads_per_s: float = 25.0
    writes: int = 200  # and deletions
    writes_per_s: float = 10.0


class Window(Struct, kw_only=True):
    """Counts what happened in the last five minutes and in the last hour."""

    per_hour: int
    per_5_minutes: int
    times: list[float] = field(default_factory=list)

    def wait_s(self, now: float) -> float:
        """Seconds until one more is allowed; 0: now."""
        self.times = [at for at in self.times if at > now - HOUR_S]
        waits = [0.0]
        for allowed, span_s in ((self.per_hour, HOUR_S), (self.per_5_minutes, FIVE_MINUTES_S)):
            if self._count(now, span_s) >= allowed:
                # Allowed again when the oldest of the last ``allowed`` leaves the window.
                oldest = self.times[-allowed] if allowed else now
                waits.append(oldest + span_s - now)
        return max(waits)

    def count(self, now: float) -> None:
        self.times.append(now)

    def left(self, now: float) -> tuple[int, int]:
        """What remains of the hour and of the five minutes."""
        hour, five = self._count(now, HOUR_S), self._count(now, FIVE_MINUTES_S)
        return max(0, self.per_hour - hour), max(0, self.per_5_minutes - five)

    def _count(self, now: float, span_s: float) -> int:
        return sum(at > now - span_s for at in self.times)


class Bucket(Struct, kw_only=True):
    """A token bucket: ``size`` requests at once, refilled at ``per_s``."""

    size: int
    per_s: float
    tokens: float = 0.0
    at: float = -math.inf

    def take(self, now: float) -> float:
        """Take one token; seconds to wait if there is none."""
        self._fill(now)
        if self.tokens < 1:
            return (1 - self.tokens) / self.per_s if self.per_s else HOUR_S
        self.tokens -= 1
        return 0.0

    def left(self) -> int:
        return int(self.tokens)

    def _fill(self, now: float) -> None:
        missed = (now - self.at) * self.per_s if self.at > -math.inf else self.size
        self.tokens = min(float(self.size), self.tokens + max(0.0, missed))
        self.at = now


class Meters:
    """Everything that is counted, per subscription, region and kind."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.windows: dict[str, Window] = {}
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def window(self, subscription: str, kind: str) -> Window:
        """Creations or deletions (``kind`` write or delete) of a subscription."""
        key = f"{subscription.lower()} {kind}"
        if key not in self.windows:
            self.windows[key] = Window(
                per_hour=self.limits.changes_per_hour, per_5_minutes=self.limits.changes_per_5_minutes
            )
        return self.windows[key]

    def bucket(self, subscription: str, kind: str) -> Bucket:
        """Resource Manager's own bucket of a subscription; ``kind`` is read, write or delete."""
        key = (subscription.lower(), kind)
        if key not in self._buckets:
            reads = kind == "read"
            self._buckets[key] = Bucket(
                size=self.limits.reads if reads else self.limits.writes,
                per_s=self.limits.reads_per_s if reads else self.limits.writes_per_s,
            )
        return self._buckets[key]
