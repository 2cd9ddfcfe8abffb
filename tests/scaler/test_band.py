"""What is expected to come, as a band: how far it reaches, and what its edges are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scaler.decide import State
from scaler.foresight.ahead import Ahead
from scaler.foresight.band import Foresight, _bin, foresight
from scaler.foresight.forecast import Paths
from scaler.foresight.history import History, record
from scaler.measure import Totals
from scaler.memory import Memory


def remembered(*rates: float | None, bin_s: float = 15.0) -> Memory:
    """A memory at 9000 of so many arrivals per second in the bins before."""
    history = History(bin_s=bin_s)
    for i, rate in enumerate(rates):
        history = record(history, bin_s * (i + 1), bin_s, None if rate is None else rate * bin_s)
    return Memory(at=9000.0, state=State(ahead=Ahead(history=history)), totals=Totals(at=9000.0))


def band(memory: Memory) -> Foresight:
    found = foresight(memory)
    assert found is not None
    return found


def test_without_a_forecaster_or_anything_recent_there_is_no_band() -> None:
    assert foresight(None) is None
    assert foresight(Memory(at=9000.0, state=State(), totals=Totals(at=9000.0))) is None
    assert foresight(remembered(20.0, None, None)) is None


@pytest.mark.parametrize(
    ("bin_s", "count"),
    [
        pytest.param(15.0, 120, id="half an hour of quarters of a minute"),
        pytest.param(20.0, 90, id="half an hour of thirds"),
        pytest.param(16.0, 113, id="half an hour, and a part of the last bin"),
        pytest.param(1.0, 120, id="no more bins than can be drawn"),
    ],
)
def test_the_band_reaches_half_an_hour_ahead(bin_s: float, count: int) -> None:
    found = band(remembered(*[20.0] * 20, bin_s=bin_s))
    assert (found.at, found.bin_s) == (9000.0, bin_s)
    assert [one.at for one in found.bins] == [9000.0 + i * bin_s for i in range(count)]


def test_what_was_steady_is_expected_to_go_on() -> None:
    (*_, last) = band(remembered(*[20.0] * 600)).bins
    assert last.low == last.mid == last.high == pytest.approx(20.0, rel=0.01)


@pytest.mark.parametrize(
    ("rates", "weights", "edges"),
    [
        pytest.param([5, 1, 3, 2, 4], [2, 2, 2, 2, 2], (1, 3, 5), id="in order of the rates"),
        pytest.param([3, 1, 2], [2, 4, 2], (1, 1, 3), id="half of the weight is the lowest"),
        pytest.param([30, 1, 20], [0.5, 7, 0.5], (1, 1, 20), id="seven parts of eight are"),
        pytest.param([1, 2, 3], [0, 1, 0], (2, 2, 2), id="what weighs nothing is none"),
        pytest.param([1.23456, 1.23456], [1, 1], (1.2346, 1.2346, 1.2346), id="to four places"),
    ],
)
def test_one_path_in_ten_lies_below_the_band_and_one_above(
    rates: list[float], weights: list[float], edges: tuple[float, float, float]
) -> None:
    coming = Paths(np.array([[math.nan, rate] for rate in rates], dtype=float), np.array(weights, dtype=float), 0.0)
    found = _bin(coming, 1, 60.0)
    assert (found.at, found.low, found.mid, found.high) == (60.0, *edges)
