from typing import Any

from msgspec.structs import replace

from scaler.measure import FRONT_SILENT_S, MIN_WINDOW_S, Counter, Measures, Totals, measure, observation, replica_data
from scaler.measure import quality as quality_of
from scaler.model import Front, Observation, Phase
from scaler.observe import Fleet, Limits, Seen, look
from tests.builders import NOW, front, replica, seen, stats

LIMITS = Limits(start_deadline_s=900.0, unhealthy_after_s=60.0)
P = Phase


# ---------------------------------------------------------------- totals


def measured(view: Seen, before: dict[str, Counter] | None = None, held: Front | None = None) -> Measures:
    totals = None if before is None else Totals(at=NOW - 10, counters=before, front=held)
    return measure(totals, view, [r.name for r in view.replicas])


def counter(name: str, **changes: Any) -> Counter:
    plain = Counter(start_id=f"start-{name}", at=NOW - 10, arrivals=100, completed=90, busy_s=50.0)
    return replace(plain, **changes)


def test_counts_are_differences_of_totals() -> None:
    now = stats("a", arrivals_total=130, completed_total=115, failed_total=1, busy_seconds_total=75.0, queued=2)
    out = measured(seen([replica("a")], answering=[now]), {"a": counter("a")})
    assert (out.arrivals, out.completed, out.in_flight, out.queued) == (30, 26, 2.5, 2)


def test_a_restart_counts_from_its_start() -> None:
    now = stats("a", start_id="second", arrivals_total=7, in_flight=3)
    out = measured(seen([replica("a")], answering=[now]), {"a": counter("a")})
    assert (out.arrivals, out.in_flight) == (7, 3)


def test_the_very_first_tick_knows_no_counts() -> None:
    out = measured(seen([replica("a")], answering=[stats("a", arrivals_total=5000)]))
    assert out.arrivals is None
    assert out.totals.counters["a"].arrivals == 5000


def test_nobody_answering_is_unknown_and_not_zero() -> None:
    out = measured(seen([replica("a")]), {"a": counter("a")})
    assert (out.arrivals, out.completed, out.in_flight, out.queued) == (None, None, None, None)
    assert out.totals.counters["a"] == counter("a")


def test_no_replica_and_no_front_is_nothing_to_do() -> None:
    out = measured(seen([]), {})
    assert (out.arrivals, out.queued, out.in_flight) == (0, 0, None)


def test_held_requests_are_arrivals_and_queued() -> None:
    out = measured(seen([], front=front(waiting=3, arrivals_total=4, expired_total=1)), {}, front())
    assert (out.arrivals, out.queued) == (4, 3)


def test_a_released_request_is_counted_once() -> None:
    arrived = seen([replica("a")], answering=[stats("a", arrivals_total=103)], front=front(waiting=0, arrivals_total=3))
    out = measured(arrived, {"a": counter("a")}, front(waiting=3, arrivals_total=3))
    assert (out.arrivals, out.queued) == (0, 0)


def test_counters_of_rows_that_are_gone_are_forgotten() -> None:
    out = measured(seen([replica("a")], answering=[stats("a")]), {"a": counter("a"), "gone": counter("gone")})
    assert set(out.totals.counters) == {"a"}


def test_a_window_too_short_to_tell_a_rate_is_left_to_the_next() -> None:
    view = seen([replica("a")], answering=[stats("a", arrivals_total=102, queued=2)])
    before = Totals(at=NOW - MIN_WINDOW_S / 2, counters={"a": counter("a")})
    out = measure(before, view, ["a"])
    assert (out.arrivals, out.in_flight, out.queued) == (None, None, 2)
    assert out.totals == before


def test_a_clock_set_back_makes_counts_unknown_once() -> None:
    view = seen([replica("a")], answering=[stats("a", arrivals_total=102)])
    out = measure(Totals(at=NOW + 100, counters={"a": counter("a")}), view, ["a"])
    assert (out.arrivals, out.window_s, out.totals.at) == (None, 0, NOW)


# ---------------------------------------------------------------- trust


def quality(view: Seen) -> str:
    return quality_of(view, view.replicas)


def test_data_is_fresh_when_every_ready_replica_answered() -> None:
    assert quality(seen([replica("a"), replica("b", P.STARTING)], answering=[stats("a")])) == "fresh"
    assert quality(seen([])) == "fresh"


def test_data_is_partial_when_some_answered_and_blind_when_none_did() -> None:
    rows = [replica("a"), replica("b")]
    assert quality(seen(rows, answering=[stats("a")])) == "partial"
    assert quality(seen(rows)) == "blind"
    assert quality(seen([], groups=None)) == "blind"


def test_data_is_stale_when_the_front_fell_silent() -> None:
    assert quality(seen([], front=front(at=NOW - FRONT_SILENT_S - 1))) == "stale"
    assert quality(seen([], front=front(at=NOW - FRONT_SILENT_S))) == "fresh"


def observed(view: Seen) -> Observation:
    fleet = look(view, LIMITS)
    measures = measured(view, {})
    return observation(view, fleet, measures, memory_bytes=2**29, signals={"jobs": None}, pin=None, quota=None)


def test_an_observation_sums_replicas_and_averages_shares() -> None:
    answering = [stats("a", cpu=0.2, in_flight=4), stats("b", cpu=None, in_flight=8)]
    rows = [replica("a"), replica("b"), replica("c", P.STARTING), replica("d", P.INTENDED), replica("e", P.DRAINING)]
    seen_ = observed(seen(rows, answering=answering))
    assert (seen_.ready, seen_.starting, seen_.draining) == (2, 2, 1)
    assert (seen_.cpu, seen_.memory, seen_.gpu) == (0.2, 0.5, None)
    assert (seen_.in_flight, seen_.utilization) == (12, 0.75)
    assert seen_.signals == {"jobs": None}
    assert seen_.data == "partial"


def test_how_far_a_replica_is_known() -> None:
    ready = replica("a", P.READY)
    assert replica_data(ready, NOW, 60.0) == "fresh"
    silent = replace(ready, silent_since=NOW - 59.0)
    assert replica_data(silent, NOW, 60.0) == "stale"
    assert replica_data(replace(silent, phase=P.DRAINING), NOW + 1.0, 60.0) == "blind"
    assert [replica_data(replica("a", p), NOW, 60.0) for p in P if p not in (P.READY, P.DRAINING)] == [None] * 4


# ---------------------------------------------------------------- faults that no test saw


def test_two_looks_at_one_moment_leave_the_totals_to_the_next() -> None:
    before = Totals(at=NOW, counters={"a": counter("a")})
    view = seen([replica("a")], answering=[stats("a", arrivals_total=130)])
    out = measure(before, view, ["a"])
    assert (out.arrivals, out.totals) == (None, before)


def test_the_shortest_window_is_enough() -> None:
    before = Totals(at=NOW - MIN_WINDOW_S, counters={"a": counter("a")})
    view = seen([replica("a")], answering=[stats("a", arrivals_total=130)])
    assert measure(before, view, ["a"]).arrivals == 30


def test_what_an_adopted_replica_served_before_does_not_count() -> None:
    out = measured(seen([replica("a", etag="")], answering=[stats("a", arrivals_total=900)]), {})
    assert out.arrivals == 0


def test_a_replica_not_met_before_counts_from_nothing() -> None:
    now = stats("a", arrivals_total=7, completed_total=5, failed_total=1)
    out = measured(seen([replica("a")], answering=[now]), {})
    assert (out.arrivals, out.completed) == (7, 6)


def test_no_request_since_the_last_look_is_none_and_not_one() -> None:
    now = stats("a", arrivals_total=100, completed_total=90, busy_seconds_total=50.4, at=NOW - 9.5, in_flight=7)
    out = measured(seen([replica("a")], answering=[now]), {"a": counter("a")})
    assert (out.arrivals, out.completed) == (0, 0)
    assert out.in_flight is not None
    assert abs(out.in_flight - 0.8) < 1e-9


def test_those_that_gave_up_waiting_before_do_not_count_again() -> None:
    held = front(expired_total=5, waiting=2)
    out = measured(seen([], front=front(expired_total=6, waiting=2)), {}, held)
    assert out.arrivals == 1


def test_what_is_intended_or_asked_for_is_starting() -> None:
    view = seen([replica("a", P.INTENDED), replica("b", P.CREATING), replica("c", P.CREATING)], groups={})
    fleet = look(view, LIMITS)
    told = observation(view, fleet, measured(view, {}), memory_bytes=None, signals={}, pin=None, quota=None)
    assert told.starting == 3


def test_a_start_that_failed_tells_its_age_and_one_that_served_or_is_of_another_version_does_not() -> None:
    fleet = Fleet(
        replicas=(),
        failures=(
            replica("a", P.DELETING, intended_at=NOW - 900, ready_at=None),
            replica("b", P.DELETING, intended_at=NOW - 800, ready_at=NOW - 100),
            replica("c", P.DELETING, intended_at=NOW - 700, ready_at=None, template="t0"),
        ),
    )
    view = seen([])
    told = observation(
        view, fleet, measured(view, {}), memory_bytes=None, signals={}, pin=None, quota=None, template="t1"
    )
    assert (told.failed_starts_s, told.template) == ((900.0,), "t1")
