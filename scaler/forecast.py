"""What may come: paths of arrivals over the next minutes, each with a weight, made from what followed moments like now.

*Analogs.* A moment is described by its shape: how the newest rate stands to the last minute, that to the last five,
those to the last half hour, and to the peak of the hour, all as logarithms, and a little by its level. (The spans are
in bins, a sixth of a start each: they stretch with the lead time.) What followed each of the moments most like now,
scaled to today's level, is a path. *Correction.* No past moment is quite like now; a linear regression of what followed
on the shape, fitted on the same record, moves each path by what the difference of the shapes usually means.
*Prior.* Before a record exists there are only guesses: four ramps, whose weight fades as evidence comes in.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from scaler.history import FEATURES, Floats, History, Past, now, past

ANALOGS = 100
STRIDE = 2  # every second past moment is looked at
SHAPE_WEIGHTS = (1.0, 4.0, 2.0, 1.0, 0.5)
RANK_SOFTNESS = 30.0  # the analog of rank r weighs 1 / (this + r)
PRIOR_RAMPS = ((1.0, 0.5), (1.25, 0.3), (1.6, 0.15), (2.5, 0.05))  # (factor at the end, weight)
PRIOR_SHARE = 0.3
PRIOR_FADE_BINS = 48.0
RIDGE = 3.0
CLIP = 1.0


class Paths(Struct, frozen=True):
    """Arrivals per second in each of the next bins, one row per path, and the weights of the paths (sum 1); ``level``
    is the mean of the last four bins."""

    rates: Floats
    weights: Floats
    level: float


def paths(history: History, bins: int, floor: float) -> Paths | None:
    """Paths over the next ``bins`` bins; None where the newest rate is not known. ``floor`` (arrivals per second) is
    the rate below which differences mean nothing."""
    record = past(history)
    means = now(history, record)
    if math.isnan(means[0]):
        return None
    newest = float(means[0])
    shape = _shape(np.where(np.isnan(means), newest, means), floor)
    followed, weights = _analogs(record, shape, newest, bins, floor)
    share = PRIOR_SHARE / (1.0 + len(record.rates) / PRIOR_FADE_BINS) if len(weights) else 1.0
    ramps = newest * (1.0 + np.outer([end - 1.0 for end, _ in PRIOR_RAMPS], np.arange(1, bins + 1) / bins))
    prior = np.array([weight for _, weight in PRIOR_RAMPS])
    weights = np.concatenate([weights * (1.0 - share), prior * share])
    return Paths(np.concatenate([followed, ramps]), weights, float(means[1]))


def _shape(means: NDArray[np.floating], floor: float) -> Floats:
    """Level and relative slopes; the same for one moment and for a row of moments."""
    logs = np.log(np.asarray(means, dtype=np.float64) + floor)
    return np.array([logs[1], logs[0] - logs[1], logs[1] - logs[2], logs[2] - logs[3], logs[4] - logs[1]])


def _analogs(record: Past, shape: Floats, newest: float, bins: int, floor: float) -> tuple[Floats, Floats]:
    last = len(record.rates) - bins  # the first moment whose future is not all known
    if last <= 4:
        return np.empty((0, bins)), np.empty(0)
    moments = np.arange(last - 1, 3, -STRIDE)
    shapes = _shape(record.means[:, moments], floor)
    apart = np.einsum("i,ij->j", np.array(SHAPE_WEIGHTS), (shapes - shape[:, None]) ** 2)
    futures = np.lib.stride_tricks.sliding_window_view(record.rates, bins)
    known = ~np.isnan(apart)
    known[np.isnan(futures[moments + 1]).any(axis=1)] = False
    moments, apart, shapes = moments[known], apart[known], shapes[:, known]
    if len(moments) > ANALOGS:
        nearest = np.argpartition(apart, ANALOGS)[:ANALOGS]
        moments, apart, shapes = moments[nearest], apart[nearest], shapes[:, nearest]
    order = np.argsort(apart, kind="stable")
    moments, shapes = moments[order], shapes[:, order]
    scale = (newest + floor) / (record.rates[moments].astype(np.float64) + floor)
    followed = (futures[moments + 1] + floor) * scale[:, None] - floor
    weights = 1.0 / (RANK_SOFTNESS + np.arange(len(moments), dtype=np.float64))
    return np.maximum(followed, 0.0), weights / max(weights.sum(), 1e-300)


assert len(SHAPE_WEIGHTS) == FEATURES
