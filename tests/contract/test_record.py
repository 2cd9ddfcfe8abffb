"""``replay --recorded`` and ``shadow`` as programs, on a record in Azure Tables (Azurite), read by the real SDK."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from azure.data.tables.aio import TableServiceClient

from scaler.azure.table_state import TableState
from scaler.model import Decision, Observation
from scaler.ports import DecisionRow
from tests.azurite import Azurite
from tests.stand_in import StandIn

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
services:
  watched:
    replicas: {min: 1, max: 4}
    target: {requests_per_second: 10}
    forecast: false
"""
TICKS, TICK_S = 72, 300.0  # six hours
AT_ONCE = 4


def row(at: float, i: int) -> DecisionRow:
    seen = Observation(
        at=at, window_s=TICK_S, ready=1, starting=0, arrivals=300.0, completed=300.0, in_flight=0.5, queued=0.0,
        cold_starts_s=(50.0, 50.0, 50.0) if i % 10 == 0 else (),
    )  # fmt: skip
    live, shadow = (Decision(desired=n, limited_by="min", because=f"{n} of them") for n in (1, 2))
    return DecisionRow(
        service="watched", at=at, tick=f"tick-{i}", cause="timer", desired=1, limited_by="min", because=live.because,
        decision=msgspec.msgpack.encode(live), observation=msgspec.msgpack.encode(seen), state_before=b"",
        shadow=msgspec.msgpack.encode(shadow), actions="[]", replicas="{}", seconds=0.1, calls="{}",
    )  # fmt: skip


@pytest.fixture
async def recorded(tables: TableServiceClient) -> int:
    """How many rows the record holds, the newest one tick old."""
    store, now = TableState(tables), time.time()
    rows = [row(now - TICK_S * (TICKS - i), i) for i in range(TICKS)]
    await store.record(rows[0])  # the tables are made
    for i in range(1, TICKS, AT_ONCE):
        await asyncio.gather(*(store.record(r) for r in rows[i : i + AT_ONCE]))
    return TICKS


def told(azurite: Azurite, stand_in: StandIn, folder: Path, *words: str) -> Any:
    trust = folder / "ca.pem"
    trust.write_text(azurite.ca.read_text() + stand_in.ca.read_text())
    (folder / "autoscaler.yaml").write_text(CONFIG)
    environment = {
        "PATH": os.environ["PATH"],
        "SSL_CERT_FILE": str(trust),
        "AUTOSCALER_TABLE_ENDPOINT": azurite.table,
        "AZURE_CLIENT_ID": "00000000-0000-4000-8000-00000000001d",
        **stand_in.identity,
    }
    command = [sys.executable, "-m", "scaler", *words, "--config", str(folder / "autoscaler.yaml"), "--json"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


async def test_a_record_in_the_table_is_replayed_and_its_shadow_compared(
    recorded: int, azurite: Azurite, stand_in: StandIn, tmp_path: Path
) -> None:
    played = await asyncio.to_thread(
        told, azurite, stand_in, tmp_path, "replay", "--recorded", "--days", "1", "--against", "fixed:2"
    )
    assert played["trace"]["requests"] == pytest.approx(300 * recorded)
    assert played["trace"]["filled_s"] == 0.0
    assert played["world"]["cold_start_s"] == {"p10": 50.0, "p50": 50.0, "p90": 50.0}
    assert played["results"][0]["replica_hours"] == pytest.approx(recorded * TICK_S / 3600, rel=0.01)
    beside = await asyncio.to_thread(told, azurite, stand_in, tmp_path, "shadow", "watched", "--days", "1")
    assert (beside["decided"]["ticks"], beside["decided"]["shadow_more"]) == (recorded, recorded)
    assert beside["followed"][1]["replica_hours"] == pytest.approx(2 * recorded * TICK_S / 3600, rel=0.01)
