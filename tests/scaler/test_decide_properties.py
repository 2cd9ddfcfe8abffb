"""What holds for every history: bounds, monotony, blindness, rest, and what clocks, gaps and restarts may not break."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaler.decide import Policy, State, decide, initial_state
from scaler.model import Decision, Observation, Pin
from scaler.schedule import preview
from tests.scaler.seen import Watch, policy, seen

START = datetime(2026, 3, 27, 12, 0, tzinfo=UTC).timestamp()  # two days before the clocks of Europe change
MAYBE_COUNT = st.one_of(st.none(), st.integers(0, 400).map(float))
FEWER = settings(max_examples=25, deadline=None)
CALENDARS: list[dict[str, Any]] = [
    {},
    {
        "timezone": "Europe/Berlin",
        "rules": [{"from": "22:00", "to": "02:30", "off": True}, {"days": "mon-fri", "min": 2}],
    },
    {
        "timezone": "America/New_York",
        "rules": [{"off": True, "wake": True, "days": "sat-sun"}, {"max": 5, "from": "08:00"}],
    },
    {
        "timezone": "Europe/Berlin",
        "rules": [{"holidays": "DE", "off": True}, {"from": "02:15", "to": "02:45", "min": 4}],
    },
]
RULES = st.builds(
    lambda forecast, least, more, calendar, window_s, budget: policy(
        forecast=forecast,
        replicas={"min": least, "max": least + more},
        schedule=calendar,
        scale_in={"window_s": window_s},
        **({"budget": budget} if budget else {}),
    ),
    st.booleans(),
    st.integers(0, 3),
    st.integers(5, 30),
    st.sampled_from(CALENDARS),
    st.sampled_from([1.0, 60.0, 600.0]),
    st.sampled_from([None, {"replica_hour": 1.0, "daily": 3.0, "monthly": 20.0}]),
)
PINS = st.one_of(
    st.none(),
    st.builds(lambda low, more: Pin(min=low, max=low + more, since=0.0), st.integers(0, 40), st.integers(0, 5)),
)
FACTS = st.fixed_dictionaries(
    {
        "ready": st.integers(0, 30),
        "starting": st.integers(0, 30),
        "draining": st.integers(0, 5),
        "deleting": st.integers(0, 5),
        "arrivals": MAYBE_COUNT,
        "completed": MAYBE_COUNT,
        "in_flight": MAYBE_COUNT,
        "queued": MAYBE_COUNT,
        "data": st.sampled_from(["fresh", "fresh", "fresh", "partial", "stale", "blind"]),
        "pin": PINS,
        "quota": st.one_of(st.none(), st.integers(-1, 40)),
        "cold_starts_s": st.lists(st.floats(0.0, 5000.0), max_size=3).map(tuple),
        "failed_starts_s": st.lists(st.floats(0.0, 5000.0), max_size=3).map(tuple),
        "template": st.sampled_from(["", "t1", "t2"]),
    }
)
STEPS = st.sampled_from(
    [0.0, 0.2, 15.0, 15.0, 15.0, 60.0, 3600.0, 86_400.0, 40 * 86_400.0, -1.0, -15.0, -3600.0, -86_400.0]
)
HISTORY = st.lists(st.tuples(STEPS, FACTS), min_size=1, max_size=12)


def valid(decision: Decision, rules: Policy, observed: Observation) -> None:
    assert 0 <= decision.desired <= rules.max
    if observed.quota is not None:
        assert decision.desired <= max(0, observed.quota)
    assert decision.steps
    assert decision.steps[-1].after == decision.desired
    assert all(one.after == other.before for one, other in pairwise(decision.steps))
    assert decision.because.endswith(".")
    assert math.isfinite(decision.opens_at or 0.0)


def bounded(state: State) -> None:
    assert len(state.window) <= 64
    assert len(state.starts_s) <= 64
    assert len(state.failed_s) <= 8
    assert all(then <= (state.at or 0.0) for then, _ in state.window)
    assert [n for _, n in state.window] == sorted((n for _, n in state.window), reverse=True)
    assert state.spend is None or len(state.spend.days) <= 28
    if state.ahead is not None:
        history = state.ahead.history
        assert len(history.tail) < 960
        assert len(history.blocks) <= 336
        assert len(state.ahead.asked_at) <= 100


@FEWER
@given(RULES, HISTORY)
def test_any_history_of_jumps_gaps_and_restarts_keeps_the_state_bounded_and_the_decision_valid(
    rules: Policy, history: list[tuple[float, dict[str, Any]]]
) -> None:
    state, at = initial_state(rules), START
    for i, (step_s, facts) in enumerate(history):
        at += step_s
        observed = seen(at, **facts, window_s=max(0.0, step_s))
        decision, state = decide(rules, state, observed)
        valid(decision, rules, observed)
        bounded(state)
        if i % 3 == 0:  # another instance reads the row
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)


@FEWER
@given(RULES, HISTORY)
def test_the_same_inputs_give_the_same_bytes(rules: Policy, history: list[tuple[float, dict[str, Any]]]) -> None:
    def told() -> list[bytes]:
        state, at, found = initial_state(rules), START, []
        for step_s, facts in history:
            at += step_s
            decision, state = decide(rules, state, seen(at, **facts))
            found.append(msgspec.msgpack.encode(decision))
        return found

    assert told() == told()


@FEWER
@given(
    RULES, HISTORY, FACTS, st.integers(0, 40).map(float), st.integers(0, 600).map(float), st.integers(0, 600).map(float)
)
def test_more_demand_never_means_fewer_replicas(
    rules: Policy,
    history: list[tuple[float, dict[str, Any]]],
    facts: dict[str, Any],
    in_flight: float,
    arrivals: float,
    queued: float,
) -> None:
    """One service seen twice at the same moment, the second time with more in flight, more arrivals, more waiting."""
    state, at = initial_state(rules), START
    for step_s, earlier in history:
        at += step_s
        _, state = decide(rules, state, seen(at, **earlier))
    known = {k: facts[k] or 0.0 for k in ("in_flight", "arrivals", "queued")}
    less = seen(at + 15.0, **facts | known | {"completed": 0.0})
    more_of = {"in_flight": in_flight, "arrivals": arrivals, "queued": queued}
    more = seen(at + 15.0, **facts | {k: known[k] + more_of[k] for k in known} | {"completed": 0.0})
    assert decide(rules, state, more)[0].desired >= decide(rules, state, less)[0].desired


@FEWER
@given(
    RULES,
    HISTORY,
    st.lists(STEPS.filter(lambda s: s >= 0), min_size=1, max_size=10),
    st.sampled_from(["partial", "stale", "blind"]),
)
def test_without_fresh_data_no_signal_scales_in(
    rules: Policy, history: list[tuple[float, dict[str, Any]]], gaps: list[float], data: str
) -> None:
    """Only what an operator said may lower the count: calendar, pin, budget, ceilings; here there are none of them."""
    rules = msgspec.structs.replace(rules, schedule=policy().schedule, prices=None)
    state, at = initial_state(rules), START
    for step_s, facts in history:
        at += step_s
        _, state = decide(rules, state, seen(at, **facts | {"pin": None, "quota": None}))
    before = state.desired or 0
    for gap_s in gaps:
        at += gap_s
        decision, state = decide(rules, state, seen(at, data=data, ready=0, in_flight=0.0))
        assert decision.desired >= before
        before = decision.desired


@FEWER
@given(
    st.booleans(),
    st.integers(0, 10),
    st.floats(0.0, 60.0),
    st.floats(0.05, 20.0),
    st.sampled_from([1.0, 5.0, 15.0, 60.0]),
)
@example(True, 10, 37.85687167628082, 1.2227630683195014, 15.0)  # guesses asked for more once more were there
def test_constant_demand_changes_the_count_at_most_once_each_way(
    forecast: bool, ready: int, requests: float, service_s: float, every_s: float
) -> None:
    """From any count, with replicas that are there as soon as they are asked for; while the forecast learns as well."""
    rules = policy(forecast=forecast, replicas={"max": 20}, schedule={})
    watch = Watch(rules, at=START, every_s=every_s, ready=ready)
    arrivals = requests / service_s * every_s
    counts = [ready]
    for _ in range(150):
        told = watch.tick(in_flight=requests, arrivals=arrivals, completed=arrivals)
        if told.desired != counts[-1]:
            counts.append(told.desired)
    ways = [b > a for a, b in pairwise(counts)]
    assert sum(ways) <= 1, counts
    assert ways == sorted(ways, reverse=True), counts
    assert len(ways) - sum(ways) <= 1, counts


# -- the calendar: what is shown is what then runs


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "days": st.sampled_from(["mon-fri", "sat,sun", "fri-mon", "wed"]),
                "from": st.sampled_from(["00:30", "01:59:30", "02:30", "07:30", "22:00"]),
                "to": st.sampled_from(["00:15", "02:15", "03:00", "20:00", "24:00"]),
                "holidays": st.sampled_from(["DE", "US-CA", "AU-NSW"]),
                "dates": st.sampled_from([["2026-03-29"], ["2026-10-24..2026-10-26"], ["2026-11-01"]]),
            },
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(
        st.sampled_from([{"off": True}, {"off": True, "wake": True}, {"min": 2}, {"max": 3}, {"min": 1, "max": 2}]),
        min_size=4,
        max_size=4,
    ),
    st.sampled_from(["2026-03-25T11:11:11", "2026-10-20T23:59:59", "2026-10-28T00:00:00", "2026-12-24T06:00:00"]),
)
def test_the_preview_of_14_days_is_what_then_runs(
    timezone: str, when: list[dict[str, Any]], effects: list[dict[str, Any]], start: str
) -> None:
    """An idle service in which starts take no time, decided on all through the days that were previewed."""
    text = {"timezone": timezone, "rules": [one | effect for one, effect in zip(when, effects, strict=False)]}
    rules = policy(schedule=text, start={"expected_s": 0.001}, replicas={"min": 1, "max": 9})
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp()
    periods = preview(rules.schedule, begin, 14.0)
    assert periods[0].start == begin
    assert all(one.end == other.start for one, other in pairwise(periods))
    moments = sorted(
        {p.start for p in periods} | {p.end - 0.01 for p in periods} | {begin + 20_000.0 * i for i in range(60)}
    )
    for at in moments:
        period = next((p for p in periods if p.start <= at < p.end), None)
        if period is None:
            continue
        decision, _ = decide(rules, initial_state(rules), seen(at, window_s=0.001))
        assert decision.off == period.off
        assert decision.wakes == period.wakes
        floor = 0 if period.off else max(1, period.min)
        assert decision.desired == (min(floor, period.max) if period.max is not None else floor)
        if period.off and period.end < periods[-1].end:
            assert decision.opens_at == period.end


@pytest.mark.parametrize("lead_s", [30.0, 90.0, 600.0])
def test_a_period_opens_ahead_by_the_lead_time_and_closes_at_its_end(lead_s: float) -> None:
    office = {"timezone": "Europe/Berlin", "rules": [{"from": "08:00", "to": "18:00", "min": 3}]}
    rules = policy(schedule=office, start={"expected_s": lead_s})
    opens = datetime(2026, 3, 29, 6, 0, tzinfo=UTC).timestamp()  # 08:00 in Berlin, on the day the clocks change
    watch = Watch(rules, at=opens - 2 * lead_s - 100, every_s=5.0)
    asked_at = next(watch.at - 5.0 for _ in range(1000) if watch.tick().desired == 3)
    assert lead_s <= opens - asked_at <= lead_s + 10.0
    watch.at = opens + 10 * 3600 - 100.0
    assert [watch.tick().desired for _ in range(21)] == [3] * 20 + [0]
