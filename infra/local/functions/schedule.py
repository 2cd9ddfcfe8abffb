"""When a timer fires: NCRONTAB expressions (UTC, seconds first) and time spans, as NCrontab and .NET read them.

An NCRONTAB expression has six fields, ``second minute hour day month weekday`` (with five, the second is 0). Each is
a list of ``*``, ``a``, ``a-b``, ``*/n``, ``a/n`` (from a to the end) or ``a-b/n``; months and weekdays may be named by
the beginning of their English names, Sunday is 0. Unlike Unix cron, day **and** weekday must both match.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

MONTHS = tuple(name.lower() for name in calendar.month_name[1:])
WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
FAR_YEARS = 41  # 29 February on a given weekday comes at the latest after 40 years
SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?")


class Schedule(Protocol):
    """When next?"""

    def next_after(self, at: float) -> float:
        """The first time after ``at``, both in epoch seconds."""


@dataclass(frozen=True, slots=True)
class Every:
    """A fixed interval."""

    interval_s: float

    def next_after(self, at: float) -> float:
        return at + self.interval_s


@dataclass(frozen=True, slots=True)
class Cron:
    """A calendar: the allowed values of each field."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def next_after(self, at: float) -> float:
        """Raises ValueError when no such day exists, as 30 February."""
        start = datetime.fromtimestamp(at, UTC).replace(microsecond=0) + timedelta(seconds=1)
        later_today = self._time_from(start.hour, start.minute, start.second)
        if later_today is not None and self._matches(start.date()):
            return _epoch(start.date(), later_today)
        first = (self.hours[0], self.minutes[0], self.seconds[0])
        return _epoch(self._day_after(start.date()), first)

    def _matches(self, day: date) -> bool:
        return day.day in self.days and day.month in self.months and day.isoweekday() % 7 in self.weekdays

    def _time_from(self, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
        """The first allowed time of day at or after this one."""
        for h in (value for value in self.hours if value >= hour):
            for m in (value for value in self.minutes if h > hour or value >= minute):
                for s in (value for value in self.seconds if (h, m) > (hour, minute) or value >= second):
                    return h, m, s
        return None

    def _day_after(self, day: date) -> date:
        end = day.year + FAR_YEARS
        while day.year <= end:
            day = day + timedelta(days=1) if day.month in self.months else _first_of_next_month(day)
            if self._matches(day):
                return day
        raise ValueError("no day of the calendar matches")


def parse(expression: str, now: float) -> Schedule:
    """The schedule that ``expression`` means; raises ValueError with a sentence when it means none (also: never)."""
    fields = expression.split()
    if len(fields) in {5, 6}:
        cron = _parse_cron(fields if len(fields) == 6 else ["0", *fields])
        cron.next_after(now)
        return cron
    interval_s = parse_time_span(expression)
    if interval_s is None:
        raise ValueError(
            f"{expression!r} is neither an NCRONTAB expression of six fields (second minute hour day month weekday) "
            'nor a time span like "00:00:15"'
        )
    if interval_s <= 0:
        raise ValueError(f"{expression!r}: a time span must be longer than zero")
    return Every(interval_s)


def parse_time_span(text: str) -> float | None:
    """Seconds of ``hh:mm[:ss[.fff]]``, ``d.hh:mm:ss`` or ``d`` (days, as .NET reads a bare number), else None."""
    if re.fullmatch(r"\d{1,8}", text.strip()):
        return int(text) * 86_400.0
    match = SPAN.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:4])
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds + float(f"0.{match[5] or 0}")


def is_frequent(schedule: Schedule, now: float) -> bool:
    """Whether it fires more than once within a minute from now: Azure's host does not monitor such timers."""
    match schedule:
        case Every(interval_s=interval_s):
            return interval_s < 60
        case _:
            return schedule.next_after(schedule.next_after(now)) <= now + 60


def _parse_cron(fields: list[str]) -> Cron:
    second, minute, hour, day, month, weekday = fields
    return Cron(
        seconds=tuple(sorted(_values("second", second, 0, 59))),
        minutes=tuple(sorted(_values("minute", minute, 0, 59))),
        hours=tuple(sorted(_values("hour", hour, 0, 23))),
        days=_values("day", day, 1, 31),
        months=_values("month", month, 1, 12, MONTHS),
        weekdays=_values("weekday", weekday, 0, 6, WEEKDAYS),
    )


def _values(field: str, text: str, least: int, most: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        if slash and not (step.isdecimal() and int(step) > 0):
            raise ValueError(f"{field} {item!r}: after the slash belongs a whole number of at least 1")
        first, dash, last = span.partition("-")
        if span == "*":
            start, end = least, most
        else:
            start = _value(field, first, least, most, names)
            end = _value(field, last, least, most, names) if dash else (most if slash else start)
        # NCrontab takes a range that runs backwards as one written the wrong way round.
        start, end = min(start, end), max(start, end)
        found.update(range(start, end + 1, int(step) if slash else 1))
    return frozenset(found)


def _value(field: str, text: str, least: int, most: int, names: tuple[str, ...]) -> int:
    if text.isdecimal() and least <= int(text) <= most:
        return int(text)
    named = [i + least for i, name in enumerate(names) if text and name.startswith(text.lower())]
    if named:
        return named[0]
    raise ValueError(f"{field} {text!r}: expected a number from {least} to {most}" + (" or a name" if names else ""))


def _first_of_next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _epoch(day: date, time: tuple[int, int, int]) -> float:
    return datetime(day.year, day.month, day.day, *time, tzinfo=UTC).timestamp()
