"""The admin API on a port of this machine, with the world in memory behind it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from scaler.web.app import app
from tests.web.doors import scaler_of
from tests.world import World

KEY = "a-key-that-is-good"


class Served:
    """Where it listens, and what is behind."""

    def __init__(self, url: str, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self.url, self.world, self._loop = url, world, loop
        self.scaler = scaler_of(world)

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.world.clock.advance(15)
            ticking = self.scaler.tick(self.world.clock(), cause="timer")
            asyncio.run_coroutine_threadsafe(ticking, self._loop).result(10)


def _keyed(inner: ASGIApp, open_paths: tuple[str, ...]) -> ASGIApp:
    """What the host of the functions does: nothing goes in without the key, but what is open to all."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        keys = [v.decode() for k, v in scope.get("headers", []) if k == b"x-functions-key"]
        if scope["type"] == "http" and keys != [KEY] and not {scope["path"], "*"} & set(open_paths):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await inner(scope, receive, send)

    return outer


@contextmanager
def serve(open_paths: tuple[str, ...] = ("/api/health",)) -> Iterator[Served]:
    listener = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.new_event_loop()
    world = World()
    served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}", world, loop)
    config: Any = uvicorn.Config(
        _keyed(app(lambda: served.scaler, world.clock), open_paths), lifespan="off", log_level="error", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve([listener])), daemon=True)
    thread.start()
    try:
        # The listener listens already, so this waits for the answer and not for the port.
        httpx.get(f"{served.url}/api/health", timeout=10)
        yield served
    finally:
        server.should_exit = True
        thread.join(10)
        loop.close()
        listener.close()
