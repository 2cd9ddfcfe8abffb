"""How often a tick is due, by the schedule of its timer, and when to call it missed. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from scaler.conditions import happened
from scaler.model import Condition

HOUR_S = 3600
MISSED_PERIODS = 4  # a tick late by less may be a slow start of the app, or a deployment
LEAST_S = 60.0
FALLBACK_S = 300.0  # for a schedule that leaves hours or days out


def period_s(schedule: str) -> float | None:
    """The longest gap between two ticks of a schedule of six fields (second minute hour day month weekday); None where
    it leaves out whole hours, or cannot be read."""
    fields = schedule.split()
    if len(fields) != 6 or any(field != "*" for field in fields[2:]):
        return None
    try:
        seconds, minutes = (_values(field) for field in fields[:2])
    except ValueError:
        return None
    moments = [minute * 60 + second for minute in minutes for second in seconds]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    return float(max([*gaps, moments[0] + HOUR_S - moments[-1]]))


def _values(field: str) -> list[int]:
    """What ``*``, ``*/15``, ``5``, ``0-30``, ``0-30/10`` and lists of them stand for, of 0 to 59. Raises ValueError."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = ("0", "-", "59") if span == "*" else span.partition("-")
        end = int(last) if last else 59 if step else int(first)
        found |= set(range(int(first), end + 1, int(step) if step else 1))
    if not found or max(found) > 59:
        raise ValueError(field)
    return sorted(found)


def limit_s(period: float | None) -> float:
    """So long may a service go without a tick before that is called a fault."""
    return FALLBACK_S if period is None else max(LEAST_S, MISSED_PERIODS * period)


def conditions(service: str, period: float | None, last_at: float | None, now: float) -> Iterator[Condition]:
    """What happened before a tick ``now``: too long, nothing. ``last_at`` is when the last one began; None: never."""
    gap_s = 0.0 if last_at is None else now - last_at
    if period is not None and gap_s > limit_s(period):
        said = f"there was none for {gap_s:.0f} s, and one is due every {period:.0f} s"
        yield happened("missed_ticks", now, about=service, said=said)
