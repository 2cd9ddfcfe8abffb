"""The last replica: kept while the past says that waiting is cheaper than another start."""

from __future__ import annotations

import math

import pytest

from scaler.foresight.history import BLOCK_BINS, History, record
from scaler.foresight.idle import LEAST_GAPS, LONGEST_WAIT_BINS, gaps, worth_keeping

START_S = 90.0


def watched(*counts: float | None) -> History:
    history = History(bin_s=15.0)
    for i, count in enumerate(counts):
        history = record(history, 15.0 * (i + 1), 15.0, count)
    return history


def recurring(gap: int, times: int, idle: int) -> History:
    """Requests that come each so many bins; nothing for ``idle`` bins now."""
    return watched(*([1.0] + [0.0] * gap) * times, 1.0, *[0.0] * idle)


def test_gaps_are_counted_between_arrivals_and_the_last_one_is_not_over() -> None:
    past, idle = gaps(watched(1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0))
    assert (list(past), idle) == ([2, 1], 3)


def test_what_nobody_watched_bounds_no_gap() -> None:
    past, idle = gaps(watched(0.0, 1.0, 0.0, None, 0.0, 0.0, 1.0, 0.0, 1.0, None, 0.0))
    assert (list(past), idle) == ([1], 1)
    assert gaps(watched())[1] == 0
    assert gaps(watched(0.0, 0.0))[1] == 2


def test_a_gap_goes_on_from_block_to_block() -> None:
    before = [1.0] + [0.0] * (BLOCK_BINS - 1)
    past, idle = gaps(watched(*before, 0.0, 0.0, 1.0, 0.0))
    assert (list(past), idle) == ([BLOCK_BINS + 1], 1)
    past, idle = gaps(watched(*before, *[0.0] * BLOCK_BINS, 0.0))
    assert (list(past), idle) == ([], 2 * BLOCK_BINS)


def test_a_replica_is_kept_where_the_next_request_is_near() -> None:
    wait = worth_keeping(recurring(gap=4, times=20, idle=2), START_S)
    assert wait is not None
    assert (wait.idle_s, wait.seconds, wait.ended, wait.gaps) == (30.0, 30.0, 20, 20)


def test_it_is_given_up_where_the_next_request_is_far() -> None:
    assert worth_keeping(recurring(gap=20, times=20, idle=2), START_S) is None
    assert worth_keeping(recurring(gap=20, times=20, idle=16), START_S) is not None


@pytest.mark.parametrize("gap", range(1, 12))
def test_it_breaks_even_where_the_wait_costs_as_much_as_a_start(gap: int) -> None:
    """All gaps alike: what is left of this one is the rent, and it is known to end."""
    kept = worth_keeping(recurring(gap=gap, times=20, idle=0), START_S) is not None
    assert kept == (gap * 15.0 < START_S)


def test_few_gaps_prove_nothing() -> None:
    assert worth_keeping(recurring(gap=4, times=7, idle=2), START_S) is None
    assert worth_keeping(recurring(gap=4, times=20, idle=10), math.inf) is None


def test_a_gap_that_lasts_as_long_as_all_before_is_like_none_of_them() -> None:
    assert worth_keeping(recurring(gap=4, times=20, idle=4), START_S) is None


def test_as_many_gaps_as_prove_something_do() -> None:
    assert worth_keeping(recurring(gap=4, times=LEAST_GAPS, idle=2), START_S) is not None


def test_no_wait_is_longer_than_the_longest() -> None:
    wait = worth_keeping(recurring(gap=LONGEST_WAIT_BINS + 2, times=20, idle=2), 1e6)
    assert wait is not None
    assert wait.seconds == LONGEST_WAIT_BINS * 15.0
    assert worth_keeping(recurring(gap=LONGEST_WAIT_BINS + 3, times=20, idle=2), 1e6) is None


def test_the_least_gain_is_one() -> None:
    assert worth_keeping(recurring(gap=4, times=20, idle=2), 30.5) is not None
    assert worth_keeping(recurring(gap=4, times=20, idle=2), 30.0) is None


def test_a_full_block_of_nothing_is_as_long_as_it_is_and_its_beginning_was_not_watched() -> None:
    past, idle = gaps(watched(*[0.0] * BLOCK_BINS))
    assert (list(past), idle) == ([], BLOCK_BINS)
    past, idle = gaps(watched(*[0.0] * 3, 1.0, *[0.0] * (BLOCK_BINS - 4)))
    assert (list(past), idle) == ([], BLOCK_BINS - 4)
