from typing import Any

import pytest

from scaler.model import Phase, Replica
from scaler.observe import CLOCKS_APART_S, CREATE_GRACE_S, RETRY_LONGEST_S, Limits, Seen, in_time, look, may_be_gone
from tests.builders import NOW, detail, group, replica, seen, stats

LIMITS = Limits(start_deadline_s=900.0, unhealthy_after_s=60.0)
P = Phase


def only(view: Seen) -> Replica:
    (row,) = look(view, LIMITS).replicas
    return row


def test_a_group_in_the_list_means_that_the_replica_is_starting() -> None:
    row = only(seen([replica("a", P.CREATING)]))
    assert (row.phase, row.phase_at, row.address) == (P.STARTING, NOW, "127.64.0.1")


def test_a_replica_that_says_ready_is_ready_and_its_cold_start_is_told_once() -> None:
    starting = replica("a", P.STARTING, intended_at=NOW - 72)
    fleet = look(seen([starting], answering=[stats("a")]), LIMITS)
    assert [r.phase for r in fleet.replicas] == [P.READY]
    assert fleet.started == fleet.replicas
    again = look(seen(fleet.replicas, answering=[stats("a")]), LIMITS)
    assert again.started == ()


def test_a_restarted_server_is_starting_again_and_is_no_second_cold_start() -> None:
    row = only(seen([replica("a")], answering=[stats("a", phase="starting")]))
    assert row.phase is P.STARTING
    fleet = look(seen([row], answering=[stats("a")]), LIMITS)
    assert fleet.replicas[0].phase is P.READY
    assert fleet.started == ()


@pytest.mark.parametrize("phase", [P.STARTING, P.READY, P.DRAINING, P.DELETING])
def test_what_azure_no_longer_lists_has_no_row(phase: Phase) -> None:
    fleet = look(seen([replica("a", phase)], groups={}, details={"a": None}), LIMITS)
    assert fleet.replicas == ()
    assert [r.name for r in fleet.removed] == ["a"]
    assert [c.name for c in fleet.conditions] == ([] if phase is P.DELETING else ["vanished"])


@pytest.mark.parametrize("details", [{}, {"a": detail("a")}], ids=["no answer to a GET", "a GET shows it"])
@pytest.mark.parametrize("phase", [P.STARTING, P.READY, P.DRAINING, P.DELETING])
def test_what_a_list_leaves_out_keeps_its_row_unless_a_get_says_so_too(phase: Phase, details: dict[str, Any]) -> None:
    fleet = look(seen([replica("a", phase)], groups={}, details=details), LIMITS)
    assert [r.phase for r in fleet.replicas] == [phase]


def test_times_to_come_are_now_for_a_clock_that_was_set_back() -> None:
    row = in_time(replica("a", P.DRAINING, phase_at=NOW + 900, idle_since=NOW + 9, retry_at=NOW + 9e9), NOW)
    assert (row.phase_at, row.idle_since, row.retry_at) == (NOW, NOW, None)
    assert row.intended_at == NOW - 600


@pytest.mark.parametrize(
    ("phase_at", "retry_at", "kept"),
    [
        (NOW, NOW + RETRY_LONGEST_S + CLOCKS_APART_S, True),  # the longest wait, by a clock that is a little ahead
        (NOW, NOW + RETRY_LONGEST_S + CLOCKS_APART_S + 1, False),  # Azure was asked by a clock that was ahead
        (NOW + 900, NOW + 930, False),  # so was the row written
    ],
)
def test_a_wait_reckoned_by_a_clock_that_was_ahead_holds_nothing_up(
    phase_at: float, retry_at: float, kept: bool
) -> None:
    row = in_time(replica("a", P.DELETING, phase_at=phase_at, retry_at=retry_at), NOW)
    assert row.retry_at == (retry_at if kept else None)


@pytest.mark.parametrize("phase", list(Phase))
def test_without_a_list_nothing_is_concluded_from_absence(phase: Phase) -> None:
    assert only(seen([replica("a", phase)], groups=None)).phase is phase


def test_a_put_whose_answer_was_lost_has_the_grace_and_then_no_row() -> None:
    young = replica("a", P.CREATING, phase_at=NOW - CREATE_GRACE_S + 1)
    old = replica("b", P.CREATING, phase_at=NOW - CREATE_GRACE_S)
    fleet = look(seen([young, old], groups={}, details={"b": None}), LIMITS)
    assert [r.name for r in fleet.replicas] == ["a"]
    assert [r.name for r in fleet.removed] == ["b"]
    fleet = look(seen([young, old], groups={}, details={"b": detail("b")}), LIMITS)
    assert [r.phase for r in fleet.replicas] == [P.CREATING, P.STARTING]


def test_an_intent_that_nobody_acted_on_stays() -> None:
    assert only(seen([replica("a", P.INTENDED)], groups={})).phase is P.INTENDED


def test_a_start_that_azure_calls_failed_is_given_up_at_once() -> None:
    view = seen([replica("a", P.STARTING)], groups={"a": group("a", provisioning_state="Failed")})
    fleet = look(view, LIMITS)
    assert fleet.replicas[0].phase is P.DELETING
    assert fleet.failures[0].failure == "StartFailed"
    assert fleet.conditions[0].name == "start_failed"


def test_a_start_that_failed_over_its_image_says_so_and_one_of_no_known_cause_only_that() -> None:
    for event, code in (("Failed: could not pull image x", "InaccessibleImage"), ("Pulling: image x", "StartFailed")):
        listed = {"a": group("a", provisioning_state="Failed")}
        told = {"a": detail("a", state="Failed", events=(event,))}
        view = seen([replica("a", P.STARTING)], groups=listed, details=told)
        assert look(view, LIMITS).failures[0].failure == code


def test_a_start_that_failed_for_want_of_capacity_says_so() -> None:
    view = seen(
        [replica("a", P.STARTING)],
        groups={"a": group("a", provisioning_state="Failed", address=None)},
        details={
            "a": detail("a", state="Failed", events=("InsufficientCapacity.: The requested resource is not available",))
        },
    )
    assert look(view, LIMITS).failures[0].failure == "InsufficientCapacity"


@pytest.mark.parametrize("says", [None, "starting"])
def test_a_start_that_takes_longer_than_its_deadline_is_given_up(says: str | None) -> None:
    def at(age_s: float) -> Phase:
        row = replica("a", P.STARTING, intended_at=NOW - age_s, phase_at=NOW - age_s)
        return only(seen([row], answering=[stats("a", phase=says)] if says else [])).phase

    assert at(899) is P.STARTING
    assert at(900) is P.DELETING


def test_a_given_up_replica_says_what_azure_said_of_it() -> None:
    row = replica("a", P.STARTING, intended_at=NOW - 1000, phase_at=NOW - 1000)
    told = detail("a", container_state="Waiting", detail="CrashLoopBackOff: Back-off restarting failed")
    assert "CrashLoopBackOff" in only(seen([row], details={"a": told})).because


def test_silence_alone_deletes_nothing() -> None:
    row = replica("a", silent_since=NOW - 10_000)
    assert only(seen([row], details={"a": detail("a")})).phase is P.READY


def test_a_silent_replica_takes_no_more_requests_when_its_neighbours_answer() -> None:
    rows = [replica("a", silent_since=NOW - 61), replica("b")]
    fleet = look(seen(rows, answering=[stats("b")]), LIMITS)
    assert [(r.name, r.phase) for r in fleet.replicas] == [("a", P.DRAINING), ("b", P.READY)]
    assert [c.name for c in fleet.conditions] == ["silent"]


def test_a_silent_replica_goes_when_its_container_does_not_run() -> None:
    row = replica("a", silent_since=NOW - 61)
    assert only(seen([row], details={"a": detail("a", container_state="Terminated")})).phase is P.DELETING


def test_a_short_silence_is_forgiven_and_forgotten() -> None:
    rows = [replica("a"), replica("b")]
    quiet = look(seen(rows, answering=[stats("b")]), LIMITS).replicas
    assert quiet[0].silent_since == NOW
    back = look(seen(quiet, answering=[stats("a"), stats("b")]), LIMITS).replicas
    assert back[0].silent_since is None


def test_who_answers_is_not_silent_though_azure_lists_it_no_more_and_does_not_say_why() -> None:
    quiet = replica("a", P.READY, silent_since=NOW - 50)
    (heard,) = look(seen([quiet], groups={}, answering=[stats("a")]), LIMITS).replicas
    assert heard.silent_since is None


def test_a_draining_replica_is_not_made_ready_by_what_it_says() -> None:
    assert only(seen([replica("a", P.DRAINING)], answering=[stats("a")])).phase is P.DRAINING


def test_a_replica_that_azure_refused_is_told_as_a_failure_at_first_sight_and_only_then() -> None:
    refused = replica("a", P.CREATING, failure="ContainerGroupQuotaReached")
    unknown = look(seen([refused], groups={}), LIMITS)  # Azure did not say whether there is a group nevertheless
    assert [r.phase for r in unknown.replicas] == [P.DELETING]
    assert unknown.failures == unknown.replicas
    gone = look(seen([refused], groups={}, details={"a": None}), LIMITS)
    assert (gone.replicas, [r.name for r in gone.failures]) == ((), ["a"])
    later = look(seen(unknown.replicas, groups={}, details={"a": None}), LIMITS)
    assert (later.replicas, later.failures) == ((), ())


def test_a_start_that_is_given_up_is_one_failure_and_its_end_is_no_second_one() -> None:
    row = replica("a", P.STARTING, intended_at=NOW - 900, phase_at=NOW - 900)
    fleet = look(seen([row]), LIMITS)
    assert [r.name for r in fleet.failures] == ["a"]
    after = look(seen(fleet.replicas, groups={}, details={"a": None}), LIMITS)
    assert (after.failures, [r.name for r in after.removed]) == ((), ["a"])


@pytest.mark.parametrize(
    "field", ["intended_at", "phase_at", "ready_at", "silent_since", "drain_since", "idle_since", "asked_at"]
)
def test_a_time_to_come_is_now_and_one_that_is_past_stays_whichever_it_is(field: str) -> None:
    late = in_time(replica("a", P.DRAINING, **{field: NOW + CLOCKS_APART_S + 1}), NOW)
    assert getattr(late, field) == NOW
    other = "phase_at" if field != "phase_at" else "intended_at"
    past = in_time(replica("a", P.DRAINING, **{field: NOW - 5, other: NOW + 900}), NOW)
    assert (getattr(past, field), getattr(past, other)) == (NOW - 5, NOW)
    allowed = replica("a", P.DRAINING, **{field: NOW + CLOCKS_APART_S})
    assert in_time(allowed, NOW) == allowed


def test_an_intent_and_what_is_listed_are_worth_no_look_and_without_a_list_nothing_is() -> None:
    assert may_be_gone(replica("a", P.INTENDED), {}, NOW) is False
    assert may_be_gone(replica("a"), {"a": group("a")}, NOW) is False
    assert may_be_gone(replica("a"), None, NOW) is False


def test_a_group_that_no_row_knew_is_told_of() -> None:
    fleet = look(seen([replica("a", P.STARTING, etag=""), replica("b", P.STARTING)]), LIMITS)
    assert [(c.name, c.about) for c in fleet.conditions] == [("unknown_group", "a")]


@pytest.mark.parametrize(("silent_s", "phase"), [(59, P.READY), (60, P.DRAINING)])
def test_who_is_silent_beside_neighbours_that_answer_has_so_long_and_no_longer(silent_s: float, phase: Phase) -> None:
    rows = [replica("a", silent_since=NOW - silent_s), replica("b")]
    assert [r.phase for r in look(seen(rows, answering=[stats("b")]), LIMITS).replicas] == [phase, P.READY]


def test_who_drains_already_drains_on_however_long_it_is_silent() -> None:
    row = replica("a", P.DRAINING, silent_since=NOW - 900)
    view = seen([row, replica("b")], answering=[stats("b")], details={"a": detail("a", state="Stopped")})
    assert look(view, LIMITS).replicas[0] == row


def test_a_server_that_was_started_again_has_the_whole_deadline_from_then() -> None:
    again = replica("a", P.STARTING, intended_at=NOW - 5000, phase_at=NOW - 899)
    assert only(seen([again])).phase is P.STARTING
    later = replica("a", P.STARTING, intended_at=NOW - 899, phase_at=NOW - 5000)
    assert only(seen([later])).phase is P.STARTING


def test_a_start_beyond_its_deadline_is_told_by_what_is_the_matter_with_its_container() -> None:
    row = replica("a", P.STARTING, intended_at=NOW - 900, phase_at=NOW - 900)
    told = detail("a", container_state="Waiting", detail="CrashLoopBackOff: x", exit_code=1, restart_count=1)
    after = only(seen([row], details={"a": told}))
    assert after.failure == "CrashLoop"
    assert after.because.startswith("not ready within 900 s, exit code 1, 1 restarts")
