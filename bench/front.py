"""What the front costs and how fast it is, measured in one run: ``python -m bench.front [--json FILE]``.

All numbers are of this machine and this moment; the ratios travel better. It takes about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from tests.front.parts import Envoy, Table, discovery, envoy, layout, replica, replica_process, until
from tests.front.replica import listener

IRIS = {"iris": 60.0}
CONNECTIONS, ROUNDS, ROUND_S = 16, 6, 2.0
REQUEST = (
    b"POST /predict HTTP/1.1\r\nhost: iris\r\ncontent-length: 31\r\n\r\n" + b'{"data": [[5.1, 3.5, 1.4, 0.2]]'[:31]
)
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 19\r\ncontent-type: application/json\r\n\r\n{"predictions":[0]}'


class Quick(asyncio.Protocol):
    """A replica that costs next to nothing, so that Envoy is what is measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * (data.count(b"POST ") + data.count(b"GET ")))


async def requests_per_second(front: Envoy) -> tuple[float, float]:
    """Answered requests a second, and Envoy's CPU microseconds for each."""
    port = int(front.url.rpartition(":")[2])
    process = psutil.Process(front.process.pid)
    ends_at = time.monotonic() + ROUND_S
    cpu_s = sum(process.cpu_times()[:2])
    counts = await asyncio.gather(*(_ask(port, ends_at) for _ in range(CONNECTIONS)))
    used_s = sum(process.cpu_times()[:2]) - cpu_s
    return sum(counts) / ROUND_S, used_s / sum(counts) * 1e6


async def _ask(port: int, ends_at: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = 0
    while time.monotonic() < ends_at:
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(19)
        answered += 1
    writer.close()
    return answered


async def cost_of_the_hold(folder: Path) -> dict[str, Any]:
    """Requests a second and CPU with the hold configured and without it, rounds in turn."""
    table = Table("iris")
    server = await asyncio.get_running_loop().create_server(Quick, sock=listener("127.64.3.1"))
    table.put("iris", server.sockets[0].getsockname())
    rounds: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
    async with (
        discovery(table, IRIS) as port,
        envoy(folder / "with", layout(port, IRIS)) as held,
        envoy(folder / "without", layout(port, IRIS, hold=False)) as bare,
    ):
        for front in (held, bare):
            await _settled(front)
        for _ in range(ROUNDS):
            rounds["with"].append(await requests_per_second(held))
            rounds["without"].append(await requests_per_second(bare))
        touched = await held.stat("cluster./hold.upstream_rq_total")
    server.close()
    rate = {key: statistics.median(r for r, _ in found) for key, found in rounds.items()}
    cpu = {key: statistics.median(c for _, c in found) for key, found in rounds.items()}
    return {
        "requests_per_second_with_hold": round(rate["with"]),
        "requests_per_second_without": round(rate["without"]),
        "ratio": round(rate["with"] / rate["without"], 3),
        "envoy_cpu_us_with_hold": round(cpu["with"], 1),
        "envoy_cpu_us_without": round(cpu["without"], 1),
        "requests_that_touched_the_hold": touched,
    }


async def _settled(front: Envoy) -> None:
    for _ in range(500):
        async with front.session.get(front.url + "/", headers={"host": "iris"}) as response:
            if response.status == 200:
                return
        await asyncio.sleep(0.01)
    raise AssertionError("it never served")


async def time_to_use_a_new_list(folder: Path, changes: int = 30) -> dict[str, Any]:
    """From the row's change until Envoy sends to the new replica, and until it is known that it does."""
    table = Table("iris")
    used, known = [], []
    async with (
        discovery(table, IRIS) as port,
        replica("a") as (one, a),
        replica("b", "127.64.0.8") as (other, b),
        envoy(folder / "list", layout(port, IRIS)) as front,
    ):
        table.put("iris", a)
        await _settled(front)
        for i in range(changes):
            there, app = (b, other) if i % 2 == 0 else (a, one)
            before = len(app.paths)
            version, began = table.put("iris", there), time.monotonic()
            while len(app.paths) == before:
                async with front.session.get(front.url + "/") as response:
                    await response.read()
            used.append(time.monotonic() - began)
            await until(lambda version=version: table.fronts["iris"][-1].applied_version >= version)  # type: ignore[misc]
            known.append(time.monotonic() - began)
    return {"table_read_every_s": 0.05, "used_after_s": _spread(used), "known_applied_after_s": _spread(known)}


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"median": round(statistics.median(ordered), 3), "worst": round(ordered[-1], 3)}


async def held_at_zero(folder: Path, count: int, size: int) -> dict[str, Any]:
    """``count`` requests with bodies of ``size`` bytes wait; then a replica's row appears."""
    table = Table("iris")
    bodies = [os.urandom(size) for _ in range(count)]
    async with discovery(table, IRIS) as port, envoy(folder / f"zero-{count}-{size}", layout(port, IRIS)) as front:

        async def ask(body: bytes) -> tuple[bool, float]:
            async with front.session.post(front.url + "/predict", data=io.BytesIO(body)) as response:
                said = await response.json(content_type=None)
                right = said.get("sha256") == hashlib.sha256(body).hexdigest()
                return response.status == 200 and right, time.monotonic()

        asked = [asyncio.create_task(ask(body)) for body in bodies]
        await until(lambda: table.fronts["iris"] and table.fronts["iris"][-1].waiting == count, 30)
        async with replica("first") as (_, where):
            table.put("iris", where)
            began = time.monotonic()
            answers = await asyncio.gather(*asked)
    waits = [at - began for _, at in answers]
    right = sum(ok for ok, _ in answers)
    return {"held": count, "body_bytes": size, "answered_right": right, "after_the_row_s": _spread(waits)}


async def kill_of_the_only_replica(folder: Path, count: int = 50) -> dict[str, Any]:
    """kill -9 with ``count`` requests in flight; the replacement is listed a second later."""
    table = Table("iris")
    async with discovery(table, IRIS) as port, envoy(folder / "kill", layout(port, IRIS)) as front:
        with replica_process("dies", "127.64.0.2", mood="stalls") as (process, where):
            table.put("iris", where)

            async def ask() -> int:
                async with front.session.post(front.url + "/predict", data=io.BytesIO(b"x" * 10_000)) as response:
                    await response.read()
                    return response.status

            asked = [asyncio.create_task(ask()) for _ in range(count)]
            await front.until_active("iris", count)
            process.kill()
            await asyncio.sleep(1)
            async with replica("next", "127.64.0.3") as (_, other):
                table.put("iris", other)
                began = time.monotonic()
                statuses = await asyncio.gather(*asked)
    failed = sum(status != 200 for status in statuses)
    return {"in_flight": count, "failed": failed, "all_answered_after_the_row_s": round(time.monotonic() - began, 3)}


async def overload(folder: Path, count: int = 300, at_once: int = 8, work_s: float = 0.02) -> dict[str, Any]:
    """Many requests at once on a replica that takes few: how near to the best possible, and how often refused."""
    table = Table("iris")
    async with (
        discovery(table, IRIS) as port,
        envoy(folder / "overload", layout(port, IRIS)) as front,
        replica("small", at_once=at_once) as (app, where),
    ):
        table.put("iris", where)
        await _settled(front)

        async def ask() -> int:
            async with front.session.post(f"{front.url}/predict?sleep={work_s}", data=b"x") as response:
                await response.read()
                return response.status

        began = time.monotonic()
        statuses = await asyncio.gather(*(ask() for _ in range(count)))
        took_s = time.monotonic() - began
    return {
        "requests": count,
        "ok": sum(status == 200 for status in statuses),
        "took_s": round(took_s, 2),
        "best_possible_s": round(count / at_once * work_s, 2),
        "refusals": app.refused,
    }


async def measure(folder: Path) -> dict[str, Any]:
    parts: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "hold_configured": lambda: cost_of_the_hold(folder),
        "new_list": lambda: time_to_use_a_new_list(folder),
        "held_10": lambda: held_at_zero(folder, 10, 1000),
        "held_100": lambda: held_at_zero(folder, 100, 1000),
        "held_10_of_1_MiB": lambda: held_at_zero(folder, 10, 2**20),
        "held_100_of_1_MiB": lambda: held_at_zero(folder, 100, 2**20),
        "kill_of_the_only_replica": lambda: kill_of_the_only_replica(folder),
        "overload": lambda: overload(folder),
    }
    found = {}
    for name, part in parts.items():
        found[name] = await part()
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder)))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
