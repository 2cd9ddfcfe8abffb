"""The past as points: what one recorded tick, or one minute of them, shows of load and fleet; an hour packed to keep.

An hour that is over never changes, so it is packed once: sixty minutes in about a kilobyte. A week is then one query of
168 small rows instead of forty thousand ticks.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from scaler.errors import Unavailable
from scaler.model import Phase
from scaler.ports import DrawnRow, Store

HOUR_S, MINUTE_S = 3600.0, 60.0
SETTLED_S = 300.0  # a tick may be recorded late; an hour counts as over only then
FORMAT = 1
LARGEST_BYTES = 1 << 20  # of one hour unpacked: a damaged row fills no memory
T = TypeVar("T")

log = logging.getLogger("scaler.past")


class Point(Struct, frozen=True, kw_only=True, array_like=True):
    """One tick, or one bin of ticks. Rates are a second; None is not known. Packed hours hold these fields in this
    order: a change of them is a new number of the format."""

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


class _Packed(Struct, array_like=True):
    """An hour: a format number, and its points."""

    format: int
    points: list[Point]


def point(row: DrawnRow) -> Point:
    """What one recorded tick shows. A part that cannot be read is not known."""
    seen = _read(row.observation, _Seen) or _Seen()
    decision = _read(row.decision, _Decided) or _Decided()
    try:
        counts = msgspec.json.decode(row.replicas, type=dict[str, int])
    except msgspec.MsgspecError:
        counts = {}
    known = seen.arrivals is not None and seen.window_s > 0
    starting = (Phase.INTENDED, Phase.CREATING, Phase.STARTING)
    leaving = (Phase.DRAINING, Phase.DELETING)
    return Point(
        at=row.at,
        desired=row.desired,
        ready=counts.get(Phase.READY, 0) if counts else None,
        starting=sum(counts.get(p, 0) for p in starting) if counts else None,
        draining=sum(counts.get(p, 0) for p in leaving) if counts else None,
        arrivals_per_s=seen.arrivals / seen.window_s if known and seen.arrivals is not None else None,
        in_flight=seen.in_flight,
        queued=seen.queued,
        off=decision.off,
        pin_min=seen.pin.min if seen.pin else None,
        pin_max=seen.pin.max if seen.pin else None,
        cold_starts_s=seen.cold_starts_s,
    )


async def ticks_of(store: Store, service: str, hour: int) -> list[Point]:
    """Every recorded tick of an hour, oldest first."""
    start = hour * HOUR_S
    return [point(row) for row in await store.drawn(service, since=start, until=start + HOUR_S - 0.001)]


async def pack_newest(store: Store, service: str, before: float, now: float) -> None:
    """Once an hour, pack the hour that is over since the tick at ``before``: for those who look back over days."""
    hour = newest_over(now)
    if over(hour, before):
        return
    try:
        await store.write_past(service, hour, packed(minutes(await ticks_of(store, service, hour))))
    except Unavailable as error:
        log.info("an hour could not be packed; who looks at it does it", extra={"error": str(error)})


def minutes(points: Sequence[Point]) -> list[Point]:
    """One point for each minute that has any, at its beginning."""
    by_minute: dict[int, list[Point]] = {}
    for p in points:
        by_minute.setdefault(int(p.at // MINUTE_S), []).append(p)
    return [merged(inside, minute * MINUTE_S) for minute, inside in sorted(by_minute.items())]


def merged(inside: Sequence[Point], at: float) -> Point:
    """Several points as one: counts at their largest, load at its mean, what was in force as last seen; a pin that
    was in force at all is shown."""
    last = inside[-1]
    pinned = next((p for p in reversed(inside) if p.pin_max is not None), last)
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
        pin_min=pinned.pin_min,
        pin_max=pinned.pin_max,
        cold_starts_s=tuple(s for p in inside for s in p.cold_starts_s),
    )


def packed(points: Sequence[Point]) -> bytes:
    """An hour of points, small."""
    return zlib.compress(msgspec.msgpack.encode(_Packed(FORMAT, list(points))))


def unpacked(data: bytes) -> list[Point] | None:
    """The points of an hour; None where another version packed it, or somebody damaged it."""
    try:
        opened = zlib.decompressobj().decompress(data, LARGEST_BYTES)
        rows = msgspec.msgpack.decode(opened, type=_Packed)
        return rows.points if rows.format == FORMAT else None
    except (zlib.error, msgspec.MsgspecError):
        return None


def newest_over(now: float) -> int:
    """The last hour that is over."""
    return int((now - SETTLED_S) // HOUR_S) - 1


def over(hour: int, now: float) -> bool:
    """Whether nothing more will be recorded in this hour (counted since 1970)."""
    return hour <= newest_over(now)


def _read(data: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.MsgspecError:
        return None


def _most(values: Iterable[int | None]) -> int | None:
    return max((v for v in values if v is not None), default=None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(sum(known) / len(known), 4) if known else None
