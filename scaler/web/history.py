"""The recorded past as a few hundred points of a chart: load, replicas, and what was in force.

A long span is read from packed hours, one query for all of them; an hour that is over and not packed yet is packed by
whoever reads it first. A short span is read tick by tick. Hours that are over never change, so they are kept in this
process once read.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from scaler.errors import Unavailable
from scaler.past import HOUR_S, MINUTE_S, Point, merged, minutes, newest_over, over, packed, point, unpacked
from scaler.ports import Store
from scaler.tally import START_BOUNDS_S

HOURS_KEPT = 2000  # a month of two services
HOURS_A_QUERY, RUNS_AT_ONCE = 24, 4
LATE_S = 60.0  # a tick may be recorded so much later than one that began after it
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
    """Reads spans of recorded ticks. One reader at a time for each service: who comes second finds it read."""

    def __init__(self) -> None:
        self._hours: OrderedDict[tuple[str, int, bool], list[Point]] = OrderedDict()  # those that are over
        self._live: dict[str, tuple[float, list[Point]]] = {}  # since when, and every tick from then on
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def points(
        self, store: Store, service: str, since: float, until: float, now: float, *, step_s: float = 0.0
    ) -> list[Point]:
        """What was recorded in a span, oldest first: every tick, or every minute where ``step_s`` is no shorter."""
        coarse = step_s >= MINUTE_S
        hours = range(int(since // HOUR_S), int(until // HOUR_S) + 1)
        async with self._turns[service]:
            open_from = (newest_over(now) + 1) * HOUR_S
            live, found = await asyncio.gather(
                self._ticks(store, service, open_from, now) if until >= open_from else _nothing(),
                self._over(store, service, [h for h in hours if over(h, now)], coarse=coarse),
            )
        found += minutes(live) if coarse else live
        return [p for p in found if since <= p.at <= until]

    async def _over(self, store: Store, service: str, hours: Sequence[int], *, coarse: bool) -> list[Point]:
        """Hours that are over: from this process, else packed, else tick by tick."""
        if coarse and (unknown := [h for h in hours if (service, h, coarse) not in self._hours]):
            packs = await store.past(service, first=unknown[0], last=unknown[-1])
            for hour, data in packs.items():
                if (points := unpacked(data)) is not None:
                    self._keep((service, hour, coarse), points)
        unknown = [h for h in hours if (service, h, coarse) not in self._hours]
        gate = asyncio.Semaphore(RUNS_AT_ONCE)
        await asyncio.gather(*(self._run(store, service, run, gate, coarse=coarse) for run in _runs(unknown)))
        return [p for hour in hours for p in self._hours.get((service, hour, coarse), ())]

    async def _run(self, store: Store, service: str, run: range, gate: asyncio.Semaphore, *, coarse: bool) -> None:
        async with gate:
            rows = await store.drawn(service, since=run.start * HOUR_S, until=run.stop * HOUR_S - 0.001)
        ticks: defaultdict[int, list[Point]] = defaultdict(list)
        for row in rows:
            ticks[int(row.at // HOUR_S)].append(point(row))
        for hour in run:
            points = minutes(ticks[hour]) if coarse else ticks[hour]
            self._keep((service, hour, coarse), points)
            if coarse and points:
                await _pack(store, service, hour, points)

    async def _ticks(self, store: Store, service: str, since: float, now: float) -> list[Point]:
        """Every tick of the hours that are not over; of those read before, only the newest are read again."""
        start, kept = self._live.get(service, (now, []))
        fresh_from = max(since, kept[-1].at - LATE_S) if kept and start <= since else since
        rows = await store.drawn(service, since=fresh_from, until=now)
        live = [p for p in kept if since <= p.at < fresh_from] + [point(row) for row in rows]
        self._live[service] = (since, live)
        return live

    def _keep(self, key: tuple[str, int, bool], points: list[Point]) -> None:
        self._hours[key] = points
        while len(self._hours) > HOURS_KEPT:
            self._hours.popitem(last=False)


async def _nothing() -> list[Point]:
    return []


def _runs(hours: Sequence[int]) -> list[range]:
    """Neighbours together, up to a day: one query for them, however many of them hold nothing."""
    runs: list[range] = []
    for hour in hours:
        if runs and runs[-1].stop == hour and len(runs[-1]) < HOURS_A_QUERY:
            runs[-1] = range(runs[-1].start, hour + 1)
        else:
            runs.append(range(hour, hour + 1))
    return runs


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
