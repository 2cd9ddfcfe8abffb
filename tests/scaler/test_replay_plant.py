"""The world that a replay plays in: who is served, late, lost or refused, and what is billed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.peers import Fixed
from scaler.replay.plant import Course, Plant, World
from scaler.replay.run import run
from scaler.replay.sight import Sight, Wish

QUICK = World(rate=1.0, request_s=0.5, slo_wait_s=5.0, patience_s=60.0, leaving_s=0, starts_s=(20.0,))
LONG = World(rate=0.1, request_s=10.0, slo_wait_s=5.0, patience_s=60.0, leaving_s=0, starts_s=(20.0,))
worlds = st.builds(
    World,
    rate=st.floats(0.05, 20.0),
    request_s=st.sampled_from([0.1, 0.5, 3.0, 20.0]),
    slo_wait_s=st.floats(0.0, 20.0),
    patience_s=st.floats(20.0, 120.0),
    leaving_s=st.integers(0, 40),
    starts_s=st.lists(st.floats(0.1, 90.0), min_size=1, max_size=5).map(tuple),
)
arrivals = st.lists(st.integers(0, 30).map(float), min_size=1, max_size=240)


class Moods:
    """A rule that says one count after the other, and never tires."""

    name, tick_s, wake_s, begins = "moods", 7, 1, None

    def __init__(self, wishes: list[Wish]) -> None:
        self.wishes = wishes

    def initial(self) -> int:
        return 0

    def decide(self, state: int, seen: Sight) -> tuple[Wish, int]:
        return self.wishes[state % len(self.wishes)], state + 1


wishes = st.lists(st.builds(Wish, st.integers(0, 6), st.booleans()), min_size=1, max_size=12)


def course(plant: Plant, until: int) -> Course:
    plant.serve(until)
    return plant.course()


@settings(max_examples=60, deadline=None)
@given(world=worlds, came=arrivals, wished=wishes, ready=st.integers(0, 5))
def test_every_request_is_served_lost_refused_or_still_waits(
    world: World, came: list[float], wished: list[Wish], ready: int
) -> None:
    made = run(Moods(wished), world, came, ready)
    total = made.served.sum() + made.lost.sum() + made.refused.sum() + made.waiting
    assert total == pytest.approx(sum(came), abs=1e-6)
    assert (made.late <= made.served + 1e-9).all()
    assert (made.billed >= made.ready - 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(world=worlds, came=arrivals, count=st.integers(0, 9))
def test_a_fixed_count_costs_exactly_its_count_times_the_time(world: World, came: list[float], count: int) -> None:
    made = run(Fixed(count), world, came, count)
    assert made.billed.sum() == count * len(came)
    assert (made.cold_starts, made.changes) == (0, 0)


@settings(max_examples=60, deadline=None)
@given(came=arrivals, count=st.integers(0, 9), world=worlds)
def test_one_replica_more_never_makes_more_requests_late(world: World, came: list[float], count: int) -> None:
    patient = World(
        rate=world.rate, request_s=world.request_s, slo_wait_s=world.slo_wait_s, patience_s=1e9, leaving_s=0
    )
    few, more = (run(Fixed(n), patient, came, n) for n in (count, count + 1))
    assert more.late.sum() + more.waiting <= few.late.sum() + few.waiting + 1e-6


@settings(max_examples=60, deadline=None)
@given(world=worlds, came=arrivals, wished=wishes)
def test_the_same_again_is_the_same_to_the_last_bit(world: World, came: list[float], wished: list[Wish]) -> None:
    first, second = (run(Moods(wished), world, came, 1) for _ in range(2))
    assert first.billed.tobytes() == second.billed.tobytes()
    assert first.late.tobytes() == second.late.tobytes()
    assert (first.waiting, first.cold_starts, first.changes) == (second.waiting, second.cold_starts, second.changes)


def test_who_waits_longer_than_the_objective_is_late() -> None:
    made = course(Plant(QUICK, [10.0] + [0.0] * 19, ready=1), 20)
    assert made.served.tolist() == [1.0] * 10 + [0.0] * 10
    assert made.late.tolist() == [0.0] * 6 + [1.0] * 4 + [0.0] * 10  # served 6, 7, 8 and 9 s after they came


def test_who_waits_longer_than_patience_is_lost() -> None:
    impatient = World(rate=1.0, request_s=0.5, slo_wait_s=5.0, patience_s=7.0, leaving_s=0)
    made = course(Plant(impatient, [10.0] + [0.0] * 19, ready=1), 20)
    assert made.served.sum() == 8.0
    assert made.lost[8] == 2.0
    assert made.waiting == 0.0


def test_a_replica_is_billed_from_asked_to_deleted_and_serves_from_ready() -> None:
    world = World(rate=1.0, request_s=0.5, slo_wait_s=5.0, patience_s=60.0, leaving_s=4, starts_s=(9.5,))
    plant = Plant(world, [1.0] * 40, ready=0)
    plant.serve(10)
    plant.ask(1)
    plant.serve(30)
    plant.ask(0)
    made = course(plant, 40)
    assert made.billed.tolist() == [0.0] * 10 + [1.0] * 24 + [0.0] * 6
    assert made.ready.tolist() == [0.0] * 20 + [1.0] * 10 + [0.0] * 10
    assert plant.sight.starts_s == [9.5]
    assert (made.cold_starts, made.changes) == (1, 2)


def test_what_starts_is_given_up_first_and_the_newest_of_it() -> None:
    world = World(rate=1.0, request_s=0.5, slo_wait_s=5.0, leaving_s=30, starts_s=(50.0, 10.0, 10.0))
    plant = Plant(world, [0.0] * 100, ready=1)
    plant.ask(4)
    plant.serve(5)
    plant.ask(2)  # the two that would be ready at 10 go, the oldest, ready at 50, stays
    made = course(plant, 100)
    assert made.billed.tolist() == [4.0] * 5 + [2.0] * 95
    assert made.ready.tolist() == [1.0] * 50 + [2.0] * 50


def test_a_long_request_holds_its_replica_until_it_is_done() -> None:
    made = course(Plant(LONG, [3.0] + [0.0] * 39, ready=1), 40)
    assert [i for i, n in enumerate(made.served) if n] == [0, 10, 20]
    assert made.late.sum() == 2.0


def test_a_replica_told_to_go_is_billed_until_what_it_has_in_work_is_done() -> None:
    plant = Plant(LONG, [2.0] + [0.0] * 39, ready=2)
    plant.serve(3)
    plant.ask(1)
    made = course(plant, 40)
    assert made.billed.tolist() == [2.0] * 10 + [1.0] * 30
    assert made.served.sum() == 2.0


def test_off_means_that_what_finds_no_replica_is_refused() -> None:
    plant = Plant(QUICK, [1.0] * 30, ready=1)
    plant.serve(10)
    plant.off = True
    plant.serve(15)
    plant.ask(0)
    made = course(plant, 30)
    assert made.refused.sum() == 15.0
    assert made.served.sum() == 15.0
    assert plant.sight.arrivals[-1] == 15.0


def test_what_waits_when_the_service_goes_off_is_refused_too() -> None:
    plant = Plant(QUICK, [2.0] * 10, ready=0)
    plant.serve(5)
    assert plant.sight.queued == 10.0
    plant.off = True
    made = course(plant, 10)
    assert made.refused.tolist() == [0.0] * 5 + [12.0] + [2.0] * 4
    assert made.waiting == 0.0


class Once:
    """Asks for one replica at its first look, and notes when it looked."""

    name, tick_s, begins = "once", 30, None

    def __init__(self, wake_s: int | None) -> None:
        self.wake_s, self.looks = wake_s, list[int]()

    def initial(self) -> None:
        return None

    def decide(self, state: None, seen: Sight) -> tuple[Wish, None]:
        self.looks.append(seen.at)
        return Wish(1 if seen.queued or seen.asked else 0), None


@pytest.mark.parametrize(("wake_s", "looks"), [(1, [30, 41, 60, 90]), (5, [30, 45, 60, 90]), (None, [30, 60, 90])])
def test_a_request_at_zero_makes_a_rule_look_at_once_if_it_is_one_that_is_woken(
    wake_s: int | None, looks: list[int]
) -> None:
    rule = Once(wake_s)
    run(rule, QUICK, [0.0] * 40 + [1.0] + [0.0] * 59, ready=0)
    assert rule.looks == looks


def test_progress_is_told_hour_by_hour() -> None:
    heard: list[int] = []
    run(Fixed(1), QUICK, [0.0] * 10_900, 1, told=heard.append)
    assert heard == [3600, 7200, 10_800]


def test_a_sight_knows_any_window() -> None:
    seen = Sight(ready=2)
    assert (seen.arrivals_per_s(10), seen.busy_share(10, 1.0)) == (0.0, 0.0 if seen.ready_s[-1] else None)
    for at in range(1, 11):
        seen.passed(float(at), 1.0, 1.0, 1.5, 0.5)
        seen.at = at
    assert seen.arrivals_per_s(10) == 5.5
    assert seen.arrivals_per_s(1) == 10.0
    assert seen.arrivals_per_s(100) == 5.5
    assert seen.concurrency(4) == 2.0
    assert seen.busy_share(4, 1.0) == 0.75
