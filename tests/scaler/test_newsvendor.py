"""Rent against lateness: the cheapest count over the paths that may come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.foresight import newsvendor
from scaler.foresight.forecast import Paths
from scaler.foresight.history import Floats
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


@pytest.mark.parametrize(
    ("rate", "ready", "most", "looked_at"),
    [
        pytest.param(38.0, 4, 60, [(0, 5, 6)], id="the count that there is, is the one"),
        pytest.param(80.0, 8, 60, [(4, 9, 6)], id="… of many"),
        pytest.param(0.0, 3, 60, [(0, 4, 5)], id="none is at the edge, and there is no fewer"),
        pytest.param(0.0, 5, 60, [(1, 6, 6), (0, 2, 3)], id="none is one below the edge"),
        pytest.param(1e9, 7, 7, [(3, 7, 5)], id="the most is at the edge, and there is no more"),
        pytest.param(150.0, 8, 60, [(4, 12, 9), (11, 16, 6)], id="more than all that were looked at"),
        pytest.param(100.0, 18, 60, [(14, 19, 6), (0, 15, 16)], id="fewer, and not too many to look at each"),
        pytest.param(190.0, 3, 60, [(0, 7, 8), (6, 20, 15)], id="more, and not too many to look at each"),
        pytest.param(210.0, 3, 60, [(0, 7, 8), (6, 22, 17)], id="one more"),
        pytest.param(220.0, 3, 60, [(0, 7, 8), (6, 23, 8), (21, 23, 3)], id="too many to look at each"),
        pytest.param(
            995.0,
            500,
            1000,
            [(496, 501, 6), (0, 497, 8), (71, 213, 8), (91, 132, 8), (97, 109, 13)],
            id="far fewer: a few of all, a few of those near the best of them, and so on",
        ),
        pytest.param(0.0, 30, 60, [(26, 31, 6), (0, 27, 8), (0, 4, 5)], id="none at all, from many"),
        pytest.param(1e9, 30, 60, [(26, 34, 9), (33, 60, 8), (56, 60, 5)], id="as many as may be, from few"),
    ],
)
def test_counts_are_looked_at_near_the_present_one_first_and_elsewhere_only_where_it_pays(
    monkeypatch: pytest.MonkeyPatch, rate: float, ready: int, most: int, looked_at: list[tuple[int, int, int]]
) -> None:
    looks: list[tuple[int, int, int]] = []

    def looking(*given: Any) -> tuple[Floats, Floats]:
        counts = given[-1]
        looks.append((int(counts[0]), int(counts[-1]), len(counts)))
        return costs(*given)

    monkeypatch.setattr(newsvendor, "costs", looking)
    choose(coming([rate] * 10), supply(ready), PRICE, 0.0, BIN_S, most)
    assert looks == looked_at


def test_the_choice_shows_what_one_fewer_and_one_more_would_cost() -> None:
    choice = choose(coming([38.0] * 10), supply(4), PRICE, 0.0, BIN_S, 60)
    assert [count for count, _, _ in choice.costs] == [3, 4, 5]
    totals = [rent + late for _, rent, late in choice.costs]
    assert min(totals) == totals[1]


def test_the_costs_shown_end_where_the_counts_do() -> None:
    assert [count for count, _, _ in choose(coming([0.0] * 10), supply(3), PRICE, 0.0, BIN_S, 60).costs] == [0, 1]
    assert [count for count, _, _ in choose(coming([1e9] * 10), supply(3), PRICE, 0.0, BIN_S, 7).costs] == [6, 7]


@pytest.mark.parametrize(
    ("rate", "fleet", "waits", "count"),
    [
        pytest.param(10.0, supply(1), 5000.0, 2, id="beside what comes"),
        pytest.param(38.0, supply(1), 5000.0, 5, id="of which the last is not busy all the time"),
        pytest.param(0.0, supply(0), 5000.0, 1, id="and nothing comes"),
        pytest.param(20.0, supply(2, 20.0, 20.0, 20.0, 20.0), 1500.0, 6, id="and those that start will do"),
    ],
)
def test_however_much_waits_no_more_than_one_beyond_the_peak_and_what_is_there_are_asked_for(
    rate: float, fleet: Supply, waits: float, count: int
) -> None:
    """How to clear a jam is reckoned elsewhere (``trials.clearing``)."""
    assert best(coming([rate] * 10), fleet, queued=waits) == count


def test_what_a_count_costs_is_its_rent_the_late_ones_and_what_is_left() -> None:
    """Two serve as much as comes, 300 in a bin, and what waits keeps everybody late: six bins before a start's end and
    four after it. At the end as much waits as before."""
    rent, lateness = costs(coming([20.0] * 10), supply(2), PRICE, 600.0, BIN_S, np.array([2]))
    late = 300.0 * (6 * 0.9 + 4 * 0.3)
    assert rent[0] == 2 * 4 * BIN_S
    assert lateness[0] == pytest.approx((10.0 * late + 1.5 * 600.0) / 10.0)


def test_where_nobody_waits_only_rent_is_paid() -> None:
    _, lateness = costs(coming([19.0] * 10), supply(2), PRICE, 0.0, BIN_S, np.array([2, 3, 50]))
    assert lateness.tolist() == [0.0, 0.0, 0.0]


def test_dearer_lateness_counts_by_a_power_of_its_price() -> None:
    def priced(lateness: float) -> float:
        terms = Price(slo_wait_s=5.0, lateness=lateness, rent_bins=4)
        _, cost = costs(coming([20.0] * 10), supply(2), terms, 600.0, BIN_S, np.array([2]))
        return float(cost[0]) - 1.5 * 600.0 / 10.0

    assert priced(1000.0) / priced(10.0) == pytest.approx(100.0**0.7)


def test_those_ready_are_kept_first_then_those_that_start_then_others_are_asked_for() -> None:
    """What each count can serve is what a fleet can that has just these."""
    paths, counts = coming([20.0] * 2 + [90.0] * 8), np.arange(7)
    _, lateness = costs(paths, supply(2, 20.0, 40.0), PRICE, 50.0, BIN_S, counts)
    fleets = [supply(0), supply(1), supply(2), supply(2, 20.0), supply(2, 20.0, 40.0)]
    fleets += [supply(2, 20.0, 40.0, 90.0), supply(2, 20.0, 40.0, 90.0, 90.0)]
    alone = [costs(paths, fleet, PRICE, 50.0, BIN_S, np.array([n]))[1][0] for n, fleet in enumerate(fleets)]
    assert lateness.tolist() == pytest.approx(alone)
    assert (np.diff(lateness) < 0).all()


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
