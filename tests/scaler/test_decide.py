"""The decision step by step: demand, missing data, scale-in, calendar, pins, ceilings, and its words."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from scaler.decide import State, decide, initial_state
from scaler.errors import BadSetting
from scaler.foresight.ahead import initial
from scaler.model import Pin, Step
from tests.scaler.seen import Watch, policy, seen

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()  # a Monday
NIGHT = {"timezone": "UTC", "rules": [{"from": "20:00", "to": "08:00", "off": True}]}


def pin(low: int, high: int, since: float = 0.0, until: float | None = None) -> Pin:
    return Pin(min=low, max=high, since=since, until=until, actor="eva", reason="launch")


# -- demand


def test_the_largest_need_wins() -> None:
    both = policy(target={"concurrency": 4, "requests_per_second": 10})
    decision = Watch(both, ready=2).tick(in_flight=8.0, arrivals=15 * 45.0)
    assert decision.desired == 5
    assert decision.limited_by is None
    assert decision.because == "5 replicas: 45 requests/s, 10 per replica, need 5 replicas."


def test_a_request_that_waits_while_nothing_is_ready_starts_one() -> None:
    decision = Watch(policy(target={"cpu": 0.5})).tick(queued=1.0)
    assert decision.desired == 1
    assert decision.because == "1 replica: 1 wait and no replica is ready."


def test_no_demand_asks_for_nothing() -> None:
    decision = Watch(policy()).tick()
    assert (decision.desired, decision.limited_by) == (0, None)
    assert decision.because.startswith("No replica: ")


def test_replicas_that_start_are_counted() -> None:
    watch = Watch(policy())
    for _ in range(5):
        assert watch.tick(ready=1, starting=2, in_flight=4.0, queued=8.0).desired == 3


def test_without_any_target_one_request_at_once_per_replica() -> None:
    assert Watch(policy(target={})).tick(ready=1, in_flight=3.0).desired == 3


def test_the_service_time_turns_arrivals_into_requests_at_once() -> None:
    watch = Watch(policy(), ready=2)
    assert watch.tick(arrivals=60.0, completed=60.0, in_flight=8.0).desired == 2
    assert watch.tick(arrivals=120.0, completed=60.0, in_flight=8.0).desired == 4


def test_spares_that_are_not_worth_their_rent_are_no_step() -> None:
    decision = Watch(policy(spares=True, lateness_price=0.01), ready=2).tick(in_flight=8.0)
    assert [s.name for s in decision.steps] == ["concurrency"]


def test_the_service_time_is_smoothed() -> None:
    watch = Watch(policy(), ready=2)
    for in_flight in (4.0, 8.0):
        watch.tick(arrivals=60.0, completed=60.0, in_flight=in_flight)
    assert watch.state.service_s == 1.0 + 0.2 * (2.0 - 1.0)


def test_a_floor_of_the_schedule_may_be_as_high_as_max() -> None:
    assert policy(schedule={"rules": [{"min": 10}]}).max == 10


# -- missing data


@pytest.mark.parametrize("data", ["partial", "stale", "blind"])
def test_data_that_are_not_fresh_never_scale_in(data: str) -> None:
    watch = Watch(policy(), ready=5)
    watch.tick(in_flight=20.0)
    for _ in range(100):
        decision = watch.tick(data=data)
        assert (decision.desired, decision.limited_by) == (5, "blind")
    assert decision.because == f"5 replicas instead of 0: the data are {data}, and missing data never scale in."


def test_partial_data_may_still_scale_out() -> None:
    assert Watch(policy(), ready=2).tick(data="partial", in_flight=24.0).desired == 6


def test_a_signal_that_is_not_known_is_not_zero() -> None:
    watch = Watch(policy(), ready=5)
    watch.tick(in_flight=20.0)
    for _ in range(100):
        assert watch.tick(in_flight=None).limited_by == "blind"


def test_true_zero_does_scale_in() -> None:
    watch = Watch(policy(), ready=5)
    watch.tick(in_flight=20.0)
    assert [watch.tick().desired for _ in range(5)][-1] == 0


# -- scale-in


def test_the_count_falls_only_to_the_largest_of_the_window() -> None:
    watch = Watch(policy(), ready=1)
    got = [watch.tick(in_flight=load).desired for load in (32.0, 8.0, 20.0, 8.0, 8.0, 8.0, 8.0, 8.0)]
    assert got == [8, 8, 8, 8, 5, 5, 2, 2]


def test_short_windows_and_one_second_ticks_work_the_same() -> None:
    watch = Watch(policy(scale_in={"window_s": 3}), every_s=1.0, ready=1)
    assert [watch.tick(in_flight=load).desired for load in (32.0, 8.0, 8.0, 8.0, 8.0)] == [8, 8, 8, 2, 2]


def test_after_a_gap_the_window_has_to_pass_again() -> None:
    watch = Watch(policy(), ready=5)
    watch.tick(in_flight=20.0)
    watch.at += 7 * 86400
    assert [watch.tick().desired for _ in range(6)] == [5, 5, 5, 5, 0, 0]


def test_a_clock_set_back_keeps_the_window_and_does_not_stretch_it() -> None:
    watch = Watch(policy(), at=NOON, ready=5)
    watch.tick(in_flight=20.0)
    watch.at -= 3600
    assert [watch.tick().desired for _ in range(6)] == [5, 5, 5, 5, 0, 0]


def test_the_first_tick_of_all_scales_nothing_in() -> None:
    decision = Watch(policy(), ready=3).tick(starting=1)
    assert (decision.desired, decision.limited_by) == (4, "stabilization")


def test_the_window_stays_small_and_loses_no_peak() -> None:
    watch = Watch(policy(replicas={"max": 1000}, scale_in={"window_s": 1e6}), every_s=1.0)
    got = [watch.tick(in_flight=float(4 * n)).desired for n in range(900, 0, -1)]
    assert set(got) == {900}
    assert len(watch.state.window) <= 64


# -- calendar


def test_off_means_none_and_says_when_it_opens() -> None:
    watch = Watch(policy(schedule=NIGHT), at=NOON + 9 * 3600, ready=4)
    decision = watch.tick(in_flight=16.0)
    assert (decision.desired, decision.limited_by, decision.off, decision.wakes) == (0, "off", True, False)
    assert decision.opens_at == NOON + 20 * 3600


def test_an_off_period_that_may_be_woken_follows_demand_but_no_floor() -> None:
    rules = {"timezone": "UTC", "rules": [{"off": True, "wake": True}]}
    watch = Watch(policy(schedule=rules, replicas={"min": 2, "max": 5}), at=NOON)
    first = watch.tick()
    assert (first.desired, first.off, first.wakes, first.opens_at) == (0, True, True, None)
    assert watch.tick(queued=1.0).desired == 1


def test_a_floor_is_met_when_it_begins() -> None:
    rules = {"timezone": "UTC", "rules": [{"from": "12:10", "to": "13:00", "min": 3}]}
    watch = Watch(policy(schedule=rules), at=NOON)
    got = [(watch.at - NOON, watch.tick().desired) for _ in range(60)]
    assert {t for t, n in got if n == 3 and t < 600} == {525.0, 540.0, 555.0, 570.0, 585.0}


def test_the_lead_time_is_learned() -> None:
    rules = {"timezone": "UTC", "rules": [{"from": "12:10", "to": "13:00", "min": 3}]}
    watch = Watch(policy(schedule=rules), at=NOON, every_s=1.0)
    watch.tick(cold_starts_s=(4.0, 5.0))
    got = [(watch.at - NOON, watch.tick().desired) for _ in range(640)]
    assert min(t for t, n in got if n == 3) == 594.0


def test_an_off_period_opens_ahead_with_the_least_count() -> None:
    watch = Watch(policy(schedule=NIGHT, replicas={"min": 2, "max": 5}), at=NOON + 20 * 3600 - 60)
    decision = watch.tick()
    assert (decision.desired, decision.off, decision.limited_by) == (2, True, "schedule_min")


def test_a_long_outage_does_not_stretch_the_lead_time() -> None:
    watch = Watch(policy(schedule=NIGHT, replicas={"min": 2, "max": 5}), at=NOON + 9 * 3600)
    assert watch.tick(window_s=86400.0).desired == 0


def test_of_several_floors_ahead_the_largest_counts() -> None:
    rules = [{"from": "12:00:10", "to": "12:00:15", "min": 1}, {"from": "12:00:20", "to": "12:00:25", "min": 3}]
    watch = Watch(policy(schedule={"timezone": "UTC", "rules": rules}), at=NOON, every_s=1.0)
    assert watch.tick().desired == 3


def test_floors_and_caps_of_the_schedule() -> None:
    rules = {"timezone": "UTC", "rules": [{"min": 2, "max": 4}]}
    watch = Watch(policy(schedule=rules), at=NOON)
    low = watch.tick()
    assert (low.desired, low.limited_by) == (2, "schedule_min")
    high = watch.tick(in_flight=40.0)
    assert (high.desired, high.limited_by) == (4, "schedule_max")
    assert high.because == "4 replicas instead of 10: the schedule allows 4 (always)."


def test_the_floor_of_the_service() -> None:
    decision = Watch(policy(replicas={"min": 2, "max": 5})).tick()
    assert (decision.desired, decision.limited_by) == (2, "min")


# -- pins and ceilings


def test_a_pin_holds_while_it_is_in_force() -> None:
    watch = Watch(policy(), at=NOON)
    inside = pin(3, 3, since=NOON, until=NOON + 30)
    assert [watch.tick(pin=inside).desired for _ in range(4)] == [3, 3, 0, 0]


def test_a_pin_that_has_not_begun_does_nothing() -> None:
    assert Watch(policy(), at=NOON).tick(pin=pin(3, 3, since=NOON + 1)).desired == 0


def test_a_pin_opens_an_off_period() -> None:
    watch = Watch(policy(schedule=NIGHT), at=NOON + 9 * 3600)
    decision = watch.tick(pin=pin(2, 4))
    assert (decision.desired, decision.off, decision.wakes, decision.opens_at) == (2, False, True, None)
    assert decision.because == "2 replicas instead of 0: pinned by eva: launch."


def test_a_pin_caps_demand_and_without_words_says_so() -> None:
    decision = Watch(policy(), ready=5).tick(in_flight=20.0, pin=Pin(min=0, max=2, since=0.0))
    assert (decision.desired, decision.limited_by) == (2, "pin")
    assert decision.because == "2 replicas instead of 5: pinned."


def test_quota_beats_a_pin_and_the_maximum_beats_everything() -> None:
    decision = Watch(policy()).tick(pin=pin(12, 12), quota=11)
    assert (decision.desired, decision.limited_by) == (10, "max")
    assert [s.name for s in decision.steps] == ["concurrency", "pin", "quota", "max"]
    assert Watch(policy()).tick(pin=pin(8, 8), quota=5).limited_by == "quota"
    assert Watch(policy()).tick(pin=pin(8, 8), quota=-1).desired == 0


def test_a_limit_that_changes_nothing_is_not_named() -> None:
    decision = Watch(policy(), ready=3).tick(in_flight=12.0, pin=pin(5, 5), quota=3)
    assert (decision.desired, decision.limited_by) == (3, None)


# -- beside it


def test_a_decision_says_how_full_one_fewer_and_one_more_would_be() -> None:
    decision = Watch(policy(target={"concurrency": 4, "requests_per_second": 10}), ready=2).tick(
        in_flight=8.0, arrivals=15 * 45.0
    )
    assert decision.desired == 5
    fewer, more = decision.beside
    assert (fewer.count, fewer.use, more.count, more.use) == (4, 1.125, 6, 0.75)
    assert fewer.because == "4 replicas: 112% of what they carry (requests_per_second)"


def test_beside_none_there_is_only_one_more() -> None:
    (more,) = Watch(policy()).tick().beside
    assert (more.count, more.use) == (1, 0.0)


def test_no_replica_has_no_fullness() -> None:
    fewer, _ = Watch(policy(), ready=1).tick(in_flight=2.0).beside
    assert (fewer.count, fewer.use) == (0, None)
    assert fewer.because == "No replica: 0.5 replicas' worth of concurrency would find none"


def test_what_is_not_known_is_not_said_to_be_full_or_empty() -> None:
    fewer, more = Watch(policy(), ready=2).tick(in_flight=None).beside
    assert (fewer.use, more.use) == (None, None)
    assert more.because == "3 replicas: how full is not known"


# -- state and settings


def test_the_steps_join_up() -> None:
    decision = Watch(policy(replicas={"min": 1, "max": 3}), ready=2).tick(in_flight=99.0, pin=pin(7, 7))
    assert decision.steps[0].before == 2
    assert decision.steps[-1].after == decision.desired
    assert all(one.after == other.before for one, other in pairwise(decision.steps))


def test_state_survives_being_stored() -> None:
    watch = Watch(policy(), ready=4)
    for load in (16.0, 4.0, 8.0):
        watch.tick(in_flight=load, completed=10.0, arrivals=10.0, cold_starts_s=(3.0,))
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(watch.state), type=State)
    assert stored == watch.state
    now = seen(watch.at, ready=4)
    assert decide(watch.policy, stored, now) == decide(watch.policy, watch.state, now)


def test_a_fresh_state_is_empty() -> None:
    assert initial_state(policy()) == State(ahead=initial(60.0))


def test_settings_that_contradict_each_other_are_refused_with_their_path() -> None:
    with pytest.raises(BadSetting, match=r"autoscaler\.yaml: services\.iris\.schedule\.rules\[0\]\.min: 11 is above"):
        policy(schedule={"rules": [{"min": 11}]})
    with pytest.raises(BadSetting, match=r"autoscaler\.yaml: services\.iris\.schedule\.rules\[1\]\.from"):
        policy(schedule={"rules": [{"min": 1}, {"min": 1, "from": "soon"}]})
    with pytest.raises(BadSetting, match=r"services\.iris\.signals: two signals have the same name"):
        policy(signals=[{"storage_queue": "a", "per_replica": 1}, {"storage_queue": "a", "per_replica": 2}])


# -- lead time, of each version its own


def test_a_new_version_is_expected_to_start_like_the_one_before_until_one_has() -> None:
    office = {"rules": [{"from": "08:00", "to": "18:00", "min": 1}]}
    rules, opens = policy(schedule=office), 8 * 3600.0

    def floor(state: State, before_s: float, **facts: Any) -> tuple[int, State]:
        told, after = decide(rules, state, seen(opens - before_s, window_s=0.0, **facts))
        return told.desired, after

    _, old = floor(State(), 4000.0, template="t1", cold_starts_s=(600.0,) * 3, cold_starts_of=("t1",) * 3)
    assert floor(old, 601.0, template="t1")[0] == 0
    assert floor(old, 599.0, template="t1")[0] == 1
    _, new = floor(old, 3000.0, template="t2")
    assert floor(new, 599.0, template="t2")[0] == 1
    both = {"cold_starts_s": (700.0, 20.0), "cold_starts_of": ("t1", "t2")}
    _, seen_once = floor(new, 2000.0, template="t2", **both)
    assert (seen_once.starts_s, seen_once.earlier_s, seen_once.template) == ((20.0,), (600.0,) * 3, "t2")
    assert floor(seen_once, 21.0, template="t2")[0] == 0
    assert floor(seen_once, 19.0, template="t2")[0] == 1
    _, third = floor(new, 2000.0, template="t3")
    assert (third.starts_s, third.earlier_s) == ((), (600.0,) * 3)


def test_starts_of_no_version_known_are_those_of_this_one() -> None:
    _, state = decide(policy(), State(starts_s=(5.0,)), seen(0.0, cold_starts_s=(7.0,)))
    assert (state.starts_s, state.earlier_s, state.template) == ((5.0, 7.0), (), "")
    _, named = decide(policy(), state, seen(15.0, template="t1", cold_starts_s=(9.0,), cold_starts_of=("t1",)))
    assert (named.starts_s, named.template) == ((5.0, 7.0, 9.0), "t1")
    _, silent = decide(policy(), named, seen(30.0, cold_starts_s=(4.0,)))
    assert (silent.starts_s, silent.template) == ((5.0, 7.0, 9.0, 4.0), "t1")


# -- faults that no test saw


def test_a_window_of_a_second_tells_a_rate() -> None:
    watch = Watch(policy(target={"requests_per_second": 10}), ready=1)
    assert watch.tick(window_s=1.0, arrivals=20.0).desired == 2


def test_one_signal_that_is_not_known_among_others_is_enough_to_stay_and_is_said_first() -> None:
    rules = policy(signals=[{"name": "jobs", "storage_queue": "jobs", "per_replica": 10}])
    told = Watch(rules, ready=3).tick(in_flight=4.0, signals={"jobs": None})
    assert [s.name for s in told.steps] == ["jobs", "concurrency", "blind"]
    assert told.desired == 3


def test_a_window_of_no_time_teaches_no_service_time() -> None:
    _, state = decide(policy(), State(service_s=2.0), seen(0.0, window_s=0.0, in_flight=1.0, completed=1.0))
    assert state.service_s == 2.0


def test_what_drains_is_billed_beside_what_is_asked_for() -> None:
    rules = policy(budget={"replica_hour": 1.0, "monthly": 1000.0})
    _, state = decide(rules, State(), seen(0.0, in_flight=12.0, draining=2))
    assert state.spend is not None
    assert state.spend.billed == 5


def test_a_window_of_a_second_teaches_a_service_time() -> None:
    _, state = decide(policy(), State(), seen(0.0, window_s=1.0, in_flight=3.0, completed=2.0))
    assert state.service_s == 1.5


@pytest.mark.parametrize(
    ("facts", "use"),
    [({"arrivals": 75.0}, "25%"), ({"in_flight": None}, "0%")],
    ids=["the other has nothing in work", "the other is not known"],
)
def test_how_full_replicas_would_be_is_told_by_the_fullest_signal_that_is_known(
    facts: dict[str, Any], use: str
) -> None:
    both = policy(target={"concurrency": 4, "requests_per_second": 10})
    *_, more = Watch(both, ready=1).tick(**facts).beside
    assert more.because == f"2 replicas: {use} of what they carry (requests_per_second)"


@pytest.mark.parametrize(("rate", "taken_for", "not_for"), [(4.0, 1.0, 16.0), (1.0, 4.0, 0.1)])
def test_until_a_service_time_is_known_it_is_the_one_that_both_targets_imply(
    rate: float, taken_for: float, not_for: float
) -> None:
    def told(service_s: float | None) -> list[tuple[Step, ...]]:
        target = {"concurrency": 4, "requests_per_second": rate}
        watch = Watch(policy(target=target, forecast=True, start={"expected_s": 90}))
        watch.state = replace(watch.state, service_s=service_s)
        return [watch.tick(arrivals=7.5 * (1 + i * 7 % 5)).steps for i in range(20)]

    assert told(None) == told(taken_for) != told(not_for)


def window(asked: list[tuple[float, int]], at: float, *, last_at: float, desired: int, load: int) -> State:
    """What is remembered of past demands after a tick that needs ``load`` replicas."""
    before = State(at=last_at, desired=desired, window=tuple(asked))
    rules = policy(replicas={"max": 1000}, scale_in={"window_s": 100})
    return decide(rules, before, seen(at, in_flight=4.0 * load))[1]


def test_a_demand_that_stays_is_remembered_once() -> None:
    assert window([(90.0, 3)], 95.0, last_at=90.0, desired=3, load=3).window == ((95.0, 3),)
    assert window([], 95.0, last_at=-900.0, desired=3, load=3).window == ((95.0, 3),)


@pytest.mark.parametrize("at", [50.0, 150.0])
def test_a_look_at_the_same_moment_or_a_whole_window_later_is_no_gap(at: float) -> None:
    assert window([(50.0, 2)], at, last_at=50.0, desired=8, load=2).desired == 2


def test_what_ran_before_a_gap_stands_for_all_smaller_demands_before_it() -> None:
    after = window([(90.0, 7), (95.0, 5), (98.0, 3)], 99.0, last_at=100.0, desired=5, load=1)
    assert after.window == ((90.0, 7), (99.0, 5), (99.0, 1))


@pytest.mark.parametrize("near", [0, 1, 30, 62, 63])
def test_of_too_many_demands_the_two_nearest_in_time_are_held_as_the_larger_for_as_long_as_the_later(near: int) -> None:
    demands = [(k + (0.5 if k == near else 0.0), 100 - k) for k in range(65)]
    after = window(demands[:64], 64.0, last_at=63.5, desired=0, load=36)
    assert after.window == (*demands[:near], (demands[near + 1][0], demands[near][1]), *demands[near + 2 :])
    as_many = window(demands[1:64], 64.0, last_at=63.5, desired=0, load=36)
    assert as_many.window == tuple(demands[1:])


@pytest.mark.parametrize(("second", "floor"), [(3, 5), (5, 5)])
def test_of_floors_ahead_a_later_one_counts_only_where_it_is_larger(second: int, floor: int) -> None:
    rules = [{"from": "12:00:10", "to": "12:00:15", "min": 5}, {"from": "12:00:20", "to": "12:00:25", "min": second}]
    service = policy(schedule={"timezone": "UTC", "rules": rules}, replicas={"min": 2, "max": 9})
    told = Watch(service, at=NOON, every_s=1.0).tick()
    assert told.desired == floor
    assert "the schedule wants 5 in 10 s" in told.because


def test_who_is_no_longer_configured_has_no_replicas_and_says_so() -> None:
    told = Watch(replace(policy(), removed=True), ready=2).tick(in_flight=8.0)
    assert (told.desired, told.limited_by) == (0, "removed")
    assert told.because == "No replica instead of 2: the service is no longer configured."


def test_the_budget_counts_who_is_being_deleted_as_who_drains() -> None:
    rules = policy(budget={"replica_hour": 1.0, "daily": 1.5}, replicas={"max": 40})

    def most(**going: int) -> int:
        return Watch(rules, at=NOON).tick(in_flight=160.0, **going).desired

    assert most(deleting=4) == most(draining=4) == most(draining=2, deleting=2) < most() < 40
