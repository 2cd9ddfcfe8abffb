"""What every store keeps: the same sentences for the one in memory and for Azure Tables (Azurite), by the real SDK."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from azure.data.tables.aio import TableServiceClient
from msgspec.structs import replace

from scaler.azure import table_state
from scaler.azure.table_state import TableState
from scaler.errors import Conflict, Unavailable
from scaler.foresight.history import MOST_BLOCKS, Block, History, Span, pack, record, unpack
from scaler.model import Front, Phase, Pin, Replica
from scaler.ports import Calls, Changes, DecisionRow, RolloutRow, ServiceRow, Store, Stored
from tests.azurite import Azurite, missing_azurite
from tests.memory_store import MemoryStore

AT = 1_790_000_000.0
NAMES = (f"service-{i}" for i in count(1))


AWAY = missing_azurite()
DOORS = ["memory", pytest.param("azurite", marks=pytest.mark.skipif(AWAY is not None, reason=str(AWAY)))]


@pytest.fixture(params=DOORS)
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return TableState(request.getfixturevalue("tables"), clock=lambda: AT)


@pytest.fixture
def service() -> str:
    return next(NAMES)


def replica(name: str, phase: Phase = Phase.INTENDED, **fields: Any) -> Replica:
    known: dict[str, Any] = {"region": "westeurope", "template": "abcd1234", "intended_at": AT, "phase_at": AT} | fields
    return Replica(name=name, phase=phase, **known)


def service_row(memory: bytes = b"memory", **fields: Any) -> ServiceRow:
    return ServiceRow(memory=memory, **fields)


def decision(service: str, at: float, tick: str = "t1", **fields: Any) -> DecisionRow:
    known: dict[str, Any] = {
        "cause": "timer",
        "desired": 3,
        "limited_by": None,
        "because": "so",
        "decision": b"\x01",
        "observation": b"\x02" * 100,
        "state_before": b"",
        "actions": "[]",
        "replicas": "{}",
        "seconds": 0.25,
        "calls": "{}",
    }
    return DecisionRow(service=service, at=at, tick=tick, **(known | fields))


async def test_a_service_that_was_never_saved_loads_as_nothing(store: Store, service: str) -> None:
    assert await store.load(service) == Stored(service=service)


async def test_what_is_saved_is_what_is_loaded(store: Store, service: str) -> None:
    row = service_row(
        bytes(range(256)),
        endpoints_version=2**40,
        off=True,
        opens_at=AT + 0.5,
        wakes=False,
        at=AT,
        desired=7,
        because="ü",
    )
    rows = (
        replica("iris-a"),
        replica(
            "iris-b", Phase.DRAINING, address="127.64.0.1", port=8080, ready_at=AT, drain_version=3, idle_arrivals=0,
            silent_since=AT, idle_since=AT, asked_at=AT, because="it's late", failure="X", retry_at=AT,
        ),
    )  # fmt: skip
    saved = await store.save(Stored(service=service), row, Changes(written=rows))
    loaded = await store.load(service)
    assert loaded == saved
    assert loaded.row == row
    assert tuple(replace(r, etag="") for r in loaded.replicas) == rows
    assert all(r.etag for r in loaded.replicas)


async def test_of_two_first_saves_one_wins(store: Store, service: str) -> None:
    await store.save(Stored(service=service), service_row(b"one"), Changes())
    with pytest.raises(Conflict):
        await store.save(Stored(service=service), service_row(b"two"), Changes())
    loaded = await store.load(service)
    assert loaded.row == service_row(b"one")


async def test_of_two_saves_on_one_reading_the_second_changes_nothing(store: Store, service: str) -> None:
    first = await store.save(Stored(service=service), service_row(), Changes(written=(replica("iris-a"),)))
    second = await store.save(first, service_row(b"second"), Changes())
    with pytest.raises(Conflict):
        await store.save(first, service_row(b"late"), Changes(written=(replica("iris-b"),), removed=first.replicas))
    assert await store.load(service) == second


async def test_saving_on_what_a_save_gave_back_needs_no_load(store: Store, service: str) -> None:
    stored = Stored(service=service)
    for i in range(3):
        ready = tuple(replace(r, phase=Phase.READY) for r in stored.replicas)
        stored = await store.save(stored, service_row(desired=i), Changes(written=(*ready, replica(f"iris-{i}"))))
    assert [r.name for r in stored.replicas] == ["iris-0", "iris-1", "iris-2"]
    assert await store.load(service) == stored


async def test_a_replica_row_that_somebody_moved_fails_the_whole_save(store: Store, service: str) -> None:
    stored = await store.save(
        Stored(service=service), service_row(), Changes(written=(replica("iris-a"), replica("iris-b")))
    )
    await store.move(service, replace(stored.replicas[0], phase=Phase.CREATING))
    with pytest.raises(Conflict):
        await store.save(stored, service_row(b"new"), Changes(written=stored.replicas))
    loaded = await store.load(service)
    assert loaded.row == service_row()
    assert [r.phase for r in loaded.replicas] == [Phase.CREATING, Phase.INTENDED]


async def test_a_row_cannot_be_inserted_twice(store: Store, service: str) -> None:
    stored = await store.save(Stored(service=service), service_row(), Changes(written=(replica("iris-a"),)))
    with pytest.raises(Conflict):
        await store.save(stored, service_row(), Changes(written=(replica("iris-a"),)))


async def test_removed_rows_are_gone(store: Store, service: str) -> None:
    stored = await store.save(
        Stored(service=service), service_row(), Changes(written=(replica("iris-a"), replica("iris-b")))
    )
    after = await store.save(stored, service_row(), Changes(removed=stored.replicas[:1]))
    assert [r.name for r in after.replicas] == ["iris-b"]
    assert await store.load(service) == after


async def test_of_two_moves_on_the_same_reading_one_wins(store: Store, service: str) -> None:
    stored = await store.save(Stored(service=service), service_row(), Changes(written=(replica("iris-a"),)))
    row = stored.replicas[0]
    moved = await store.move(service, replace(row, phase=Phase.CREATING))
    with pytest.raises(Conflict):
        await store.move(service, replace(row, phase=Phase.DELETING))
    again = await store.move(service, replace(moved, phase=Phase.DELETING))
    assert (await store.load(service)).replicas == (again,)


async def test_a_row_that_is_gone_cannot_be_moved(store: Store, service: str) -> None:
    stored = await store.save(Stored(service=service), service_row(), Changes(written=(replica("iris-a"),)))
    await store.save(stored, service_row(), Changes(removed=stored.replicas))
    with pytest.raises(Conflict):
        await store.move(service, stored.replicas[0])


async def test_a_large_memory_comes_back_whole_and_a_small_one_after_it_too(store: Store, service: str) -> None:
    large = bytes(range(256)) * 2000  # 512 kB: more than one column holds
    stored = await store.save(Stored(service=service), service_row(large), Changes())
    assert (await store.load(service)).row == service_row(large)
    await store.save(stored, service_row(b"small"), Changes())
    assert (await store.load(service)).row == service_row(b"small")


async def test_a_save_of_more_rows_than_a_transaction_takes_is_whole(store: Store, service: str) -> None:
    many = tuple(replica(f"iris-{i:03d}") for i in range(250))
    stored = await store.save(Stored(service=service), service_row(b"1"), Changes(written=many))
    assert await store.load(service) == stored
    ready = tuple(replace(r, phase=Phase.READY, address="127.64.0.9") for r in stored.replicas[:120])
    after = await store.save(stored, service_row(b"2"), Changes(written=ready, removed=stored.replicas[120:]))
    assert len(after.replicas) == 120
    assert await store.load(service) == after


async def test_of_two_large_saves_on_the_same_reading_one_wins_and_no_memory_of_the_other_stays(
    store: Store, service: str
) -> None:
    stored = await store.save(Stored(service=service), service_row(b"0"), Changes())
    many = tuple(replica(f"iris-{i:03d}") for i in range(150))
    winner = await store.save(stored, service_row(b"winner"), Changes(written=many))
    with pytest.raises(Conflict):
        await store.save(
            stored, service_row(b"loser"), Changes(written=tuple(replica(f"late-{i}") for i in range(150)))
        )
    assert await store.load(service) == winner


async def test_a_pin_is_written_read_and_removed(store: Store, service: str) -> None:
    pin = Pin(min=3, max=5, since=AT, until=AT + 3600, actor="key ann", reason="launch")
    etag = await store.write_pin(service, pin, etag=None)
    loaded = await store.load(service)
    assert (loaded.pin, loaded.pin_etag, loaded.row) == (pin, etag, None)
    assert await store.remove_pin(service, etag=None) is True
    assert await store.remove_pin(service, etag=None) is False
    assert (await store.load(service)).pin is None


async def test_a_pin_is_changed_only_on_the_reading_it_was_meant_for(store: Store, service: str) -> None:
    pin = Pin(min=1, max=1, since=AT)
    first = await store.write_pin(service, pin, etag=None, create=True)
    with pytest.raises(Conflict):
        await store.write_pin(service, pin, etag=None, create=True)
    second = await store.write_pin(service, replace(pin, max=2), etag=first)
    with pytest.raises(Conflict):
        await store.write_pin(service, replace(pin, max=3), etag=first)
    with pytest.raises(Conflict):
        await store.remove_pin(service, etag=first)
    assert (await store.load(service)).pin == replace(pin, max=2)
    assert await store.remove_pin(service, etag=second) is True
    with pytest.raises(Conflict):
        await store.write_pin(service, pin, etag=second)


async def test_the_front_overwrites_its_row_and_disturbs_no_save(store: Store, service: str) -> None:
    stored = await store.save(Stored(service=service), service_row(), Changes())
    for waiting in (3, 0):
        front = Front(start_id="f", at=AT, waiting=waiting, arrivals_total=9, applied_version=4)
        await store.write_front(service, front)
    assert (await store.load(service)).front == front
    await store.save(stored, service_row(b"after"), Changes())


async def test_services_with_a_row_are_listed(store: Store, service: str) -> None:
    other = next(NAMES)
    await store.save(Stored(service=service), service_row(), Changes())
    await store.write_pin(other, Pin(min=1, max=1, since=AT), etag=None)
    listed = await store.services()
    assert service in listed
    assert other not in listed


async def test_decisions_come_newest_first_within_their_span(store: Store, service: str) -> None:
    rows = [decision(service, AT - 100_000.0 * i, tick=f"t{i}", limited_by="max" if i else None) for i in range(6)]
    for row in rows:
        await store.record(row)
    await store.record(decision(next(NAMES), AT))
    assert list(await store.decisions(service, since=0.0)) == rows
    assert list(await store.decisions(service, since=AT - 200_000.0)) == rows[:3]
    assert list(await store.decisions(service, since=0.0, until=AT - 100_000.0, limit=2)) == rows[1:3]
    assert list(await store.decisions(service, since=0.0, until=AT - 100_000.5, limit=1)) == rows[2:3]
    assert list(await store.decisions(service, since=AT + 1)) == []
    assert list(await store.decisions(service, since=AT + 1, until=AT)) == []


async def test_no_decision_falls_between_two_looks(store: Store, service: str) -> None:
    # The table is looked through in spans that end 900 s, 2700 s, … before the newest.
    ages = [899.999, 900.0, 900.001, 2699.999, 2700.0, 2700.001]
    for i, age in enumerate(ages):
        await store.record(decision(service, AT - age, tick=f"t{i}"))
    assert [row.tick for row in await store.decisions(service, since=0.0)] == [f"t{i}" for i in range(len(ages))]
    some = await store.decisions(service, since=AT - 2700.0, until=AT - 900.0)
    assert [row.tick for row in some] == ["t1", "t2", "t3", "t4"]


async def test_what_is_drawn_comes_oldest_first_and_holds_what_was_recorded(store: Store, service: str) -> None:
    rows = [replace(decision(service, AT + i, f"t{i}"), desired=i, observation=bytes([i])) for i in range(5)]
    for row in rows:
        await store.record(row)
    found = await store.drawn(service, since=AT + 1, until=AT + 3)
    assert [(r.at, r.desired, r.observation) for r in found] == [(AT + i, i, bytes([i])) for i in (1, 2, 3)]
    assert await store.drawn("nobody", since=0.0, until=AT) == []


async def test_packed_hours_are_read_by_span_and_no_tick_reads_them(store: Store, service: str) -> None:
    for hour in (9, 10, 99, 100, 497_222):
        await store.write_past(service, hour, b"x" * hour if hour < 200 else b"packed")
    await store.write_past(service, 10, b"again")
    assert await store.past(service, first=10, last=100) == {10: b"again", 99: b"x" * 99, 100: b"x" * 100}
    assert await store.past(service, first=497_222, last=497_300) == {497_222: b"packed"}
    assert await store.past("nobody", first=0, last=500_000) == {}
    assert await store.load(service) == Stored(service=service)


async def test_of_many_saves_at_once_one_wins(store: Store, service: str) -> None:
    stored = await store.save(Stored(service=service), service_row(), Changes())
    saves = (store.save(stored, service_row(f"{i}".encode()), Changes(written=(replica(f"r-{i}"),))) for i in range(12))
    outcomes = await asyncio.gather(*saves, return_exceptions=True)
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 11
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
    assert await store.load(service) == winner


async def test_decisions_of_a_clock_ahead_of_ours_are_found(store: Store, service: str) -> None:
    row = decision(service, AT + 1e8)
    await store.record(row)
    assert list(await store.decisions(service, since=AT)) == [row]


async def test_a_decision_recorded_twice_is_there_once(store: Store, service: str) -> None:
    row = decision(service, AT, actions="ä" * 40_000, observation=b"o" * 100_000)
    await store.record(row)
    await store.record(row)
    assert list(await store.decisions(service, since=0.0)) == [row]


async def test_each_call_is_counted(store: Store, service: str) -> None:
    calls = Calls()
    with calls.counting():
        stored = await store.load(service)
        await store.save(stored, service_row(), Changes(written=(replica("iris-a"),)))
        await store.record(decision(service, AT))
    assert calls.counts() == {"table": 3}


# ---------------------------------------------------------------- what only a table has


async def test_tables_are_made_when_there_are_none_and_missing_ones_do_not_fail_a_tick(
    azurite: Azurite, tables: TableServiceClient
) -> None:
    for name in (table_state.STATE, table_state.DECISIONS):
        await tables.delete_table(name)
    store = TableState(tables)
    assert await store.load("iris") == Stored(service="iris")
    await store.record(decision("iris", AT))
    assert len(await store.decisions("iris", since=0.0)) == 1
    for name in (table_state.STATE, table_state.DECISIONS):
        await tables.delete_table(name)
    assert await store.remove_pin("iris", etag=None) is False
    await store.save(Stored(service="iris"), service_row(), Changes())
    assert await store.services() == ["iris"]


async def test_a_damaged_column_is_named(tables: TableServiceClient, service: str) -> None:
    store = TableState(tables)
    await store.save(Stored(service=service), service_row(), Changes(written=(replica("iris-a"),)))
    table = tables.get_table_client(table_state.STATE)
    await table.upsert_entity({"PartitionKey": service, "RowKey": "replica-iris-a", "phase_at": "yesterday"})
    expected = f"table state, partition {service}, row replica-iris-a: column phase_at: expected float, got str"
    with pytest.raises(Unavailable, match=expected):
        await store.load(service)
    await table.upsert_entity({"PartitionKey": service, "RowKey": "replica-iris-a", "phase": "flying"}, "replace")
    with pytest.raises(Unavailable, match="row replica-iris-a: column phase: invalid enum value 'flying'"):
        await store.load(service)
    await table.upsert_entity({"PartitionKey": service, "RowKey": "replica-iris-a", "phase": "ready"}, "replace")
    with pytest.raises(Unavailable, match="row replica-iris-a: column region is missing"):
        await store.load(service)


async def test_columns_and_rows_of_a_later_version_are_left_alone(tables: TableServiceClient, service: str) -> None:
    store = TableState(tables)
    saved = await store.save(Stored(service=service), service_row(), Changes(written=(replica("iris-a"),)))
    table = tables.get_table_client(table_state.STATE)
    await table.create_entity({"PartitionKey": service, "RowKey": "history-123", "bins": b"\x00"})
    await table.create_entity({"PartitionKey": service, "RowKey": "zz-new", "what": 1})
    await table.upsert_entity({"PartitionKey": service, "RowKey": "replica-iris-a", "colour": "blue"})
    assert [replace(r, etag="") for r in (await store.load(service)).replicas] == [replica("iris-a")]
    assert saved.row == (await store.load(service)).row


async def test_a_partition_of_many_pages_is_read_to_its_end(tables: TableServiceClient, service: str) -> None:
    store = TableState(tables)
    many = tuple(replica(f"iris-{i:04d}") for i in range(1200))
    await store.save(Stored(service=service), service_row(), Changes(written=many))
    calls = Calls()
    with calls.counting():
        loaded = await store.load(service)
    assert len(loaded.replicas) == 1200
    assert calls.counts() == {"table": 2}


async def test_storage_that_is_away_is_unavailable(tables: TableServiceClient, azurite: Azurite, service: str) -> None:
    store = TableState(tables)
    azurite.stop()
    try:
        for call in (
            store.load(service),
            store.save(Stored(service=service), service_row(), Changes()),
            store.record(decision(service, AT)),
            store.services(),
        ):
            with pytest.raises(Unavailable):
                await call
    finally:
        azurite.start()
    assert await store.load(service) == Stored(service=service)


async def test_the_rollout_is_saved_with_the_service_and_loaded_with_it(store: Store, service: str) -> None:
    big = bytes(range(256)) * 1000  # more than one column holds
    saved = await store.save(Stored(service=service), service_row(), Changes(rollout=RolloutRow(data=big)))
    loaded = await store.load(service)
    assert loaded.rollout is not None
    assert loaded.rollout.data == big
    assert saved.rollout == loaded.rollout
    kept = await store.save(loaded, service_row(), Changes())
    assert kept.rollout == loaded.rollout == (await store.load(service)).rollout


async def test_a_rollout_written_by_somebody_else_meanwhile_stops_the_save(store: Store, service: str) -> None:
    await store.save(Stored(service=service), service_row(b"first"), Changes(rollout=RolloutRow(data=b"a")))
    loaded = await store.load(service)
    assert loaded.rollout is not None
    written = await store.write_rollout(service, replace(loaded.rollout, data=b"b"))
    with pytest.raises(Conflict):
        await store.save(loaded, service_row(b"second"), Changes(rollout=replace(loaded.rollout, data=b"c")))
    with pytest.raises(Conflict):
        await store.write_rollout(service, loaded.rollout)
    now = await store.load(service)
    assert now.rollout == written
    assert now.row is not None
    assert now.row.memory == b"first"


# -- the record of arrivals


def arrivals(blocks: int, history: History | None = None) -> History:
    """A record that many blocks longer, with arrivals that tell the bins apart."""
    history = history or History(bin_s=15.0)
    hours = len(history.blocks)
    for hour in range(hours, hours + blocks):
        for i in range(240):
            history = record(history, (hour * 240 + i) * 15.0, 15.0, float(hour + i))
    return history


def named(history: History) -> Span:
    span = pack(history).packed
    assert span is not None
    return span


async def saved(store: Store, service: str, *blocks: Block) -> None:
    await store.save(await store.load(service), service_row(), Changes(blocks=blocks))


async def test_blocks_come_back_as_they_were_and_a_load_does_not_read_them(store: Store, service: str) -> None:
    history = arrivals(3)
    await saved(store, service, *history.blocks[:2])
    await saved(store, service, history.blocks[2])
    assert unpack(pack(history), await store.history(service, named(history))) == history
    assert len((await store.load(service)).replicas) == 0


async def test_what_is_not_stored_is_not_there(store: Store, service: str) -> None:
    history = arrivals(2)
    assert unpack(pack(history), await store.history(service, named(history))).blocks == ()
    await saved(store, service, history.blocks[1])
    assert unpack(pack(history), await store.history(service, named(history))).blocks == history.blocks[1:]


async def test_keys_go_round_and_the_newest_blocks_are_kept(store: Store, service: str) -> None:
    first = arrivals(1).blocks[0]
    await saved(store, service, first)
    far = [Block(number=n, bin_s=15.0, rates=first.rates, digest=b"%d" % n) for n in range(1, 2 * MOST_BLOCKS + 2)]
    for i in range(0, len(far), 90):
        await saved(store, service, *far[i : i + 90])
    found = await store.history(service, Span(first=2, last=far[-1].number, digest=far[-1].digest))
    assert [found.get(n) for n in range(2, far[-1].number + 1)] == far[1:]


async def test_a_block_that_another_instance_wrote_is_read_alone(tables: TableServiceClient, service: str) -> None:
    ours, theirs = TableState(tables, clock=lambda: AT), TableState(tables, clock=lambda: AT)
    history = arrivals(12)
    await saved(theirs, service, *history.blocks[:11])
    eleven = replace(history, blocks=history.blocks[:11])
    assert unpack(pack(eleven), await ours.history(service, named(eleven))) == eleven
    calls = Calls()
    with calls.counting():
        await ours.history(service, named(eleven))
    assert calls.counts() == {}
    await saved(theirs, service, history.blocks[11])
    assert unpack(pack(history), await ours.history(service, named(history))) == history


async def test_a_record_that_began_anew_elsewhere_is_read_anew(tables: TableServiceClient, service: str) -> None:
    ours, theirs = TableState(tables, clock=lambda: AT), TableState(tables, clock=lambda: AT)
    old, new = arrivals(2), arrivals(2, record(History(bin_s=15.0), 0.0, 15.0, 7.0))
    await saved(ours, service, *old.blocks)
    await saved(theirs, service, *new.blocks)
    assert unpack(pack(new), await ours.history(service, named(new))) == new
