"""One pass over several services: what they share, who waits for whom, and those that are no longer configured."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from scaler.allowance import KEPT_BACK
from scaler.azure.places import Places
from scaler.errors import Unavailable
from scaler.model import Group, Phase, Pin
from scaler.ports import DecisionRow, GroupRequest, Stored
from tests.scaler.ticking import SERVICE, Ticking
from tests.world import MemoryFleet, World

pytestmark = pytest.mark.anyio
TWO = f"services:\n  iris:{SERVICE}\n  digits:{SERVICE}"


async def test_a_row_that_is_slow_to_load_holds_up_no_other_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaler.tick.scaler.TOGETHER_S", 0.001)
    ticking, is_done = Ticking(services=TWO), asyncio.Event()
    store = ticking.world.store
    load, record = store.load, store.record

    async def slow(service: str) -> Stored:
        if service == "iris":
            await asyncio.wait_for(is_done.wait(), 10)
        return await load(service)

    async def recorded(row: DecisionRow) -> None:
        await record(row)
        if row.service == "digits":
            is_done.set()

    monkeypatch.setattr(store, "load", slow)
    monkeypatch.setattr(store, "record", recorded)
    reports = await ticking.scaler.tick(ticking.world.clock(), cause="timer")
    assert [(r.service, r.outcome) for r in reports] == [("iris", "saved"), ("digits", "saved")]


async def test_who_is_late_does_not_wait_once_more_for_a_list_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaler.tick.scaler.TOGETHER_S", 0.001)
    ticking, is_asked = Ticking(services=TWO), asyncio.Event()
    store = ticking.world.store
    load, lists = store.load, []

    async def slow(service: str) -> Stored:
        if service == "iris":
            await asyncio.wait_for(is_asked.wait(), 10)
        return await load(service)

    async def fails() -> Sequence[Group]:
        lists.append(ticking.world.clock.advance(25))
        is_asked.set()
        raise Unavailable("no answer within 25 s")

    monkeypatch.setattr(store, "load", slow)
    monkeypatch.setattr(ticking.world.fleet, "list", fails)
    reports = await ticking.scaler.tick(ticking.world.clock(), cause="timer")
    assert [(r.service, r.outcome) for r in reports] == [("iris", "saved"), ("digits", "saved")]
    assert len(lists) == 1


async def test_a_tick_that_is_cancelled_leaves_nothing_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking, is_asked = Ticking(), asyncio.Event()
    await ticking.pin(1)

    async def hangs(_: GroupRequest) -> None:
        is_asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ticking.world.fleet, "create", hangs)
    others = asyncio.all_tasks()
    tick = asyncio.ensure_future(ticking.tick())
    await is_asked.wait()
    under_way = asyncio.all_tasks() - others
    tick.cancel()
    await asyncio.wait(under_way, timeout=10)
    assert asyncio.all_tasks() == others


async def test_a_fault_in_one_service_leaves_all_others_their_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are no longer configured too."""
    ticking = Ticking(services=f"{TWO}\n  gone:{SERVICE}")
    await ticking.tick()
    ticking.deploy(TWO)
    record, recorded = ticking.world.store.record, []

    async def faulty(row: DecisionRow) -> None:
        if row.service == "iris":
            raise ZeroDivisionError
        await asyncio.sleep(0)
        await record(row)
        recorded.append(row.service)

    monkeypatch.setattr(ticking.world.store, "record", faulty)
    with pytest.raises(ZeroDivisionError):
        await ticking.tick()
    assert recorded == ["digits", "gone"]


async def test_services_share_what_azure_takes() -> None:
    text = SERVICE.replace("max: 4", "max: 400").replace(", northeurope", "")
    ticking = Ticking(services=f"services:\n  iris:{text}\n  digits:{text}")
    ticking.world.fleet.capacity["westeurope"] = 1000
    for service in ("iris", "digits"):
        pin = Pin(min=80, max=80, since=ticking.world.clock())
        await ticking.world.store.write_pin(service, pin, etag=None)
    await ticking.tick()
    assert len(ticking.world.fleet.held) == 95


async def test_what_is_no_longer_configured_takes_from_the_same_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    text = SERVICE.replace(", northeurope", "")
    ticking = Ticking(services=f"services:\n  iris:{text}\n  digits:{text}")
    for service in ("iris", "digits"):
        pin = Pin(min=3, max=3, since=ticking.world.clock())
        await ticking.world.store.write_pin(service, pin, etag=None)
    await ticking.ticks_until(Phase.READY, 3)
    await ticking.ticks_until(Phase.READY, 3, service="digits")
    monkeypatch.setattr("scaler.allowance.LIMITS", ((300.0, KEPT_BACK + 4), (3600.0, 300)))
    ticking.deploy(f"services:\n  iris:{text}")
    await ticking.pin(0)
    for _ in range(12):
        await ticking.tick()
    assert len(ticking.world.fleet.asked_to_go) == 4


async def test_a_service_whose_turn_does_not_come_is_first_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking = Ticking(services=f"services:\n  iris:{SERVICE}\n  digits:{SERVICE}")
    monkeypatch.setattr("scaler.tick.scaler.TICK_LIMIT_S", -1.0)
    report = await ticking.tick()
    assert report.outcome.startswith("unavailable: the tick took longer")


@pytest.mark.parametrize("delete_delay_s", [0.0, 20.0])  # the list names a group for longer than there is to do
async def test_a_service_no_longer_configured_is_drained_to_nothing(delete_delay_s: float) -> None:
    ticking = Ticking()
    await ticking.pin(2)
    await ticking.ticks_until(Phase.READY, 2)
    ticking.world.fleet.delete_delay_s = delete_delay_s
    ticking.deploy(f"services:\n  other:{SERVICE}")
    for _ in range(16):
        await ticking.tick()
    assert ticking.world.fleet.held == {}
    assert await ticking.phases() == {}


async def test_a_wait_of_a_removed_service_counts_from_when_azure_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its turn comes last, when the tick is as old as the other services made it."""
    ticking = Ticking()
    await ticking.pin(1)
    await ticking.ticks_until(Phase.READY, 1)
    world = ticking.world
    ticking.deploy(f"services:\n  other:{SERVICE}")
    load = world.store.load

    async def slow(service: str) -> Stored:
        world.clock.advance(20 if service == "other" else 0)
        return await load(service)

    monkeypatch.setattr(world.store, "load", slow)
    world.faults.add("delete", Unavailable("throttled", retry_after_s=100.0), times=1)
    while (await load("iris")).replicas[0].retry_at is None:
        await ticking.tick(1)
    (row,) = (await load("iris")).replicas
    assert row.retry_at == world.clock() + 100


async def test_a_replica_whose_place_is_no_longer_named_keeps_its_row_and_is_told_of() -> None:
    world = World(start_delay_s=20.0)
    ticking, second = Ticking(world=world), MemoryFleet(world.clock)
    placed = SERVICE.replace("westeurope, northeurope", "westeurope@second")
    ticking.deploy(f"services:\n  iris:{placed}")
    named = Places({"": world.fleet, "second": second})
    ticking.scaler.world = replace(ticking.scaler.world, fleet=named)
    await ticking.pin(1)
    await ticking.tick()
    await ticking.tick()
    ticking.deploy(f"services:\n  iris:{SERVICE}")
    unnamed = Places({"": world.fleet})
    ticking.scaler.world = replace(ticking.scaler.world, fleet=unnamed, is_listed=lambda region: "@" not in region)
    for _ in range(20):
        await ticking.tick()
    assert len(second.held) == 1
    assert set(second.held) <= set(await ticking.phases())
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert "place_lost" in {c.name for c in memory.conditions}
