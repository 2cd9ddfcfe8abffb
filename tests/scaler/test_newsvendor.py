"""Rent against lateness: the cheapest count over the paths that may come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.foresight.forecast import Paths
from scaler.foresight.newsvendor import CHOICES, Price, Supply, choose, costs

BIN_S = 15.0
PRICE = Price(slo_wait_s=5.0, lateness=10.0, rent_bins=4)


def coming(*rows: list[float], weights: list[float] | None = None) -> Paths:
    shares = np.array(weights or [1.0 / len(rows)] * len(rows))
    return Paths(np.array(rows), shares, float(rows[0][0]))


def supply(ready: int, *starting_s: float, lead_s: float = 90.0, rate: float = 10.0) -> Supply:
    return Supply(ready=ready, starting_s=starting_s, lead_s=lead_s, rate=rate)


def best(paths: Paths, fleet: Supply, *, price: Price = PRICE, queued: float = 0.0, most: int = 60) -> int:
    return choose(paths, fleet, price, queued, BIN_S, most).count


def test_what_comes_for_sure_is_served_and_no_more() -> None:
    assert best(coming([38.0] * 10), supply(4)) == 4
    assert best(coming([38.0] * 10), supply(9)) == 4


def test_nothing_to_come_needs_nothing() -> None:
    assert best(coming([0.0] * 10), supply(3)) == 0


def test_a_rise_after_the_lead_time_is_met_now() -> None:
    assert best(coming([20.0] * 6 + [60.0] * 4), supply(2)) == 6


def test_replicas_that_start_count_as_far_along_as_they_are() -> None:
    paths = coming([20.0] * 2 + [60.0] * 8)
    rent, soon = costs(paths, supply(2, 20.0, 20.0, 20.0, 20.0), PRICE, 0.0, BIN_S, np.array([6]))
    _, later = costs(paths, supply(2, 80.0, 80.0, 80.0, 80.0), PRICE, 0.0, BIN_S, np.array([6]))
    assert soon[0] < later[0]
    assert rent[0] == 6 * 4 * BIN_S


def test_an_unlikely_rise_is_met_where_lateness_is_dear() -> None:
    paths = coming([20.0] * 10, [20.0] * 6 + [60.0] * 4, weights=[0.97, 0.03])
    assert best(paths, supply(2)) == 2
    assert best(paths, supply(2), price=Price(slo_wait_s=5.0, lateness=1000.0, rent_bins=4)) == 6


@pytest.mark.parametrize(("price", "times"), [(1.0, 1.0), (10.0, 1.0), (100.0, 3.0), (1000.0, 3.0)])
def test_who_would_be_lost_counts_three_times_where_lateness_is_dear(price: float, times: float) -> None:
    """A queue that is late all the time, and one that is as long in requests and so slow that all of it is lost."""
    still = coming([20.0] * 10)
    terms = Price(slo_wait_s=5.0, lateness=price, rent_bins=4)
    _, late = costs(still, supply(2), terms, 20.0 * 30.0, BIN_S, np.array([2]))
    _, lost = costs(still, supply(2), terms, 20.0 * 90.0, BIN_S, np.array([2]))
    left = 1.5 * 20.0 * np.array([30.0, 90.0]) / 10.0  # work that waits at the end, as before
    assert (lost[0] - left[1]) / (late[0] - left[0]) == pytest.approx(times)


def test_giving_up_what_is_there_is_charged_more_than_not_asking_for_more() -> None:
    """The same rise, before and after the moment from which a replica asked for now can serve."""
    soon, later = coming([20.0] * 2 + [40.0] * 2 + [20.0] * 6), coming([20.0] * 7 + [40.0] * 2 + [20.0])
    _, now = costs(soon, supply(2), PRICE, 0.0, BIN_S, np.array([2]))
    _, then = costs(later, supply(2), PRICE, 0.0, BIN_S, np.array([2]))
    assert now[0] > 2 * then[0]


def test_what_waits_already_is_worth_a_replica() -> None:
    assert best(coming([10.0] * 10), supply(1), queued=400.0) > 1


def test_the_count_stays_within_its_bounds() -> None:
    assert best(coming([1e9] * 10), supply(0), most=7) == 7
    assert best(coming([1e9] * 10), supply(3), most=2) == 2


def test_many_counts_are_searched_coarsely_and_then_closely() -> None:
    choice = choose(coming([995.0] * 10), supply(100), PRICE, 0.0, BIN_S, 1000)
    assert choice.count == 100
    assert choice.count > CHOICES


def test_the_choice_shows_what_one_fewer_and_one_more_would_cost() -> None:
    choice = choose(coming([38.0] * 10), supply(4), PRICE, 0.0, BIN_S, 60)
    assert [count for count, _, _ in choice.costs] == [3, 4, 5]
    totals = [rent + late for _, rent, late in choice.costs]
    assert min(totals) == totals[1]


@given(
    st.lists(st.lists(st.floats(0, 500), min_size=8, max_size=8), min_size=1, max_size=5),
    st.integers(0, 20),
    st.lists(st.floats(0, 200), max_size=5),
    st.floats(0, 1e4),
)
def test_more_to_come_never_costs_less(
    rows: list[list[float]], ready: int, starting: list[float], queued: float
) -> None:
    counts = np.arange(30)
    fleet = supply(ready, *sorted(starting))
    _, some = costs(coming(*rows), fleet, PRICE, queued, BIN_S, counts)
    _, more = costs(coming(*[[r * 1.5 + 1 for r in row] for row in rows]), fleet, PRICE, queued, BIN_S, counts)
    assert (more >= some - 1e-6).all()
    assert (np.diff(some) <= 1e-6).all()


@pytest.mark.parametrize("price", [1.0, 10.0, 100.0, 1000.0])
def test_dearer_lateness_never_asks_for_less(price: float) -> None:
    rng = np.random.default_rng(3)
    paths = Paths(rng.gamma(4.0, 10.0, (50, 10)), np.full(50, 0.02), 40.0)
    low = best(paths, supply(4), price=Price(slo_wait_s=5.0, lateness=price, rent_bins=4))
    high = best(paths, supply(4), price=Price(slo_wait_s=5.0, lateness=price * 3, rent_bins=4))
    assert low <= high
