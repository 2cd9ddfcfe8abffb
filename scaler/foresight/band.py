"""What is expected to come, as a band: from the record that the last tick remembers, by the forecaster it uses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct

from scaler.foresight.forecast import Paths, paths
from scaler.memory import Memory

QUANTILES = (0.1, 0.5, 0.9)
AHEAD_S = 1800.0
MOST_BINS = 120
FLOOR_PER_S = 0.05  # below it differences mean nothing


class Bin(Struct, frozen=True, kw_only=True):
    """Arrivals per second expected from ``at`` on: one path in ten lies below ``low``, one in ten above ``high``."""

    at: float
    low: float
    mid: float
    high: float


class Foresight(Struct, frozen=True, kw_only=True):
    """Bins of equal width from ``at`` on."""

    at: float
    bin_s: float
    bins: tuple[Bin, ...]


def foresight(memory: Memory | None) -> Foresight | None:
    """The band over the next half hour; None where there is no forecaster, or nothing recent to start from."""
    ahead = memory.state.ahead if memory else None
    if memory is None or ahead is None:
        return None
    bin_s = ahead.history.bin_s
    count = min(MOST_BINS, math.ceil(AHEAD_S / bin_s))
    coming = paths(ahead.history, count, FLOOR_PER_S)
    if coming is None:
        return None
    found = tuple(_bin(coming, i, memory.at + i * bin_s) for i in range(count))
    return Foresight(at=memory.at, bin_s=bin_s, bins=found)


def _bin(coming: Paths, i: int, at: float) -> Bin:
    """The quantiles of the weighted paths in one bin."""
    order = np.argsort(coming.rates[:, i])
    reached: Any = np.cumsum(coming.weights[order])
    places = np.searchsorted(reached, np.array(QUANTILES) * reached[-1])
    low, mid, high = (round(float(rate), 4) for rate in coming.rates[order[places], i])
    return Bin(at=at, low=low, mid=mid, high=high)
