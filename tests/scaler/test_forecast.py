"""Paths over the next minutes: what followed moments like now, corrected, and guesses where there is no record."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from msgspec import Struct

from scaler.foresight import forecast
from scaler.foresight.forecast import ANALOGS, MOST_ANALOGS, PRIOR_RAMPS, Paths, _nearest, analogs_at, paths
from scaler.foresight.history import BLOCK_BINS, History, record

FLOOR = 5.0
BINS = 10


def watched(rates: Sequence[float | None], bin_s: float = 15.0) -> History:
    history = History(bin_s=bin_s)
    for i, rate in enumerate(rates):
        history = record(history, bin_s * (i + 1), bin_s, None if rate is None else rate * bin_s)
    return history


def mean(found: Paths | None) -> np.ndarray:
    assert found is not None
    assert found.weights.sum() == pytest.approx(1.0)
    return np.asarray(found.weights @ found.rates)


def day(minutes: int, noise: float = 0.0, seed: int = 1) -> list[float | None]:
    """A wave with a period of two hours."""
    rng = np.random.default_rng(seed)
    t = np.arange(minutes * 4)
    return list(map(float, (60 + 50 * np.sin(2 * math.pi * t / 480)) * np.exp(noise * rng.standard_normal(len(t)))))


def test_where_arrivals_are_not_known_nothing_is_foretold() -> None:
    assert paths(History(bin_s=15.0), BINS, FLOOR) is None
    assert paths(watched([3.0, None, None]), BINS, FLOOR) is None


def test_without_a_record_there_are_guesses_that_rise() -> None:
    found = paths(watched([20.0]), BINS, FLOOR)
    assert found is not None
    assert found.rates.shape == (len(PRIOR_RAMPS), BINS)
    assert list(found.rates[:, -1]) == pytest.approx([20.0 * end for end, _ in PRIOR_RAMPS])
    assert list(found.weights) == [weight for _, weight in PRIOR_RAMPS]
    assert found.level == pytest.approx(20.0)


def test_guesses_fade_as_evidence_comes_in() -> None:
    assert mean(paths(watched([20.0] * 30), BINS, FLOOR))[-1] > mean(paths(watched([20.0] * 900), BINS, FLOOR))[-1]
    assert mean(paths(watched([20.0] * 900), BINS, FLOOR)) == pytest.approx(20.0, rel=0.02)


def test_what_recurs_is_foretold() -> None:
    """Ten waves were seen; on the way up of the next one, more comes."""
    rates = day(20 * 60)
    found = mean(paths(watched(rates[: 480 * 9 + 40]), BINS, FLOOR))
    truth = np.array(rates[480 * 9 + 40 : 480 * 9 + 40 + BINS], dtype=float)
    assert np.abs(found / truth - 1).max() < 0.05
    assert found[-1] > 1.05 * float(rates[480 * 9 + 39] or 0)


def test_a_spike_that_always_falls_back_is_foretold_to_fall_back() -> None:
    rates = ([20.0] * 58 + [100.0, 100.0]) * 40
    assert mean(paths(watched(rates), BINS, FLOOR))[3:].max() < 40.0
    rising = ([20.0] * 40 + [100.0] * 40) * 30
    assert mean(paths(watched(rising[:-38]), BINS, FLOOR))[3:].min() > 80.0


def test_paths_spread_as_widely_as_the_record_does() -> None:
    def spread(noise: float) -> float:
        found = paths(watched(day(12 * 60, noise)), BINS, FLOOR)
        assert found is not None
        return float(np.sqrt(found.weights @ (found.rates - mean(found)) ** 2).mean())

    assert spread(0.3) > 2 * spread(0.03)


def test_the_analogs_are_at_most_so_many() -> None:
    found = paths(watched(day(12 * 60)), BINS, FLOOR)
    assert found is not None
    assert len(found.weights) == ANALOGS + len(PRIOR_RAMPS)
    more = paths(watched(day(12 * 60)), BINS, FLOOR, 2 * ANALOGS)
    assert more is not None
    assert len(more.weights) == 2 * ANALOGS + len(PRIOR_RAMPS)


def test_the_dearer_lateness_is_the_more_moments_are_followed() -> None:
    priced = {price: analogs_at(price) for price in (1e-9, 1.0, 10.0, 100.0, 300.0, 1e300)}
    assert priced == {1e-9: ANALOGS, 1.0: ANALOGS, 10.0: ANALOGS, 100.0: 200, 300.0: 278, 1e300: MOST_ANALOGS}


def test_bins_that_were_not_watched_are_no_analogs_and_spoil_nothing() -> None:
    rates = day(10 * 60)
    rates[300:700] = [None] * 400
    found = paths(watched(rates), BINS, FLOOR)
    assert found is not None
    assert np.isfinite(found.rates).all()
    assert (found.rates >= 0).all()


def test_a_record_of_nothing_foretells_nothing() -> None:
    assert mean(paths(watched([0.0] * 600), BINS, FLOOR)).max() == 0.0
    assert mean(paths(watched([0.0] * 6), BINS, FLOOR)).max() == 0.0


def test_the_least_of_arrivals_is_next_to_nothing() -> None:
    assert mean(paths(record(History(bin_s=15.0), 5.0, 5.0, 1e-312), BINS, FLOOR)).max() < 1e-100


def test_what_was_not_watched_at_all_leaves_the_guesses_alone() -> None:
    found = paths(watched([*[None] * (3 * BLOCK_BINS), 20.0]), BINS, FLOOR)
    assert found is not None
    assert np.isfinite(found.rates).all()


def test_the_same_record_gives_the_same_paths_whatever_is_cached() -> None:
    """Stored rows are computed again elsewhere, with nothing kept."""
    history = watched(day(14 * 60, 0.2))
    first = paths(history, BINS, FLOOR)
    for part in (300, 900, 1500):
        paths(watched(day(14 * 60, 0.2)[:part]), BINS, FLOOR)
        paths(history, BINS + 3, 2 * FLOOR)
    for kept in (forecast._old, forecast._block_moments, forecast._reckoned):
        kept.cache_clear()
    again = paths(history, BINS, FLOOR)
    assert first is not None
    assert again is not None
    assert first.rates.tobytes() == again.rates.tobytes()
    assert first.weights.tobytes() == again.weights.tobytes()


@pytest.mark.parametrize("most", [ANALOGS, 2 * ANALOGS])
@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_are_the_nearest_whatever_a_sample_says(seed: int, most: int) -> None:
    chance = np.random.default_rng(seed)
    smooth = np.abs(np.cumsum(chance.normal(size=20_000))).astype(np.float32)  # neighbours alike: a sample misleads
    smooth[chance.integers(0, 20_000, 500)] = np.inf
    hidden = np.full(20_000, 9.0, dtype=np.float32)
    hidden[1:1600:16] = np.arange(100)  # the sample sees none of them
    few = [smooth[:count] for count in (50, 100, 250, 300)]
    for apart in (smooth, hidden, *few, np.full(900, np.inf, dtype=np.float32)):
        finite = np.flatnonzero(np.isfinite(apart))
        wanted = finite[np.lexsort((finite, apart[finite]))][:most]
        assert sorted(apart[_nearest(apart, most)]) == sorted(apart[wanted])


# -- reckoned once more, moment by moment


class Moment(Struct, frozen=True):
    """What was seen at the end of a bin: the trailing means and the peak."""

    means: list[float]

    def shape(self, floor: float) -> np.ndarray:
        minute, *_ = logs = np.log(np.array(self.means)[[1, 0, 2, 3, 4]] + floor)
        return np.array([minute, logs[1] - minute, minute - logs[2], logs[2] - logs[3], logs[4] - minute])

    def slopes(self, floor: float) -> np.ndarray:
        return self.shape(floor)[1:].clip(-forecast.STEEPEST, forecast.STEEPEST)

    def estimate(self, bin_s: float) -> float:
        newest, expected = self.means[0], self.means[2]
        worth = forecast.WORTH
        return (worth + newest * bin_s) / (worth / expected + bin_s) if expected > 0 else 0.0


def moments(rates: np.ndarray) -> list[Moment]:
    def known_mean(some: np.ndarray) -> float:
        known = some[~np.isnan(some)]
        return float(known.mean()) if len(known) else math.nan

    def trailing(i: int, window: int) -> float:
        return known_mean(rates[max(0, i + 1 - window) : i + 1])

    minutes = np.array([trailing(i, 4) for i in range(len(rates))])
    peaks = [float(np.nanmax([-1.0, *minutes[max(0, i - 239) : i + 1]])) for i in range(len(rates))]
    return [Moment([*(trailing(i, n) for n in (1, 4, 20, 120)), peaks[i]]) for i in range(len(rates))]


def reckoned(rates: np.ndarray, bins: int, floor: float, bin_s: float) -> tuple[np.ndarray, np.ndarray]:
    """The paths and their weights, as the module's first lines say it: no block is kept, and nothing is packed."""
    floor = 2.0 ** (round(4.0 * math.log2(floor)) / 4.0)
    blocks, every = len(rates) // BLOCK_BINS, forecast.RECKONED_EVERY
    end = blocks * BLOCK_BINS + len(rates) % BLOCK_BINS // every * every
    seen = moments(rates)
    now, newest = seen[-1], seen[-1].estimate(bin_s)
    usable = [i for i in range(forecast.FIRST_MOMENT, end - bins) if not np.isnan(rates[i : i + bins + 1]).any()]
    # the regression, which keeps 95 parts in 96 with each block
    squares, products = forecast.RIDGE * np.eye(5), np.zeros((5, bins))
    last = max(0, blocks - 1)
    for i in usable:
        factors = np.array([1.0, *seen[i].slopes(floor)])
        worth = (95 / 96) ** (last - min(i // BLOCK_BINS, last))
        squares += worth * np.outer(factors, factors)
        came = np.log(rates[i + 1 : i + 1 + bins] + floor) - math.log(seen[i].estimate(bin_s) + floor)
        products += worth * np.outer(factors, came)
    effect = np.linalg.solve(squares, products)[1:]
    # the moments most like now, and what followed them
    apart = {
        i: float(forecast.SHAPE_WEIGHTS.astype(float) @ (now.shape(floor) - seen[i].shape(floor)) ** 2)
        for i in usable
        if i % forecast.STRIDE == 0
    }
    nearest = sorted(apart, key=apart.__getitem__)[:ANALOGS]
    found, weights = [], []
    for rank, i in enumerate(nearest):
        correction = ((now.slopes(floor) - seen[i].slopes(floor)) @ effect).clip(-forecast.FARTHEST, forecast.FARTHEST)
        scale = (newest + floor) / (seen[i].estimate(bin_s) + floor) * np.exp(correction)
        found.append(np.maximum((rates[i + 1 : i + 1 + bins] + floor) * scale - floor, 0.0))
        weights.append(1.0 / (forecast.RANK_SOFTNESS + rank))
    guessed = forecast.PRIOR_SHARE * max(0.0, 1.0 - len(rates) / forecast.PRIOR_BINS)
    found += [newest * (1.0 + (end - 1.0) * np.arange(1, bins + 1) / bins) for end, _ in PRIOR_RAMPS]
    shares = [(1.0 - guessed) * weight / sum(weights) for weight in weights]
    return np.array(found), np.array([*shares, *(guessed * weight for _, weight in PRIOR_RAMPS)])


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(30, id="guesses still count"),
        pytest.param(BLOCK_BINS + 218, id="one block is full"),
        pytest.param(2 * BLOCK_BINS + 37, id="two are"),
        pytest.param(3 * BLOCK_BINS + 42, id="three are"),
    ],
)
def test_paths_are_what_a_slow_reckoning_gives(count: int) -> None:
    """Bursts, stretches of few requests, of none at all, and some that were not watched."""
    chance = np.random.default_rng(count)
    level = np.repeat(chance.choice([0.2, 3.0, 40.0, 90.0], count // 12 + 1), 12)[:count]
    rates = (level * np.exp(0.4 * chance.standard_normal(count))).astype(np.float32).astype(float)
    rates[50:80] = 0.0
    rates[120:126] = rates[-70:-67] = math.nan
    found = paths(watched([None if math.isnan(rate) else rate for rate in rates]), BINS, FLOOR)
    wanted, weights = reckoned(rates, BINS, FLOOR, 15.0)
    assert found is not None
    assert found.level == pytest.approx(float(rates[-4:].mean()))
    np.testing.assert_allclose(found.weights, weights)
    np.testing.assert_allclose(found.rates, wanted, rtol=1e-4, atol=1e-4)


def test_paths_longer_than_a_block_are_made_of_the_blocks_that_have_so_much_after_them() -> None:
    found = paths(watched(day(130)), 300, FLOOR)
    assert found is not None
    assert found.rates.shape == ((2 * BLOCK_BINS - 300 - 4) // 2 + len(PRIOR_RAMPS), 300)
