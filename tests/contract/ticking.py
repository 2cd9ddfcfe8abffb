"""A program: connects as the environment says, ticks as often as its argument says, and tells as JSON what came of it.

A process of its own, for TLS trust is settled by ``SSL_CERT_FILE`` before the first import, as on a laptop.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from scaler.azure import connect
from scaler.settings import Settings
from scaler.tick.scaler import Scaler


def main() -> None:
    began = time.perf_counter()
    scaler = connect(Settings.read(os.environ))
    told = asyncio.run(ticked(scaler, int(sys.argv[1])))
    unwanted = sorted({"torch", "sklearn", "scipy", "azure.mgmt.network"} & set(sys.modules))
    print(json.dumps({**told, "connected_s": time.perf_counter() - began, "unwanted": unwanted}))


async def ticked(scaler: Scaler, times: int) -> dict[str, object]:
    try:
        outcomes = []
        for _ in range(times):
            reports = await scaler.tick(time.time(), cause="timer")
            outcomes += [r.outcome for r in reports if r.service in scaler.managed]  # others share the tables
        (managed,) = scaler.managed.values()
        stored = await scaler.store.load(managed.name)
        rows = await scaler.store.decisions(managed.name, since=0.0)
        groups = await scaler.world.fleet.list()
        return {
            "outcomes": outcomes,
            "phases": [r.phase for r in stored.replicas],
            "serving": [r.template for r in stored.replicas if r.phase == "ready" and r.silent_since is None],
            "groups": [{"name": g.name, "tags": g.tags, "region": g.region} for g in groups],
            "calls": [json.loads(row.calls) for row in rows],
            "seconds": [row.seconds for row in rows],
            "actions": [json.loads(row.actions) for row in rows],
            "signals": await scaler.world.signals(managed),
        }
    finally:
        await scaler.world.close()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
