"""The ASGI app that Envoy asks: who is ready (REST EDS), and where requests wait while nobody is.

One port has both doors: what Envoy sends here to be held carries the header ``x-aci-service``, whatever its path; all
else is asked of discovery itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct, field

from scaler.front.endpoints import Endpoints, answer
from scaler.front.hold import Answer, Hold, Visit
from scaler.front.layout import POLL_S, PROBLEM, RETRY_HEADER, SERVICE_HEADER, STARTED_HEADER, STREAM_HEADER
from scaler.front.news import first

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

FIRST_READ_S = 2.0  # an Envoy that knows nothing yet waits so long for the first read of the table
POLL_BYTES = 4 * 2**20  # Envoy tells its whole inventory with each poll, some 100 KiB
BODY_S = 60.0  # to send a body that nobody reads
ATTEMPT_HEADER = "x-envoy-attempt-count"
FINAL: Headers = [(b"x-envoy-ratelimited", b"true")]  # Envoy does not try again then, and takes it away


class _Node(Struct, frozen=True):
    id: str = ""


class _Poll(Struct, frozen=True):
    """The part of a DiscoveryRequest that matters here."""

    version_info: str = ""
    resource_names: list[str] = field(default_factory=list)
    node: _Node = field(default_factory=_Node)


class Discovery:
    """The app over the holds of all services."""

    def __init__(self, holds: Mapping[str, Hold], *, poll_s: float = POLL_S) -> None:
        self._holds = holds
        self._poll_s = poll_s
        self._closing = False

    def close(self) -> None:
        """Answer every poll and send all that is held back to Envoy, which keeps trying."""
        self._closing = True
        for hold in self._holds.values():
            hold.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        service = headers.get(SERVICE_HEADER.encode())
        if service is not None:
            await self._hold(service.decode("latin-1"), headers, receive, send)
            return
        match scope["path"], scope["method"]:
            case "/v3/discovery:endpoints", "POST":
                await self._poll(receive, send)
            case "/healthz", "GET" | "HEAD":
                await _reply(send, 200, self._health())
            case ("/v3/discovery:endpoints" | "/healthz") as path, _:
                await _problem(send, 405, f"{path} wants {'GET' if path == '/healthz' else 'POST'}.")
            case _:
                await _problem(send, 404, "Here are POST /v3/discovery:endpoints and GET /healthz.")

    # --- the list ---

    async def _poll(self, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            await _problem(send, 413, f"A discovery request has at most {POLL_BYTES} bytes.")
            return
        try:
            poll = msgspec.json.decode(body, type=_Poll)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            await _problem(send, 400, f"This is no discovery request: {error}.")
            return
        holds = [self._holds[name] for name in poll.resource_names or self._holds if name in self._holds]
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await self._answer(poll, holds, gone, send)
        finally:
            gone.cancel()

    async def _answer(self, poll: _Poll, holds: list[Hold], gone: asyncio.Future[None], send: Send) -> None:
        """Wait for news, so that Envoy hears of a replica at once; without any say 304 after a while."""
        tags = poll.version_info.split(",") if len(holds) > 1 else [poll.version_info]
        tags += [""] * (len(holds) - len(tags))
        for hold, tag in zip(holds, tags, strict=False):
            if hold.applied.begin(poll.node.id, tag, time.time()):
                hold.changed.fire()
        try:
            lists = await self._news(poll.version_info, holds, gone)
        finally:
            for hold in holds:
                hold.applied.end(poll.node.id, time.time())
        if lists is None and poll.version_info:
            await _reply(send, 304, b"")
        elif not gone.done():
            lists = lists or [hold.endpoints for hold in holds]
            await _reply(send, 200, answer(_tag(lists), lists))

    async def _news(self, tag: str, holds: list[Hold], gone: asyncio.Future[None]) -> list[Endpoints] | None:
        """The lists as soon as they are not what ``tag`` says; None when the time is over first.

        Lists that were never read are no news: an Envoy that has one from an earlier discovery keeps it.
        """
        until = time.monotonic() + (self._poll_s if tag else FIRST_READ_S)
        while True:
            changes = [hold.changed.next() for hold in holds]
            lists = [hold.endpoints for hold in holds]
            if all(hold.known for hold in holds) and _tag(lists) != tag:
                return lists
            left_s = until - time.monotonic()
            if left_s <= 0 or self._closing or gone.done():
                return None
            await first(*changes, gone, timeout_s=left_s)

    # --- the hold ---

    async def _hold(self, service: str, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> None:
        hold = self._holds.get(service)
        if hold is None:
            await _problem(send, 404, "The configuration has no such service.", headers=FINAL)
            return
        body_read: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gone = asyncio.ensure_future(_until_gone(receive, body_read))
        try:
            await first(body_read, gone, timeout_s=BODY_S)
            result = await hold.visit(_visit(headers), gone)
        finally:
            gone.cancel()
        if result is not None:
            await _verdict(send, result)

    def _health(self) -> bytes:
        now = time.time()
        services = {
            name: {
                "version": hold.endpoints.version,
                "applied_version": hold.applied.version(now),
                "ready": len(hold.endpoints.ready),
                "waiting": hold.waiting,
                "read_s_ago": None if hold.learned_at is None else round(now - hold.learned_at, 3),
            }
            for name, hold in self._holds.items()
        }
        return msgspec.json.encode({"status": "ok", "services": services})


def _tag(lists: list[Endpoints]) -> str:
    """One tag for what one answer holds; a list of nobody we know has one too, or Envoy would ask at once again."""
    return ",".join(each.tag for each in lists) or "0"


def _visit(headers: Mapping[bytes, bytes]) -> Visit:
    """What Envoy says of a request; whoever comes without Envoy gets quiet defaults."""
    stream = headers.get(STREAM_HEADER.encode(), b"").decode("latin-1")[:64]
    try:
        attempt = min(max(1, int(headers.get(ATTEMPT_HEADER.encode(), b"1"))), 2**31)
    except ValueError:
        attempt = 1
    try:
        started_at = float(headers.get(STARTED_HEADER.encode(), b"nan"))
    except ValueError:
        started_at = math.nan
    return Visit(stream=stream or str(uuid4()), attempt=attempt, started_at=started_at)


async def _verdict(send: Send, result: Answer) -> None:
    if result.again:
        await _reply(send, 503, b"", headers=[(RETRY_HEADER.encode(), b"1")])
        return
    wait = str(math.ceil(result.retry_after_s)).encode()
    await _problem(send, 503, result.detail, name=result.name, headers=[*FINAL, (b"retry-after", wait)])


async def _read(receive: Receive) -> bytes | None:
    """The body; None when it is too long."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > POLL_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _until_gone(receive: Receive, body_read: asyncio.Future[None] | None = None) -> None:
    """Take in the body and throw it away (Envoy keeps it), then return when the other side hangs up."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if body_read is not None and not message.get("more_body", False) and not body_read.done():
            body_read.set_result(None)


async def _problem(send: Send, status: int, detail: str, *, name: str = "", headers: Headers | None = None) -> None:
    phrase = HTTPStatus(status).phrase
    body = {
        "type": f"urn:aci-autoscaler:problem:{name}" if name else "about:blank",
        "title": phrase,
        "status": status,
        "detail": detail,
    }
    await _reply(send, status, msgspec.json.encode(body), kind=PROBLEM, headers=headers)


async def _reply(
    send: Send, status: int, body: bytes, *, kind: str = "application/json", headers: Headers | None = None
) -> None:
    length = [] if status == 304 else [(b"content-length", str(len(body)).encode()), (b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*length, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})
