"""The calendar: spans over midnight, time zones, daylight saving, dates, holidays, and what is refused."""

from __future__ import annotations

import math
from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from scaler.config import ScheduleText
from scaler.errors import BadSetting
from scaler.schedule import BLOCK_DAYS, DAY_S, Schedule, compile_schedule, period_at, preview

BERLIN = "Europe/Berlin"


def schedule(*rules: dict[str, Any], timezone: str = BERLIN) -> Schedule:
    text = msgspec.convert({"timezone": timezone, "rules": list(rules)}, ScheduleText)
    return compile_schedule(text, "services.iris.schedule")


def at(text: str, zone: str = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def test_without_rules_one_endless_period_allows_everything() -> None:
    period = period_at(schedule(), 0.0)
    assert (period.start, period.end) == (-math.inf, math.inf)
    assert (period.min, period.max, period.off, period.wakes) == (0, None, False, True)


def test_a_floor_holds_within_its_hours_only() -> None:
    office = schedule({"days": "mon-fri", "from": "07:30", "to": "20:00", "min": 2})
    assert period_at(office, at("2026-11-23T07:29:59")).min == 0
    assert period_at(office, at("2026-11-23T07:30:00")).min == 2
    assert period_at(office, at("2026-11-23T19:59:59")).min == 2
    assert period_at(office, at("2026-11-23T20:00:00")).min == 0
    assert period_at(office, at("2026-11-22T12:00:00")).min == 0


def test_two_off_days_are_one_period_that_opens_after_the_second() -> None:
    weekend = schedule({"days": "sat-sun", "off": True})
    period = period_at(weekend, at("2026-11-21T10:00:00"))
    assert period.off
    assert not period.wakes
    assert (period.start, period.end) == (at("2026-11-21T00:00:00"), at("2026-11-23T00:00:00"))


def test_days_may_run_over_the_end_of_the_week() -> None:
    assert period_at(schedule({"days": "fri-mon", "off": True}), at("2026-11-23T10:00:00")).off
    assert not period_at(schedule({"days": "fri-mon", "off": True}), at("2026-11-24T10:00:00")).off
    assert period_at(schedule({"days": "Tue, thu", "off": True}), at("2026-11-24T10:00:00")).off


def test_a_span_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    night = schedule({"days": "fri", "from": "22:00", "to": "06:00", "off": True})
    assert period_at(night, at("2026-11-20T23:00:00")).off
    assert period_at(night, at("2026-11-21T05:59:59")).off
    assert not period_at(night, at("2026-11-21T06:00:00")).off
    assert not period_at(night, at("2026-11-21T23:00:00")).off


def test_seconds_may_be_given() -> None:
    short = schedule({"from": "10:00:05", "to": "10:00:20", "off": True})
    assert not period_at(short, at("2026-11-20T10:00:04")).off
    assert period_at(short, at("2026-11-20T10:00:05")).end == at("2026-11-20T10:00:20")


def test_off_wins_over_floor_and_the_smallest_cap_over_the_largest_floor() -> None:
    rules = schedule(
        {"min": 4},
        {"days": "tue", "max": 3},
        {"days": "tue", "max": 6},
        {"days": "wed", "off": True, "wake": True},
    )
    assert period_at(rules, at("2026-11-23T12:00:00")).min == 4
    tuesday = period_at(rules, at("2026-11-24T12:00:00"))
    assert (tuesday.min, tuesday.max) == (3, 3)
    wednesday = period_at(rules, at("2026-11-25T12:00:00"))
    assert (wednesday.off, wednesday.wakes, wednesday.min) == (True, True, 0)


def test_one_rule_that_forbids_waking_is_enough() -> None:
    rules = schedule({"off": True, "wake": True}, {"days": "sun", "off": True})
    assert period_at(rules, at("2026-11-21T12:00:00")).wakes
    assert not period_at(rules, at("2026-11-22T12:00:00")).wakes


def test_dates_and_holidays_and_days_all_have_to_hold() -> None:
    dates = schedule({"dates": ["2026-12-24..2026-12-26", "2026-12-31"], "off": True})
    assert [d for d in range(20, 32) if period_at(dates, at(f"2026-12-{d}T12:00:00")).off] == [24, 25, 26, 31]
    holiday = schedule({"holidays": "DE-BY", "days": "mon-fri", "off": True})
    assert period_at(holiday, at("2026-01-06T12:00:00")).off  # Epiphany, a Tuesday, in Bavaria only
    assert not period_at(schedule({"holidays": "DE", "off": True}), at("2026-01-06T12:00:00")).off
    assert not period_at(holiday, at("2026-12-26T12:00:00")).off  # a holiday on a Saturday


def test_the_29th_of_february_exists_in_leap_years() -> None:
    leap = schedule({"dates": ["2028-02-29"], "off": True})
    assert period_at(leap, at("2028-02-29T12:00:00")).end == at("2028-03-01T00:00:00")
    with pytest.raises(BadSetting, match="no date"):
        schedule({"dates": ["2027-02-29"], "off": True})


def test_a_time_that_the_spring_jump_leaves_out_is_the_moment_of_the_jump() -> None:
    jump = at("2026-03-29T03:00:00")
    assert period_at(schedule({"from": "02:30", "to": "05:00", "min": 1}), jump).start == jump
    assert period_at(schedule({"from": "01:00", "to": "02:30", "min": 1}), jump - 1).end == jump
    inside = preview(schedule({"from": "02:10", "to": "02:50", "min": 1}), at("2026-03-29T00:00:00"), 0.9)
    assert [p.min for p in inside] == [0]


def test_a_span_that_ends_in_the_autumn_fold_ends_at_the_second_of_the_two_times() -> None:
    night = schedule({"from": "02:15", "to": "02:45", "min": 1})
    period = period_at(night, at("2026-10-25T02:30:00", fold=0))
    assert (period.start, period.end) == (at("2026-10-25T02:15:00"), at("2026-10-25T02:45:00", fold=1))
    assert period.end - period.start == 1.5 * 3600


def test_a_day_of_the_autumn_change_has_25_hours() -> None:
    sunday = period_at(schedule({"dates": ["2026-10-25"], "off": True}), at("2026-10-25T12:00:00"))
    assert sunday.end - sunday.start == 25 * 3600


def test_two_zones_disagree_about_the_same_rule() -> None:
    rule = {"from": "09:00", "to": "17:00", "min": 1}
    moment = at("2026-11-23T09:30:00")
    assert period_at(schedule(rule), moment).min == 1
    assert period_at(schedule(rule, timezone="America/New_York"), moment).min == 0


def test_a_rule_for_every_day_never_ends() -> None:
    always = period_at(schedule({"min": 1}), at("2026-11-23T12:00:00"))
    assert (always.start, always.end, always.min) == (-math.inf, math.inf, 1)


def test_preview_is_what_then_runs() -> None:
    rules = schedule(
        {"days": "mon-fri", "from": "07:30", "to": "20:00", "min": 1},
        {"days": "sat-sun", "off": True},
        {"holidays": "DE", "off": True},
        {"from": "22:00", "to": "02:30", "max": 2},
    )
    start = at("2026-03-25T11:11:11")
    periods = preview(rules, start, 14)
    assert periods[0].start == start
    assert periods[-1].end == start + 14 * DAY_S
    assert all(one.end == other.start for one, other in pairwise(periods))
    for period in periods:
        for moment in (period.start, (period.start + period.end) / 2, period.end - 1):
            then = period_at(rules, moment)
            assert (then.min, then.max, then.off) == (period.min, period.max, period.off)


@pytest.mark.parametrize(
    ("rule", "where", "words"),
    [
        ({"min": 1, "from": "7.30"}, "rules[0].from", "no time of day"),
        ({"min": 1, "to": "24:01"}, "rules[0].to", "no time of day"),
        ({"min": 1, "from": "10:60"}, "rules[0].from", "no time of day"),
        ({"min": 1, "from": "10:00:60"}, "rules[0].from", "no time of day"),
        ({"min": 1, "from": "08:00", "to": "08:00"}, "rules[0].to", "empty"),
        ({"min": 1, "from": "24:00", "to": "08:00"}, "rules[0].from", "00:00 of the next"),
        ({"min": 1, "days": "mon-fry"}, "rules[0].days", "mon-fri"),
        ({"min": 1, "days": "mon-"}, "rules[0].days", "mon-fri"),
        ({"min": 1, "days": "montag"}, "rules[0].days", "mon-fri"),
        ({"min": 1, "dates": ["2026-12-24..2026-12-20"]}, "rules[0].dates[0]", "before"),
        ({"min": 1, "dates": ["24.12.2026"]}, "rules[0].dates[0]", "no date"),
        ({"min": 1, "dates": []}, "rules[0].dates", "empty"),
        ({"off": True, "holidays": "Germany"}, "rules[0].holidays", "no known country"),
        ({"off": True, "holidays": "DE-XX"}, "rules[0].holidays", "no known part"),
        ({"off": True, "min": 1}, "rules[0]", "either"),
        ({"off": True, "max": 1}, "rules[0]", "either"),
        ({"days": "mon"}, "rules[0]", "changes nothing"),
        ({"min": 1, "wake": True}, "rules[0].wake", "only an off period"),
        ({"min": 3, "max": 2}, "rules[0]", "above max"),
    ],
)
def test_a_bad_rule_is_refused_with_its_path(rule: dict[str, Any], where: str, words: str) -> None:
    with pytest.raises(BadSetting) as error:
        schedule(rule)
    assert str(error.value).startswith(f"services.iris.schedule.{where}: ")
    assert words in str(error.value)


@pytest.mark.parametrize("zone", ["Europe/Berlín", "Mars", "", "../etc/passwd"])
def test_a_time_zone_that_does_not_exist_is_refused(zone: str) -> None:
    with pytest.raises(BadSetting, match=r"services\.iris\.schedule\.timezone: .* no time zone"):
        schedule(timezone=zone)


def test_a_cap_alone_asks_for_no_floor_and_may_be_as_low_as_the_floor_beside_it() -> None:
    assert period_at(schedule({"max": 3}), at("2026-11-23T12:00:00")).min == 0
    both = period_at(schedule({"min": 2, "max": 2}), at("2026-11-23T12:00:00"))
    assert (both.min, both.max) == (2, 2)


def test_a_preview_that_ends_with_a_period_tells_nothing_beyond_it() -> None:
    weekend = schedule({"days": "sat-sun", "off": True})
    (week,) = preview(weekend, at("2026-11-23T00:00:00"), 5)
    assert (week.start, week.end, week.off) == (at("2026-11-23T00:00:00"), at("2026-11-28T00:00:00"), False)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"min": 1}, "always"),
        ({"min": 1, "from": "08:00"}, "08:00-24:00"),
        ({"min": 1, "to": "20:00"}, "00:00-20:00"),
        ({"min": 1, "days": "mon-sun", "from": "08:00", "to": "20:00"}, "mon-sun 08:00-20:00"),
        ({"min": 1, "dates": ["2026-12-24..2026-12-26", "2026-12-31"]}, "2026-12-24..2026-12-26, 2026-12-31"),
        ({"min": 1, "holidays": "DE"}, "holidays DE"),
    ],
)
def test_a_period_names_its_rules_in_the_words_of_the_operator(rule: dict[str, Any], words: str) -> None:
    assert period_at(schedule(rule), at("2026-12-25T12:00:00")).rule == words
    twice = period_at(schedule(rule, {"min": 2}), at("2026-12-25T12:00:00"))
    assert twice.rule == f"{words}; always"


@pytest.mark.parametrize("left_out", ["02:00:01", "02:01", "02:17:13", "02:30:01", "02:43:07", "02:59:59"])
def test_whatever_time_a_jump_leaves_out_is_the_very_second_of_the_jump(left_out: str) -> None:
    jump = at("2026-03-29T03:00:00")
    assert period_at(schedule({"from": left_out, "to": "05:00", "min": 1}), jump).start == jump


def test_a_day_ends_at_the_first_of_two_midnights() -> None:
    eve = schedule({"dates": ["2026-10-31"], "off": True}, timezone="America/Havana")
    first = datetime(2026, 11, 1, tzinfo=ZoneInfo("America/Havana")).timestamp()
    assert period_at(eve, first - 1).end == first


# -- where the days that are reckoned together meet


def test_the_days_that_begin_at_the_first_of_two_midnights_begin_there_whether_they_are_reckoned_before_or_after() -> (
    None
):
    havana, day = "America/Havana", datetime(2028, 11, 5)  # noqa: DTZ001
    assert day.toordinal() % BLOCK_DAYS == 0
    night = schedule({"days": "sun", "from": "00:00", "to": "00:30", "min": 3}, timezone=havana)
    first, second = (day.replace(tzinfo=ZoneInfo(havana), fold=fold).timestamp() for fold in (0, 1))
    assert second - first == 3600
    assert period_at(night, first - 60).end == first
    found = period_at(night, first + 60)
    assert (found.start, found.end, found.min) == (first, second + 1800, 3)


def test_a_night_over_that_edge_ends_where_the_next_day_says_something_else() -> None:
    assert datetime(2028, 11, 5).toordinal() % BLOCK_DAYS == 0  # noqa: DTZ001
    evening = {"days": "sat", "from": "20:00", "to": "21:00", "min": 9}
    night = {"days": "sat", "from": "22:00", "to": "06:00", "min": 3}
    small_hours = {"days": "sun", "from": "02:00", "to": "03:00", "min": 5}
    found = period_at(schedule(evening, night, small_hours), at("2028-11-04T23:00:00"))
    assert (found.start, found.end, found.min) == (at("2028-11-04T22:00:00"), at("2028-11-05T02:00:00"), 3)
