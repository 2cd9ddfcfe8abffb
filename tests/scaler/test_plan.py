from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.model import Create, Delete, Drain, Phase, Replica, Undrain
from scaler.plan import TURN_S, Plan, Rules, Sight, plan
from tests.builders import NOW, front, replica, rules, sight, stats

P = Phase


def planned(desired: int, *rows: Replica, view: Sight | None = None, by: Rules | None = None) -> Plan:
    names = count()
    view = view or sight(*(stats(r.name) for r in rows if r.phase in (P.READY, P.DRAINING)))
    return plan(desired, rows, view, by or rules(), version=7, mint=lambda: f"new-{next(names)}")


def phases(outcome: Plan) -> dict[str, str]:
    return {r.name: r.phase.value for r in outcome.replicas}


def did(outcome: Plan) -> list[tuple[str, str]]:
    return [(type(a).__name__, a.replica.name) for a in outcome.actions]


def test_missing_replicas_are_intended_and_asked_for() -> None:
    outcome = planned(2, replica("a"))
    assert phases(outcome) == {"a": "ready", "new-0": "intended"}
    assert did(outcome) == [("Create", "new-0")]


def test_starting_replicas_count_so_that_nothing_is_asked_for_twice() -> None:
    assert did(planned(3, replica("a"), replica("b", P.STARTING), replica("c", P.CREATING))) == []


def test_scale_in_leaves_discovery_first_and_remembers_the_version_without_it() -> None:
    outcome = planned(1, replica("a"), replica("b", intended_at=NOW - 1))
    leaving = next(r for r in outcome.replicas if r.name == "b")
    assert (leaving.phase, leaving.drain_version) == (P.DRAINING, 7)


def test_the_front_must_have_the_list_without_it_before_a_replica_is_told_to_drain() -> None:
    row = replica("a", P.DRAINING, drain_version=7, phase_at=NOW - 1)
    waiting = sight(stats("a"), front=front(applied_version=6))
    assert did(planned(0, row, view=waiting)) == []
    assert did(planned(0, row, view=sight(stats("a"), front=front(applied_version=7)))) == [("Drain", "a")]


def test_a_front_that_fell_silent_does_not_hold_a_drain_for_ever() -> None:
    row = replica("a", P.DRAINING, drain_version=7, phase_at=NOW - 61)
    assert did(planned(0, row, view=sight(stats("a"), front=front(applied_version=6)))) == [("Drain", "a")]


def test_the_least_busy_replica_goes_first_and_starting_ones_before_any() -> None:
    rows = [replica("busy"), replica("idle"), replica("young", P.STARTING)]
    view = sight(stats("busy", in_flight=4), stats("idle"))
    assert phases(planned(1, *rows, view=view)) == {"busy": "ready", "idle": "draining", "young": "deleting"}


def test_an_intent_that_is_not_needed_goes_without_a_call() -> None:
    outcome = planned(0, replica("a", P.INTENDED))
    assert phases(outcome) == {}
    assert [r.name for r in outcome.removed] == ["a"]
    assert did(outcome) == []


def test_an_intent_is_left_to_the_tick_that_wrote_it_until_its_turn_is_over() -> None:
    young = replica("a", P.INTENDED, phase_at=NOW - TURN_S + 1)
    old = replica("b", P.INTENDED, phase_at=NOW - TURN_S)
    assert did(planned(2, young, old)) == [("Create", "b")]


def test_a_draining_replica_is_taken_back_before_one_is_created() -> None:
    outcome = planned(2, replica("a"), replica("b", P.DRAINING), view=sight(stats("a"), stats("b", phase="draining")))
    assert phases(outcome) == {"a": "ready", "b": "ready"}
    assert did(outcome) == [("Undrain", "b")]


def test_a_deleting_replica_has_no_way_back() -> None:
    outcome = planned(2, replica("a"), replica("b", P.DELETING))
    assert phases(outcome) == {"a": "ready", "b": "deleting", "new-0": "intended"}


def test_what_drains_or_dies_still_counts_against_max() -> None:
    outcome = planned(2, replica("a", P.DELETING), replica("b", P.DELETING), by=rules(max=2))
    assert did(outcome) == [("Delete", "a"), ("Delete", "b")]


def drained(row: Replica, **said: object) -> Replica:
    (after,) = planned(0, row, view=sight(stats("a", **{"phase": "draining", **said}))).replicas
    return after


def test_a_drained_replica_is_deleted_after_it_was_idle_for_a_while() -> None:
    first = drained(replica("a", P.DRAINING, phase_at=NOW - 1), arrivals_total=9)
    assert (first.phase, first.idle_since, first.idle_arrivals) == (P.DRAINING, NOW, 9)
    idle = replica("a", P.DRAINING, phase_at=NOW - 20, idle_since=NOW - 5, idle_arrivals=9)
    assert drained(idle, arrivals_total=9).phase is P.DELETING


def test_an_arrival_while_draining_starts_the_wait_again() -> None:
    idle = replica("a", P.DRAINING, phase_at=NOW - 20, idle_since=NOW - 5, idle_arrivals=9)
    after = drained(idle, arrivals_total=10)
    assert (after.phase, after.idle_since) == (P.DRAINING, NOW)


@pytest.mark.parametrize("hand", [{"in_flight": 1}, {"queued": 1}])
def test_a_replica_with_work_in_hand_is_not_deleted_before_the_deadline(hand: dict[str, int]) -> None:
    busy = replica("a", P.DRAINING, phase_at=NOW - 119, idle_since=NOW - 100, idle_arrivals=0)
    assert drained(busy, **hand).phase is P.DRAINING
    late = replica("a", P.DRAINING, phase_at=NOW - 120)
    assert drained(late, **hand).phase is P.DELETING


def test_a_replica_that_was_not_yet_told_to_drain_is_not_idle() -> None:
    after = drained(replica("a", P.DRAINING, phase_at=NOW - 20), phase="ready")
    assert after.idle_since is None


def test_a_ready_replica_that_somebody_told_to_drain_is_told_to_serve() -> None:
    assert did(planned(1, replica("a"), view=sight(stats("a", phase="draining")))) == [("Undrain", "a")]


def test_nothing_is_created_while_every_region_backs_off_or_no_template_is_known() -> None:
    assert did(planned(3, by=rules(region=None))) == []
    assert did(planned(3, by=rules(template=None))) == []


def test_no_action_is_tried_again_before_azure_allows_it() -> None:
    assert did(planned(0, replica("a", P.DELETING, retry_at=NOW + 1))) == []
    assert did(planned(0, replica("a", P.DELETING, retry_at=NOW))) == [("Delete", "a")]


# ---------------------------------------------------------------- a new template


def test_a_new_template_comes_beside_the_old_and_the_old_stays_until_it_is_ready() -> None:
    old = [replica("a", template="t0"), replica("b", template="t0")]
    first = planned(2, *old)
    assert did(first) == [("Create", "new-0")]
    starting = planned(2, *old, replica("c", P.STARTING))
    assert did(starting) == []
    ready = planned(2, *old, replica("c"))
    assert sorted(phases(ready).values()) == ["draining", "intended", "ready", "ready"]
    assert phases(ready)["c"] == "ready"


def test_without_surge_one_old_replica_makes_room() -> None:
    old = [replica("a", template="t0"), replica("b", template="t0")]
    outcome = planned(2, *old, by=rules(surge=0, max=2))
    assert sorted(phases(outcome).values()) == ["draining", "ready"]


def test_a_draining_replica_of_an_old_version_is_not_taken_back() -> None:
    rows = [replica("a", P.DRAINING, template="t0", phase_at=NOW)]
    assert did(planned(1, *rows, view=sight(stats("a", phase="draining")))) == [("Create", "new-0")]


# ---------------------------------------------------------------- for every fleet

ANY_REPLICA = st.builds(
    lambda name, phase, template, age: replica(f"r{name}", phase, template=template, phase_at=NOW - age),
    st.integers(0, 99),
    st.sampled_from(list(Phase)),
    st.sampled_from(["t0", "t1"]),
    st.floats(0, 300),
)
ANY_FLEET = st.lists(ANY_REPLICA, max_size=8, unique_by=lambda r: r.name)


@given(ANY_FLEET, st.integers(0, 6), st.integers(0, 2))
def test_no_plan_exceeds_max_and_surge_or_takes_back_what_is_deleted(
    fleet: list[Replica], desired: int, surge: int
) -> None:
    by = rules(max=6, surge=surge)
    outcome = planned(desired, *fleet, by=by)
    created = [a for a in outcome.actions if isinstance(a, Create) and a.replica.name.startswith("new")]
    assert not created or len(outcome.replicas) <= by.max + surge
    after = phases(outcome)
    assert all(after[r.name] == "deleting" for r in fleet if r.phase is P.DELETING)
    assert all(isinstance(a, Create | Drain | Undrain | Delete) for a in outcome.actions)


@given(ANY_FLEET, st.integers(0, 6))
def test_planning_twice_creates_and_drains_nothing_the_second_time(fleet: list[Replica], desired: int) -> None:
    first = planned(desired, *fleet, by=rules(max=6))
    second = planned(desired, *first.replicas, by=rules(max=6))
    new = set(phases(second)) - set(phases(first))
    active = {r.name for r in first.replicas if r.phase in (P.INTENDED, P.CREATING, P.STARTING, P.READY)}
    if all(r.template == "t1" for r in fleet):
        assert not new
        assert all(phases(second)[name] == phases(first)[name] for name in active)


@given(ANY_FLEET, st.integers(1, 6))
def test_ready_replicas_are_never_drained_below_desired(fleet: list[Replica], desired: int) -> None:
    ready = sum(r.phase is P.READY for r in fleet)
    outcome = planned(desired, *fleet, by=rules(max=6))
    assert sum(r.phase is P.READY for r in outcome.replicas) >= min(ready, desired)
