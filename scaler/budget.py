"""What the replicas cost: spent today and this month, what the month will come to, and how many the budget allows.

Every replica that exists is charged, from when it is asked for until it is gone. Days and months are those of the
schedule's time zone. Each limit (day, month) works in three parts:

    spent < warn_at x limit     no cap; a warning when the month is forecast to pass its limit
    spent ≥ warn_at x limit     what is left is spread evenly over the rest of the period, one replica at least
    all but the reserve spent   none: the reserve pays for replicas until they have drained

so that a limit is never passed, and the last fifth of it keeps a small service alive instead of ending it at once.
"""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from msgspec import Struct

from scaler.config import Budget
from scaler.model import Cost

DAYS_KEPT = 28  # whole days that the forecast of the month leans on: four of each weekday
LONGEST_GAP_DAYS = 40  # of a longer gap only so much is charged: beyond it no day or month is open any more
DELETED_WITHIN_S = 60.0  # a replica is charged for so long after its drain deadline: two ticks and the delete
HOUR_S = 3600.0


class Size(Struct, frozen=True, kw_only=True):
    """What one replica is made of, as billed: cores, and gigabytes of memory."""

    cpu: float
    memory_gb: float


class Prices(Struct, frozen=True, kw_only=True):
    """The budget in the terms of a decision. ``reserve_s`` is how long a replica goes on costing once it has to go."""

    currency: str
    replica_hour: float
    daily: float | None
    monthly: float | None
    warn_at: float
    reserve_s: float
    timezone: str


class Spend(Struct, frozen=True, kw_only=True):
    """Money spent, as far as it was watched. ``day`` is the ordinal of the local day that ``today`` belongs to;
    ``month`` includes today; ``days`` are (ordinal, money) of the last whole days; ``since`` is the first look of all,
    ``at`` the last one, and ``billed`` the replicas charged from then on."""

    since: float
    at: float
    billed: int
    day: int
    today: float = 0.0
    month: float = 0.0
    days: tuple[tuple[int, float], ...] = ()


def prices_of(budget: Budget | None, size: Size | None, *, drain_deadline_s: float, timezone: str) -> Prices | None:
    """None where there is no budget, or nobody knows what a replica costs: no ``replica_hour``, and no template."""
    if budget is None:
        return None
    replica_hour = budget.replica_hour
    if replica_hour is None and size is not None:
        replica_hour = size.cpu * budget.vcpu_hour + size.memory_gb * budget.gb_hour
    if replica_hour is None:
        return None
    return Prices(
        currency=budget.currency,
        replica_hour=replica_hour,
        daily=budget.daily,
        monthly=budget.monthly,
        warn_at=budget.warn_at,
        reserve_s=drain_deadline_s + DELETED_WITHIN_S,
        timezone=timezone,
    )


# -- what was spent


def charged(spend: Spend | None, prices: Prices, at: float, billed: int) -> Spend:
    """The money spent until ``at``, where ``billed`` replicas exist now.

    Between two looks the larger of both counts is charged. A clock set back charges nothing and forgets nothing.
    """
    today = _day_of(at, prices.timezone)
    if spend is None:
        return Spend(since=at, at=at, billed=billed, day=today)
    count, since = max(spend.billed, billed), spend.at
    for day in range(max(spend.day, today - LONGEST_GAP_DAYS), today + 1):
        spend = _entered(spend, day, prices.timezone)
        span_s = min(at, _midnight(day + 1, prices.timezone)) - max(since, _midnight(day, prices.timezone))
        money = count * prices.replica_hour * max(0.0, span_s) / HOUR_S
        spend = _with(spend, today=spend.today + money, month=spend.month + money)
    return _with(spend, at=at, billed=billed)


def bill_after(spend: Spend, billed: int) -> Spend:
    """The same money, with so many replicas charged from now on."""
    return _with(spend, billed=billed)


def _entered(spend: Spend, day: int, timezone: str) -> Spend:
    """The record as of a day that is the same or a later one: what ended is put away."""
    if day == spend.day:
        return spend
    whole = spend.since <= _midnight(spend.day, timezone)
    days = (*spend.days, *([(spend.day, spend.today)] if whole else ()))[-DAYS_KEPT:]
    same_month = _month_of(day) == _month_of(spend.day)
    return _with(spend, day=day, today=0.0, month=spend.month if same_month else 0.0, days=days)


def _with(spend: Spend, **changes: object) -> Spend:
    kept = {name: getattr(spend, name) for name in Spend.__struct_fields__}
    return Spend(**kept | changes)


# -- what is still allowed


def ceiling(spend: Spend, prices: Prices, at: float, draining: int) -> tuple[int, str] | None:
    """The most replicas that the budget allows now, and why; None where it sets no cap. ``draining`` replicas cost on,
    whatever is decided."""
    caps = [
        cap
        for what, spent, limit, end in _limits(spend, prices)
        if (cap := _cap(what, spent, limit, end - at, prices, draining)) is not None
    ]
    return min(caps, default=None)


def _limits(spend: Spend, prices: Prices) -> list[tuple[str, float, float, float]]:
    """Of each limit: what it is of, spent of it, the limit, and when it begins anew (epoch seconds)."""
    tomorrow = _midnight(spend.day + 1, prices.timezone)
    found = []
    if prices.daily is not None:
        found.append(("day", spend.today, prices.daily, tomorrow))
    if prices.monthly is not None:
        found.append(("month", spend.month, prices.monthly, _midnight(_next_month(spend.day), prices.timezone)))
    return found


def _cap(what: str, spent: float, limit: float, left_s: float, prices: Prices, draining: int) -> tuple[int, str] | None:
    second = prices.replica_hour / HOUR_S
    left = limit - spent - draining * second * prices.reserve_s
    most = math.floor(max(0.0, left) / (second * prices.reserve_s))
    of = f"{spent:.2f} of the {what}'s {limit:.2f} {prices.currency} are spent"
    if most == 0:
        return 0, f"{of}, and the rest pays for what still drains"
    if spent < prices.warn_at * limit:
        return most, f"{of}, and the rest pays for {most} until they have drained"
    even = max(1, math.floor(left / (second * max(left_s, prices.reserve_s))))
    return min(most, even), f"{of}, and the rest lasts for {min(most, even)} until the {what} ends"


# -- what it will come to


def cost(spend: Spend, prices: Prices, at: float) -> Cost:
    """The money in figures that a person reads, with a warning where the budget is nearly spent or will be."""
    month = month_forecast(spend, prices, at)
    return Cost(
        currency=prices.currency,
        replica_hour=prices.replica_hour,
        today=spend.today,
        month=spend.month,
        month_forecast=month,
        daily=prices.daily,
        monthly=prices.monthly,
        warning=_warning(spend, prices, month),
    )


def month_forecast(spend: Spend, prices: Prices, at: float) -> float:
    """What the month will have cost: spent so far, and for each day that is left what such days cost before.

    A day is expected to cost the mean of the same weekday in the last four weeks, else the mean of all days on record,
    else what today does. The budget's own caps are not reckoned with: this is what the service asks for.
    """
    begins, ends = _midnight(spend.day, prices.timezone), _midnight(spend.day + 1, prices.timezone)
    watched_s = max(at - max(begins, spend.since), prices.reserve_s)
    pace = spend.today / watched_s * 24 * HOUR_S
    rest = (ends - max(at, begins)) / (ends - begins) * _expected(spend, spend.day, pace)
    coming = range(spend.day + 1, _next_month(spend.day))
    return spend.month + rest + math.fsum(_expected(spend, day, pace) for day in coming)


def _expected(spend: Spend, day: int, otherwise: float) -> float:
    alike = [money for past, money in spend.days if (past - day) % 7 == 0]
    known = alike or [money for _, money in spend.days]
    return math.fsum(known) / len(known) if known else otherwise


def _warning(spend: Spend, prices: Prices, month: float) -> str | None:
    for what, spent, limit, _ in _limits(spend, prices):
        if spent >= prices.warn_at * limit:
            return f"{spent:.2f} of the {what}'s {limit:.2f} {prices.currency} are spent"
    if prices.monthly is not None and month > prices.monthly:
        return f"the month will come to {month:.2f} {prices.currency}, its budget is {prices.monthly:.2f}"
    return None


# -- days


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _day_of(at: float, timezone: str) -> int:
    return datetime.fromtimestamp(at, _zone(timezone)).toordinal()


@lru_cache(maxsize=256)
def _midnight(day: int, timezone: str) -> float:
    """When a local day begins: the first moment of it, where daylight saving leaves midnight out."""
    return datetime.combine(date.fromordinal(day), time(0), _zone(timezone)).timestamp()


def _month_of(day: int) -> tuple[int, int]:
    then = date.fromordinal(day)
    return then.year, then.month


def _next_month(day: int) -> int:
    """The first day of the month after the one that ``day`` is in."""
    return (date.fromordinal(day).replace(day=1) + timedelta(days=32)).replace(day=1).toordinal()
