"""The process beside Envoy: one loop for the app, the reading of the table and the telling of the tick."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import uvicorn

from scaler.errors import BadSetting
from scaler.front.app import Discovery
from scaler.front.hold import Hold
from scaler.front.wake import Wake
from scaler.front.watch import Rows, Watch

BACKLOG = 4096
GRACE_S = 3  # for what is still held when the process is told to end
REFRESH_S = 0.5  # between two reads of the table, one transaction a service each


async def run(
    *,
    host: str,
    port: int,
    rows: Rows,
    services: Mapping[str, float],
    wake: Wake,
    refresh_s: float = REFRESH_S,
    started: Callable[[int], None] = lambda port: None,
) -> None:
    """Serve until cancelled. ``services`` gives each hold limit in seconds, ``started`` gets the port.

    Raises ``BadSetting`` when the address cannot be listened on.
    """
    listener = _listen(host, port)
    _allow_many_files()
    holds = {name: Hold(name, hold_limit_s=limit_s) for name, limit_s in services.items()}
    watches = [
        Watch(hold, rows, wake, service=name, hold_limit_s=services[name], refresh_s=refresh_s)
        for name, hold in holds.items()
    ]
    discovery = Discovery(holds)
    server = _Server(discovery)
    async with _errands(watches):
        started(listener.getsockname()[1])
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def _errands(watches: list[Watch]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(errand) for watch in watches for errand in (watch.read(), watch.tell())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Server(uvicorn.Server):
    """uvicorn that lets go of what it holds before it waits for it."""

    def __init__(self, discovery: Discovery) -> None:
        super().__init__(
            uvicorn.Config(
                discovery,
                lifespan="off",
                access_log=False,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,  # longer than Envoy keeps an idle connection
                timeout_graceful_shutdown=GRACE_S,
                backlog=BACKLOG,
            )
        )
        self._discovery = discovery

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the business of whoever runs the process."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._discovery.close()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    """The protocol is named, or asyncio leaves Nagle's algorithm on and each answer takes 40 ms."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise BadSetting(
            f"discovery: cannot listen on {host} port {port}: {error.strerror}; set DISCOVERY_HOST and DISCOVERY_PORT"
        ) from error
    listener.setblocking(False)
    return listener


def _allow_many_files() -> None:
    """Each held request is an open connection; the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
