"""Decisions made again from the rows in Azure Tables (Azurite), read by the real SDK: the same bytes come out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from azure.data.tables.aio import TableServiceClient
from msgspec import Struct
from msgspec.structs import replace

from scaler.azure.table_state import TableState
from scaler.config import load
from scaler.foresight.history import Block
from scaler.model import Decision, Front, Observation, Pin
from scaler.ports import DecisionRow
from scaler.recompute import blocks_of, is_reproduced
from scaler.tick.scaler import Scaler
from tests.azurite import Azurite
from tests.scaler.ticking import SERVICE, TEMPLATE, managed, ports
from tests.world import World

ROOT = Path(__file__).resolve().parents[2]
TICKS, TICK_S = 60, 15.0
MORE = """
    start: {expected_s: 6}
    budget: {daily: 9, replica_hour: 0.5}
    schedule: {timezone: Europe/Berlin, rules: [{min: 1, from: "07:00", to: "19:30"}, {holidays: DE, off: true}]}
    signals: [{name: jobs, storage_queue: jobs, per_replica: 50}]
    shadow: {target: {concurrency: 4}}
"""  # bins of a second: a block of the record of arrivals is full every 16 ticks


class Made(Struct, frozen=True):
    """One decision with all that it is made from."""

    row: DecisionRow
    blocks: dict[int, Block]


async def ticked(tables: TableServiceClient, service: str, *, forecast: bool) -> None:
    """A service with load that comes and goes, a pin, a budget, a front, a signal; another instance halfway."""
    text = f"services:\n  {service}:{SERVICE}{MORE}    forecast: {str(forecast).lower()}\n"
    world = World(start_delay_s=20.0)
    for i in range(TICKS):
        if i % (TICKS // 2) == 0:  # a fresh process has to read what the one before wrote
            config, store = load(text, "autoscaler.yaml"), TableState(tables, clock=world.clock)

            async def signals(_: object, i: int = i) -> dict[str, float | None]:
                return {"jobs": None if i % 9 == 4 else float(i % 5 * 20)}

            of_world = replace(ports(world), store=store, signals=signals)
            scaler = Scaler(config, managed(config, TEMPLATE, "CN=test"), of_world)
        now = world.clock.advance(TICK_S if i % 20 else 400.0)
        await store.write_front(service, Front(start_id="f", at=now, waiting=i % 3, arrivals_total=i))
        if i % 30 == 10:
            await store.write_pin(service, Pin(min=2, max=3, since=now, until=now + 60.0), etag=None)
        for server in world.servers.values():
            server.arrive(i % 7 * 4, each_s=0.3)
        (report,) = await scaler.tick(now, cause="timer", only=service)
        assert report.outcome == "saved"


async def recorded(tables: TableServiceClient, service: str) -> list[Made]:
    """Read as somebody reads it who wrote none of it."""
    store = TableState(tables)
    made = []
    for row in await store.decisions(service, since=0.0, limit=1000):
        named = blocks_of(row)
        blocks: Mapping[int, Block] = await store.history(service, named) if named else {}
        made.append(Made(row, dict(blocks)))
    return made


@pytest.mark.parametrize("forecast", [True, False])
async def test_every_decision_in_the_table_comes_out_again_bit_for_bit(
    tables: TableServiceClient, tmp_path: Path, forecast: bool
) -> None:
    service = f"again-{forecast}".lower()
    await ticked(tables, service, forecast=forecast)
    made = await recorded(tables, service)
    assert len(made) == TICKS
    assert [one.row.tick for one in made if not is_reproduced(one.row, one.blocks)] == []
    decisions = [msgspec.msgpack.decode(one.row.decision, type=Decision) for one in made]
    assert len({d.desired for d in decisions}) > 1
    named = {step.name for d in decisions for step in d.steps}
    assert {"pin", "jobs", "schedule_min"} <= named
    assert ("forecast" in named) is forecast
    assert any(one.blocks for one in made)
    in_another_process(made, tmp_path / "made")


def in_another_process(made: Sequence[Made], file: Path) -> None:
    """No order of a set, nothing kept in memory: a process with another seed of hashes says the same."""
    file.write_bytes(msgspec.msgpack.encode(made))
    environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "271828"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.contract.test_again", str(file)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ran.stdout.split() == [str(len(made))], ran.stderr


async def test_a_row_that_somebody_changed_in_the_table_does_not_come_out_again(
    azurite: Azurite, tables: TableServiceClient
) -> None:
    service = "again-changed"
    await ticked(tables, service, forecast=True)
    (one, *_) = await recorded(tables, service)
    table = tables.get_table_client("decisions")
    query = f"PartitionKey eq '{service}'"
    rows = [row async for row in table.query_entities(query)]
    newest = next(row for row in rows if row["tick"] == one.row.tick)
    seen = msgspec.msgpack.decode(one.row.observation, type=Observation)
    newest["observation"] = msgspec.msgpack.encode(replace(seen, signals={"jobs": 900.0}))
    await table.update_entity(newest)
    (changed, *_) = await recorded(tables, service)
    assert is_reproduced(changed.row, changed.blocks) is False


if __name__ == "__main__":
    again = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=list[Made])
    print(sum(is_reproduced(one.row, one.blocks) is True for one in again))
