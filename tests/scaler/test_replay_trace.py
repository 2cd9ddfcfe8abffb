"""What is played: trace files, records, cold starts."""

from __future__ import annotations

import math
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.errors import BadSetting
from scaler.model import Observation
from scaler.ports import DecisionRow
from scaler.replay.record import Recorded, Watched, recorded, watched
from scaler.replay.starts import draws
from scaler.replay.trace import Trace, first_days, parse, per_second


def trace(*counts: float, width_s: float = 10.0, begins_s: float = 0.0) -> Trace:
    starts = tuple(begins_s + i * width_s for i in range(len(counts)))
    return Trace(starts_s=starts, widths_s=(width_s,) * len(counts), requests=counts)


def test_a_trace_is_read_with_the_width_of_its_bins() -> None:
    read = parse(b"t_s,requests\n0,13\n10,18\n\n40,0\n", "x.csv")
    assert read == Trace(starts_s=(0, 10, 40), widths_s=(10, 30, 30), requests=(13, 18, 0))
    assert read.span_s == 70


@pytest.mark.parametrize(
    "text",
    ["\ufefft_s,requests\r\n0,13\r\n10,18\r\n", "t_s, requests\n0.0, 13\n1e1,18.0"],
)
def test_what_spreadsheets_write_is_read_too(text: str) -> None:
    assert parse(text.encode(), "x.csv").requests == (13, 18)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "x.csv: line 1: expected the header `t_s,requests`"),
        (b"\n\n", "x.csv: line 1: expected the header"),
        (b"time,count\n0,1\n", "x.csv: line 1: expected the header"),
        (b"0,1\n1,1\n", "x.csv: line 1: expected the header"),
        (b"t_s,requests\n0,1\n", "x.csv: expected at least two lines after the header, found 1"),
        (b"t_s,requests\n0,1\n1,x\n", "x.csv: line 3: '1,x'; expected two numbers"),
        (b"t_s,requests\n0,1\n1,2,3\n", "x.csv: line 3: '1,2,3'; expected two numbers"),
        (b"t_s,requests\n0,1\n1\n", "x.csv: line 3: '1'; expected two numbers"),
        (b"t_s,requests\n0,1\n1,-2\n", "x.csv: line 3: '1,-2'; expected a time in seconds and a count of 0 or more"),
        (b"t_s,requests\n0,1\n1,nan\n", "x.csv: line 3"),
        (b"t_s,requests\n0,1\ninf,1\n", "x.csv: line 3"),
        (b"t_s,requests\n0,1\n1,1e13\n", "x.csv: line 3"),
        (b"t_s,requests\n0,1\n5,1\n5,1\n", "x.csv: line 4: t_s is 5 after 5; times must rise"),
        (b"t_s,requests\n0,1\n9,1\n\n5,1\n", "x.csv: line 5: t_s is 5 after 9; times must rise"),
        (b"t_s,requests\n0,0\n1,0\n", "x.csv: no request in it"),
        (b"t_s,requests\n0,\xff\n", "x.csv: not a text file"),
        (b"t_s,requests\n0,1\x00\n1,1\n", "x.csv: line 2"),
        (b't_s,requests\n0,"1\n1,1\n', "x.csv: line 2"),
        (b"t_s,requests\n0,1_0\n1,1\n", "x.csv: line 2: '0,1_0'; expected two numbers"),
    ],
)
def test_what_is_no_trace_is_told_with_file_and_line(text: bytes, sentence: str) -> None:
    with pytest.raises(BadSetting) as told:
        parse(text, "x.csv")
    assert str(told.value).startswith(sentence)
    assert "\n" not in str(told.value)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_but_a_trace_get_through_and_none_breaks_the_reader(data: bytes) -> None:
    with suppress(BadSetting):
        assert len(parse(b"t_s,requests\n" + data, "x.csv").starts_s) >= 2


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.floats(0, 500), min_size=2, max_size=30),
    width_s=st.sampled_from([0.25, 1.0, 1.5, 10.0, 60.0, 300.0]),
    begins_s=st.sampled_from([0.0, 0.3, 1e9]),
)
def test_every_request_of_a_bin_falls_within_it(counts: list[float], width_s: float, begins_s: float) -> None:
    made = per_second(trace(*counts, width_s=width_s, begins_s=begins_s), seed=3)
    assert math.floor(sum(counts) + 1e-6) == made.sum()
    assert np.array_equal(made, made.round())
    if width_s == 60.0:
        for i, count in enumerate(counts):
            assert abs(made[60 * i : 60 * (i + 1)].sum() - count) < 1.001


def test_arrivals_are_drawn_by_seed_and_spread_over_their_bin() -> None:
    one, same, other = (per_second(trace(600, 0, 1200, width_s=60.0), seed=s) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one[60:120].sum() == 0
    assert one[:60].max() < 30  # ten a second, give or take


def test_the_first_days_of_a_trace() -> None:
    hourly = trace(*range(72), width_s=3600.0)
    assert len(first_days(hourly, 1.0).starts_s) == 24
    assert first_days(hourly, 90.0) == hourly


# -- cold starts


def test_cold_starts_are_drawn_from_those_seen_once_there_are_enough() -> None:
    seen = [60.0 + i for i in range(20)]
    assert set(draws(seen, 90.0, seed=1)) == set(seen)
    few = draws(seen[:3], 90.0, seed=1)
    assert np.median(few) == pytest.approx(61.0, rel=0.03)
    none = draws([], 90.0, seed=1)
    assert np.median(none) == pytest.approx(90.0, rel=0.03)
    assert np.std(np.log(none)) == pytest.approx(0.35, rel=0.05)
    assert draws([], 90.0, seed=1) == none != draws([], 90.0, seed=2)


# -- records


def ticked(at: float, arrivals: float | None = 15.0, **changes: object) -> Watched:
    return Watched(at=at, window_s=15.0, ready=2, arrivals=arrivals, **changes)  # type: ignore[arg-type]


def of(*ticks: Watched) -> Recorded:
    return recorded(ticks, "iris")


def test_a_record_becomes_a_trace_of_its_ticks() -> None:
    made = of(*(ticked(15.0 * i, arrivals=float(i), in_flight=2.0, completed=10.0) for i in range(1, 5)))
    assert made.trace == trace(1.0, 2.0, 3.0, 4.0, width_s=15.0)
    assert made.request_s == 3.0  # 2 x 15 s of work in 10 requests
    assert made.filled_s == 0.0
    assert made.ready_first == 2


def test_what_nobody_watched_is_filled_from_both_sides_and_said() -> None:
    made = of(ticked(15.0, 15.0), ticked(30.0, None), ticked(90.0, 45.0))
    assert made.trace.starts_s == (0.0, 15.0, 30.0, 75.0)
    assert made.trace.requests == (15.0, 30.0, 90.0, 45.0)  # 2/s, the mean of 1/s and 3/s
    assert made.filled_s == 60.0


def test_unknown_ends_are_cut_off() -> None:
    made = of(ticked(15.0, None), ticked(30.0, 30.0), ticked(45.0, None))
    assert made.trace.starts_s == (15.0,)
    assert made.filled_s == 0.0


def test_windows_that_overlap_count_no_second_twice() -> None:
    made = of(ticked(15.0), Watched(at=17.0, window_s=2.0, arrivals=4.0), ticked(30.0))
    assert made.trace.widths_s == (15.0, 2.0, 13.0)
    assert made.trace.span_s == 30.0


def test_a_record_without_arrivals_is_told() -> None:
    for ticks in ((), (ticked(15.0, None),), (ticked(15.0, 0.0),)):
        with pytest.raises(BadSetting, match="the record of iris holds no arrivals"):
            of(*ticks)


def test_cold_starts_and_signals_are_learned() -> None:
    made = of(ticked(15.0, cold_starts_s=(70.0,)), ticked(30.0, cold_starts_s=(80.0, 90.0), signals={"jobs": 4.0}))
    assert made.starts_s == (70.0, 80.0, 90.0)
    assert made.signals == ((30.0, {"jobs": 4.0}),)


def test_a_row_is_read_by_what_it_says_of_the_load_and_one_that_cannot_be_read_is_none() -> None:
    seen = Observation(at=30.0, window_s=15.0, ready=1, starting=2, arrivals=7.0, cold_starts_s=(61.0,))
    row = DecisionRow(
        service="iris", at=30.0, tick="t", cause="timer", desired=3, limited_by=None, because="", decision=b"",
        observation=msgspec.msgpack.encode(seen), state_before=b"", actions="[]", replicas="{}", seconds=0.1,
        calls="{}",
    )  # fmt: skip
    read = watched(row)
    assert read == Watched(at=30.0, window_s=15.0, ready=1, starting=2, arrivals=7.0, cold_starts_s=(61.0,))
    assert watched(msgspec.structs.replace(row, observation=b"\xc1")) is None
