"""Money: what is charged, when the budget warns and caps, what the month will come to."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.budget import Prices, Size, Spend, bill_after, ceiling, charged, cost, month_forecast, prices_of
from scaler.config import Budget
from scaler.decide import State, decide
from scaler.model import Pin
from tests.scaler.seen import Watch, policy, seen

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def prices(**given: Any) -> Prices:
    """One currency unit an hour, and a reserve of six minutes."""
    plain: dict[str, Any] = {"currency": "EUR", "replica_hour": 1.0, "daily": None, "monthly": None}
    return Prices(**{**plain, "warn_at": 0.8, "reserve_s": 360.0, "timezone": "Europe/Berlin", **given})


def spent(moments: list[tuple[str, int]], terms: Prices | None = None) -> Spend:
    spend = None
    for text, billed in moments:
        spend = charged(spend, terms or prices(), at(text), billed)
    assert spend is not None
    return spend


# -- what is charged


def test_replicas_cost_what_their_cores_and_memory_cost() -> None:
    budget = Budget(vcpu_hour=0.05, gb_hour=0.01, monthly=100.0, currency="CHF")
    found = prices_of(budget, Size(cpu=2.0, memory_gb=4.0), drain_deadline_s=120.0, timezone="UTC")
    assert found is not None
    assert found.replica_hour == pytest.approx(0.14)
    assert (found.currency, found.monthly, found.daily, found.reserve_s) == ("CHF", 100.0, None, 180.0)


def test_a_price_that_is_given_goes_before_the_template() -> None:
    found = prices_of(Budget(replica_hour=3.0), Size(cpu=2.0, memory_gb=4.0), drain_deadline_s=1.0, timezone="UTC")
    assert found is not None
    assert found.replica_hour == 3.0


def test_without_a_budget_or_a_size_there_are_no_prices() -> None:
    assert prices_of(None, Size(cpu=1.0, memory_gb=1.0), drain_deadline_s=1.0, timezone="UTC") is None
    assert prices_of(Budget(), None, drain_deadline_s=1.0, timezone="UTC") is None


def test_between_two_looks_the_larger_count_is_charged() -> None:
    spend = spent([("2026-11-23T10:00:00", 2), ("2026-11-23T11:00:00", 3), ("2026-11-23T11:30:00", 1)])
    assert spend.today == spend.month == pytest.approx(3.0 + 1.5)
    assert spend.billed == 1


def test_an_hour_of_a_replica_costs_its_price() -> None:
    spend = spent([("2026-11-23T10:00:00", 3), ("2026-11-23T12:00:00", 3)], prices(replica_hour=0.25))
    assert (spend.today, spend.since) == (1.5, at("2026-11-23T10:00:00"))


def test_midnight_ends_a_day_and_keeps_it_if_it_was_watched_whole() -> None:
    spend = spent([("2026-11-23T22:00:00", 1), ("2026-11-24T01:00:00", 1), ("2026-11-25T02:00:00", 1)])
    assert spend.days == ((at_day("2026-11-24"), 24.0),)
    assert (spend.day, spend.today, spend.month) == (at_day("2026-11-25"), 2.0, 28.0)


def test_a_month_that_ends_begins_at_nothing() -> None:
    spend = spent([("2026-11-29T23:00:00", 1), ("2026-12-01T01:00:00", 1)])
    assert (spend.today, spend.month) == (1.0, 1.0)
    year = spent([("2026-12-31T23:00:00", 2), ("2027-01-01T00:30:00", 2)])
    assert year.month == pytest.approx(1.0)


def test_days_of_23_and_of_25_hours_cost_what_they_last() -> None:
    spring = spent([("2026-03-28T00:00:00", 1), ("2026-03-30T00:00:00", 1)])
    assert [money for _, money in spring.days] == [pytest.approx(24.0), pytest.approx(23.0)]
    autumn = spent([("2026-10-24T00:00:00", 1), ("2026-10-26T00:00:00", 1)])
    assert [money for _, money in autumn.days] == [pytest.approx(24.0), pytest.approx(25.0)]


def test_an_outage_is_charged_for_what_was_left_running() -> None:
    spend = spent([("2026-11-23T10:00:00", 4), ("2026-11-24T10:00:00", 0)])
    assert spend.month == pytest.approx(96.0)


def test_a_gap_of_years_charges_this_month_and_ends() -> None:
    spend = spent([("2020-01-15T10:00:00", 1), ("2026-11-03T12:00:00", 1)])
    assert (spend.today, spend.month) == (12.0, 60.0)
    assert len(spend.days) <= 28


def test_a_clock_set_back_charges_nothing_and_forgets_nothing() -> None:
    before = spent([("2026-11-23T10:00:00", 1), ("2026-11-24T02:00:00", 1)])
    back = charged(before, prices(), at("2026-11-23T12:00:00"), 1)
    assert (back.today, back.month, back.day, back.at) == (2.0, 16.0, before.day, at("2026-11-23T12:00:00"))
    assert charged(before, prices(), at("2026-11-24T01:00:00"), 1).today == 2.0
    again = charged(back, prices(), at("2026-11-23T13:00:00"), 1)
    assert (again.today, again.month, again.day) == (2.0, 16.0, before.day)
    on = charged(again, prices(), at("2026-11-24T00:30:00"), 1)
    assert (on.today, on.day) == (2.5, before.day)


def test_days_on_record_are_four_weeks() -> None:
    spend = spent([("2026-09-01T00:00:00", 1), ("2026-09-30T00:00:00", 1), ("2026-10-20T00:00:00", 1)])
    assert len(spend.days) == 28
    assert spend.days[-1][0] == at_day("2026-10-19")


# -- what is allowed


def spend_of(today: float, month: float, when: str) -> Spend:
    return Spend(
        since=at("2026-01-01T00:00:00"), at=at(when), billed=0, day=at_day(when[:10]), today=today, month=month
    )


def at_day(text: str) -> int:
    return datetime.fromisoformat(text).toordinal()


def test_below_the_warning_only_the_reserve_is_kept() -> None:
    spend = spend_of(7.85, 7.85, "2026-11-23T12:00:00")
    assert ceiling(spend, prices(), spend.at, 0) is None
    cap = ceiling(spend, prices(daily=10.0), spend.at, 0)
    assert cap is not None
    assert cap[0] == 21  # 2.15 are left, each replica needs 0.1 to drain
    assert cap[1].startswith("7.85 of the day's 10.00 EUR are spent")


def test_what_drains_is_paid_first() -> None:
    spend = spend_of(7.85, 7.85, "2026-11-23T12:00:00")
    cap = ceiling(spend, prices(daily=10.0), spend.at, 5)
    assert cap is not None
    assert cap[0] == 16


@pytest.mark.parametrize(
    ("today", "when", "allowed"),
    [
        (80.0, "2026-11-23T20:00:00", 5),  # 20 for 4 hours
        (80.0, "2026-11-23T21:00:00", 6),  # 20 for 3 hours
        (80.0, "2026-11-23T04:00:00", 1),  # 20 for 20 hours
        (95.0, "2026-11-23T04:00:00", 1),  # 5 for 20 hours: one, while it lasts
        (80.0, "2026-11-23T23:59:59", 200),  # the reserve needs 0.1 each
        (99.95, "2026-11-23T12:00:00", 0),
        (120.0, "2026-11-23T12:00:00", 0),
    ],
)
def test_beyond_the_warning_the_rest_is_spread(today: float, when: str, allowed: int) -> None:
    spend = spend_of(today, today, when)
    cap = ceiling(spend, prices(daily=100.0), spend.at, 0)
    assert cap is not None
    assert cap[0] == allowed


def test_the_tighter_of_day_and_month_counts() -> None:
    spend = spend_of(1.0, 90.0, "2026-11-30T04:00:00")
    cap = ceiling(spend, prices(daily=50.0, monthly=100.0), spend.at, 0)
    assert cap == (1, "90.00 of the month's 100.00 EUR are spent, and the rest lasts for 1 until the month ends")
    december = spend_of(1.0, 80.0, "2026-12-31T14:00:00")
    assert ceiling(december, prices(monthly=100.0), december.at, 0) == (
        2,
        "80.00 of the month's 100.00 EUR are spent, and the rest lasts for 2 until the month ends",
    )


def test_an_empty_budget_says_what_the_rest_is_for() -> None:
    spend = spend_of(99.95, 99.95, "2026-11-23T12:00:00")
    assert ceiling(spend, prices(daily=100.0), spend.at, 0) == (
        0,
        "99.95 of the day's 100.00 EUR are spent, and the rest pays for what still drains",
    )


@settings(deadline=None, max_examples=25)
@given(
    loads=st.lists(st.integers(0, 60), min_size=1, max_size=15),
    daily=st.one_of(st.none(), st.floats(0.05, 30.0)),
    monthly=st.one_of(st.none(), st.floats(0.05, 60.0)),
    minute=st.integers(0, 30 * 24 * 60),
    linger_ticks=st.integers(0, 8),
)
def test_a_limit_is_never_passed(
    loads: list[int], daily: float | None, monthly: float | None, minute: int, linger_ticks: int
) -> None:
    """Against a plant that bills every replica from when it is asked for until its drain deadline has passed."""
    budget = {"replica_hour": 1.0, "daily": daily, "monthly": monthly}
    given = {k: v for k, v in budget.items() if v is not None}
    rules = policy(budget=given, replicas={"max": 50}, schedule={"timezone": "UTC"})
    now = datetime(2026, 11, 1, tzinfo=ZoneInfo("UTC")).timestamp() + 60.0 * minute
    state, running = State(), 0
    leaving: list[tuple[int, float]] = []
    day: dict[tuple[int, int], float] = {}
    month: dict[int, float] = {}
    for load in itertools.chain.from_iterable([x] * 40 for x in loads):
        draining = sum(n for n, _ in leaving)
        observed = seen(now, ready=running, draining=draining, in_flight=4.0 * load, pin=Pin(min=0, max=50, since=0.0))
        decision, state = decide(rules, state, observed)
        if decision.desired < running:
            leaving.append((running - decision.desired, now + 15.0 * linger_ticks))
        running = decision.desired
        money = 15.0 * (running + sum(n for n, _ in leaving)) / HOUR
        leaving = [(n, until) for n, until in leaving if until > now + 15.0]
        then = datetime.fromtimestamp(now, ZoneInfo("UTC"))
        day[then.month, then.day] = day.get((then.month, then.day), 0.0) + money
        month[then.month] = month.get(then.month, 0.0) + money
        now += 15.0
    assert daily is None or max(day.values()) <= daily + 1e-6
    assert monthly is None or max(month.values()) <= monthly + 1e-6


# -- what it will come to


def test_without_a_record_the_month_goes_on_as_today() -> None:
    spend = spent([("2026-11-23T00:00:00", 1), ("2026-11-23T12:00:00", 1)])
    assert month_forecast(spend, prices(), spend.at) == pytest.approx(24.0 * 8)


def test_a_day_is_expected_to_cost_what_its_weekday_did() -> None:
    """On a Monday, with two weeks on record whose days are all different."""
    week = (3.0, 1.0, 4.0, 1.5, 9.0, 2.5, 5.0)
    first = at_day("2026-11-09")
    days = tuple((first + i, week[i % 7]) for i in range(14))
    spend = Spend(
        since=at("2026-11-01T00:00:00"),
        at=at("2026-11-23T06:00:00"),
        billed=1,
        day=at_day("2026-11-23"),
        today=4.0,
        month=104.0,
        days=days,
    )
    # three quarters of a Monday, Tuesday to Sunday, and Monday the 30th
    assert month_forecast(spend, prices(), spend.at) == pytest.approx(104.0 + 2.25 + sum(week[1:]) + 3.0)


def test_a_weekday_without_a_record_is_expected_to_cost_the_mean() -> None:
    spend = spend_of(1.0, 5.0, "2026-11-29T12:00:00")
    spend = Spend(**{f: getattr(spend, f) for f in Spend.__struct_fields__} | {"days": ((at_day("2026-11-26"), 6.0),)})
    assert month_forecast(spend, prices(), spend.at) == pytest.approx(5.0 + 3.0 + 6.0)


def test_the_last_days_of_a_month_that_has_31() -> None:
    spend = spent([("2026-12-30T00:00:00", 1), ("2026-12-30T12:00:00", 1)])
    assert month_forecast(spend, prices(), spend.at) == pytest.approx(48.0)


def test_a_first_look_forecasts_nothing_wild() -> None:
    spend = spent([("2026-11-30T12:00:00", 5)])
    assert month_forecast(spend, prices(), spend.at) == 0.0


def test_the_warning_names_what_is_nearly_spent_or_will_be() -> None:
    spend = spend_of(8.0, 20.0, "2026-11-23T12:00:00")
    assert cost(spend, prices(), spend.at).warning is None
    assert cost(spend, prices(daily=10.0), spend.at).warning == "8.00 of the day's 10.00 EUR are spent"
    assert cost(spend, prices(monthly=25.0), spend.at).warning == "20.00 of the month's 25.00 EUR are spent"
    soon = cost(spend, prices(monthly=100.0), spend.at)
    assert soon.month_forecast == pytest.approx(140.0)
    assert soon.warning == "the month will come to 140.00 EUR, its budget is 100.00"
    assert cost(spend, prices(monthly=140.0), spend.at).warning is None


def test_a_clock_set_back_forecasts_no_more_than_the_rest_of_the_month() -> None:
    days = tuple((at_day("2026-11-01") + i, 6.0) for i in range(28))
    spend = Spend(since=at("2026-11-01T00:00:00"), at=0.0, billed=1, day=at_day("2026-11-30"), month=100.0, days=days)
    assert month_forecast(spend, prices(), at("2026-11-29T12:00:00")) == 106.0


# -- in a decision

BUDGET = {"replica_hour": 1.0, "daily": 10.0}


def test_a_decision_says_what_the_replicas_cost() -> None:
    watch = Watch(policy(budget=BUDGET | {"monthly": 300.0}), every_s=HOUR / 2)
    watch.tick(in_flight=8.0, ready=2)
    told = watch.tick(in_flight=8.0, starting=1, draining=1, deleting=1).cost
    assert told is not None
    assert (told.currency, told.replica_hour, told.daily, told.monthly) == ("EUR", 1.0, 10.0, 300.0)
    assert told.today == told.month == pytest.approx(2.5)


def test_what_was_asked_for_is_charged_until_the_next_look() -> None:
    watch = Watch(policy(budget=BUDGET), every_s=HOUR)
    assert watch.tick(in_flight=8.0).desired == 2
    told = watch.tick(ready=0, in_flight=0.0).cost
    assert told is not None
    assert told.today == pytest.approx(2.0)


def test_a_cap_by_the_budget_beats_a_pin_and_blindness_and_has_a_name() -> None:
    watch = Watch(policy(budget=BUDGET), every_s=HOUR, ready=5)
    watch.tick(in_flight=20.0)
    last = watch.tick(in_flight=20.0)
    assert (last.desired, last.limited_by) == (5, None)
    blind = watch.tick(data="blind", pin=Pin(min=5, max=5, since=0.0))
    assert (blind.desired, blind.limited_by) == (0, "budget")
    assert blind.because.startswith("No replica: 10.00 of the day's 10.00 EUR are spent")


def test_quota_beats_the_budget() -> None:

    decision = Watch(policy(budget=BUDGET, replicas={"max": 500})).tick(in_flight=4000.0, quota=7)
    assert [s.name for s in decision.steps] == ["concurrency", "budget", "quota"]
    assert (decision.desired, decision.limited_by) == (7, "quota")


def test_without_a_price_nothing_is_capped_and_what_was_spent_is_kept() -> None:
    rules = policy(budget={"currency": "CHF"})
    assert rules.prices is None
    spend = spent([("2026-11-23T10:00:00", 1)])
    decision, after = decide(rules, State(spend=spend), seen(spend.at + 60, ready=1, in_flight=4.0))
    assert decision.cost is None
    assert after.spend is not None
    assert after.spend.month == spend.month
    assert bill_after(spend, 7).billed == 7


def test_a_month_begins_at_local_midnight() -> None:
    """Half past midnight in Berlin is still the evening, and the month, before in UTC."""
    spend = spent([("2026-07-31T22:30", 1), ("2026-07-31T23:30", 1), ("2026-08-01T00:30", 1)])
    assert spend.month == pytest.approx(0.5)
