"""Rules that decide on paper: what they are charged, and which of them speaks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from scaler.foresight import trials
from scaler.foresight.trials import HOLDS, MOST_STEPS, RULES, Case, Trials, step

START_S = 90.0
NEW = Trials()
CASE = Case(
    arrivals=0.0,
    wanted=0,
    least=0,
    level=0.0,
    rate=10.0,
    concurrency=4.0,
    slo_wait_s=5.0,
    lateness_price=10.0,
    start_s=START_S,
    expected_start_s=START_S,
    most=60,
)


def play(loads: list[float], wants: list[int], record: Trials = NEW, at: float = 0.0, **terms: float | None) -> Trials:
    """One step each 15 s with so many arrivals per second, and what the forecast wants then."""
    for load, wanted in zip(loads, wants, strict=True):
        at += 15.0
        record = step(record, at, replace(CASE, arrivals=15.0 * load, level=load, wanted=wanted, **terms))
    return record


def at_once(ready: int, *, wanted: int) -> Trials:
    """Fleets of so many at a first step at 0."""
    asked, wants = (np.full((1, RULES), count, dtype="<i4").tobytes() for count in (ready, wanted))
    return Trials(times=(0.0,), asked=asked, wanted=wants)


def rows(record: Trials) -> np.ndarray:
    return np.frombuffer(record.asked, dtype="<i4").reshape(-1, RULES)


def test_the_first_hold_is_longer_where_lateness_is_dearer_and_none_is_shorter() -> None:
    assert trials.holds_s(10.0, 90.0) == (30.0, 120.0, 300.0)
    assert trials.holds_s(100.0, 90.0)[0] == pytest.approx(60.0, rel=0.01)
    assert trials.holds_s(1e6, 90.0) == tuple(sorted(trials.holds_s(1e6, 90.0)))


def test_rent_is_charged_for_what_is_asked_for() -> None:
    record = play([20.0] * 3, [2] * 3)
    assert record.costs == pytest.approx([2 * 30.0] * RULES, rel=1e-3)
    assert record.queues == (0.0,) * RULES


def test_each_rule_holds_for_its_own_time() -> None:
    record = play([20.0] * 21, [6] + [2] * 20)
    asked = rows(record)[:, :HOLDS]
    held = [int((asked[:, i] == 6).sum()) for i in range(HOLDS)]
    assert held == [2, 8, 20]


def test_the_signals_ask_for_what_arrives_and_what_waits() -> None:
    record = play([20.0, 22.0], [2, 2], concurrency=None)
    assert list(rows(record)[-1]) == [2] * HOLDS + [3] * HOLDS
    record = play([20.0, 22.0], [2, 2])
    assert record.queues[0] == pytest.approx(30.0)
    assert list(rows(record)[-1, HOLDS:]) == [math.ceil(22 / 10 + 30 / 4)] * HOLDS


def test_a_rule_serves_one_start_after_it_asked() -> None:
    """A rise that the forecast asked for a start before costs it rent alone; the signals are late."""
    steps = 7
    loads = [20.0] * 10 + [60.0] * 10
    early = [2] * (10 - steps) + [6] * (10 + steps)
    record = play(loads, early)
    assert record.queues[0] == 0.0
    assert record.costs[0] == pytest.approx(15.0 * (2 * (10 - steps) + 6 * (9 + steps)), rel=0.01)
    assert record.costs[HOLDS] > 3 * record.costs[0]


def test_a_rule_in_a_jam_asks_for_more_to_get_out_of_it() -> None:
    record = play([20.0] * 3 + [200.0] * 3, [2] * 6)
    assert rows(record)[-1, 0] > 20


def test_requests_that_meet_no_replica_wake_one() -> None:
    record = play([0.0, 0.01], [0, 0])
    assert list(rows(record)[-1]) == [1] * RULES


@pytest.mark.parametrize(
    ("arrivals", "ready", "wants"),
    [
        pytest.param(1.0, 0, 1, id="one that no signal counts any more wakes one"),
        pytest.param(0.0, 0, 0, id="nobody came"),
        pytest.param(155.0, 1, 0, id="one is awake, and soon done with them"),
    ],
)
def test_a_rule_that_wants_none_wakes_one_for_who_meets_none(arrivals: float, ready: int, wants: int) -> None:
    after = step(at_once(ready, wanted=0), 15.0, replace(CASE, arrivals=arrivals, concurrency=None))
    assert list(np.frombuffer(after.wanted, dtype="<i4").reshape(-1, RULES)[-1]) == [wants] * RULES


@pytest.mark.parametrize(
    ("waited", "arrivals", "late"),
    [
        pytest.param(0.0, 300.0, 200.0, id="once 50 wait, and 150 wait in the end"),
        pytest.param(30.0, 300.0, 300.0 * 130 / 150, id="once 50 wait, of 30 to 180"),
        pytest.param(50.5, 150.0, 150.0, id="all, while the line stays too long"),
        pytest.param(50.5, 150.25, 150.25, id="… or grows by a hair"),
        pytest.param(49.5, 150.0, 0.0, id="none, while it stays short"),
    ],
)
def test_late_are_those_who_come_while_the_line_is_too_long(waited: float, arrivals: float, late: float) -> None:
    """One replica, that serves 150 in the 15 s: 50 in 5 s, the longest wait in time."""
    before = replace(at_once(1, wanted=1), queues=(waited,) * RULES)
    after = step(before, 15.0, replace(CASE, arrivals=arrivals, level=10.0))
    assert after.costs == pytest.approx([15.0 + 10.0 * late / 10.0] * RULES)


def test_what_a_rule_cost_a_day_ago_counts_half() -> None:
    record, span_s = replace(at_once(0, wanted=0), costs=(100.0,) * RULES), 900.0
    for at in range(1, round(86_400 / span_s) + 1):
        record = step(record, at * span_s, CASE)
    assert record.costs == pytest.approx([50.0] * RULES)


def test_what_was_asked_nearly_a_hold_ago_is_held() -> None:
    assert rows(step(at_once(0, wanted=6), 29.5, CASE))[-1, 0] == 6
    assert rows(step(at_once(0, wanted=6), 30.0, CASE))[-1, 0] == 0


def test_a_step_that_is_half_a_span_more_than_a_start_ago_is_one_start_ago() -> None:
    """Steps each 16 s, of which the sixth last was 96 s ago: who was asked for after it does not serve yet."""
    record = at_once(2, wanted=2)
    for n in range(1, 9):
        terms = replace(CASE, arrivals=16.0 * 40.0, level=40.0, wanted=10, most=10)
        record = step(record, 16.0 * n, terms)
    assert record.queues[0] == pytest.approx(7 * 16.0 * (40.0 - 20.0) - 16.0 * (100.0 - 40.0), abs=1e-6)


@pytest.mark.parametrize(("start_s", "kept_s"), [(START_S, 300.0), (400.0, 800.0)])
def test_the_fleets_are_known_as_far_back_as_the_longest_hold_or_two_starts(start_s: float, kept_s: float) -> None:
    record = play([20.0] * 100, [2] * 100, start_s=start_s)
    now = record.times[-1]
    assert record.times[0] <= now - kept_s < record.times[1]


def test_too_short_a_time_is_a_step_and_too_long_a_one_is_none() -> None:
    watched = [
        step(at_once(2, wanted=2), at, replace(CASE, wanted=3)).watched_s for at in (0.0, 0.5, 900.0, 900.5, -1.0)
    ]
    assert watched == [0.0, 0.5, 900.0, 0.0, 0.0]


def test_the_cheaper_rule_speaks_once_more_than_240_starts_were_watched() -> None:
    costs = (100.0, 50.0, *[100.0] * (RULES - 2))
    before = replace(at_once(0, wanted=0), costs=costs, watched_s=240 * START_S - 15.0)
    just = step(before, 15.0, CASE)
    assert (just.speaks, step(just, 30.0, CASE).speaks) == (0, 1)


@pytest.mark.parametrize(
    ("waits", "level", "ready", "count", "terms"),
    [
        pytest.param(0.0, 0.0, 0, 0, {}, id="nobody waits"),
        pytest.param(300.0, 0.0, 0, 2, {}, id="nothing comes any more"),
        pytest.param(300.0, 5.0, 1, 3, {}, id="one carries what comes"),
        pytest.param(300.0, 20.0, 2, 5, {}, id="two do"),
        pytest.param(250.0, 20.0, 2, 4, {}, id="… and fewer wait"),
        pytest.param(300.0, 25.0, 3, 6, {}, id="two and a half do"),
        pytest.param(150.0, 40.0, 2, 12, {}, id="more will wait before another is ready"),
        pytest.param(50.0, 20.0, 2, 0, {}, id="half of the longest wait in time: they are served soon"),
        pytest.param(60.0, 20.0, 2, 3, {}, id="a little more than half of it"),
        pytest.param(2.5, 0.1, 1, 4, {"rate": 0.1, "lateness_price": 1000.0}, id="no more than one for each"),
        pytest.param(3.0, 0.1, 1, 4, {"rate": 0.1, "lateness_price": 1000.0}, id="… which three are, too"),
    ],
)
def test_a_jam_is_worth_the_square_root_of_what_waits(
    waits: float, level: float, ready: int, count: int, terms: dict[str, float]
) -> None:
    case = replace(CASE, level=level, **terms)
    assert trials.clearing(np.array([waits]), np.array([float(ready)]), case).tolist() == [count]


def test_who_waits_too_long_is_lost_and_costs_more() -> None:
    loads = [10.0] * 30
    record = play(loads, [0] * 30, most=0)
    assert record.queues == pytest.approx([10.0 * 60 + 150] * RULES)
    late, lost = 150.0 * 29, 150.0 * 24
    assert record.costs == pytest.approx([(late + 3 * lost) * 10.0 / 10.0] * RULES, rel=0.01)


def test_nothing_is_concluded_before_there_is_proof() -> None:
    assert play([20.0] * 1400, [20] * 1400).speaks == 0
    assert not trials.forecast_speaks(play([20.0] * 1500, [20] * 1500))


def test_a_forecast_that_wastes_stands_back_and_returns_when_it_pays() -> None:
    record = play([20.0] * 1500, [12] * 1500)
    assert not trials.forecast_speaks(record)
    assert trials.loss(record) > 1.0
    burst = [20.0] * 20 + [120.0] * 20
    wants = [2] * 14 + [12] * 26
    record = play(burst * 240, wants * 240, record, at=1500 * 15.0)
    assert trials.forecast_speaks(record)
    assert trials.loss(record) < 0.0


@pytest.mark.parametrize(
    ("speaks", "costs", "after"),
    [
        (0, [100, 95, 99, 100, 100, 100], 0),  # cheaper, but not clearly
        (0, [100, 80, 99, 100, 100, 100], 1),
        (1, [100, 93, 99, 100, 100, 100], 1),  # stays on half of the proof
        (1, [100, 96, 99, 100, 100, 100], 0),
        (2, [100, 90, 90, 100, 100, 100], 2),
        (2, [100, 75, 90, 100, 100, 100], 1),
        (0, [100, 88, 99, 100, 100, 100], 0),  # by just what is not yet clearly
        (1, [100, 95, 99, 100, 100, 100], 0),  # less than half of the proof is left
        (1, [100, 94, 99, 100, 100, 100], 0),  # just half of it
        (1, [100, 80, 75, 100, 100, 100], 1),  # another one is clearly cheaper than the first, and not than this
        (1, [100, 96, 86, 100, 100, 100], 2),  # once this one has to go, the first is what counts
        (4, [100, 100, 100, 100, 101, 100], 0),
        (4, [100, 100, 80, 100, 101, 100], 2),
    ],
)
def test_another_rule_has_to_be_clearly_cheaper_than_the_first(speaks: int, costs: list[float], after: int) -> None:
    assert trials._cheapest(speaks, np.array(costs, dtype=float)) == after


def test_what_costs_nothing_is_no_reason_to_change() -> None:
    record = play([0.0] * 500, [0] * 500)
    assert (record.speaks, trials.loss(record)) == (0, 0.0)
    assert not rows(record).any()


def test_the_best_rule_of_each_is_compared() -> None:
    assert trials.loss(Trials(costs=(100.0, 0.6, 90.0, 200.0, 0.8, 120.0))) == pytest.approx(-0.25)


def test_noise_makes_holding_worth_it() -> None:
    rng = np.random.default_rng(2)
    level = np.repeat(rng.choice([20.0, 60.0], 250), 6)
    record = play(list(level), [math.ceil(x / 10) for x in level], lateness_price=100.0)
    assert 0 < record.speaks < HOLDS


def test_a_gap_begins_the_fleets_anew_and_keeps_what_they_cost() -> None:
    before = play([20.0] * 50, [2] * 50)
    after = step(before, 50 * 15.0 + 10_000.0, replace(CASE, wanted=3, least=1))
    assert after.costs == before.costs
    assert rows(after).tolist() == [[3] * RULES]
    back = step(before, 0.0, replace(CASE, wanted=3))
    assert back.costs == before.costs


def test_steps_are_due_several_times_in_a_start() -> None:
    record = play([20.0], [2])
    assert trials.is_due(NEW, 0.0, START_S)
    assert not any(trials.is_due(record, at, START_S) for at in (15.0, 15.5, 16.0, 28.0))
    assert trials.is_due(record, 30.0, START_S)
    assert trials.is_due(record, 0.0, START_S)
    assert trials.is_due(step(NEW, 0.0, CASE), 0.99 * START_S / 6, START_S)


@given(
    st.lists(st.tuples(st.floats(-100, 2000), st.floats(0, 1e6), st.integers(0, 500), st.floats(1, 1e4)), max_size=40)
)
def test_any_record_stays_bounded(ticks: list[tuple[float, float, int, float]]) -> None:
    record, at = NEW, 0.0
    for gap_s, arrivals, wanted, start_s in ticks:
        at += gap_s
        record = step(record, at, replace(CASE, arrivals=arrivals, level=arrivals / 15, wanted=wanted, start_s=start_s))
        assert len(record.times) <= MOST_STEPS
        assert len(record.asked) == len(record.wanted) == 4 * RULES * len(record.times)
        assert all(math.isfinite(cost) and cost >= 0 for cost in record.costs)
        assert rows(record).max() <= CASE.most
