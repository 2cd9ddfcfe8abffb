"""The record of arrivals: bins, gaps, clocks, what is read of it, and how it is stored."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from scaler.foresight.history import (
    BLOCK_BINS,
    MOST_BLOCKS,
    PEAK_BINS,
    WINDOWS,
    Block,
    History,
    features,
    now,
    pack,
    record,
    unpack,
)

EMPTY = History(bin_s=15.0)


def rates(history: History) -> list[float]:
    """All full bins, oldest first."""
    data = b"".join(b.rates for b in history.blocks) + history.tail
    return [float(rate) for rate in np.frombuffer(data, dtype="<f4")]


def watched(*arrivals: float | None, window_s: float = 15.0, history: History = EMPTY, at: float = 0.0) -> History:
    for count in arrivals:
        at += window_s
        history = record(history, at, window_s, count)
    return history


# -- recording


def test_a_bin_holds_arrivals_per_second() -> None:
    assert rates(watched(30.0, 0.0, 45.0)) == [2.0, 0.0, 3.0]


def test_short_ticks_fill_a_bin_together_and_long_ones_fill_several() -> None:
    assert rates(watched(*[1.0] * 7, window_s=5.0)) == pytest.approx([0.2, 0.2])
    assert rates(watched(40.0, window_s=40.0)) == [1.0, 1.0]


def test_ticks_of_half_a_second_fill_a_bin_once_its_time_has_passed() -> None:
    nearly = watched(*[1.0] * 29, window_s=0.5)
    assert rates(nearly) == []
    assert nearly.open_age_s == pytest.approx(14.5)
    assert rates(record(nearly, 15.0, 0.5, 1.0)) == pytest.approx([2.0])


def test_a_long_tick_fills_what_is_left_of_a_bin_and_the_next_ones() -> None:
    found = record(watched(5.0, window_s=5.0), 45.0, 40.0, 80.0)
    assert rates(found) == pytest.approx([(5 + 20) / 15, 2.0, 2.0])


def test_what_was_not_watched_is_not_known_and_not_zero() -> None:
    found = rates(watched(15.0, None, 0.0))
    assert (found[0], math.isnan(found[1]), found[2]) == (1.0, True, 0.0)


def test_a_gap_between_ticks_is_not_known() -> None:
    found = rates(record(watched(15.0), 75.0, 15.0, 15.0))
    assert [found[0], found[-1]] == [1.0, 1.0]
    assert len(found) == 5
    assert all(math.isnan(rate) for rate in found[1:4])


def test_a_bin_watched_for_half_its_length_is_known() -> None:
    half = record(watched(15.0), 30.0, 7.5, 7.5)
    assert rates(half) == [1.0, 1.0]
    assert math.isnan(rates(record(watched(15.0), 30.0, 7.0, 7.0))[1])


def test_a_gap_counts_for_a_block_at_most() -> None:
    assert len(rates(record(watched(15.0), 1e9, 15.0, 15.0))) == 1 + BLOCK_BINS


@pytest.mark.parametrize("at", [14.0, 15.0, math.inf, math.nan])
def test_a_clock_that_stands_or_runs_back_adds_nothing(at: float) -> None:
    before = watched(15.0)
    after = record(before, at, 15.0, 99.0)
    assert (after.tail, after.open_s) == (before.tail, before.open_s)


def test_a_window_of_no_length_teaches_nothing() -> None:
    assert math.isnan(rates(record(watched(15.0), 30.0, 0.0, 9.0))[1])


@given(
    st.lists(
        st.tuples(
            st.floats(-1e7, 1e9),
            st.floats(0, 1e5),
            st.one_of(st.none(), st.floats(-5, 1e12)),
        ),
        max_size=30,
    )
)
def test_any_history_of_clocks_and_gaps_stays_bounded(ticks: list[tuple[float, float, float | None]]) -> None:
    history = EMPTY
    for at, window_s, arrivals in ticks:
        history = record(history, at, window_s, arrivals)
        assert len(history.tail) < 4 * BLOCK_BINS
        assert 0.0 <= history.open_s <= history.open_age_s + 1e-6 <= 15.0 + 1e-6
        assert len(history.blocks) <= len(ticks)
        assert all(math.isnan(rate) or rate >= 0 for rate in rates(history))


# -- reading


def test_before_anything_was_seen_nothing_is_known() -> None:
    assert np.isnan(now(EMPTY)[: len(WINDOWS)]).all()


def test_trailing_means_count_the_open_bin() -> None:
    history = record(watched(*[15.0] * 8), 8 * 15 + 5.0, 5.0, 50.0)
    means = now(history)
    assert means[0] == pytest.approx((50 + 10 * 1.0) / 15)
    assert means[1] == pytest.approx((50 + 55 * 1.0) / 60)


def test_the_trailing_means_are_of_a_bin_a_minute_five_and_half_an_hour() -> None:
    """The oldest bin counts as far as its time is not that of the open one, here for 10 s."""
    counts = [float(i * i % 89) for i in range(130)]
    history = record(watched(*counts), 130 * 15 + 5.0, 5.0, 50.0)
    means = now(history)
    for mean, bins in zip(means, (1, 4, 20, 120), strict=False):
        newest = counts[len(counts) - bins :]
        assert mean == pytest.approx((50.0 + newest[0] * 10 / 15 + sum(newest[1:])) / (15.0 * bins))


def test_of_what_was_not_watched_a_mean_and_the_peak_know_nothing() -> None:
    means = now(watched(60.0, None, 30.0, None, None, 6.0, None))
    assert means[1] == pytest.approx(6 / 15)
    assert means[2] == pytest.approx((60 + 30 + 6) / 45)
    assert means[4] == pytest.approx(4.0)


def test_half_a_second_is_enough_to_know_a_rate_and_the_peak() -> None:
    assert now(watched(0.1, window_s=0.5)).tolist() == pytest.approx([0.2] * 5)


def test_the_peak_may_be_this_minute() -> None:
    means = now(record(watched(*[15.0] * 30), 30 * 15 + 5.0, 5.0, 500.0))
    assert means[4] == means[1] > 8.0


def test_the_peak_is_of_minutes_within_the_hour() -> None:
    history = watched(*[150.0] * 4, *[15.0] * 100)
    assert now(history)[4] == pytest.approx(10.0)
    assert now(watched(*[15.0] * PEAK_BINS, history=history, at=104 * 15.0))[4] == pytest.approx(1.0)


def test_features_of_past_moments_are_what_was_seen_then() -> None:
    """Row by row, the reckoning of a block gives what `now` gave at that moment."""
    counts = [float((7 * i * i) % 40) for i in range(BLOCK_BINS + 60)]
    history, seen = EMPTY, []
    for i, count in enumerate(counts):
        history = record(history, 15.0 * (i + 1), 15.0, count)
        seen.append(now(history))
    before, these = history.blocks[0].rates, history.tail
    found = features(before, these)
    assert found.shape == (5, 60)
    np.testing.assert_allclose(found, np.array(seen[BLOCK_BINS:]).T, rtol=1e-5)


def test_features_of_the_first_block_are_what_was_seen_then() -> None:
    """Those of a record that begins with a burst, and in which not everything was watched."""
    chance = np.random.default_rng(5)
    counts: list[float | None] = [900.0, *map(float, chance.gamma(1.0, 30.0, 299))]
    counts[40:70] = [None] * 30
    counts[100] = counts[102] = None
    history, seen = EMPTY, []
    for i, count in enumerate(counts):
        history = record(history, 15.0 * (i + 1), 15.0, count)
        seen.append(now(history))
    found = features(b"", np.array(rates(history), dtype="<f4").tobytes())
    wanted = np.array(seen).T
    unknown = np.isnan(wanted[1])  # where the last minute is not known, `now` may still know a peak, as may these
    np.testing.assert_allclose(found[:4], wanted[:4], rtol=1e-5)
    np.testing.assert_allclose(found[4, ~unknown], wanted[4, ~unknown], rtol=1e-5)


def test_a_minute_that_begins_before_what_is_at_hand_is_no_peak() -> None:
    before = np.array([90.0, 90.0, 90.0, *[0.0] * (BLOCK_BINS - 3)], dtype="<f4").tobytes()
    assert features(before, np.zeros(1, dtype="<f4").tobytes())[4, 0] == pytest.approx(90.0 * 3 / 4)


def test_features_of_what_was_not_watched_are_not_known() -> None:
    history = watched(None, None, 15.0)
    found = features(b"", history.tail)
    assert np.isnan(found[:, 0]).all()
    assert found[0, 2] == found[1, 2] == 1.0


# -- storing


@pytest.fixture(scope="module")
def long() -> History:
    """A little over three blocks."""
    return watched(*[float(i % 97) for i in range(3 * BLOCK_BINS + 5)])


def by_number(history: History) -> dict[int, Block]:
    return {block.number: block for block in history.blocks}


def test_a_record_without_full_blocks_is_its_own_packed_form() -> None:
    short = watched(15.0)
    assert pack(short) == short
    assert unpack(short, {}) == short


def test_a_packed_record_is_small_and_comes_back_whole(long: History) -> None:
    packed = pack(long)
    assert (packed.blocks, packed.tail) == ((), long.tail)
    assert unpack(packed, by_number(long)) == long


def test_without_its_newest_block_the_older_ones_are_not_used(long: History) -> None:
    stored = by_number(long)
    del stored[2]
    assert unpack(pack(long), stored).blocks == ()


def test_the_newest_that_follow_on_each_other_are_used(long: History) -> None:
    stored = by_number(long)
    del stored[0]
    assert unpack(pack(long), stored).blocks == long.blocks[1:]


def test_a_block_older_than_the_record_is_not_used(long: History) -> None:
    younger = replace(long, blocks=long.blocks[1:])
    assert unpack(pack(younger), by_number(long)) == younger


def test_a_block_that_was_changed_is_not_used(long: History) -> None:
    stored = by_number(long)
    stored[1] = Block(number=1, bin_s=15.0, rates=stored[0].rates, digest=stored[1].digest)
    assert unpack(pack(long), stored).blocks == long.blocks[2:]


def test_a_record_keeps_two_weeks() -> None:
    history = watched(*[0.0] * (MOST_BLOCKS + 2), window_s=15.0 * BLOCK_BINS)
    assert len(history.blocks) == MOST_BLOCKS
    assert [history.blocks[0].number, history.blocks[-1].number] == [2, MOST_BLOCKS + 1]
