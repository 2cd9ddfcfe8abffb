"""A second policy decides beside the live one, and only records; what is recorded can be made again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from scaler import config
from scaler.decide import State, decide, initial_state
from scaler.errors import BadSetting
from scaler.model import Decision
from scaler.recompute import blocks_of, is_reproduced, recomputed
from scaler.shadow import decide_beside, shadow_of
from scaler.tick.managed import Managed
from scaler.tick.recalled import recalled
from tests.scaler.seen import policy, seen
from tests.scaler.ticking import SERVICE, Ticking
from tests.world import World

SHADOWED = f"services:\n  iris:{SERVICE}    shadow: {{target: {{concurrency: 4}}, scale_in: {{window_s: 15}}}}\n"


def service(**settings: Any) -> config.Service:
    text = msgspec.json.encode({"services": {"iris": settings}})
    return config.load(text, "autoscaler.yaml").services["iris"]


def test_what_a_shadow_leaves_out_is_as_the_live_policy_has_it() -> None:
    live = service(target={"concurrency": 4}, lateness_price=7, shadow={"forecast": True, "replicas": {"max": 3}})
    shadow = shadow_of(live, "iris", "autoscaler.yaml")
    assert shadow is not None
    assert (shadow.forecast, shadow.max) == (True, 3)
    assert (shadow.target.concurrency, shadow.lateness_price) == (4.0, 7.0)
    assert shadow_of(service(), "iris", "autoscaler.yaml") is None


def test_a_shadow_that_contradicts_itself_is_refused_with_its_place() -> None:
    with pytest.raises(BadSetting, match=r"services\.iris\.shadow\.replicas: min 3 is above max 2"):
        service(shadow={"replicas": {"min": 3, "max": 2}})
    clash = service(schedule={"rules": [{"min": 5}]}, shadow={"replicas": {"max": 2}})
    with pytest.raises(BadSetting, match=r"rules\[0\]\.min: 5 is above .*\(as services\.iris\.shadow has it\)"):
        shadow_of(clash, "iris", "autoscaler.yaml")


def test_the_same_policy_as_its_own_shadow_never_differs() -> None:
    for forecast in (False, True):
        rules = policy(forecast=forecast)
        live, beside = initial_state(rules), None
        for i in range(300):
            load = 40.0 if 20 < i % 60 < 40 else 4.0
            now = seen(15.0 * i, ready=2, in_flight=load, arrivals=load * 15, completed=load * 15)
            theirs, beside = decide_beside(rules, beside, live, now)
            ours, live = decide(rules, live, now)
            assert theirs == ours


@pytest.mark.parametrize("forecast", [True, False])
def test_a_shadow_keeps_no_record_of_its_own(forecast: bool) -> None:
    beside_policy, live_policy = policy(forecast=True), policy(forecast=forecast)
    live, beside = initial_state(live_policy), None
    for i in range(300):
        now = seen(15.0 * i, ready=1, arrivals=30.0, completed=30.0, in_flight=2.0)
        _, beside = decide_beside(beside_policy, beside, live, now)
        _, live = decide(live_policy, live, now)
    assert beside is not None
    assert beside.ahead is not None
    assert (beside.ahead.history.blocks, beside.ahead.history.tail) == ((), b"")
    assert beside.ahead.first_at == 0.0
    assert live.ahead is not None
    assert live.ahead.history.blocks


def test_beside_a_live_policy_that_remembers_no_arrivals_a_shadow_keeps_its_own_record() -> None:
    rules = policy(forecast=True)
    now = seen(15.0, ready=1, arrivals=30.0, completed=30.0, in_flight=2.0)
    _, beside = decide_beside(rules, State(), State(), now)
    assert beside.ahead is not None
    assert beside.ahead.history.tail
    later, beside = decide_beside(rules, beside, State(), seen(30.0, ready=1, arrivals=30.0, in_flight=2.0))
    assert beside.ahead is not None
    assert later.desired == 1
    assert len(beside.ahead.history.tail) == 4 * 3  # bins of 10 s


def test_a_shadow_that_an_earlier_version_wrote_gets_the_live_record() -> None:
    rules = policy(forecast=True)
    _, live = decide(rules, initial_state(rules), seen(15.0, ready=1, arrivals=30.0, in_flight=2.0))
    now = seen(30.0, ready=1, arrivals=30.0, completed=30.0, in_flight=2.0)
    _, beside = decide_beside(rules, State(), live, now)
    assert beside.ahead is not None
    assert beside.ahead.history.tail == b""


async def test_a_tick_records_what_the_shadow_wanted_and_does_what_the_live_policy_wants() -> None:
    ticking = Ticking(services=SHADOWED.replace("shadow: {", "shadow: {replicas: {max: 1}, "))
    await ticking.pin(2)
    await ticking.tick()
    (row,) = await ticking.world.store.decisions("iris", since=0)
    shadow = msgspec.msgpack.decode(row.shadow, type=Decision)
    assert (row.desired, shadow.desired, shadow.limited_by) == (2, 1, "max")
    assert len(await ticking.phases()) == 2
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert memory.shadow is not None
    assert (memory.state.desired, memory.shadow.desired) == (2, 1)


async def test_every_recorded_decision_comes_out_again_bit_for_bit() -> None:
    world = World(start_delay_s=20.0)
    extra = (
        '    budget: {daily: 9, replica_hour: 0.5}\n    schedule: {rules: [{min: 1, days: mon-fri, from: "06:00"}]}\n'
    )
    ticking = Ticking(services=SHADOWED + extra, world=world)
    for i in range(30):
        if i % 10 == 3:
            await ticking.pin(i // 10 + 1)
        await ticking.tick(after_s=15.0 if i % 7 else 400.0)
    rows = await world.store.decisions("iris", since=0)
    assert len(rows) == 30
    assert all(is_reproduced(row, {}) for row in rows)


async def test_a_row_that_was_changed_or_lacks_its_policy_does_not_pass() -> None:
    ticking = Ticking()
    await ticking.tick()
    (row,) = await ticking.world.store.decisions("iris", since=0)
    decision = recomputed(row, {})
    assert decision is not None
    other = replace(row, decision=msgspec.msgpack.encode(replace(decision, desired=decision.desired + 1)))
    assert is_reproduced(other, {}) is False
    assert is_reproduced(replace(row, policy=b""), {}) is None
    assert is_reproduced(replace(row, state_before=b"\xff"), {}) is None
    assert is_reproduced(replace(row, state_before=msgspec.msgpack.encode(State(desired=4))), {}) is False


async def test_a_service_that_is_no_longer_configured_is_recorded_so_that_it_can_be_made_again() -> None:
    ticking = Ticking()
    await ticking.pin(1)
    await ticking.tick()
    ticking.deploy(f"services:\n  other:{SERVICE}")
    await ticking.tick()
    (row, *_) = await ticking.world.store.decisions("iris", since=0)
    assert (row.desired, row.limited_by) == (0, "removed")
    assert is_reproduced(row, {})


async def test_a_budget_that_is_nearly_spent_is_a_condition() -> None:
    ticking = Ticking(services=f"services:\n  iris:{SERVICE}    budget: {{daily: 1, replica_hour: 4}}\n")
    await ticking.pin(2)
    for _ in range(10):
        await ticking.tick(after_s=60.0)
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    (told,) = [c for c in memory.conditions if c.name == "budget"]
    assert "of the day's 1.00 EUR are spent" in told.message


def test_a_managed_service_has_no_shadow_unless_told() -> None:
    assert Managed(name="iris", service=service(), policy=policy(), template=None).shadow is None


async def test_a_long_record_is_stored_once_and_a_decision_made_from_it_can_be_made_again() -> None:
    quick = f"services:\n  iris:{SERVICE}    start: {{expected_s: 6}}\n"  # bins of a second: a block in 16 ticks
    ticking = Ticking(services=quick)
    store = ticking.world.store
    for i in range(60):
        if i == 40:
            ticking.deploy(quick)  # another instance, which has to read what this one wrote
        await ticking.tick()
    loaded = await store.load("iris")
    memory = await recalled(store, loaded)
    assert memory is not None
    assert memory.state.ahead is not None
    assert [b.number for b in memory.state.ahead.history.blocks] == [0, 1, 2]
    assert loaded.row is not None
    assert len(loaded.row.memory) < 16_384
    rows = await store.decisions("iris", since=0, limit=100)
    for row in rows:
        named = blocks_of(row)
        assert is_reproduced(row, await store.history("iris", named) if named else {}) is True
    newest = blocks_of(rows[0])
    assert newest is not None
    assert (newest.first, newest.last) == (0, 2)
    assert is_reproduced(rows[0], {}) is None
    stored = await store.history("iris", newest)
    for number in range(3):
        assert is_reproduced(rows[0], {n: block for n, block in stored.items() if n != number}) is None
    assert blocks_of(replace(rows[0], state_before=b"\xff")) is None
