"""Totals that only grow, and the events that a tick tells of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from scaler.conditions import condition
from scaler.errors import Unavailable
from scaler.happened import KEPT, KEPT_S, Happened, View, events, waiting
from scaler.model import Decision, Observation, Pin
from scaler.tally import START_BOUNDS_S, Ended, added, lateness
from scaler.tick.ticked import Ticked
from tests.scaler.ticking import Ticking

SEEN = Observation(at=100.0, window_s=10.0, ready=2, starting=1, arrivals=30.0, completed=20.0, queued=4.0)
DECISION = Decision(desired=3, limited_by=None, because="3 replicas.")


def ended(seen: Observation = SEEN, decision: Decision = DECISION, before: int | None = 2) -> Ended:
    return Ended(decision=decision, desired_before=before, seen=seen, calls={"list ok": 1}, slo_wait_s=5.0)


def test_totals_grow_with_each_tick() -> None:
    capped = replace(DECISION, desired=1, limited_by="max")
    tally = added(added(None, ended()), ended(decision=capped, before=3))
    assert (tally.since, tally.ticks, tally.raised, tally.lowered) == (100.0, 2, 1, 1)
    assert tally.decisions == {"demand": 1, "max": 1}
    assert tally.calls == {"list ok": 2}
    assert tally.arrivals == 60.0
    assert tally.replica_s == 60.0


def test_a_start_counts_in_the_bucket_that_its_bound_closes() -> None:
    tally = added(None, ended(replace(SEEN, cold_starts_s=(5.0, 5.1, 1000.0))))
    assert [tally.starts[0], tally.starts[1], tally.starts[-1]] == [1, 1, 1]
    assert len(tally.starts) == len(START_BOUNDS_S) + 1
    assert tally.starts_s == 1010.1


def test_arrivals_are_late_while_the_queue_takes_longer_than_the_objective() -> None:
    assert lateness(SEEN, 5.0) == 0.0  # 4 at 2 a second: 2 s
    assert lateness(replace(SEEN, queued=11.0), 5.0) == 30.0
    assert lateness(replace(SEEN, queued=1.0, completed=0.0), 5.0) == 30.0
    assert lateness(replace(SEEN, queued=None), 5.0) == 0.0


def test_one_tick_alone_is_counted_exactly() -> None:
    seen = replace(SEEN, window_s=0.5, draining=1, queued=11.0, cold_starts_s=(7.0,))
    tally = added(None, ended(seen, before=3))
    assert (tally.raised, tally.lowered) == (0, 0)
    assert (tally.arrivals, tally.starts_s, tally.late, tally.replica_s) == (30.0, 7.0, 0.0, 2.0)
    nothing = added(None, ended(replace(SEEN, arrivals=None)))
    assert (nothing.arrivals, nothing.starts_s, nothing.late) == (0.0, 0.0, 0.0)


def test_late_arrivals_add_up() -> None:
    jam = replace(SEEN, queued=11.0)
    assert added(added(None, ended(jam)), ended(jam)).late == 60.0


def test_stored_totals_mean_these_buckets() -> None:
    assert START_BOUNDS_S == (5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0)


def test_who_waits_exactly_as_long_as_the_objective_is_in_time() -> None:
    assert lateness(replace(SEEN, queued=10.0), 5.0) == 0.0


def test_lateness_of_short_windows_and_single_answers() -> None:
    assert lateness(replace(SEEN, window_s=0.0, completed=0.0), 5.0) == 0.0
    assert lateness(replace(SEEN, window_s=1.0, completed=0.0), 5.0) == 30.0
    assert lateness(replace(SEEN, window_s=1.0, completed=1.0, queued=2.0), 5.0) == 0.0
    assert lateness(replace(SEEN, window_s=1.0, completed=0.0, queued=1.0), 5.0) == 30.0


STILL = View(at=5.0, decision=DECISION, pin=None, conditions=(), rolled=None)


def told(before: View | None, after: View) -> list[tuple[str, Any]]:
    found = events("iris", before, after, "timer")
    return [(e.type, {key: value for key, value in e.data.items() if key != "service"}) for e in found]


def test_an_event_says_whose_pin_began_or_ended_and_between_what() -> None:
    pin = Pin(min=1, max=3, since=0.0, until=9.0, actor="anna", reason="launch")
    began = {"min": 1, "max": 3, "until": 9.0, "actor": "anna", "reason": "launch"}
    assert told(STILL, replace(STILL, pin=pin)) == [("pinned", began)]
    assert told(replace(STILL, pin=pin), STILL) == [("unpinned", {"min": 1, "max": 3, "actor": "anna"})]


def test_a_condition_is_told_when_it_begins_and_when_it_ends_and_not_between() -> None:
    one, other = condition("blind", 1.0, about="Azure"), condition("quota", 1.0, about="westeurope", said="100 of 100")
    whole = {
        "name": "quota",
        "about": "westeurope",
        "severity": "error",
        "message": other.message,
        "remedy": other.remedy,
    }
    assert told(replace(STILL, conditions=(one,)), replace(STILL, conditions=(one, other))) == [
        ("condition.raised", whole)
    ]
    cleared = [("condition.cleared", {"name": "blind", "about": "Azure"})]
    assert told(replace(STILL, conditions=(one, other)), replace(STILL, conditions=(other,))) == cleared


class Recorder:
    """A courier that keeps what it is given, and says that it was taken when told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[Happened, ...]] = []
        self.taken: list[str] = []

    def send(self, service: str, events: Sequence[Happened]) -> None:
        assert service == "iris"
        self.sent.append(tuple(events))

    def delivered(self) -> Sequence[str]:
        return self.taken


async def test_the_calls_of_every_tick_are_counted_once_those_after_the_save_too() -> None:
    ticking, watched = Ticking(), list[Ticked]()
    ticking.scaler.world = replace(ticking.scaler.world, watch=watched.append)
    await ticking.pin(1)
    for _ in range(6):
        await ticking.tick()
    ticking.world.faults.add("list", Unavailable("no answer"))
    await ticking.tick()
    await ticking.tick()
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert memory.tally is not None
    told: dict[str, int] = {}
    for ticked in watched[:-1]:
        for key, count in ticked.calls.items():
            told[key] = told.get(key, 0) + count
    assert told["list failed"] == memory.tally.calls["list failed"] == 1
    assert told["create ok"] == memory.tally.calls["create ok"] == 1
    # The last tick's own save and record are not in what that save wrote.
    last = watched[-1].calls
    assert memory.tally.calls["table ok"] == told["table ok"] + last["table ok"] - 2
    assert memory.tally.ticks == 8
    assert [s.name for s in watched[0].stretches] == ["load", "observe", "decide", "save", "act", "record"]


async def test_events_are_told_until_they_are_taken() -> None:
    ticking, courier = Ticking(), Recorder()
    ticking.scaler.world = replace(ticking.scaler.world, courier=courier)
    await ticking.tick()
    await ticking.world.store.write_pin(
        "iris", Pin(min=2, max=2, since=ticking.world.clock(), actor="anna", reason="launch"), etag=None
    )
    await ticking.tick()
    types = [e.type for e in courier.sent[-1]]
    assert types == ["rollout.rolling", "scaled", "pinned"]
    assert courier.sent[-1][1].data["to"] == 2
    assert courier.sent[-1][2].data["reason"] == "launch"
    courier.taken = [e.id for e in courier.sent[-1]]
    await ticking.world.store.remove_pin("iris", etag=None)
    ticking.world.faults.add("list", Unavailable("no answer"))
    await ticking.tick()
    kinds = {e.type: e.data for e in courier.sent[-1]}
    assert kinds["unpinned"]["actor"] == "anna"
    assert kinds["condition.raised"]["name"] == "blind"
    await ticking.tick()
    assert "condition.cleared" in {e.type for e in courier.sent[-1]}


def test_what_nobody_takes_is_given_up_after_a_while_and_never_grows_without_end() -> None:
    old = [Happened(id=str(i), type="scaled", at=float(i), data={}) for i in range(KEPT + 9)]
    assert len(waiting(old, (), (), 60.0)) == KEPT
    assert waiting(old, (), (), 10_000.0) == ()
    assert waiting(old[:1], (), (), KEPT_S) == ()
    assert [e.id for e in waiting(old[:3], (), ["1"], 5.0)] == ["0", "2"]
