"""What the operator's calendar allows: floors, caps and off periods, as spans of real time.

A rule's span begins on each day that all of its selectors (days, dates, holidays) name, in the time zone's wall-clock
time, and may run over midnight into the next day. Where rules overlap: off wins, then the smallest cap, then the
largest floor; a request may wake an off service only if every rule that switches it off says so. Wall-clock times that
a daylight-saving jump leaves out stand for the moment of the jump; of times that exist twice, a span begins at the
first and ends at the second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from msgspec import Struct

from scaler.config import Rule, ScheduleText
from scaler.errors import BadSetting

DAY_S = 86_400.0
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
BLOCK_DAYS = 8
BLOCKS_AHEAD = 60  # a period that lasts longer than this (16 months) counts as endless
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_LAST_DAY = date.max - timedelta(days=BLOCK_DAYS * 2)


class Period(Struct, frozen=True, kw_only=True):
    """A span in which the calendar asks for one thing. Times are epoch seconds; infinite where nothing changes.

    While ``off`` there are no replicas, unless ``wakes`` lets a request start one; ``wakes`` is true whenever not off.
    """

    start: float
    end: float
    min: int
    max: int | None
    off: bool
    wakes: bool
    rule: str | None


class CompiledRule(Struct, frozen=True, kw_only=True):
    """A rule in numbers. ``days`` are 0 for Monday; ``dates`` are spans of ordinals; times are seconds of the day, and
    ``end_s`` is beyond one day where the span runs over midnight."""

    name: str
    days: tuple[int, ...] | None
    dates: tuple[tuple[int, int], ...] | None
    holidays: tuple[str, str | None] | None
    start_s: int
    end_s: int
    min: int
    max: int | None
    off: bool
    wakes: bool


class Schedule(Struct, frozen=True, kw_only=True):
    """All rules of a service, checked, with their time zone."""

    timezone: str
    rules: tuple[CompiledRule, ...]


def compile_schedule(text: ScheduleText, where: str) -> Schedule:
    """Check the rules and give them their meaning. Raises ``BadSetting`` that begins with the path, e.g.
    ``services.iris.schedule.rules[1].from``; ``where`` is the path of the schedule itself."""
    try:
        ZoneInfo(text.timezone)
    except (KeyError, ValueError, OSError) as error:
        raise BadSetting(
            f"{where}.timezone: {text.timezone!r} is no time zone; write an IANA name like `Europe/Berlin` or `UTC`"
        ) from error
    rules = tuple(_rule(rule, f"{where}.rules[{i}]") for i, rule in enumerate(text.rules))
    return Schedule(timezone=text.timezone, rules=rules)


def period_at(schedule: Schedule, at: float) -> Period:
    """The period that holds ``at``, with its true end, however many days away."""
    if not schedule.rules:
        return _free(-math.inf, math.inf)
    block = _block_of(schedule, at)
    found = next(p for p in _block(schedule, block) if p.start <= at < p.end)
    start, end = found.start, found.end
    for ahead in range(block + 1, block + BLOCKS_AHEAD):
        following = _block(schedule, ahead)
        if end < following[0].start or not _alike(following[0], found):
            break
        end = following[0].end
    else:
        end = math.inf
    for behind in range(block - 1, block - BLOCKS_AHEAD, -1):
        preceding = _block(schedule, behind)
        if start > preceding[-1].end or not _alike(preceding[-1], found):
            break
        start = preceding[-1].start
    else:
        start = -math.inf
    return _span(found, start, end)


def preview(schedule: Schedule, start: float, days: float) -> tuple[Period, ...]:
    """Every period of ``days`` days from ``start``, cut to that span; equal to what ``period_at`` then says."""
    stop = start + days * DAY_S
    periods = []
    at = start
    while at < stop:
        period = period_at(schedule, at)
        periods.append(_span(period, max(period.start, start), min(period.end, stop)))
        at = period.end
    return tuple(periods)


# -- reading a rule


def _rule(rule: Rule, where: str) -> CompiledRule:
    _check_effect(rule, where)
    start_s = _clock(rule.start, f"{where}.from") if rule.start is not None else 0
    end_s = _clock(rule.end, f"{where}.to") if rule.end is not None else int(DAY_S)
    if start_s == end_s:
        raise BadSetting(f"{where}.to: the span is empty, from and to are the same; leave both out for the whole day")
    if start_s == DAY_S:
        raise BadSetting(f"{where}.from: 24:00 is the end of a day; write 00:00 of the next one")
    if end_s < start_s:
        end_s += int(DAY_S)
    days = None if rule.days is None else _days(rule.days, f"{where}.days")
    dates = None
    if rule.dates is not None:
        dates = tuple(_dates(text, f"{where}.dates[{i}]") for i, text in enumerate(rule.dates))
        if not dates:
            raise BadSetting(f"{where}.dates: the list is empty; name a date or leave it out")
    return CompiledRule(
        name=_describe(rule),
        days=days,
        dates=dates,
        holidays=None if rule.holidays is None else _calendar(rule.holidays, f"{where}.holidays"),
        start_s=start_s,
        end_s=end_s,
        min=rule.min or 0,
        max=rule.max,
        off=rule.off,
        wakes=rule.wake,
    )


def _check_effect(rule: Rule, where: str) -> None:
    if rule.off and (rule.min is not None or rule.max is not None):
        raise BadSetting(f"{where}: off means no replicas, so min and max say nothing here; write either")
    if not rule.off and rule.min is None and rule.max is None:
        raise BadSetting(f"{where}: the rule changes nothing; give it min, max or `off: true`")
    if rule.wake and not rule.off:
        raise BadSetting(f"{where}.wake: only an off period can be woken; add `off: true` or take wake away")
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        raise BadSetting(f"{where}: min {rule.min} is above max {rule.max}")


def _describe(rule: Rule) -> str:
    """The rule in the operator's words, for explanations."""
    dates = ", ".join(rule.dates) if rule.dates else None
    which = [rule.days, dates, f"holidays {rule.holidays}" if rule.holidays else None]
    when = f"{rule.start or '00:00'}-{rule.end or '24:00'}" if rule.start or rule.end else None
    return " ".join(part for part in (*which, when) if part) or "always"


def _clock(text: str, where: str) -> int:
    found = _CLOCK.fullmatch(text.strip())
    if found:
        hours, minutes, seconds = int(found[1]), int(found[2]), int(found[3] or 0)
        whole = hours * 3600 + minutes * 60 + seconds
        if minutes < 60 and seconds < 60 and whole <= DAY_S:
            return whole
    raise BadSetting(f"{where}: {text!r} is no time of day; write HH:MM or HH:MM:SS, from 00:00 to 24:00")


def _days(text: str, where: str) -> tuple[int, ...]:
    chosen: set[int] = set()
    for part in text.lower().split(","):
        first, _, last = part.strip().partition("-")
        if first not in DAYS or (last and last not in DAYS) or part.strip().endswith("-"):
            raise BadSetting(f"{where}: {text!r} is not understood; write mon-fri or sat,sun with mon tue … sun")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        chosen.update(day % 7 for day in range(begin, end + 1 if end >= begin else end + 8))
    return tuple(sorted(chosen))


def _dates(text: str, where: str) -> tuple[int, int]:
    first, _, last = text.partition("..")
    try:
        begin, end = (date.fromisoformat(part.strip()).toordinal() for part in (first, last or first))
    except ValueError as error:
        raise BadSetting(f"{where}: {text!r} is no date; write 2026-12-24 or 2026-12-24..2026-12-31") from error
    if end < begin:
        raise BadSetting(f"{where}: {text!r} ends before it begins")
    return begin, end


def _calendar(text: str, where: str) -> tuple[str, str | None]:
    country, _, region = text.partition("-")
    import holidays  # noqa: PLC0415  (75 ms that a service without holidays need not pay)

    known = holidays.list_supported_countries()
    if country not in known:
        raise BadSetting(f"{where}: {country!r} is no known country; write a code like DE, or DE-BY for a part of it")
    if region and region not in known[country]:
        raise BadSetting(f"{where}: {region!r} is no known part of {country}; known are {', '.join(known[country])}")
    return country, region or None


# -- from rules to periods


def _free(start: float, end: float) -> Period:
    return Period(start=start, end=end, min=0, max=None, off=False, wakes=True, rule=None)


def _span(period: Period, start: float, end: float) -> Period:
    return Period(
        start=start,
        end=end,
        min=period.min,
        max=period.max,
        off=period.off,
        wakes=period.wakes,
        rule=period.rule,
    )


def _alike(one: Period, other: Period) -> bool:
    return _span(one, 0.0, 0.0) == _span(other, 0.0, 0.0)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _block_of(schedule: Schedule, at: float) -> int:
    day = datetime.fromtimestamp(at, _zone(schedule.timezone)).date().toordinal()
    return day // BLOCK_DAYS


@lru_cache(maxsize=1024)
def _block(schedule: Schedule, block: int) -> tuple[Period, ...]:
    """The periods of eight local days, cut at their edges; equal neighbours are one."""
    zone = _zone(schedule.timezone)
    first = date.fromordinal(min(max(block * BLOCK_DAYS, 2), _LAST_DAY.toordinal()))
    begin = _instant(first, 0, zone, last=False)
    end = _instant(first + timedelta(days=BLOCK_DAYS), 0, zone, last=False)
    spans = [span for rule in schedule.rules for span in _occurrences(rule, first, zone)]
    edges = sorted({begin, end} | {t for start, stop, _ in spans for t in (start, stop) if begin < t < end})
    periods: list[Period] = []
    for start, stop in pairwise(edges):
        period = _effect(start, stop, [rule for s, e, rule in spans if s <= start < e])
        if periods and _alike(periods[-1], period):
            period = _span(period, periods.pop().start, stop)
        periods.append(period)
    return tuple(periods)


def _occurrences(rule: CompiledRule, first: date, zone: ZoneInfo) -> Iterator[tuple[float, float, CompiledRule]]:
    for ordinal in range(first.toordinal() - 1, first.toordinal() + BLOCK_DAYS):
        day = date.fromordinal(ordinal)
        if _chosen(rule, day):
            start = _instant(day, rule.start_s, zone, last=False)
            end = _instant(day, rule.end_s, zone, last=rule.end_s % int(DAY_S) != 0)
            if start < end:
                yield start, end, rule


def _chosen(rule: CompiledRule, day: date) -> bool:
    if rule.days is not None and day.weekday() not in rule.days:
        return False
    if rule.dates is not None and not any(begin <= day.toordinal() <= end for begin, end in rule.dates):
        return False
    return rule.holidays is None or day in _holidays(*rule.holidays, day.year)


@lru_cache(maxsize=256)
def _holidays(country: str, region: str | None, year: int) -> frozenset[date]:
    import holidays  # noqa: PLC0415  (as above)

    return frozenset(holidays.country_holidays(country, subdiv=region, years=year))


def _instant(day: date, second: int, zone: ZoneInfo, *, last: bool) -> float:
    """When the wall clock shows this second of this day; ``last``: the second time, where it does so twice."""
    wall = datetime.combine(day, time(0), zone) + timedelta(seconds=second)
    early, late = (wall.replace(fold=fold).astimezone(UTC).timestamp() for fold in (0, 1))
    if early > late:  # the clock jumps over this time: find the jump
        before = datetime.fromtimestamp(late, zone).utcoffset()
        low, high = late, early
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if datetime.fromtimestamp(middle, zone).utcoffset() == before else (low, middle)
        return high
    return late if last else early


def _effect(start: float, end: float, active: list[CompiledRule]) -> Period:
    if not active:
        return _free(start, end)
    off = [rule for rule in active if rule.off]
    if off:
        wakes = all(rule.wakes for rule in off)
        return Period(start=start, end=end, min=0, max=None, off=True, wakes=wakes, rule=_names(off))
    caps = [rule.max for rule in active if rule.max is not None]
    cap = min(caps) if caps else None
    floor = max(rule.min for rule in active)
    return Period(
        start=start,
        end=end,
        min=floor if cap is None else min(floor, cap),
        max=cap,
        off=False,
        wakes=True,
        rule=_names(active),
    )


def _names(rules: list[CompiledRule]) -> str:
    return "; ".join(rule.name for rule in rules)
