"""The recorded past as a few hundred points of a chart: load, replicas, and what was in force.

A long span is read from packed hours, one query for all of them; an hour that is over and not packed yet is packed by
whoever reads it first. A short span is read tick by tick. Hours that are over never change, so they are kept in this
process once read.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from scaler.errors import Unavailable
from scaler.past import HOUR_S, MINUTE_S, Point, merged, minutes, over, packed, ticks_of, unpacked
from scaler.ports import Store
from scaler.tally import START_BOUNDS_S

HOURS_KEPT = 2000  # a month of two services
HOURS_AT_ONCE = 8
CARRIED_S = 120.0  # a count stands for so long without another tick; after that it is not known

log = logging.getLogger("scaler.web")
Json = dict[str, Any]
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
        self._hours: OrderedDict[tuple[str, int, bool], list[Point]] = OrderedDict()

    async def points(
        self, store: Store, service: str, since: float, until: float, now: float, *, step_s: float = 0.0
    ) -> list[Point]:
        """What was recorded in a span, oldest first: every tick, or every minute where ``step_s`` is no shorter."""
        coarse = step_s >= MINUTE_S
        hours = range(int(since // HOUR_S), int(until // HOUR_S) + 1)
        if coarse:
            await self._open(store, service, [h for h in hours if over(h, now)])
        gate = asyncio.Semaphore(HOURS_AT_ONCE)

        async def read(hour: int) -> list[Point]:
            async with gate:
                return await self._hour(store, service, hour, now, coarse=coarse)

        found = await asyncio.gather(*(read(hour) for hour in hours))
        return [p for points in found for p in points if since <= p.at <= until]

    async def _open(self, store: Store, service: str, hours: Sequence[int]) -> None:
        """Take the packed hours that are not known yet, with one query."""
        unknown = [hour for hour in hours if (service, hour, True) not in self._hours]
        if not unknown:
            return
        for hour, data in (await store.past(service, first=unknown[0], last=unknown[-1])).items():
            if (points := unpacked(data)) is not None:
                self._keep((service, hour, True), points)

    async def _hour(self, store: Store, service: str, hour: int, now: float, *, coarse: bool) -> list[Point]:
        key = (service, hour, coarse)
        if (kept := self._hours.get(key)) is not None:
            self._hours.move_to_end(key)
            return kept
        points = await ticks_of(store, service, hour)
        if coarse:
            points = minutes(points)
        if over(hour, now):
            self._keep(key, points)
            if coarse:
                await _pack(store, service, hour, points)
        return points

    def _keep(self, key: tuple[str, int, bool], points: list[Point]) -> None:
        self._hours[key] = points
        while len(self._hours) > HOURS_KEPT:
            self._hours.popitem(last=False)


async def _pack(store: Store, service: str, hour: int, points: Sequence[Point]) -> None:
    try:
        await store.write_past(service, hour, packed(points))
    except Unavailable as error:
        log.info("an hour could not be packed; the next reader tries again", extra={"error": str(error)})


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
            made.append(merged(inside, start))
        elif low > 0 and start - times[low - 1] <= CARRIED_S:
            made.append(msgspec.structs.replace(points[low - 1], at=start, cold_starts_s=()))
        else:
            made.append(Point(at=start))
    return made


def columns(points: Sequence[Point]) -> Json:
    """The points column by column: small, and ready for a chart."""
    return {name: [_short(getattr(p, name)) for p in points] for name in DRAWN}


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def starts(points: Sequence[Point]) -> Json | None:
    """The cold starts of a span as quantiles, and how many fit between bounds; None when there was none."""
    found = sorted(s for p in points for s in p.cold_starts_s)
    if not found:
        return None
    counts = Counter(bisect.bisect_left(START_BOUNDS_S, seconds) for seconds in found)
    return {
        "count": len(found),
        **{f"p{q}_s": round(found[min(len(found) - 1, len(found) * q // 100)], 3) for q in (50, 90)},
        "bounds_s": START_BOUNDS_S,
        "counts": [counts[i] for i in range(len(START_BOUNDS_S) + 1)],
    }
