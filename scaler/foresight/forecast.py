"""What may come: paths of arrivals over the next minutes, each with a weight, made from what followed moments like now.

*Analogs.* A moment is described by its shape: how the newest rate stands to the last minute, that to the last five,
those to the last half hour, and to the peak of the hour, all as logarithms, and a little by its level. (The spans are
in bins, a sixth of a start each: they stretch with the lead time.) What followed each of the moments most like now,
scaled to today's rate, is a path.

*Few requests.* One request in a bin is not yet a rate of one per bin: the rate that is scaled to is a Gamma-Poisson
estimate from the newest bin, with the mean of the last twenty as what was expected.

*Correction.* No past moment is quite like now. A ridge regression of what followed on the shape, fitted on the same
record and slowly forgetting, moves each path by what the difference between its moment's shape and today's means.

*Prior.* Before a record exists there are only guesses: four ramps, whose weight fades to nothing as evidence comes in.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from scaler.foresight.history import BLOCK_BINS, Block, Floats, History, features, now

ANALOGS = 100  # at a lateness price of 10 or less, twice as many at 100
MOST_ANALOGS = 400
STRIDE = 2  # every second past moment is looked at
# Of squared differences: level, and the four slopes.
SHAPE_WEIGHTS = np.array([1.0, 4.0, 2.0, 1.0, 0.5], dtype=np.float32)
RANK_SOFTNESS = 30.0  # the analog of rank r weighs 1 / (this + r)
PRIOR_RAMPS = ((1.0, 0.5), (1.25, 0.3), (1.6, 0.15), (2.5, 0.05))  # (factor at the end, weight)
PRIOR_SHARE = 0.3
PRIOR_BINS = 40  # of the record, after which nothing is guessed any more
RIDGE = 3.0
STEEPEST = 1.0  # slopes count up to a factor of e
FARTHEST = 1.0  # so far, as a logarithm, the correction may move a path
KEPT_PER_BLOCK = 1.0 - 1.0 / 96.0  # of the regression's memory
WORTH = 0.25  # requests that what was expected counts for
FIRST_MOMENT = 4
RECKONED_EVERY = 4  # bins
SAMPLED = 16  # one in so many distances says how near the nearest may be …
SAMPLE_SHARE = 6  # … by the one whose rank is this part of those wanted: about 2.5 times as many are nearer

Single = NDArray[np.float32]


class Paths(Struct, frozen=True):
    """Arrivals per second in each of the next bins, one row per path, and the weights of the paths (sum 1); ``level``
    is the mean of the last four bins."""

    rates: Floats
    weights: Floats
    level: float


class Moments(Struct, frozen=True):
    """Past moments whose future is known: each one's place in ``rates``, the rate estimated then, its shape (one column
    each), the part of its distance to any other shape that is its own (no number: never near), and the sums of the
    regression."""

    rates: Single
    places: NDArray[np.int_]
    estimates: Single
    shapes: Single
    lengths: Single
    squares: Floats
    products: Floats


class Past(Struct, frozen=True):
    """All moments, and what one unit of each slope means for the logarithm of the rate, bin by bin."""

    moments: Moments
    effect: Floats


def analogs_at(lateness_price: float) -> int:
    """How many past moments are followed: the dearer lateness is, the rarer are the futures that still count."""
    tenfolds = math.log10(max(lateness_price, 10.0) / 10.0)
    return min(MOST_ANALOGS, round(ANALOGS * math.exp2(tenfolds)))


def paths(history: History, bins: int, floor: float, analogs: int = ANALOGS) -> Paths | None:
    """Paths over the next ``bins`` bins; None where the newest rate is not known. ``floor`` (arrivals per second) is
    the rate below which differences mean nothing, ``analogs`` how many past moments are followed at most."""
    means = now(history)
    newest = float(means[0])
    if math.isnan(newest):
        return None
    floor = 2.0 ** (round(4.0 * math.log2(floor)) / 4.0)  # on a grid, so that what was reckoned with it can be kept
    known = np.where(np.isnan(means), newest, means)[:, None]
    shape = _shapes(known, floor)[:, 0]
    newest = float(_estimates(known, history.bin_s)[0])
    followed, weights = _analogs(_past(history, bins, floor), shape, newest, floor, analogs)
    seen = len(history.blocks) * BLOCK_BINS + len(history.tail) // 4
    share = PRIOR_SHARE * max(0.0, 1.0 - seen / PRIOR_BINS) if len(weights) else 1.0
    ramps = newest * (1.0 + np.outer([end - 1.0 for end, _ in PRIOR_RAMPS], np.arange(1, bins + 1) / bins))
    prior = np.array([weight for _, weight in PRIOR_RAMPS])
    weights = np.concatenate([weights * (1.0 - share), prior * share])
    return Paths(np.concatenate([followed, ramps]), weights, float(means[1]))


# -- analogs and their correction


def _analogs(past: Past, shape: Single, newest: float, floor: float, most: int) -> tuple[Floats, Floats]:
    m, bins = past.moments, past.effect.shape[1]
    apart = m.lengths - 2.0 * ((shape * SHAPE_WEIGHTS) @ m.shapes)
    chosen = _nearest(apart.astype(np.float32), most)
    if not len(chosen):
        return np.empty((0, bins)), np.empty(0)
    futures = m.rates[m.places[chosen][:, None] + np.arange(1, bins + 1)].astype(np.float64)
    then = m.estimates[chosen].astype(np.float64)[:, None]
    correction = (_slopes(shape[:, None]) - _slopes(m.shapes[:, chosen])).T @ past.effect
    scale = (newest + floor) / (then + floor) * np.exp(np.minimum(np.maximum(correction, -FARTHEST), FARTHEST))
    weights = 1.0 / (RANK_SOFTNESS + np.arange(len(chosen), dtype=np.float64))
    return np.maximum((futures + floor) * scale - floor, 0.0), weights / weights.sum()


def _nearest(apart: Single, most: int) -> NDArray[np.int_]:
    """The places of the smallest numbers, at most ``most``, smallest first. What a sample says must be near enough
    is looked at alone, where that is enough of them: to part all of two weeks takes ten times as long."""
    among = np.arange(len(apart))
    sample, rank = apart[::SAMPLED], most // SAMPLE_SHARE
    if len(sample) > rank:
        near = np.flatnonzero(apart <= np.partition(sample, rank)[rank])
        among = near if len(near) >= most else among
    found = apart[among]
    if len(found) > most:
        chosen = np.argpartition(found, most)[:most]
        among, found = among[chosen], found[chosen]
    ranked = among[np.lexsort((among, found))]
    return ranked[np.isfinite(apart[ranked])]


def _shapes(means: NDArray[np.floating], floor: float) -> Single:
    """Level and relative slopes of each column of trailing means."""
    logs = np.log(means.astype(np.float64) + floor)
    rows = [logs[1], logs[0] - logs[1], logs[1] - logs[2], logs[2] - logs[3], logs[4] - logs[1]]
    return np.array(rows, dtype=np.float32)


def _estimates(means: NDArray[np.floating], bin_s: float) -> Floats:
    """The rate that each column of trailing means stands for: the newest bin, drawn to what was expected."""
    expected = means[2].astype(np.float64)
    seen = WORTH + means[0] * bin_s
    over_s = WORTH / np.maximum(expected, sys.float_info.min) + bin_s
    estimates: Floats = np.where(expected > 0, seen / over_s, 0.0)
    return estimates


def _slopes(shapes: NDArray[np.floating]) -> Floats:
    slopes: Floats = np.minimum(np.maximum(shapes[1:].astype(np.float64), -STEEPEST), STEEPEST)
    return slopes


# -- moments: of full blocks reckoned once, of the newest every few bins


def _past(history: History, bins: int, floor: float) -> Past:
    kept = len(history.tail) // (4 * RECKONED_EVERY) * 4 * RECKONED_EVERY
    return _reckoned(history.blocks, history.tail[:kept], history.bin_s, bins, floor)


@lru_cache(maxsize=8)  # each holds the whole record once more, a megabyte and a half for two weeks
def _reckoned(blocks: tuple[Block, ...], tail: bytes, bin_s: float, bins: int, floor: float) -> Past:
    old = _old(blocks, bin_s, bins, floor)
    before = blocks[-2].rates if len(blocks) > 1 else b""
    last = blocks[-1].rates if blocks else b""
    recent = _moments(before, last + tail, b"", bin_s, bins, floor, first=0 if before else FIRST_MOMENT)
    both = Moments(
        rates=np.concatenate([old.rates, recent.rates]),
        places=np.concatenate([old.places, recent.places + len(old.rates)]),
        estimates=np.concatenate([old.estimates, recent.estimates]),
        shapes=np.concatenate([old.shapes, recent.shapes], axis=1),
        lengths=np.concatenate([old.lengths, recent.lengths]),
        squares=old.squares * KEPT_PER_BLOCK + recent.squares,
        products=old.products * KEPT_PER_BLOCK + recent.products,
    )
    solved = np.linalg.solve(both.squares + RIDGE * np.eye(len(both.squares)), both.products)
    return Past(both, np.asarray(solved[1:], dtype=np.float64))


@lru_cache(maxsize=32)
def _old(blocks: tuple[Block, ...], bin_s: float, bins: int, floor: float) -> Moments:
    """The moments of every full block but the last, whose futures may reach into it."""
    found = (
        [
            _block_moments(before, these.rates, after.rates, bin_s, bins, floor)
            for before, these, after in zip(
                (b"", *(b.rates for b in blocks[:-2])), blocks[:-1], blocks[1:], strict=True
            )
        ]
        if len(blocks) > 1
        else []
    )
    squares, products = np.zeros((5, 5)), np.zeros((5, bins))
    for m in found:
        squares = squares * KEPT_PER_BLOCK + m.squares
        products = products * KEPT_PER_BLOCK + m.products
    nothing = np.empty(0, dtype=np.float32)
    return Moments(
        rates=np.concatenate([nothing, *(np.frombuffer(b.rates, dtype="<f4") for b in blocks)]),
        places=np.concatenate([np.empty(0, dtype=np.int_), *(m.places + BLOCK_BINS * i for i, m in enumerate(found))]),
        estimates=np.concatenate([nothing, *(m.estimates for m in found)]),
        shapes=np.concatenate([np.empty((5, 0), dtype=np.float32), *(m.shapes for m in found)], axis=1),
        lengths=np.concatenate([nothing, *(m.lengths for m in found)]),
        squares=squares,
        products=products,
    )


@lru_cache(maxsize=4096)
def _block_moments(before: bytes, these: bytes, after: bytes, bin_s: float, bins: int, floor: float) -> Moments:
    return _moments(before, these, after, bin_s, bins, floor, first=0 if before else FIRST_MOMENT)


def _moments(
    before: bytes, these: bytes, after: bytes, bin_s: float, bins: int, floor: float, *, first: int
) -> Moments:
    rates = np.frombuffer(these + after, dtype="<f4")
    count = min(len(these) // 4, len(rates) - bins)
    places = np.arange(first, max(first, count))
    if not len(places):
        empty = np.empty(0, dtype=np.float32)
        return Moments(rates, places, empty, np.empty((5, 0), np.float32), empty, np.zeros((5, 5)), np.zeros((5, bins)))
    means = features(before, these)[:, places]
    shapes, estimates = _shapes(means, floor), _estimates(means, bin_s)
    futures = np.lib.stride_tricks.sliding_window_view(np.log(rates.astype(np.float64) + floor), bins + 1)[places]
    known = ~np.isnan(futures).any(axis=1)  # the first of them is the moment's own bin: with it a shape is known, too
    factors = np.ones((5, int(known.sum())))
    factors[1:] = _slopes(shapes[:, known])
    logs = futures[known, 1:] - np.log(estimates[known, None] + floor)
    lengths = (SHAPE_WEIGHTS @ shapes.astype(np.float64) ** 2).astype(np.float32)
    lengths[~known] = np.inf
    shapes[:, ~known] = 0.0
    return Moments(
        rates=rates,
        places=places[::STRIDE],
        estimates=estimates[::STRIDE].astype(np.float32),
        shapes=shapes[:, ::STRIDE],
        lengths=lengths[::STRIDE],
        squares=factors @ factors.T,
        products=factors @ logs,
    )
