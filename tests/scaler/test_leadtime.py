"""The lead time is learned from the starts that were seen."""

from __future__ import annotations

import math

import pytest

from scaler.foresight.leadtime import (
    KEPT,
    KEPT_FAILED,
    Starts,
    asked_after,
    lead_time_s,
    mean_start_s,
    of_version,
    remember,
)
from tests.scaler.seen import seen


def test_before_any_start_the_expected_time_holds() -> None:
    assert lead_time_s((), 90.0) == 90.0


def test_nine_of_ten_starts_are_within_the_lead_time() -> None:
    assert lead_time_s([float(s) for s in range(1, 11)], 90.0) == 9.0
    assert lead_time_s([5.0], 90.0) == 5.0


def test_only_the_newest_starts_are_kept_and_nonsense_is_not() -> None:
    starts = remember(range(KEPT), [math.nan, -1.0, math.inf, 7.0])
    assert len(starts) == KEPT
    assert starts[0] == 1
    assert starts[-1] == 7.0


def test_starts_that_have_not_ended_make_the_lead_time_longer() -> None:
    seen = [60.0, 62.0, 65.0, 70.0, 80.0]
    assert lead_time_s(seen, 90.0) == 80.0
    assert lead_time_s(seen, 90.0, [10.0] * 5) == 80.0
    assert lead_time_s(seen, 90.0, [300.0]) == 300.0
    assert lead_time_s([60.0] * 20, 90.0, [300.0]) == 60.0
    assert lead_time_s([], 90.0, [300.0]) == 90.0


def test_the_product_limit_counts_each_end_among_those_still_at_risk() -> None:
    """By hand: 10 of 4 at risk, 20 of 2 at risk (15 left): 3/4, then 3/8; then 40 alone."""
    assert lead_time_s([10.0, 20.0, 40.0], 90.0, [15.0]) == 40.0
    ends = [float(s) for s in range(1, 10)]
    assert lead_time_s(ends, 90.0, [0.5]) == 9.0
    assert lead_time_s([*ends, 100.0], 90.0) == 9.0
    assert lead_time_s([*ends, 100.0], 90.0, [8.5]) == 100.0


def test_the_mean_believes_the_expected_start_at_first() -> None:
    assert mean_start_s([], 90.0) == 90.0
    assert mean_start_s([30.0] * 5, 90.0) == 60.0


def test_only_starts_that_are_overdue_move_the_mean() -> None:
    seen = [60.0] * 5
    assert mean_start_s(seen, 60.0, [10.0, 59.0]) == 60.0
    assert mean_start_s(seen, 60.0, [100.0]) == pytest.approx((600 + 125) / 11)
    assert mean_start_s([*seen, 200.0], 60.0, [100.0]) == pytest.approx((600 + 200 + 200) / 12)


def test_a_start_that_ended_is_the_request_that_fits_it_best() -> None:
    assert asked_after([0.0, 50.0], 100.0, [48.0], 1) == (0.0,)
    assert asked_after([0.0, 50.0], 100.0, [99.0], 1) == (50.0,)
    assert asked_after([], 100.0, [99.0], 0) == ()
    assert asked_after([0.0], 100.0, [], 3) == (0.0, 100.0, 100.0)
    assert asked_after([0.0, 50.0], 100.0, [], 1) == (0.0,)


def test_a_start_as_long_as_the_mean_is_not_overdue_and_one_in_time_says_nothing() -> None:
    assert mean_start_s([60.0] * 5, 60.0, [60.0]) == 60.0
    seen = [60.0] * 5 + [200.0]
    assert mean_start_s(seen, 60.0, [10.0]) == mean_start_s(seen, 60.0)


def test_an_overdue_start_is_reckoned_to_take_what_those_took_that_took_longer() -> None:
    assert mean_start_s([20.0, 60.0, 100.0], 20.0, [60.0]) == pytest.approx((20 + 60 + 100 + 5 * 20 + 100) / 9)
    assert mean_start_s([20.0, 60.0, 100.0, 140.0], 20.0, [70.0]) == pytest.approx((320 + 5 * 20 + 120) / 10)


def test_a_start_that_took_no_time_is_one() -> None:
    assert remember((), (0.0, 0.5, -1.0, math.inf)) == (0.0, 0.5)


def test_starts_that_failed_are_known_to_take_longer_until_as_many_have_succeeded() -> None:
    once = of_version(Starts("t1", (60.0,), ()), seen(template="t1", failed_starts_s=(900.0, 300.0)))
    assert (once.known_s, once.failed_s) == ((60.0,), (900.0, 300.0))
    assert lead_time_s(once.known_s, 90.0, once.failed_s) == 900.0
    better = of_version(once, seen(template="t1", cold_starts_s=(61.0,), cold_starts_of=("t1",)))
    assert (better.seen_s, better.failed_s) == ((60.0, 61.0), (300.0,))
    assert of_version(better, seen(template="t1", cold_starts_s=(62.0,))).failed_s == ()
    assert of_version(once, seen(template="t2")).failed_s == ()
    many = of_version(once, seen(failed_starts_s=tuple(float(i) for i in range(20))))
    assert many.failed_s == tuple(float(i) for i in range(20 - KEPT_FAILED, 20))


def test_a_preview_that_leaves_the_durations_out_learns_nothing_of_their_versions() -> None:
    assert of_version(Starts("t1", (60.0,), ()), seen(cold_starts_of=("t1",))).seen_s == (60.0,)
