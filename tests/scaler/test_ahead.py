"""Foresight in decisions: what it asks for, when it stays silent, when it stands back, and what it remembers."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from scaler.decide import State, decide, initial_state
from scaler.foresight.ahead import initial
from scaler.memory import without_blocks
from scaler.model import Decision
from tests.scaler.seen import Watch, policy, seen

RATE = 10.0  # requests per second of one replica


def watch(**settings: Any) -> Watch:
    target = {"requests_per_second": RATE, "concurrency": 4}
    start = {"expected_s": 90}
    return Watch(policy(**{"forecast": True, "target": target, "start": start, "replicas": {"max": 60}, **settings}))


def load(watch: Watch, rate: float, **facts: Any) -> Decision:
    """A tick with so many arrivals per second, all of them served."""
    count = rate * watch.every_s
    return watch.tick(**{"arrivals": count, "completed": count, "in_flight": rate * 0.4, **facts})


def wave(watch: Watch, hours: int) -> list[int]:
    """Hours with a steep rise at half past; the counts asked for."""
    hour = [min(100.0, max(20.0, 20.0 + (i - 116) * 10 / 3)) for i in range(240)]
    return [load(watch, rate).desired for rate in hour * hours]


def names(decision: Decision) -> list[str]:
    return [step.name for step in decision.steps]


# -- what it asks for


def test_a_rise_that_was_seen_before_is_met_ahead() -> None:
    foresighted, plain = watch(), watch(forecast=False)
    ahead, behind = wave(foresighted, 6)[-240:], wave(plain, 6)[-240:]
    rising = slice(120, 145)
    assert sum(ahead[rising]) > sum(behind[rising]) * 1.2


def test_it_says_what_one_fewer_and_one_more_would_cost() -> None:
    service = watch()
    for _ in range(200):
        decision = load(service, 36.0)
    step = next(s for s in decision.steps if s.name == "forecast")
    assert decision.desired == 4
    assert step.because.startswith("cheapest for the next ")
    assert [f"{n} would cost" in step.because for n in (3, 4, 5)] == [True] * 3
    assert "concurrency" not in names(decision)


def test_dear_lateness_keeps_more_replicas() -> None:
    def asked(price: float) -> int:
        service = watch(lateness_price=price)
        return sum(load(service, 30.0 + 25 * math.sin(i * i)).desired for i in range(300))

    assert asked(1.0) < asked(10.0) < asked(100.0)


def test_a_jam_asks_for_a_way_out() -> None:
    service = watch()
    for _ in range(50):
        load(service, 38.0)
    decision = load(service, 38.0, queued=3000.0)
    assert "backlog" in names(decision)
    assert decision.desired > 8
    assert "3000 wait" in decision.because


def test_one_request_that_waits_needs_one_replica() -> None:
    service = watch(target={"requests_per_second": 1 / 30, "concurrency": 1}, slo_wait_s=10)
    for _ in range(400):
        load(service, 0.0)
    assert service.tick(arrivals=1.0, queued=1.0).desired <= 2


def test_what_ran_at_the_first_look_is_not_undercut_at_once() -> None:
    service = watch()
    service.ready = 6
    counts = [load(service, 10.0).desired for _ in range(60)]
    assert counts[:40] == [6] * 40
    assert counts[-1] < 6
    assert "first_look" in names(load(watch(), 0.0, ready=3))


def test_the_last_replica_is_kept_where_the_next_request_is_near() -> None:
    def kept(gap: int) -> int:
        """How often it was there when the next request came, of the last ten times."""
        service = watch(target={"requests_per_second": RATE})
        there = 0
        for i in range(40):
            there += service.ready > 0 and i >= 30
            load(service, 0.07, queued=float(service.ready == 0))
            for _ in range(gap):
                decision = load(service, 0.0)
                assert decision.desired <= 1
        return there

    assert kept(gap=3) == 10
    assert kept(gap=30) == 0
    service = watch(target={"requests_per_second": RATE})
    for i in range(200):
        decision = load(service, 0.07 * (i % 5 == 0))
    last = [s for s in decision.steps if s.name == "last_replica"]
    assert last == [] or "such gaps" in last[0].because


# -- when it stays silent


def test_without_arrivals_or_without_knowing_what_one_carries_the_signals_speak() -> None:
    assert "forecast" not in names(load(watch(), 20.0, arrivals=None))
    assert "forecast" not in names(load(watch(), 20.0, queued=None))
    assert "forecast" not in names(load(watch(target={"cpu": 0.5}), 20.0, cpu=0.2))
    assert "forecast" not in names(load(watch(target={"concurrency": 4}), 0.0))
    assert "forecast" not in names(load(watch(forecast=False), 20.0))


def test_the_service_time_makes_a_rate_of_a_concurrency() -> None:
    service = watch(target={"concurrency": 4})
    for _ in range(100):
        decision = load(service, 36.0)
    assert "forecast" in names(decision)
    assert decision.desired == 4


@pytest.mark.parametrize("data", ["partial", "stale", "blind"])
def test_data_that_are_not_fresh_are_no_arrivals(data: str) -> None:
    service = watch()
    for _ in range(30):
        load(service, 36.0)
    before = service.state
    decision = load(service, 0.0, data=data)
    assert decision.desired >= 4
    assert "forecast" not in names(decision)
    assert before.ahead is not None
    assert service.state.ahead is not None
    assert math.isnan(msgspec_last(service.state))


def msgspec_last(state: State) -> float:
    assert state.ahead is not None
    return float(memoryview(state.ahead.history.tail).cast("f")[-1])


def test_a_first_tick_that_saw_no_time_pass_says_nothing() -> None:
    assert "forecast" not in names(watch().tick(window_s=0.0, arrivals=0.0))


def test_quick_ticks_decide_each_time_and_try_rules_now_and_then() -> None:
    service = watch()
    service.every_s = 1.0
    steps = set()
    for _ in range(40):
        assert "forecast" in names(load(service, 20.0))
        assert service.state.ahead is not None
        steps.add(service.state.ahead.trials.times)
    assert len(steps) == 3


def test_a_start_that_takes_too_long_makes_the_next_floor_come_earlier() -> None:
    floor = {"timezone": "UTC", "rules": [{"from": "00:10", "to": "01:00", "min": 5}]}

    def begins(age_s: float) -> float:
        service = watch(schedule=floor)
        service.tick(queued=30.0, cold_starts_s=(20.0, 20.0))
        service.at += age_s - service.every_s
        for _ in range(60):
            at = service.at
            if service.tick(ready=0, starting=3, queued=0.0).desired >= 5:
                return at
        raise AssertionError("never")

    assert begins(300.0) < begins(15.0)


# -- when it stands back


def test_it_stands_back_where_the_signals_alone_are_cheaper_and_says_so() -> None:
    service = watch(target={"requests_per_second": RATE})
    costs = (2000.0,) * 3 + (1000.0,) * 3
    for _ in range(300):
        load(service, 20.0)
    ahead = service.state.ahead
    assert ahead is not None
    trials = msgspec.structs.replace(ahead.trials, costs=costs, watched_s=1e5)
    service.state = msgspec.structs.replace(service.state, ahead=msgspec.structs.replace(ahead, trials=trials))
    decision = load(service, 20.0)
    assert {"forecast", "requests_per_second"} <= set(names(decision))
    because = next(s.because for s in decision.steps if s.name == "forecast")
    assert because.startswith("it stands back: on this service's own record the signals alone cost ")
    assert decision.desired == 2


def test_a_window_that_is_set_holds_and_the_record_chooses_one_that_is_not() -> None:
    def held(**settings: Any) -> int:
        service = watch(**settings)
        for _ in range(300):
            load(service, 20.0)
        load(service, 100.0, ready=2)
        counts = [load(service, 20.0).desired for _ in range(30)]
        return sum(count > counts[-1] for count in counts)

    assert held(scale_in={"window_s": 300}) > held() + 10


# -- what it remembers


def test_starting_replicas_are_remembered_until_they_are_ready_or_given_up() -> None:
    service = watch()
    load(service, 0.0, queued=900.0)
    assert service.state.ahead is not None
    asked = service.state.ahead.asked_at
    assert len(asked) == service.ready > 2
    service.tick(ready=1, starting=service.ready - 1, queued=900.0, cold_starts_s=(15.0,))
    assert service.state.ahead.asked_at[0] == 0.0


def test_a_stored_decision_is_made_again_bit_for_bit() -> None:
    service = watch()
    wave(service, 3)
    packed = without_blocks(service.state)
    stored = msgspec.msgpack.encode(packed)
    assert len(stored) < 8_192
    assert msgspec.msgpack.decode(stored, type=State) == packed
    whole = msgspec.msgpack.decode(msgspec.msgpack.encode(service.state), type=State)
    now = seen(service.at, ready=4, arrivals=500.0, completed=500.0, in_flight=12.0)
    encoded = [msgspec.msgpack.encode(decide(service.policy, state, now)[0]) for state in (service.state, whole)]
    assert encoded[0] == encoded[1]


def test_a_state_from_before_there_was_a_record_begins_one() -> None:
    rules = watch().policy
    _, after = decide(rules, State(), seen(0.0, ready=1, arrivals=15.0))
    assert after.ahead is not None
    assert after.ahead.history.at == 0.0
    assert initial_state(rules).ahead == initial(90.0)


def test_bins_fit_the_length_of_a_start() -> None:
    assert [initial(s).history.bin_s for s in (1.0, 30.0, 90.0, 900.0)] == [1.0, 5.0, 15.0, 15.0]
