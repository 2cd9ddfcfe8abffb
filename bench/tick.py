"""What a tick costs, and how that grows with the fleet: ``python -m bench.tick [--json FILE]``.

Real parts but for the replicas: the production tick with the real SDKs, Azurite, the stand-in for Resource Manager, and
one process that answers ``/stats`` for every replica at its own address. Ten regions in five resource groups of five
subscriptions. Memory is the peak of the ticking process. All numbers are of this machine and this moment; what travels
is how they grow. It takes about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from scaler.azure import connect, mint
from scaler.model import Phase, Replica
from scaler.ports import Changes, GroupRequest, ServiceRow
from scaler.settings import Settings
from scaler.tick.scaler import Scaler
from tests.azurite import Azurite
from tests.stand_in import ROOT, StandIn, start_stand_in

SIZES = ((1, 10), (10, 10), (100, 10))  # services, replicas of each
TICKS = 12
PLACES = ("", "b", "c", "d", "e")
REGIONS = tuple(f"{region}{'@' + p if p else ''}" for p in PLACES for region in ("westeurope", "northeurope"))
TEMPLATE = """
properties:
  containers:
    - name: model
      properties:
        image: example.azurecr.io/inference:1
        ports: [{port: PORT}]
        resources: {requests: {cpu: 1.0, memoryInGB: 1.5}}
  ipAddress: {type: Public, ports: [{port: PORT}]}
"""
LIMITS_S, LIMIT_MB = 5.0, 200.0


def subscription(place: str) -> str:
    return f"00000000-0000-4000-8000-{PLACES.index(place):012d}"


# ---------------------------------------------------------------- the process that ticks


async def ticked(folder: Path, each: int) -> list[dict[str, Any]]:
    """Make the fleet, then tick: what each tick took."""
    scaler = connect(Settings.read(os.environ))
    try:
        await plant(scaler, folder, each)
        told = []
        for _ in range(TICKS):
            cpu_s = time.process_time()
            began = time.perf_counter()
            reports = await scaler.tick(time.time(), cause="timer")
            took = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_s}
            assert all(r.outcome == "saved" for r in reports), reports
            told.append(took | {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
            await asyncio.sleep(1.0)  # two ticks a second would be no rate
        rows = [r for name in scaler.managed for r in await scaler.store.decisions(name, since=0.0, limit=1)]
        phases = [json.loads(row.replicas) for row in rows]
        assert sum(p["ready"] for p in phases) == each * len(scaler.managed), phases
        calls: dict[str, int] = {}
        for row in rows:
            for kind, count in json.loads(row.calls).items():
                calls[kind] = calls.get(kind, 0) + count
        return [*told, {"calls": calls}]
    finally:
        await scaler.world.close()  # type: ignore[attr-defined]


async def plant(scaler: Scaler, folder: Path, each: int) -> None:
    """All groups asked for at once and their rows written, as if ticks had done it long ago."""
    gate = asyncio.Semaphore(32)
    names: dict[str, list[Replica]] = {}

    async def create(request: GroupRequest) -> None:
        async with gate:
            await scaler.world.fleet.create(request)

    creates = []
    for i, (service, managed) in enumerate(scaler.managed.items()):
        assert managed.template is not None
        for k in range(each):
            region = REGIONS[(i + k) % len(REGIONS)]
            name, now = mint(service), time.time()
            request = managed.template.request(
                name, service=service, deployment_id=scaler.world.deployment_id, region=region
            )
            creates.append(create(request))
            row = Replica(
                name=name,
                phase=Phase.STARTING,
                region=region,
                template=managed.template.hash,
                intended_at=now,
                phase_at=now,
                port=managed.template.port,
            )
            names.setdefault(service, []).append(row)
    await asyncio.gather(*creates)
    for service, rows in names.items():
        stored = await scaler.store.load(service)
        await scaler.store.save(stored, ServiceRow(memory=b""), Changes(written=tuple(rows)))
    while True:
        groups = await scaler.world.fleet.list()
        if len(groups) == len(creates) and all(g.address for g in groups):
            break
        await asyncio.sleep(0.5)
    (folder / "names.json").write_text(json.dumps({g.address: g.name for g in groups}))


# ---------------------------------------------------------------- the replicas


class Answers(asyncio.Protocol):
    """``/stats`` of whichever replica has the address that was connected to."""

    names: dict[str, str] = {}  # noqa: RUF012 - of the process
    file = Path()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.address = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        if self.address not in self.names:
            type(self).names = json.loads(self.file.read_text())
        name, now = self.names[self.address], time.time()
        said = {
            "replica": name, "start_id": name, "sequence": int(now * 1000), "at": now, "phase": "ready",
            "in_flight": 2, "queued": 0, "capacity": 8, "arrivals_total": int(now), "completed_total": int(now) - 2,
            "failed_total": 0, "rejected_total": 0, "busy_seconds_total": now,
            "latency_s": {"p50": 0.02, "p95": 0.05, "p99": 0.09}, "cpu": 0.4, "memory_bytes": 4e8, "gpu": [],
        }  # fmt: skip
        said["memory_bytes"] = 400_000_000
        body = json.dumps(said).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


async def answer(folder: Path) -> None:
    Answers.file = folder / "names.json"
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answers, "0.0.0.0", 0, backlog=2048)  # noqa: S104 - 127.64.0.0/16 all at once
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# ---------------------------------------------------------------- the run


def run(services: int, each: int) -> dict[str, Any]:
    """One size, with parts of its own."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "autoscaler.yaml").write_text(configuration(services, each))
        for name in ("arm", "azurite"):
            (folder / name).mkdir()
        azurite = Azurite(folder / "azurite")
        azurite.start()
        options = [o for p in PLACES for o in ("--subscription", subscription(p))]
        options += ["--resource-group", "bench", "--start-delay", "0.1", "--page-size", "1000", "--groups", "1000"]
        options += ["--cores", "10000", "--reads", "100000"]
        options += ["--changes-per-hour", "100000", "--changes-per-5-minutes", "100000"]
        replicas = subprocess.Popen(
            [sys.executable, "-m", "bench.tick", "--answer", made], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            assert replicas.stdout is not None
            (folder / "replica.yaml").write_text(TEMPLATE.replace("PORT", replicas.stdout.readline().strip()))
            with start_stand_in(folder / "arm", *options) as stand_in:
                return measured(folder, azurite, stand_in, each)
        finally:
            replicas.terminate()
            replicas.wait()
            azurite.stop()


def measured(folder: Path, azurite: Azurite, stand_in: StandIn, each: int) -> dict[str, Any]:
    trust = folder / "ca.pem"
    trust.write_text(azurite.ca.read_text() + stand_in.ca.read_text())
    environment = {
        "PATH": os.environ["PATH"],
        "SSL_CERT_FILE": str(trust),
        "AUTOSCALER_CONFIG": str(folder / "autoscaler.yaml"),
        "AUTOSCALER_DEPLOYMENT_ID": "bench",
        "AZURE_SUBSCRIPTION_ID": subscription(""),
        "AUTOSCALER_RESOURCE_GROUP": "bench",
        "AUTOSCALER_PLACES": ",".join(f"{p}={subscription(p)}/bench" for p in PLACES if p),
        "AUTOSCALER_TABLE_ENDPOINT": azurite.table,
        "AUTOSCALER_ARM_ENDPOINT": stand_in.arm,
        **stand_in.identity,
    }
    ran = subprocess.run(
        [sys.executable, "-m", "bench.tick", "--tick", str(folder), "--each", str(each)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=280,
    )
    *ticks, last = json.loads(ran.stdout)
    settled = ticks[2:]  # the first ones connect, and see every replica become ready
    took = sorted(t["seconds"] for t in settled)
    return {
        "seconds": statistics.median(took),
        "slowest": took[-1],
        "first": ticks[0]["seconds"],
        "cpu_s": statistics.median(t["cpu_s"] for t in settled),
        "mb": settled[-1]["mb"],
        "calls": last["calls"],
    }


def configuration(services: int, each: int) -> str:
    lines = ["services:"]
    for i in range(services):
        lines.append(f"  s{i:03d}:")
        lines.append(f"    template: replica.yaml\n    regions: [{', '.join(REGIONS)}]")
        lines.append(f"    replicas: {{min: {each}, max: {each + 2}}}\n    target: {{concurrency: 4}}")
    return "\n".join(lines)


def shown(found: dict[int, dict[str, Any]]) -> Table:
    table = Table(title=f"A tick, median of {TICKS - 2}; limits for 1000 replicas: {LIMITS_S:g} s, {LIMIT_MB:g} MB")
    columns = (
        "replicas", "seconds", "slowest", "first", "CPU s", "MB", "ms each", "lists", "scrapes", "table",
    )  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for replicas, f in found.items():
        calls = f["calls"]
        table.add_row(
            str(replicas), f"{f['seconds']:.2f}", f"{f['slowest']:.2f}", f"{f['first']:.2f}", f"{f['cpu_s']:.2f}",
            f"{f['mb']:.0f}", f"{f['seconds'] / replicas * 1000:.1f}",
            *(str(calls.get(kind, 0)) for kind in ("list", "stats", "table")),
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the numbers as JSON too")
    parser.add_argument("--tick", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--each", type=int, default=10, help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        asyncio.run(answer(options.answer))
    elif options.tick:
        print(json.dumps(asyncio.run(ticked(options.tick, options.each))))
    else:
        console = Console()
        found = {s * each: run(s, each) for s, each in track(SIZES, "measuring", console=console)}
        console.print(shown(found))
        if options.json:
            options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
