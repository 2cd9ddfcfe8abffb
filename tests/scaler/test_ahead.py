"""Foresight in decisions: what it asks for, when it stays silent, when it stands back, and what it remembers."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from scaler.decide import State, decide, initial_state
from scaler.foresight import ahead as ahead_module
from scaler.foresight.ahead import Ahead, Outlook, Terms, ages_s, asked, initial, learn, look
from scaler.foresight.forecast import analogs_at, paths
from scaler.foresight.history import History
from scaler.foresight.idle import Wait
from scaler.foresight.leadtime import Starts
from scaler.foresight.newsvendor import choose
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


# -- each look by itself

TERMS = Terms(
    rate=RATE,
    concurrency=4.0,
    service_s=0.4,
    slo_wait_s=5.0,
    lateness_price=10.0,
    expected_start_s=90.0,
    most=60,
)
NOT_SEEN = Starts("", (), ())


def steady(rate: float, ticks: int = 4, **facts: Any) -> Ahead:
    """What is remembered of so many ticks of 15 s, the last of them at 0."""
    ahead = initial(90.0)
    for i in range(ticks):
        ahead = learn(ahead, seen(15.0 * (i + 1 - ticks), arrivals=15.0 * rate, **facts))
    return ahead


def looked(ahead: Ahead, terms: Terms = TERMS, at: float = 0.0, **facts: Any) -> Outlook:
    outlook = look(ahead, seen(at, **facts), terms, NOT_SEEN)
    assert outlook is not None
    return outlook


def asked_for(outlook: Outlook) -> dict[str, int]:
    return {proposal.signal: proposal.count or 0 for proposal in outlook.proposals}


def test_at_first_nothing_is_remembered() -> None:
    ahead = Ahead(history=History(bin_s=15.0))
    assert (ahead.first_at, ahead.first_count, ahead.first_rate, ahead.arrivals) == (None, 0, 0.0, 0.0)
    assert ahead == initial(90.0)


def test_the_first_tick_is_remembered_with_all_that_ran_and_started() -> None:
    first = learn(initial(90.0), seen(100.0, ready=2, starting=3))
    assert (first.first_at, first.first_count) == (100.0, 5)
    later = learn(first, seen(115.0, ready=9))
    assert (later.first_at, later.first_count) == (100.0, 5)


def test_arrivals_add_up_until_rules_are_tried() -> None:
    ahead = initial(90.0)
    ticks: tuple[tuple[float | None, str], ...] = ((20.0, "fresh"), (None, "fresh"), (9.0, "stale"), (-4.0, "fresh"))
    for i, (arrivals, data) in enumerate(ticks):
        ahead = learn(ahead, seen(15.0 * i, arrivals=arrivals, data=data))
    assert ahead.arrivals == 20.0
    assert learn(ahead, seen(60.0, arrivals=3.0)).arrivals == 23.0
    assert looked(steady(20.0)).ahead.arrivals == 0.0


@pytest.mark.parametrize(
    ("desired", "asked_at"),
    [
        pytest.param(7, (10.0, 20.0, 100.0, 100.0), id="two more"),
        pytest.param(5, (10.0, 20.0), id="as many as there are"),
        pytest.param(4, (10.0,), id="one given up, the newest"),
        pytest.param(3, (), id="all that start given up"),
        pytest.param(0, (), id="and those that are ready, too"),
    ],
)
def test_when_those_that_start_were_asked_for_is_remembered(desired: int, asked_at: tuple[float, ...]) -> None:
    ahead = Ahead(history=History(bin_s=15.0), asked_at=(10.0, 20.0))
    assert asked(ahead, seen(100.0, ready=3, starting=2), desired).asked_at == asked_at


def test_the_age_of_a_start_is_never_below_nothing() -> None:
    assert ages_s(Ahead(history=History(bin_s=15.0), asked_at=(99.5, 100.0, 130.0)), 100.0) == (0.5, 0.0, 0.0)


def test_paths_end_four_bins_after_one_asked_for_now_is_ready() -> None:
    """Seven bins until then: 90 s and a tenth."""
    first = looked(steady(36.0)).proposals[0]
    assert first.because.startswith("cheapest for the next 165 s, in replica seconds: ")


@pytest.mark.parametrize(
    ("service_s", "floor"),
    [
        pytest.param(None, 5.0, id="nobody knows how long"),
        pytest.param(1.9, 5.0, id="short ones"),
        pytest.param(2.0, 10.0, id="long ones, which count one by one"),
    ],
)
def test_arrivals_below_half_a_replica_are_noise_and_of_long_requests_below_a_whole_one(
    monkeypatch: pytest.MonkeyPatch, service_s: float | None, floor: float
) -> None:
    floors = []

    def noted(history: History, bins: int, below: float, analogs: int) -> Any:
        floors.append((below, analogs))
        return paths(history, bins, below, analogs)

    monkeypatch.setattr(ahead_module, "paths", noted)
    looked(steady(36.0), msgspec.structs.replace(TERMS, service_s=service_s, lateness_price=100.0))
    assert floors == [(floor, analogs_at(100.0))]


@pytest.mark.parametrize(("queued", "waits"), [(None, 0.0), (0.0, 0.0), (30.0, 30.0)])
def test_those_that_start_count_as_far_along_as_they_are(
    monkeypatch: pytest.MonkeyPatch, queued: float | None, waits: float
) -> None:
    """One that is overdue is reckoned to be ready in half a bin."""
    given = []

    def noted(coming: Any, supply: Any, price: Any, queue: float, bin_s: float, most: int) -> Any:
        given.append((supply.starting_s, supply.lead_s, price.rent_bins, queue))
        return choose(coming, supply, price, queue, bin_s, most)

    monkeypatch.setattr(ahead_module, "choose", noted)
    ahead = msgspec.structs.replace(steady(36.0), asked_at=(-85.0, -60.0, -5.0))
    looked(ahead, ready=1, starting=3, queued=queued)
    assert given == [((7.5, 30.0, 85.0), pytest.approx(99.0), 4, waits)]


@pytest.mark.parametrize(
    ("expected_start_s", "until_s"),
    [
        pytest.param(90.0, 615.0, id="until nothing is guessed any more, and a bin"),
        pytest.param(900.0, 6030.0, id="for 6.7 slow starts"),
    ],
)
def test_nothing_is_given_up_in_the_first_minutes(expected_start_s: float, until_s: float) -> None:
    terms = msgspec.structs.replace(TERMS, expected_start_s=expected_start_s)

    def least(since_s: float) -> int | None:
        ahead = msgspec.structs.replace(steady(1.0), first_at=1000.0, first_count=6)
        return asked_for(looked(ahead, terms, at=1000.0 + since_s, ready=6)).get("first_look")

    assert [least(s) for s in (0.0, until_s - 1.0, until_s)] == [6, 6, None]


@pytest.mark.parametrize(
    ("wanted", "expected", "facts", "first_count", "count"),
    [
        pytest.param(20, 101.0, {}, 3, 11, id="no more than before: as many as they keep busy"),
        pytest.param(20, 101.0, {}, 15, 15, id="or as many as were worth it"),
        pytest.param(5, 101.0, {}, 15, 5, id="or as few as are wanted"),
        pytest.param(20, 102.0, {}, 3, 20, id="more than before"),
        pytest.param(20, 101.0, {"queued": 1.0}, 3, 20, id="somebody waits"),
        pytest.param(20, 50.0, {"queued": 1.0}, 3, 20, id="… and fewer are expected"),
    ],
)
def test_only_guesses_are_no_reason_for_more_than_were_found_enough(
    wanted: int, expected: float, facts: dict[str, float], first_count: int, count: int
) -> None:
    ahead = msgspec.structs.replace(initial(90.0), first_count=first_count, first_rate=100.0)
    assert ahead_module._as_found_before(ahead, seen(**facts), TERMS, wanted, expected) == count


def test_what_was_found_worth_it_in_the_first_minutes_stays_until_they_are_over() -> None:
    """Forty in a second came, and guesses are that they rise by 24 % in eleven bins: what counts is the first."""
    first = looked(steady(40.0))
    assert first.proposals[0].because.startswith("cheapest")
    assert first.ahead.first_count == asked_for(first)["forecast"] >= 4
    assert first.ahead.first_rate == pytest.approx(40.0 * (1 + 0.24 / 11))
    more = msgspec.structs.replace(steady(40.0), first_count=50, first_rate=1000.0)
    after = looked(more).ahead
    assert (after.first_count, after.first_rate) == (50, 1000.0)
    later = msgspec.structs.replace(steady(40.0), first_at=-1e4)
    assert (looked(later).ahead.first_count, looked(later).ahead.first_rate) == (0, 0.0)


def test_fewer_than_guesses_ask_for_are_said_to_be_enough() -> None:
    before = msgspec.structs.replace(steady(40.0), first_count=1, first_rate=1000.0)
    found = looked(before).proposals[0]
    assert found.because.startswith(f"{found.count} were enough for as many arrivals before; only guesses say more: ")


@pytest.mark.parametrize(("ready", "starting", "kept"), [(0, 0, None), (1, 0, 1), (0, 1, 1), (1, 1, 1)], ids=str)
def test_the_last_one_is_kept_by_what_another_start_costs(
    monkeypatch: pytest.MonkeyPatch, ready: int, starting: int, kept: int | None
) -> None:
    """90 s of a replica, and ten times the quarter of a second that the request needs which is late by then."""
    prices = []

    def noted(_: History, price_s: float) -> Wait:
        prices.append(price_s)
        return Wait(idle_s=30.0, seconds=45.0, ended=9, gaps=10)

    monkeypatch.setattr(ahead_module, "worth_keeping", noted)
    ahead = msgspec.structs.replace(steady(0.0), first_at=-1e4, first_count=0)
    outlook = looked(ahead, msgspec.structs.replace(TERMS, rate=4.0), ready=ready, starting=starting)
    assert asked_for(outlook).get("last_replica") == kept
    assert prices == ([] if kept is None else [92.5])


def test_a_forecast_that_stands_back_asks_for_none() -> None:
    ahead = steady(20.0)
    costs = (2000.0,) * 3 + (1000.0,) * 3
    trials = msgspec.structs.replace(ahead.trials, speaks=3, costs=costs)
    outlook = looked(msgspec.structs.replace(ahead, trials=trials))
    assert (outlook.speaks, asked_for(outlook)) == (False, {"forecast": 0})
    assert outlook.proposals[0].because.endswith("the signals alone cost 50 % less")
