"""The doors of one stand-in, opened in one event loop and closed by one signal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator

import uvicorn

from infra.local.arm.doors import App, arm_door, identity_door, listening_socket
from infra.local.arm.keeper import Keeper
from scaler.errors import BadSetting


class Server(uvicorn.Server):
    """One of two servers in a loop: the signals belong to the program."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.open = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.open.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(options: argparse.Namespace, keeper: Keeper) -> None:
    """Open the doors, say where they are, and wait for a signal. Raises ``BadSetting``."""
    servers = [_server(arm_door(keeper, faults=options.faults), options)]
    sockets = [_bound(options.host, options.port, "--port")]
    if header := os.environ.get("IDENTITY_HEADER"):
        clients = frozenset(c.lower() for c in options.client_id) or None
        servers.append(_server(identity_door(header, time.time, clients), None))
        sockets.append(_bound(options.host, options.identity_port, "--identity-port"))
    keeper.open()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _leave, servers)
    try:
        async with asyncio.TaskGroup() as tasks:
            measuring = tasks.create_task(keeper.run())
            runs = [tasks.create_task(s.serve(sockets=[k])) for s, k in zip(servers, sockets, strict=True)]
            for server in servers:
                await server.open.wait()
            ports = [bound.getsockname()[1] for bound in sockets]
            print(json.dumps({"port": ports[0], "identity_port": ports[1] if len(ports) > 1 else None}), flush=True)
            await asyncio.wait(runs)
            measuring.cancel()
    finally:
        keeper.close()


def _leave(servers: list[Server]) -> None:
    for server in servers:
        server.should_exit = True


def _server(app: App, tls: argparse.Namespace | None) -> Server:
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        assert tls is not None, "only TLS reads files"
        problem = f"--certificate {tls.certificate} --key {tls.key}: {error}"
        raise BadSetting(
            f"{problem}; give two PEM files that belong together: clients send no tokens without TLS"
        ) from error
    return Server(config)


def _bound(host: str, port: int, option: str) -> socket.socket:
    try:
        return listening_socket(host, port)
    except OSError as error:
        raise BadSetting(f"{option} {port}: {error.strerror}; choose another port (0: any free one)") from error
