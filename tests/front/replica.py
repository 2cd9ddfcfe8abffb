"""A small replica in this process: says what it got."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from inference.tls import context

Message = MutableMapping[str, Any]


class Replica:
    """``full`` answers 503; ``latch`` keeps requests until it is set; ``at_once`` is how many it takes at a time."""

    def __init__(self, name: str, *, at_once: int = 10_000) -> None:
        self.name = name
        self.full = False
        self.latch = asyncio.Event()
        self.latch.set()
        self.paths: list[str] = []
        self.in_flight = 0
        self.refused = 0
        self.headers: list[dict[str, str]] = []
        self._at_once = at_once

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"] == "/readyz":
            await _say(send, 503 if self.full else 200, {})
            return
        self.paths.append(scope["path"])
        self.headers.append({k.decode(): v.decode("latin-1") for k, v in scope["headers"]})
        if self.full or self.in_flight >= self._at_once:
            self.refused += 1
            await _say(send, 503, {"detail": "full"})
            return
        self.in_flight += 1
        try:
            await self.latch.wait()
            query = scope["query_string"].decode()
            if query.startswith("sleep="):
                await asyncio.sleep(float(query.removeprefix("sleep=")))
        finally:
            self.in_flight -= 1
        status = int(scope["path"].removeprefix("/status/")) if scope["path"].startswith("/status/") else 200
        digest = hashlib.sha256(body).hexdigest()
        await _say(send, status, {"replica": self.name, "bytes": len(body), "sha256": digest})


async def _say(send: Callable[[Message], Awaitable[None]], status: int, value: object) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


def listener(host: str, port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.setblocking(False)
    return sock


def server(app: Replica, certificate: str = "") -> uvicorn.Server:
    """``certificate`` is a PEM of key and certificate: then it serves TLS."""
    tls = (lambda *_: context(certificate)) if certificate else None
    config = uvicorn.Config(
        app, lifespan="off", log_level="warning", access_log=False, backlog=2048, ssl_context_factory=tls
    )
    return uvicorn.Server(config)
