"""Conditions have a name, a grade, a meaning and a remedy; the page lists them all."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from scaler import memory
from scaler.conditions import CAUSES, KINDS, blames_template, cause, condition, container_trouble, happened
from scaler.decide import State
from scaler.foresight.ahead import Ahead
from scaler.foresight.history import Block, History
from scaler.measure import Totals
from scaler.memory import Backoff
from scaler.model import Condition, Observation, Phase, Pin, Replica
from scaler.observe import CLOCKS_APART_S, RETRY_LONGEST_S, Limits, adopted, look
from tests.builders import NOW, detail, front, group, replica, seen, stats

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "conditions.md").read_text(encoding="utf-8")
LIMITS = Limits(start_deadline_s=900.0, unhealthy_after_s=60.0)
CRASHING = "CrashLoopBackOff: Back-off restarting failed"


def table() -> str:
    """The table of the page as it should be."""
    rows = [f"| `{name}` | {k.severity} | {k.meaning} | {k.remedy} |" for name, k in KINDS.items()]
    return "\n".join(["| name | severity | meaning | what to do |", "|---|---|---|---|", *rows])


def test_the_page_lists_every_condition() -> None:
    assert table() in PAGE, f"docs/conditions.md should hold:\n{table()}"


def test_every_code_leads_to_a_condition_that_there_is() -> None:
    assert set(CAUSES.values()) <= set(KINDS)


@pytest.mark.parametrize(
    ("code", "said", "name"),
    [
        ("InaccessibleImage", "x is not accessible. Please check the image and registry credential.", "image_pull"),
        ("InaccessibleImage", "Failed to pull image: 401 unauthorized", "registry_credentials"),
        ("RegistryErrorResponse", "toomanyrequests", "registry_failure"),
        ("ContainerGroupQuotaReached", "", "quota"),
        ("ServiceUnavailable", "", "no_capacity"),
        ("SubscriptionRequestsThrottled", "", "throttled"),
        ("HTTP 429", "", "throttled"),
        ("InvalidRequestContent", "", "refused"),
    ],
)
def test_an_error_code_of_azure_has_a_meaning(code: str, said: str, name: str) -> None:
    assert cause(code, said) == name


def test_a_message_says_what_it_is_about_what_it_means_and_what_was_seen() -> None:
    told = condition("no_capacity", NOW, about="westeurope", said="2 CPU 4 GB")
    assert told.message == "westeurope: Azure has no room there for a replica of this size: 2 CPU 4 GB."
    assert told.severity == "warning"
    assert told.remedy.endswith(".")


def test_a_remedy_is_a_whole_sentence_with_one_stop() -> None:
    for name, kind in KINDS.items():
        stop = "" if kind.remedy.endswith(("?", ".")) else "."
        assert condition(name, NOW, about="a").remedy == kind.remedy + stop


def test_a_template_is_blamed_for_what_another_region_would_not_mend() -> None:
    assert blames_template("CrashLoop") is True
    assert blames_template("ContainerGroupQuotaReached") is False


def test_a_kill_needs_an_end_and_a_failed_pull_needs_both_words() -> None:
    assert container_trouble(detail("a", container_state="Terminated", exit_code=137)) is not None
    assert container_trouble(detail("a", container_state="Running", exit_code=137)) is None
    assert container_trouble(detail("a", events=("Failed: the container ended",))) is None
    assert container_trouble(detail("a", events=("Pulling: image x",))) is None


def given_up(**told: object) -> tuple[str, str]:
    """Name and phase for a replica that starts and whose group says this."""
    row = replica("a", Phase.STARTING, intended_at=NOW - 100, phase_at=NOW - 100)
    fleet = look(seen([row], details={"a": detail("a", **told)}), LIMITS)
    return (fleet.conditions[0].name if fleet.conditions else ""), fleet.replicas[0].phase.value


def test_a_container_that_crashes_again_and_again_is_given_up_long_before_the_deadline() -> None:
    assert given_up(container_state="Waiting", detail=CRASHING, exit_code=1, restart_count=2) == ("", "starting")
    told = given_up(container_state="Waiting", detail=CRASHING, exit_code=1, restart_count=3)
    assert told == ("crash_loop", "deleting")


def test_a_container_that_is_killed_again_and_again_needs_memory() -> None:
    told = given_up(container_state="Waiting", detail=CRASHING, exit_code=137, restart_count=3)
    assert told == ("out_of_memory", "deleting")


def test_what_is_wrong_is_said_before_the_replica_is_given_up() -> None:
    trouble = container_trouble(detail("a", container_state="Waiting", detail=CRASHING, exit_code=1, restart_count=1))
    assert trouble == ("CrashLoop", "exit code 1, 1 restarts")
    assert container_trouble(detail("a", events=("Failed: Failed to pull image x: not found",))) is not None
    assert container_trouble(detail("a")) is None
    assert container_trouble(None) is None


@pytest.mark.parametrize(("state", "name"), [("Running", "wrong_port"), ("Waiting", "slow_start")])
def test_what_runs_and_never_answers_listens_elsewhere(state: str, name: str) -> None:
    row = replica("a", Phase.STARTING, intended_at=NOW - 900, phase_at=NOW - 900)
    fleet = look(seen([row], details={"a": detail("a", container_state=state)}), LIMITS)
    assert [c.name for c in fleet.conditions] == [name]


def shown(**changes: object) -> dict[str, Condition]:
    """The conditions of a service with one ready replica, by name."""
    before = changes.pop("before", ())
    backoff = changes.pop("backoff", {})
    view = seen([replica("a")], answering=[stats("a")])
    view = replace(view, **changes)
    fleet = look(view, LIMITS)
    return {c.name: c for c in memory.conditions(before, fleet, backoff, view, ["westeurope"])}  # type: ignore[arg-type]


def test_nothing_is_the_matter_with_a_service_at_rest() -> None:
    assert shown() == {}


def test_what_is_not_known_is_a_condition() -> None:
    assert set(shown(groups=None)) == {"blind"}
    assert set(shown(stats={})) == {"unanswered"}
    assert set(shown(front=front(at=NOW - 61))) == {"front_silent"}


def test_a_region_that_waits_says_why_and_that_nowhere_is_left() -> None:
    wait = Backoff(until=NOW + 30, failures=1, because="Limit: '10', Usage: '10'", code="ContainerGroupQuotaReached")
    told = shown(backoff={"westeurope": wait})
    assert set(told) == {"quota", "nowhere"}
    assert "the next try is in 30 s" in told["quota"].message


def test_a_wait_that_a_clock_ahead_of_ours_wrote_is_forgotten() -> None:
    waits = {"westeurope": Backoff(until=NOW + 36_000, failures=9, because="x", code="ContainerGroupQuotaReached")}
    fleet = look(seen([]), LIMITS)
    assert memory.next_backoff(waits, fleet, NOW) == {}
    for until in (NOW + 600, NOW + RETRY_LONGEST_S + CLOCKS_APART_S):  # the longest, by a clock that is a little ahead
        waits = {"westeurope": Backoff(until=until, failures=9, because="x", code="ContainerGroupQuotaReached")}
        assert memory.next_backoff(waits, fleet, NOW) == waits


def test_a_wait_that_azure_asked_for_is_ended_by_no_start_that_succeeds_meanwhile() -> None:
    own = Backoff(until=NOW + 600, failures=9, because="x", code="ServiceUnavailable")
    asked = replace(own, retry_at=NOW + 120)
    fleet = look(seen([replica("a", Phase.STARTING)], stats={"a": stats("a")}), LIMITS)
    assert memory.next_backoff({"westeurope": own}, fleet, NOW) == {}
    assert memory.next_backoff({"westeurope": asked}, fleet, NOW)["westeurope"].until == NOW + 120


def test_what_is_taken_over_ends_no_wait_for_it_started_before() -> None:
    own = Backoff(until=NOW + 600, failures=9, because="x", code="ServiceUnavailable")
    stray = adopted(group("a"), 8000, NOW)
    fleet = look(seen([stray], stats={"a": stats("a")}), LIMITS)
    assert [r.phase for r in fleet.replicas] == [Phase.READY]
    assert memory.next_backoff({"westeurope": own}, fleet, NOW) == {"westeurope": own}


def test_a_further_failure_does_not_shorten_a_wait_that_azure_asked_for() -> None:
    asked = Backoff(until=NOW + 120, failures=0, because="x", code="ServiceUnavailable", retry_at=NOW + 120)
    refused = replica("a", Phase.CREATING, failure="ServiceUnavailable", ready_at=None)
    fleet = look(seen([refused], groups={}, details={"a": None}), LIMITS)
    assert fleet.failures == (refused,)
    assert memory.next_backoff({"westeurope": asked}, fleet, NOW)["westeurope"].until == NOW + 120


def test_what_fails_together_is_one_failure_and_waits_as_long_as_azure_asks_at_most() -> None:
    refused = [
        replica(name, Phase.CREATING, failure="ServiceUnavailable", ready_at=None, retry_at=at)
        for name, at in (("a", None), ("b", NOW + 40), ("c", NOW + 25))
    ]
    fleet = look(seen(refused, groups={}, details={"a": None, "b": None, "c": None}), LIMITS)
    assert len(fleet.failures) == 3
    wait = memory.next_backoff({}, fleet, NOW)["westeurope"]
    assert (wait.failures, wait.until) == (1, NOW + 40)


def test_a_repair_is_said_while_it_lasts() -> None:
    assert set(shown(groups={"a": group("a", provisioning_state="Repairing")})) == {"repairing"}


def test_what_holds_keeps_its_beginning_and_what_happened_is_shown_for_a_while() -> None:
    old = condition("blind", NOW - 500, about="Azure")
    assert shown(groups=None, before=[old])["blind"].since == NOW - 500
    assert set(shown(before=[happened("vanished", NOW - 899, about="b")])) == {"vanished"}
    assert shown(before=[happened("vanished", NOW - 900, about="b")]) == {}
    assert shown(before=[old]) == {}


def test_a_replica_that_still_starts_is_shown_with_what_azure_says_is_wrong() -> None:
    row = replica("a", Phase.STARTING)
    told = {"a": detail("a", events=("Failed: could not pull image x",))}
    view = seen([row], details=told)
    found = memory.conditions((), look(view, LIMITS), {}, view, [])
    assert [(c.name, c.about) for c in found] == [("image_pull", "a")]


@pytest.mark.parametrize(
    ("row", "listed", "name"),
    [
        (replica("a", Phase.CREATING, phase_at=NOW - 119), False, []),
        (replica("a", Phase.CREATING, phase_at=NOW - 120), False, ["azure_fails"]),
        (replica("a", Phase.DELETING, phase_at=NOW - 119), True, []),
        (replica("a", Phase.DELETING, phase_at=NOW - 120), True, ["azure_fails"]),
        (replica("a", Phase.DELETING, phase_at=NOW - 9, retry_at=NOW + 50), True, ["throttled"]),
        (replica("a", Phase.DELETING, phase_at=NOW - 9, retry_at=NOW), True, []),
    ],
)
def test_what_azure_puts_off_or_does_not_carry_out_is_said(row: Replica, listed: bool, name: list[str]) -> None:
    view = seen([row], groups={"a": group("a")} if listed else {})
    found = memory.conditions((), look(view, LIMITS), {}, view, [])
    assert [c.name for c in found if c.until is None] == name
    blind = seen([row], groups=None)
    assert "azure_fails" not in [c.name for c in memory.conditions((), look(blind, LIMITS), {}, blind, [])]


@pytest.mark.parametrize(("failures", "wait_s"), [(0, 15), (1, 30), (2, 60), (5, 480), (6, 600), (9, 600)])
def test_each_failure_in_a_row_doubles_the_wait_up_to_ten_minutes(failures: int, wait_s: float) -> None:
    refused = replica("a", Phase.CREATING, failure="ServiceUnavailable", because="full", ready_at=None)
    before = Backoff(until=NOW - 1, failures=failures, because="x", code="ServiceUnavailable")
    fleet = look(seen([refused], groups={}, details={"a": None}), LIMITS)
    after = memory.next_backoff({"westeurope": before} if failures else {}, fleet, NOW)
    assert after == {
        "westeurope": Backoff(
            until=NOW + wait_s, failures=failures + 1, because="full", code="ServiceUnavailable", retry_at=0.0
        )
    }


def test_a_wait_is_remembered_for_as_long_as_the_longest_after_it_ended_and_holds_nothing_up() -> None:
    fleet = look(seen([]), LIMITS)
    for ended_s, kept in ((0, True), (599, True), (600, False)):
        waits = {"westeurope": Backoff(until=NOW - ended_s, failures=2, because="x")}
        assert memory.next_backoff(waits, fleet, NOW) == (waits if kept else {})
        assert not memory.waits(waits, "westeurope", NOW)


@pytest.mark.parametrize(("retry_at", "kept"), [(NOW, False), (NOW + 1, True)])
def test_after_a_start_that_succeeded_only_what_azure_asked_for_and_is_not_over_is_waited_for(
    retry_at: float, kept: bool
) -> None:
    before = Backoff(until=NOW + 600, failures=4, because="x", retry_at=retry_at)
    fleet = look(seen([replica("a", Phase.STARTING)], answering=[stats("a")]), LIMITS)
    after = replace(before, until=retry_at, failures=0)
    assert memory.next_backoff({"westeurope": before}, fleet, NOW) == ({"westeurope": after} if kept else {})


def test_a_region_that_asks_for_a_wait_gets_it_and_no_longer_one_is_shortened() -> None:
    def waits(row: Replica, before: dict[str, Backoff]) -> dict[str, Backoff]:
        return memory.next_backoff(before, look(seen([row], groups={}), LIMITS), NOW)

    row = replica("a", Phase.CREATING, phase_at=NOW - 1, retry_at=NOW + 50, because="503")
    asked = Backoff(until=NOW + 50, failures=0, because="503", code="InternalServerError", retry_at=NOW + 50)
    assert waits(row, {}) == {"westeurope": asked}
    assert waits(replace(row, retry_at=NOW), {}) == {}
    longer = replace(asked, until=NOW + 600, retry_at=NOW + 70)
    assert waits(row, {"westeurope": longer}) == {"westeurope": longer}
    shorter = replace(asked, until=NOW + 5, retry_at=NOW + 5)
    assert waits(row, {"westeurope": shorter}) == {"westeurope": asked}


def test_no_more_than_there_are_can_be_had_only_where_every_region_is_full() -> None:
    full = Backoff(until=NOW + 30, failures=1, because="x", code="ServiceUnavailable")
    rows = [replica("a"), replica("b", Phase.DELETING), replica("c", Phase.DELETING)]
    both = {"westeurope": full, "northeurope": full}
    assert memory.room(both, (), list(both), rows, NOW) == 1
    assert memory.room({"westeurope": full}, (), list(both), rows, NOW) is None


def test_of_two_regions_one_that_waits_is_not_nowhere_and_each_wait_says_what_it_is_about() -> None:
    wait = Backoff(until=NOW + 30, failures=1, because="x", code="ServiceUnavailable")
    view = seen([])
    backoff = {"westeurope": wait, memory.POOL: wait, "t1": wait}
    found = memory.conditions((), look(view, LIMITS), backoff, view, ["westeurope", "northeurope"])
    assert {c.about for c in found} == {"westeurope", memory.POOL, "version t1"}
    assert "nowhere" not in {c.name for c in found}


@pytest.mark.parametrize(
    ("code", "about"), [("InvalidRequestContent", "version t1"), ("ContainerGroupQuotaReached", "westeurope")]
)
def test_a_group_that_was_never_made_is_told_by_what_kept_it(code: str, about: str) -> None:
    refused = replica("a", Phase.CREATING, failure=code, ready_at=None)
    view = seen([refused], groups={}, details={"a": None})
    found = memory.conditions((), look(view, LIMITS), {}, view, [])
    assert [c.about for c in found] == [about]


def test_what_is_over_to_the_second_or_in_order_is_not_the_matter() -> None:
    assert shown(list_at=NOW, show_at=NOW) == {}
    assert shown(front=front(at=NOW - 60)) == {}
    assert shown(groups={}) == {}
    assert set(shown(before=[happened("vanished", NOW, about="b")])) == {"vanished"}
    view = seen([replica("a"), replica("b")], answering=[stats("b")])
    assert memory.conditions((), look(view, LIMITS), {}, view, []) == ()


def test_of_what_happened_the_newest_twenty_are_shown() -> None:
    view = seen([])
    before = [happened("vanished", NOW - 1, about=f"r{i}") for i in range(25)]
    found = memory.conditions(before, look(view, LIMITS), {}, view, [])
    assert [c.about for c in found] == [f"r{i}" for i in range(5, 25)]


def test_who_is_being_deleted_hides_no_trouble_of_the_others() -> None:
    rows = [replica("a", Phase.DELETING, phase_at=NOW - 1), replica("b", Phase.STARTING)]
    view = seen(rows, details={"b": detail("b", events=("Failed: could not pull image x",))})
    found = memory.conditions((), look(view, LIMITS), {}, view, [])
    assert [(c.name, c.about) for c in found] == [("image_pull", "b")]


def remembered(at: float = NOW, pin: Pin | None = None, **changes: Any) -> memory.Memory:
    observation = Observation(at=at, window_s=15.0, ready=0, starting=0, pin=pin)
    return memory.Memory(at=at, state=State(), totals=Totals(at=at), observation=observation, **changes)


@pytest.mark.parametrize(("until", "told"), [(None, ["pinned"]), (NOW + 1, ["pinned"]), (NOW, [])])
def test_a_pin_is_told_of_once_while_it_is_in_force(until: float | None, told: list[str]) -> None:
    pinned = remembered(pin=Pin(min=1, max=1, since=0.0, until=until))
    found = memory.told_of("iris", None, pinned, "timer", ())
    assert [event.type for event in found] == told
    assert memory.told_of("iris", pinned, pinned, "timer", ()) == ()
    assert memory.told_of("iris", None, replace(remembered(), observation=None), "timer", ()) == ()
    waits = remembered(at=NOW + 1, outbox=found)
    assert memory.told_of("iris", waits, waits, "timer", ()) == found
    assert memory.told_of("iris", waits, waits, "timer", [event.id for event in found]) == ()


def test_a_block_that_was_known_is_no_new_one() -> None:
    one, two, three = (Block(number=i, bin_s=15.0, rates=b"", digest=bytes([i])) for i in range(3))

    def state(*blocks: Block) -> State:
        return State(ahead=Ahead(history=History(bin_s=15.0, blocks=blocks)))

    assert memory.new_blocks(state(one), state(one, two, three)) == (two, three)
    assert memory.new_blocks(state(one, two), state(one, two)) == ()
    assert memory.new_blocks(None, state(one)) == (one,)
