"""When a timer fires."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.functions.schedule import is_frequent, parse, parse_time_span

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)  # a Wednesday


def next_after(expression: str, at: datetime = NOON) -> str:
    found = parse(expression, at.timestamp()).next_after(at.timestamp())
    return datetime.fromtimestamp(found, UTC).strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * * *", "2026-03-04 12:00:01"),
        ("*/15 * * * * *", "2026-03-04 12:00:15"),
        ("0 */5 * * * *", "2026-03-04 12:05:00"),
        ("30 5/20 * * * *", "2026-03-04 12:05:30"),
        ("0 0 9-17 * * mon-fri", "2026-03-04 13:00:00"),
        ("0 30 9 * Jan,AUG *", "2026-08-01 09:30:00"),
        ("0 0 12 * * *", "2026-03-05 12:00:00"),
        ("0 0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 0 29 2 1", "2044-02-29 00:00:00"),
        ("0 0 0 13 * 5", "2026-03-13 00:00:00"),  # Friday the 13th: day and weekday
        ("0 0 0 31 * 0", "2026-05-31 00:00:00"),
        ("0 0 0 1 1 *", "2027-01-01 00:00:00"),
        ("59 59 23 31 12 *", "2026-12-31 23:59:59"),
        ("*/5 * * * *", "2026-03-04 12:05:00"),  # five fields: at second 0
        ("0 0 0 * * fri-mon", "2026-03-05 00:00:00"),  # backwards: taken as mon-fri
        ("00:00:15", "2026-03-04 12:00:15"),
        ("1.00:00:00", "2026-03-05 12:00:00"),
    ],
)
def test_an_expression_means_what_it_means_on_azure(expression: str, expected: str) -> None:
    assert next_after(expression) == expected


def test_a_schedule_counts_from_after_the_given_moment() -> None:
    on_the_dot = parse("*/15 * * * * *", 0.0)

    assert [on_the_dot.next_after(at) for at in (0.0, 14.999, 15.0, 15.001)] == [15.0, 15.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("hourly", "is neither an NCRONTAB expression of six fields"),
        ("* * * *", "is neither an NCRONTAB expression of six fields"),
        ("60 * * * * *", "second '60': expected a number from 0 to 59"),
        ("0 0 24 * * *", "hour '24'"),
        ("0 0 0 0 * *", "day '0'"),
        ("0 0 0 * * 7", "weekday '7': expected a number from 0 to 6 or a name"),
        ("0 0 0 * foo *", "month 'foo'"),
        ("*/0 * * * * *", "after the slash belongs a whole number of at least 1"),
        ("1,,2 * * * * *", "second ''"),
        ("-5 * * * * *", "second ''"),
        ("0 0 0 30 2 *", "no day of the calendar matches"),
        ("00:00:00", "a time span must be longer than zero"),
        ("25:00:00", "is neither"),
        ("", "is neither"),
    ],
)
def test_an_expression_that_means_nothing_is_a_sentence(expression: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse(expression, NOON.timestamp())

    assert problem in str(caught.value)


def test_time_spans_are_read_as_dotnet_reads_them() -> None:
    texts = ("00:00:02", "00:05", "1.02:03:04", "00:00:00.5", "3", "24:00:00", "00:60:00", "1:2:3:4", "soon")

    assert [parse_time_span(text) for text in texts] == [2.0, 300.0, 93_784.0, 0.5, 259_200.0, None, None, None, None]


def test_only_timers_slower_than_a_minute_are_monitored() -> None:
    expressions = ("*/15 * * * * *", "*/30 * * * * *", "0 * * * * *", "00:00:30", "00:01:00")

    assert [is_frequent(parse(e, 0.0), NOON.timestamp()) for e in expressions] == [True, True, False, True, False]


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    # croniter takes a-a for all values, and refuses steps longer than the span: neither is written here.
    spans = st.tuples(number, number).filter(lambda p: p[0] < p[1]).map(lambda p: f"{p[0]}-{p[1]}")
    steps = st.integers(1, most - least).map("*/{}".format)
    item = st.one_of(number.map(str), spans, steps)
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


CRON = st.tuples(field(0, 59), field(0, 59), field(0, 23), field(1, 28), field(1, 12), st.just("*")).map(" ".join)
WEEKLY = st.tuples(field(0, 59), field(0, 59), field(0, 23), st.just("*"), field(1, 12), field(0, 6)).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(expression=st.one_of(CRON, WEEKLY), at=st.integers(1_700_000_000, 2_000_000_000))
def test_croniter_says_the_same(expression: str, at: int) -> None:
    croniter = pytest.importorskip("croniter").croniter

    expected = croniter(expression, datetime.fromtimestamp(at, UTC), second_at_beginning=True, day_or=False)

    assert parse(expression, float(at)).next_after(float(at)) == expected.get_next(datetime).timestamp()
