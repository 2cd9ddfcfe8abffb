"""The package that Flex Consumption is sent: how large, how slow to start, how much memory, what it costs a month.

    python -m bench.package [--seconds-a-tick S]

Package: what `.funcignore` leaves. Import: `function_app` with all that its first tick imports, against the SDKs alone
that it needs at once, in fresh processes, alternating; the median of the ratios is told. Memory: a process that has
ticked ten times over Azurite and the stand-in. Money: the arithmetic of Flex Consumption.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.azurite import Azurite, start_azurite
from tests.deployment import deployed
from tests.stand_in import GROUP, ROLES, SUBSCRIPTION, StandIn, start_stand_in

ROOT = Path(__file__).resolve().parents[1]
PAIRS = 9
TICKS_A_MONTH = 30 * 24 * 3600 // 15
LEAST_S, STEP_S, MEMORY_GB = 1.0, 0.1, 0.5  # what a run is charged for at least, and in steps of
FREE_GB_S, FREE_RUNS, GB_S_PRICE, MILLION_RUNS_PRICE = 100_000, 250_000, 0.000026, 0.40
SDKS = (
    "import azure.functions, azure.identity.aio, azure.mgmt.containerinstance.aio, azure.data.tables.aio, "
    "azure.storage.queue.aio, aiohttp"
)
# What stands between a cold instance and its first tick.
OURS = (
    "import function_app, os; from scaler.azure import connect; from scaler.settings import Settings; "
    "connect(Settings.read(os.environ))"
)
TICKING = """
import asyncio, json, os, resource, sys, time
import function_app
from scaler.azure import connect
from scaler.settings import Settings
import psutil

async def main():
    scaler = connect(Settings.read(os.environ))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        await scaler.tick(time.time(), cause="timer")
        seconds.append(time.perf_counter() - began)
    rss = psutil.Process().memory_info().rss
    await scaler.world.close()
    print(json.dumps({"rss": rss, "seconds": seconds}))

asyncio.run(main())
"""
SERVICE = "{template: replica.yaml, regions: [westeurope], replicas: {min: 2}, target: {concurrency: 4}}"


def main() -> int:
    """0 if every promise holds, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench.package", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds-a-tick", type=float, help="charge this instead of what is measured here")
    options = parser.parse_args()
    size, files = package()
    with tempfile.TemporaryDirectory() as folder, start_azurite(Path(folder)) as azurite:
        arm = Path(folder) / "arm"
        arm.mkdir()
        place = ("--subscription", SUBSCRIPTION, "--resource-group", GROUP, "--authorization", str(ROLES))
        with start_stand_in(arm, *place, "--start-delay", "0.2") as stand_in:
            env = environment(Path(folder), azurite, stand_in)
            ratios, ours, sdks = imports(env)
            plain = json.loads(run(TICKING, {n: v for n, v in env.items() if n != "REPLICA_AUTHORITY"}))
            told = json.loads(run(TICKING, env))
    seconds = options.seconds_a_tick or statistics.median(told["seconds"])
    return report(size, files, (ratios, ours, sdks), (told["rss"], plain["rss"]), seconds)


def package() -> tuple[int, int]:
    """Bytes of the zip that is sent, and files in it. Dependencies are installed by Azure's build, not sent."""
    packed = io.BytesIO()
    count = 0
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sent():
            archive.write(file, file.relative_to(ROOT))
            count += 1
    return packed.tell(), count


def sent() -> Iterator[Path]:
    """What `.funcignore` leaves of what git has: its rules are those of `.gitignore`, of which it uses the simplest."""
    rules = [r for r in (ROOT / ".funcignore").read_text(encoding="utf-8").split() if r]
    ran = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    listed = ran.stdout.split("\n")
    for name in filter(None, listed):
        if not any(fnmatchcase(part, rule) for part in Path(name).parts for rule in rules):
            yield ROOT / name


def environment(folder: Path, azurite: Azurite, stand_in: StandIn) -> dict[str, str]:
    """A function app's in the variant `public`, with one service of two replicas, which serve TLS."""
    more = {"AUTOSCALER_QUEUE_ENDPOINT": azurite.queue, "REPLICA_AUTHORITY": "a-secret-of-the-bench"}
    return deployed(folder, azurite, stand_in, f"services: {{iris: {SERVICE}}}", **more)


def imports(env: dict[str, str]) -> tuple[list[float], list[float], list[float]]:
    """Seconds of fresh processes, in pairs so that both meet the same noise; the empty interpreter's are taken off."""
    ratios, ours, sdks = [], [], []
    for code in (OURS, SDKS):
        seconds(code, env)  # bytecode and disk are warm, as on an instance that was specialised
    for _ in track(range(PAIRS), "imports", console=Console(stderr=True)):
        empty, sdk, own = (seconds(code, env) for code in ("pass", SDKS, OURS))
        sdks.append(sdk - empty)
        ours.append(own - empty)
        ratios.append(ours[-1] / sdks[-1])
    return ratios, ours, sdks


def seconds(code: str, env: dict[str, str]) -> float:
    """Of processor time: an import waits for nothing, and others on this machine then do not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(code, env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(code: str, env: dict[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    ).stdout


def report(
    size: int,
    files: int,
    taken: tuple[Sequence[float], Sequence[float], Sequence[float]],
    rss: tuple[int, int],
    tick_s: float,
) -> int:
    ratios, ours, sdks = taken
    ratio = statistics.median(ratios)
    charged_s = max(LEAST_S, STEP_S * -(-tick_s // STEP_S))
    gb_s = TICKS_A_MONTH * charged_s * MEMORY_GB
    paid = max(0.0, gb_s - FREE_GB_S) * GB_S_PRICE + max(0, TICKS_A_MONTH - FREE_RUNS) / 1e6 * MILLION_RUNS_PRICE
    rows = [
        ("package as sent", f"{size / 1e6:.2f} MB in {files} files", None),
        ("import, ready to tick", f"{statistics.median(ours):.2f} s", None),
        ("import, SDKs alone", f"{statistics.median(sdks):.2f} s", None),
        ("ratio", f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})", ratio <= 1.3),
        ("memory after ten ticks", f"{rss[0] / 1e6:.0f} MB", rss[0] <= 150e6),
        ("the same without TLS to replicas", f"{rss[1] / 1e6:.0f} MB", rss[1] <= 150e6),
        ("a tick", f"{tick_s:.3f} s, charged {charged_s:.1f} s", None),
        ("a month", f"{TICKS_A_MONTH} ticks x {charged_s:.1f} s x {MEMORY_GB} GB = {gb_s:.0f} GB-s", None),
        ("free", f"{FREE_GB_S} GB-s and {FREE_RUNS} runs", gb_s <= FREE_GB_S and TICKS_A_MONTH <= FREE_RUNS),
        ("to pay", f"{paid:.2f} USD", None),
    ]
    table = Table("what", "measured", "promise")
    for what, measured, holds in rows:
        table.add_row(what, measured, {True: "holds", False: "broken", None: ""}[holds])
    Console().print(table)
    return 0 if all(holds is not False for *_, holds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
