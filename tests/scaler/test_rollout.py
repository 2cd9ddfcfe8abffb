"""A new version comes beside the old one, is judged against it, and is taken back when it is worse."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from scaler.config import RolloutText
from scaler.errors import BadSetting
from scaler.model import Latency, Phase, Replica, Stats
from scaler.observe import CLOCKS_APART_S
from scaler.rollout import (
    KEPT_VERSIONS,
    WAITS_LONG_S,
    Rollout,
    Version,
    View,
    advance,
    conditions,
    progress,
    read,
    retried,
    templates,
    undone,
    version_of,
)
from scaler.template import Template
from tests.builders import NOW, replica, stats
from tests.scaler.ticking import TEMPLATE

TERMS = RolloutText()
OLD, NEW = Version(hash="t0", image="m:1", at=NOW - 9000), Version(hash="t1", image="m:2", at=NOW)
RUNNING = Rollout(
    configured="t0",
    target="t0",
    good="t0",
    phase="steady",
    since=NOW - 9000,
    versions=(replace(OLD, good_at=NOW - 8000),),
)


def view(*replicas: Replica, at: float = NOW, failures: tuple[Replica, ...] = (), said: tuple[Stats, ...] = ()) -> View:
    return View(at=at, replicas=replicas, failures=failures, stats={s.replica: s for s in said})


def old(name: str, **changes: Any) -> Replica:
    return replica(name, template="t0", **changes)


def failed(code: str = "CrashLoop") -> Replica:
    return replica("bad", Phase.DELETING, template="t1", ready_at=None, failure=code, because="exit code 1")


def rolling(**changes: Any) -> Rollout:
    """A rollout from t0 to t1 that has just begun."""
    return replace(advance(RUNNING, NEW, view(old("a")), TERMS), **changes)


def compared(new: dict[str, Any], before: dict[str, Any], **terms: Any) -> Rollout:
    """Judged 60 s after the first new replica was ready, when both versions have said this of themselves."""
    at_gate = advance(
        rolling(), NEW, view(old("a"), replica("n"), said=(stats("a", completed_total=100), stats("n"))), TERMS
    )
    before = {"completed_total": 200, **before}
    said = (stats("a", **before), stats("n", **{"completed_total": 100, **new}))
    later = view(old("a"), replica("n"), at=NOW + 60, said=said)
    return advance(at_gate, NEW, later, RolloutText(**terms))


def test_the_first_version_is_good_once_it_was_ready_for_a_while() -> None:
    first = advance(None, NEW, view(), TERMS)
    assert (first.phase, first.target, first.good) == ("rolling", "t1", "")
    ready = advance(first, NEW, view(replica("a"), said=(stats("a"),)), TERMS)
    done = advance(ready, NEW, view(replica("a"), at=NOW + 30, said=(stats("a"),)), TERMS)
    assert (done.phase, done.good) == ("steady", "t1")


def test_a_changed_template_begins_a_rollout_and_nothing_is_proven_yet() -> None:
    begun = rolling()
    assert (begun.phase, begun.target, begun.good, begun.proven) == ("rolling", "t1", "t0", False)
    assert [v.hash for v in begun.versions] == ["t0", "t1"]
    assert progress(begun, [old("a")]) == "no replica of the new version is ready yet"


def test_a_new_replica_proves_itself_in_time_and_the_old_version_stays_in_the_history() -> None:
    after = compared({}, {})
    assert after.proven
    assert after.phase == "rolling"
    done = advance(after, NEW, view(replica("n"), at=NOW + 90, said=(stats("n", completed_total=200),)), TERMS)
    assert (done.phase, done.good) == ("steady", "t1")
    assert [(v.hash, v.good_at) for v in done.versions] == [("t0", NOW - 8000), ("t1", NOW + 90)]


def test_few_requests_prove_nothing_until_they_were_waited_for() -> None:
    waiting = compared({"completed_total": 19}, {})
    assert not waiting.proven
    said = (stats("a", completed_total=200), stats("n", completed_total=19))
    assert advance(waiting, NEW, view(old("a"), replica("n"), at=NOW + 120, said=said), TERMS).proven


def test_more_failed_requests_than_before_take_it_back() -> None:
    after = compared({"completed_total": 80, "failed_total": 20}, {})
    assert (after.phase, after.target) == ("returning", "t0")
    assert after.versions[-1].ended == "20% of its requests failed, of the old version's 0%"


def test_failures_that_both_versions_have_are_not_its_fault() -> None:
    assert compared({"completed_total": 80, "failed_total": 20}, {"completed_total": 180, "failed_total": 20}).proven


def test_failures_of_the_old_version_before_the_gate_opened_excuse_nothing() -> None:
    at_gate = advance(
        rolling(),
        NEW,
        view(old("a"), replica("n"), said=(stats("a", completed_total=100, failed_total=900), stats("n"))),
        TERMS,
    )
    said = (
        stats("a", completed_total=200, failed_total=900),
        stats("n", completed_total=80, failed_total=20),
    )
    assert advance(at_gate, NEW, view(old("a"), replica("n"), at=NOW + 60, said=said), TERMS).phase == "returning"


def test_requests_of_the_old_version_before_the_gate_opened_do_not_thin_its_failures_out() -> None:
    first = (stats("a", completed_total=10_000), stats("n"))
    at_gate = advance(rolling(), NEW, view(old("a"), replica("n"), said=first), TERMS)
    said = (stats("a", completed_total=10_080, failed_total=20), stats("n", completed_total=80, failed_total=20))
    assert advance(at_gate, NEW, view(old("a"), replica("n"), at=NOW + 60, said=said), TERMS).phase == "rolling"


@pytest.mark.parametrize(
    ("new_p95", "old_p95", "phase"),
    [(0.5, 0.2, "returning"), (0.39, 0.2, "rolling"), (0.05, 0.01, "rolling"), (None, 0.2, "rolling")],
)
def test_twice_the_latency_takes_it_back_where_that_is_more_than_noise(
    new_p95: float | None, old_p95: float, phase: str
) -> None:
    slow, quick = Latency(0.1, new_p95, 1.0), Latency(0.1, old_p95, 1.0)
    assert compared({"latency_s": slow}, {"latency_s": quick}).phase == phase


def test_a_version_whose_replicas_fail_is_taken_back_after_so_many_attempts() -> None:
    once = advance(rolling(), NEW, view(old("a"), failures=(failed(),)), TERMS)
    assert (once.phase, once.failed) == ("rolling", 1)
    twice = advance(once, NEW, view(old("a"), failures=(failed(),)), TERMS)
    assert (twice.phase, twice.target) == ("returning", "t0")
    (told, *_) = conditions(twice, {"t0"}, NOW)
    assert told.name == "rollout_returned"
    assert "2 replicas of it failed; the last: exit code 1" in told.message


def test_want_of_room_is_no_fault_of_the_version() -> None:
    after = advance(rolling(failed=1), NEW, view(old("a"), failures=(failed("ContainerGroupQuotaReached"),)), TERMS)
    assert (after.phase, after.failed) == ("rolling", 1)


def test_a_first_version_that_fails_has_nothing_to_return_to() -> None:
    first = advance(None, NEW, view(), TERMS)
    assert advance(replace(first, failed=5), NEW, view(failures=(failed(),)), TERMS).target == "t1"


def test_it_is_judged_until_the_last_old_replica_is_gone() -> None:
    said = (stats("a", completed_total=300), stats("n", completed_total=110, failed_total=90))
    after = advance(compared({}, {}), NEW, view(old("a"), replica("n"), at=NOW + 90, said=said), TERMS)
    assert after.phase == "returning"


def test_a_version_taken_back_is_not_tried_again_until_somebody_says_so() -> None:
    back = advance(rolling(failed=1), NEW, view(old("a"), failures=(failed(),)), TERMS)
    steady = advance(back, NEW, view(old("a")), TERMS)
    assert (steady.phase, steady.target) == ("steady", "t0")
    assert advance(steady, NEW, view(old("a")), TERMS).target == "t0"
    again = retried(steady, NOW, by="anna")
    assert (again.phase, again.target, again.failed, again.versions[-1].ended) == ("rolling", "t1", 0, "")


def test_another_template_after_a_bad_one_is_tried() -> None:
    back = advance(rolling(failed=1), NEW, view(old("a"), failures=(failed(),)), TERMS)
    third = advance(back, Version(hash="t2", image="m:3", at=NOW), view(old("a")), TERMS)
    assert (third.phase, third.target, third.good) == ("rolling", "t2", "t0")


def test_deploying_the_good_version_again_ends_the_rollout_at_once() -> None:
    back = advance(rolling(), OLD, view(old("a"), replica("n")), TERMS)
    assert (back.phase, back.target, back.proven) == ("returning", "t0", True)


def test_an_undo_goes_back_to_the_version_before() -> None:
    done = advance(compared({}, {}), NEW, view(replica("n"), at=NOW + 90, said=(stats("n"),)), TERMS)
    back = undone(done, NOW + 100, by="anna", reason="wrong labels")
    assert (back.phase, back.target, back.good) == ("returning", "t0", "t0")
    assert back.versions[-1].ended == "undone by anna: wrong labels"
    assert undone(rolling(), NOW, by="anna", reason="").target == "t0"


def test_an_undo_needs_something_to_go_back_to() -> None:
    with pytest.raises(BadSetting, match="no earlier version"):
        undone(RUNNING, NOW, by="anna", reason="")
    with pytest.raises(BadSetting, match="no version 'x'; the versions are: t0"):
        undone(RUNNING, NOW, by="anna", reason="", to="x")
    with pytest.raises(BadSetting, match="made from already"):
        undone(RUNNING, NOW, by="anna", reason="", to="t0")
    with pytest.raises(BadSetting, match="made from already"):
        retried(RUNNING, NOW, by="anna")


def test_a_clock_that_was_ahead_holds_no_rollout_up() -> None:
    ahead = rolling(since=NOW + 36_000, ready_since=NOW + 36_000)
    said = (stats("n", completed_total=100),)
    first = advance(ahead, NEW, view(old("a"), replica("n"), said=said), TERMS)
    assert first.ready_since == NOW
    assert advance(first, NEW, view(old("a"), replica("n"), at=NOW + 30, said=said), TERMS).proven


def test_a_row_that_cannot_be_read_is_as_none() -> None:
    assert read(None) is None
    assert read(b"\xc1") is None


# ---------------------------------------------------------------- versions of the past


def with_secret(image: str, *lines: str) -> Template:
    variables = "".join(f"\n          - {{name: {line}}}" for line in lines)
    text = TEMPLATE.replace("inference:1", image).replace(
        "        resources:", f"        environmentVariables:{variables}\n        resources:"
    )
    return Template.read(text, "replica.yaml")


def test_a_version_of_the_past_is_made_again_with_the_secrets_of_the_file() -> None:
    before = with_secret("inference:1", "A, value: plain", "KEY, secureValue: first-secret")
    now = with_secret("inference:2", "KEY, secureValue: second-secret")
    assert b"first-secret" not in before.bare()
    rolled = rolling(
        good=before.hash,
        target=now.hash,
        versions=(Version(hash=before.hash, image=before.image, at=NOW, body=before.bare()),),
    )
    made = templates(rolled, now)
    body = made[before.hash].request("n", service="iris", deployment_id="d", region="westeurope").body
    assert b"inference:1" in body
    assert b"second-secret" in body
    assert b"plain" in body
    assert before.hash.encode() in body
    assert made[now.hash] is now


def test_a_version_whose_secret_is_nowhere_cannot_be_made_and_that_is_said() -> None:
    before, now = with_secret("inference:1", "KEY, secureValue: x"), with_secret("inference:2", "OTHER, value: y")
    assert now.restored(before.bare(), before.hash) is None
    assert now.restored(b"damaged", before.hash) is None
    told = [c.name for c in conditions(replace(RUNNING, target="gone"), {"t0"}, NOW)]
    assert "version_lost" in told


def test_versions_that_cannot_be_made_any_more_are_left_out() -> None:
    """One whose secret the file no longer has, one that was kept without a body, and one that nobody knows."""
    before, now = with_secret("inference:1", "KEY, secureValue: x"), with_secret("inference:2", "OTHER, value: y")
    lost = Version(hash=before.hash, image=before.image, at=NOW, body=before.bare())
    for version in (lost, replace(lost, body=b""), replace(lost, hash="another")):
        rolled = rolling(good=before.hash, target=now.hash, versions=(version,))
        assert templates(rolled, now) == {now.hash: now}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phase": "steady"}, "nothing to do"),
        ({"phase": "returning"}, "1 replicas of the other version are still to go"),
        ({"ready_since": None}, "no replica of the new version is ready yet"),
        ({"ready_since": NOW}, "the new version is compared with the old one"),
        ({"ready_since": NOW, "proven": True}, "1 replicas of the old version are still to be replaced"),
    ],
)
def test_how_far_it_is_is_said_in_one_sentence(changes: dict[str, Any], said: str) -> None:
    assert progress(rolling(**changes), [old("a"), replica("n")]) == said


def test_a_rollout_that_waits_for_long_says_what_for() -> None:
    waits = rolling(ready_since=None)
    assert [c.name for c in conditions(waits, ["t0", "t1"], NOW + 1e6)] == ["rollout_waits"]
    assert conditions(waits, ["t0", "t1"], NOW) == []


# ---------------------------------------------------------------- faults that no test saw


def test_a_row_is_read_as_it_was_packed_and_a_version_is_what_its_template_says() -> None:
    assert read(msgspec.msgpack.encode(RUNNING)) == RUNNING
    template = with_secret("inference:1", "A, value: plain")
    made = version_of(template, NOW)
    assert (made.hash, made.image, made.at, made.body) == (template.hash, template.image, NOW, template.bare())


def test_times_a_little_ahead_are_another_clock_and_stay() -> None:
    for ahead_s in (CLOCKS_APART_S, CLOCKS_APART_S + 1):
        before = rolling(since=NOW - 900, ready_since=NOW + ahead_s)
        after = advance(before, NEW, view(old("a"), replica("n")), TERMS)
        assert after.ready_since == (NOW + ahead_s if ahead_s == CLOCKS_APART_S else NOW)
        assert after.since == NOW - 900
    begun = advance(rolling(since=NOW + 36_000), NEW, view(old("a")), TERMS)
    assert (begun.since, begun.ready_since) == (NOW, None)


def test_a_version_that_comes_again_stands_once_among_the_versions_and_says_why() -> None:
    third = Version(hash="t2", image="m:3", at=NOW)
    there = advance(rolling(), third, view(old("a")), TERMS)
    assert there.because == "the template changed"
    again = advance(there, NEW, view(old("a")), TERMS)
    assert [v.hash for v in again.versions] == ["t0", "t2", "t1"]
    assert advance(again, OLD, view(old("a")), TERMS).because == "the template file names this version again"


def test_the_newest_versions_are_kept_and_the_good_one_however_old() -> None:
    now = RUNNING
    for i in range(KEPT_VERSIONS + 3):
        now = advance(now, Version(hash=f"v{i}", image="m", at=NOW), view(old("a")), TERMS)
    names = [v.hash for v in now.versions]
    assert names == ["t0", *(f"v{i}" for i in range(3, KEPT_VERSIONS + 3))]


def test_a_replica_that_only_starts_proves_nothing_and_one_that_is_gone_ends_the_gate() -> None:
    starting = advance(rolling(), NEW, view(old("a"), replica("n", Phase.STARTING)), TERMS)
    assert starting.ready_since is None
    at_gate = advance(rolling(failed=1), NEW, view(old("a"), replica("n"), said=(stats("a"), stats("n"))), TERMS)
    assert (at_gate.ready_since, at_gate.failed, list(at_gate.before)) == (NOW, 0, ["a"])
    assert advance(at_gate, NEW, view(old("a"), at=NOW + 15), TERMS).ready_since is None


def test_only_ready_old_replicas_that_answer_are_measured_against() -> None:
    rows = (old("a"), old("b"), old("c", phase=Phase.DRAINING), replica("n"))
    gate = advance(rolling(), NEW, view(*rows, said=(stats("a"), stats("c"), stats("n"))), TERMS)
    assert list(gate.before) == ["a"]


def test_exactly_enough_requests_are_enough_failed_ones_included() -> None:
    assert compared({"completed_total": 19, "failed_total": 1}, {}, min_requests=20, error_margin=0.5).proven
    assert compared({"completed_total": 10, "failed_total": 10}, {}, min_requests=20).phase == "returning"
    assert compared({"completed_total": 0, "failed_total": 1}, {}, min_requests=0).phase == "returning"
    assert compared({"completed_total": 0, "failed_total": 0}, {}, min_requests=0).phase == "rolling"


def test_who_is_worse_by_exactly_the_margin_is_not_worse() -> None:
    assert compared({"completed_total": 75, "failed_total": 25}, {}, error_margin=0.25).phase == "rolling"
    slow, quick = Latency(0.1, 0.5, 1.0), Latency(0.1, 0.25, 1.0)
    assert compared({"latency_s": slow}, {"latency_s": quick}, latency_ratio=2.0).phase == "rolling"


def test_an_old_version_without_requests_has_no_failures_to_excuse_others() -> None:
    told = compared({"completed_total": 80, "failed_total": 20}, {"completed_total": 100})
    assert told.versions[-1].ended == "20% of its requests failed, of the old version's 0%"
    one = compared({"completed_total": 50, "failed_total": 50}, {"completed_total": 101, "failed_total": 1})
    assert one.phase == "rolling"
    shown = compared({"completed_total": 30, "failed_total": 70}, {"completed_total": 160, "failed_total": 40})
    assert shown.versions[-1].ended == "70% of its requests failed, of the old version's 40%"


def test_what_is_taken_back_is_proven_and_what_is_tried_again_is_not() -> None:
    back = undone(rolling(), NOW, by="anna", reason="")
    assert back.proven is True
    assert retried(back, NOW, by="anna").proven is False


def test_an_undo_takes_the_last_of_the_versions_that_ran_well() -> None:
    versions = (
        Version(hash="a", image="m", at=1.0, good_at=5.0),
        Version(hash="b", image="m", at=2.0, good_at=9.0),
        Version(hash="c", image="m", at=3.0, good_at=20.0),
    )
    done = replace(RUNNING, configured="c", target="c", good="c", versions=versions)
    assert undone(done, NOW, by="anna", reason="").target == "b"


def test_a_rollout_waits_long_from_then_on() -> None:
    waits = rolling(ready_since=None)
    assert [c.name for c in conditions(waits, ["t0", "t1"], waits.since + WAITS_LONG_S)] == ["rollout_waits"]


def test_how_many_are_left_counts_the_others() -> None:
    rows = [old("a"), old("b"), replica("n")]
    assert progress(rolling(phase="returning"), rows) == "2 replicas of the other version are still to go"


def test_one_failed_request_of_the_old_version_is_all_that_is_known_of_it() -> None:
    assert compared({"completed_total": 80, "failed_total": 20}, {"completed_total": 100, "failed_total": 1}).proven
    assert advance(None, NEW, view(), TERMS).proven is False
