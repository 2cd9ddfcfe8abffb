"""What a replay comes to, and how sure a difference is."""

from __future__ import annotations

import numpy as np
import pytest

from scaler.peers import Fixed
from scaler.replay.plant import Course, World
from scaler.replay.score import Price, compare, hourly, score
from scaler.replay.study import Setting, play

WORLD = World(rate=2.0, request_s=0.5, slo_wait_s=5.0)


def course(hours: int, *, billed: float = 1.0, late: float = 0.0, lost: float = 0.0) -> Course:
    seconds = hours * 3600
    zeros = np.zeros(seconds)
    one = zeros.copy()
    one[5] = 1.0
    return Course(
        billed=np.full(seconds, billed),
        ready=np.full(seconds, billed),
        served=zeros,
        late=late * one,
        lost=lost * one,
        refused=zeros,
        waiting=0.0,
        cold_starts=0,
        changes=0,
    )


def test_the_economic_cost_is_rent_and_the_price_of_lateness() -> None:
    # 4 replica hours; 720 late ones of half a replica second each at 10 times that: 1 hour; 240 lost ones: another.
    made = score("x", course(2, billed=2.0, late=720, lost=240), 10_000, WORLD, Price(lateness=10.0, replica_hour=0.5))
    assert made.replica_hours == 4.0
    assert made.cost == pytest.approx(6.0)
    assert made.money == 2.0
    assert made.late_share == pytest.approx(0.096)
    assert hourly(course(2, billed=2.0, late=720), WORLD, Price(lateness=10.0)).tolist() == pytest.approx([3.0, 2.0])


def test_without_a_price_there_is_no_money() -> None:
    assert score("x", course(1), 1, WORLD, Price(lateness=10.0)).money is None
    assert score("x", course(1), 0, WORLD, Price(lateness=10.0)).late_share == 0.0


def test_a_difference_that_is_the_same_each_hour_is_certain() -> None:
    first = np.sin(np.arange(48.0)) + 3.0
    found = compare(first, first + 0.5, seed=1)
    assert found.difference == pytest.approx(24.0)
    assert found.low == pytest.approx(24.0)
    assert found.high == pytest.approx(24.0)
    assert found.is_sure


def test_no_difference_is_not_sure() -> None:
    chance = np.random.default_rng(3)
    first = chance.normal(5.0, 1.0, 168)
    found = compare(first, first + chance.normal(0.0, 1.0, 168), seed=1)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    assert not found.is_sure


def test_too_few_hours_give_a_difference_and_no_interval() -> None:
    found = compare(np.ones(11), np.zeros(11), seed=1)
    assert (found.difference, found.low, found.high, found.is_sure) == (-11.0, None, None, False)


def test_the_interval_holds_the_truth_about_as_often_as_it_says_where_hours_resemble_their_neighbours() -> None:
    chance = np.random.default_rng(5)
    held = 0
    for i in range(200):
        noise = chance.normal(0.0, 1.0, 336)
        hours = np.zeros(336)
        for k in range(1, 336):
            hours[k] = 0.6 * hours[k - 1] + noise[k]
        found = compare(np.zeros(336), hours + 0.3, seed=i)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.3 * 336 <= found.high
    assert 0.84 <= held / 200 <= 0.98  # runs of a week are short: a little under 95 % is what it can hold


def test_of_several_settings_the_cheapest_counts_and_all_stand_against_the_first() -> None:
    setting = Setting(arrivals=(3.0,) * 50_000, world=WORLD, price=Price(lateness=10.0), ready=1, seed=1)
    heard: list[float] = []
    first, other = play(setting, [(Fixed(2),), (Fixed(1), Fixed(2), Fixed(5))], told=heard.append)
    assert first.against_first is None
    assert (other.score.name, other.tried) == ("fixed:2", 3)
    assert other.against_first is not None
    assert (other.against_first.difference, other.against_first.low) == (0.0, 0.0)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
