"""The recorded ticks as a few hundred points of a chart: load, replicas, and what was in force.

Hours that are over never change, so they are kept in this process once read.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from scaler.ports import DecisionRow, Store
from scaler.web.views import decoded, folded

HOUR_S = 3600.0
SETTLED_S = 300.0  # a tick may be recorded late; an hour counts as over only then
HOURS_KEPT = 500
HOURS_AT_ONCE = 8
TICKS_AN_HOUR = 5000
CARRIED_S = 120.0  # a count stands for so long without another tick; after that it is not known

Json = dict[str, Any]


class _Pin(Struct):
    min: int
    max: int


class _Seen(Struct, kw_only=True):
    """The part of an observation that is drawn."""

    window_s: float = 0.0
    arrivals: float | None = None
    in_flight: float | None = None
    queued: float | None = None
    cold_starts_s: tuple[float, ...] = ()
    pin: _Pin | None = None


class _Decided(Struct, kw_only=True):
    off: bool = False


class Point(Struct, frozen=True, kw_only=True):
    """One tick, or one bin of ticks. Rates are a second; None is not known."""

    at: float
    desired: int | None = None
    ready: int | None = None
    starting: int | None = None
    draining: int | None = None
    arrivals_per_s: float | None = None
    in_flight: float | None = None
    queued: float | None = None
    off: bool = False
    pin_min: int | None = None
    pin_max: int | None = None
    cold_starts_s: tuple[float, ...] = field(default=())


DRAWN = (
    "desired",
    "ready",
    "starting",
    "draining",
    "arrivals_per_s",
    "in_flight",
    "queued",
    "off",
    "pin_min",
    "pin_max",
)


class History:
    """Reads spans of recorded ticks."""

    def __init__(self) -> None:
        self._hours: OrderedDict[tuple[str, int], list[Point]] = OrderedDict()

    async def points(self, store: Store, service: str, since: float, until: float, now: float) -> list[Point]:
        """Every tick of a span, oldest first."""
        gate = asyncio.Semaphore(HOURS_AT_ONCE)

        async def read(hour: int) -> list[Point]:
            async with gate:
                return await self._hour(store, service, hour, now)

        hours = range(int(since // HOUR_S), int(until // HOUR_S) + 1)
        found = await asyncio.gather(*(read(hour) for hour in hours))
        return [p for points in found for p in points if since <= p.at <= until]

    async def _hour(self, store: Store, service: str, hour: int, now: float) -> list[Point]:
        if (kept := self._hours.get((service, hour))) is not None:
            self._hours.move_to_end((service, hour))
            return kept
        start = hour * HOUR_S
        rows = await store.decisions(service, since=start, until=start + HOUR_S - 0.001, limit=TICKS_AN_HOUR)
        points = [_point(row) for row in reversed(rows)]
        if start + HOUR_S + SETTLED_S < now:
            self._hours[service, hour] = points
            while len(self._hours) > HOURS_KEPT:
                self._hours.popitem(last=False)
        return points


def _point(row: DecisionRow) -> Point:
    seen: _Seen = decoded(row.observation, _Seen) or _Seen()
    decision: _Decided = decoded(row.decision, _Decided) or _Decided()
    try:
        counts = folded(msgspec.json.decode(row.replicas, type=dict[str, int]))
    except msgspec.MsgspecError:
        counts = {}
    known = seen.arrivals is not None and seen.window_s > 0
    return Point(
        at=row.at,
        desired=row.desired,
        ready=counts.get("ready"),
        starting=counts.get("starting"),
        draining=counts.get("draining"),
        arrivals_per_s=seen.arrivals / seen.window_s if known and seen.arrivals is not None else None,
        in_flight=seen.in_flight,
        queued=seen.queued,
        off=decision.off,
        pin_min=seen.pin.min if seen.pin else None,
        pin_max=seen.pin.max if seen.pin else None,
        cold_starts_s=seen.cold_starts_s,
    )


def binned(points: Sequence[Point], since: float, until: float, bins: int) -> list[Point]:
    """``bins`` points of equal width: counts at their largest, load at its mean. What one bin lacks, the tick before it
    stands for, for a while."""
    width = (until - since) / bins
    times = [p.at for p in points]
    made = []
    for i in range(bins):
        start = since + i * width
        low, high = bisect.bisect_left(times, start), bisect.bisect_left(times, start + width)
        high = len(times) if i == bins - 1 else high  # the last one ends with the span, not just before it
        inside = points[low:high]
        if inside:
            made.append(_merged(inside, start))
        elif low > 0 and start - times[low - 1] <= CARRIED_S:
            made.append(msgspec.structs.replace(points[low - 1], at=start, cold_starts_s=()))
        else:
            made.append(Point(at=start))
    return made


def _merged(inside: Sequence[Point], at: float) -> Point:
    last = inside[-1]
    return Point(
        at=at,
        desired=_most(p.desired for p in inside),
        ready=_most(p.ready for p in inside),
        starting=_most(p.starting for p in inside),
        draining=_most(p.draining for p in inside),
        arrivals_per_s=_mean(p.arrivals_per_s for p in inside),
        in_flight=_mean(p.in_flight for p in inside),
        queued=_mean(p.queued for p in inside),
        off=last.off,
        pin_min=last.pin_min,
        pin_max=last.pin_max,
        cold_starts_s=tuple(s for p in inside for s in p.cold_starts_s),
    )


def _most(values: Iterable[int | None]) -> int | None:
    return max((v for v in values if v is not None), default=None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def columns(points: Sequence[Point]) -> Json:
    """The points column by column: small, and ready for a chart."""
    return {name: [_short(getattr(p, name)) for p in points] for name in DRAWN}


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def starts(points: Sequence[Point]) -> Json | None:
    """The cold starts of a span as quantiles; None when there was none."""
    found = sorted(s for p in points for s in p.cold_starts_s)
    if not found:
        return None
    return {
        "count": len(found),
        **{f"p{q}_s": round(found[min(len(found) - 1, len(found) * q // 100)], 3) for q in (50, 90)},
    }
