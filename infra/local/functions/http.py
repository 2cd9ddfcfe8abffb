"""The HTTP door: find the function, check the key, read the body within bounds, call, answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

from azure.functions.http import HttpRequest
from starlette.types import Receive, Scope, Send

from infra.local.functions.app import App, Function, HttpTrigger
from infra.local.functions.invoke import FunctionFailed, Outcome
from infra.local.functions.keys import Keys, Level
from infra.local.functions.settings import MEBIBYTE

log = logging.getLogger(__name__)
LARGE_BYTES = MEBIBYTE
LARGE_AT_ONCE = 4  # so many bodies above LARGE_BYTES are in memory together
SILENCE_S = 60.0  # a client that sends nothing of its body for so long is given up
WITHOUT_BODY = frozenset({204, 205, 304})
OURS = frozenset({"content-length", "transfer-encoding", "connection", "date"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer on its way out; header names in lower case."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


REFUSALS = {
    400: "This request is not as it should be.",
    401: "This address wants a key that may call it, as header x-functions-key.",
    404: "No function answers at this address.",
    408: "The body did not come in time.",
    413: "The body is larger than this host takes.",
}


class Refused(Exception):
    """The request ends here, with a problem document (RFC 9457) where the host of Azure leaves the body empty."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(status, text)
        detail = text or REFUSALS[status]
        problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        headers = [("content-type", "application/problem+json")]
        self.response = Response(status=status, headers=headers, body=json.dumps(problem).encode())


class Gone(Exception):
    """The client left before its request was complete: nobody waits for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The head of a request, as Azure's host hands it to a worker."""

    method: str
    path: str  # percent-encoded, as it came
    origin: str  # http://host:port
    url: str
    headers: dict[str, str]
    query: dict[str, str]

    @property
    def key(self) -> str | None:
        """The key given; a header, even an empty one, hides the query."""
        if "x-functions-key" in self.headers:
            return self.headers["x-functions-key"].split(",")[0]
        return next((value for name, value in self.query.items() if name.lower() == "code"), None)


class HttpDoor:
    """The ASGI application: HTTP functions, and what ``admin`` answers below ``/admin``."""

    def __init__(
        self,
        app: App,
        keys: Keys,
        max_body_bytes: int,
        call: Callable[[Function, object], Awaitable[Outcome]],
        admin: Callable[[Request, Level, Callable[[], Awaitable[bytes]]], Awaitable[Response]],
    ) -> None:
        self._app = app
        self._keys = keys
        self._max_body_bytes = max_body_bytes
        self._call = call
        self._admin = admin
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        request = read_head(scope)
        try:
            response = await self._answer(request, receive)
        except Refused as refused:
            response = refused.response
        except Gone:
            return
        await _send(response, send)

    async def _answer(self, request: Request, receive: Receive) -> Response:
        if request.path == "/admin" or request.path.lower().startswith("/admin/"):
            return await self._answer_admin(request, receive)
        if request.path == "/":
            return Response(status=204)
        found = self._app.router.match(request.method, request.path)
        function = None if found is None else self._app.named(found[0].function)
        if found is None or function is None:
            raise Refused(404)
        assert isinstance(function.trigger, HttpTrigger)
        level = self._keys.level(request.key, function.name)
        if function.is_disabled and level < Level.ADMIN:
            raise Refused(404)
        if level < function.trigger.level:
            raise Refused(401)
        async with self._body(request, receive) as body:
            return await self._invoke(function, request, found[1], body)

    async def _answer_admin(self, request: Request, receive: Receive) -> Response:
        level = self._keys.level(request.key)

        async def body() -> bytes:
            async with self._body(request, receive) as content:
                return content

        return await self._admin(request, level, body)

    async def _invoke(self, function: Function, request: Request, route: dict[str, str], body: bytes) -> Response:
        argument = HttpRequest(
            method=request.method,
            url=request.url,
            headers=request.headers,
            params=request.query,
            route_params=route,
            body_type="bytes",
            body=body,
        )
        try:
            outcome = await self._call(function, argument)
            return _response(function, outcome)
        except FunctionFailed:
            return Response(status=500)

    @asynccontextmanager
    async def _body(self, request: Request, receive: Receive) -> AsyncIterator[bytes]:
        """The whole body. Raises Refused 413 above the limit and 408 when the client falls silent.

        Small bodies are read at once; a large one waits for its turn, so that many of them do not fill the memory.
        """
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._max_body_bytes:
            raise Refused(413)
        chunks = _chunks(receive)
        read = bytearray()
        async for chunk in chunks:
            read += chunk
            self._check_size(read)
            if len(read) > LARGE_BYTES:
                break
        else:
            yield bytes(read)
            return
        async with self._large:
            async for chunk in chunks:
                read += chunk
                self._check_size(read)
            body = bytes(read)
            read.clear()
            yield body

    def _check_size(self, read: bytearray) -> None:
        if len(read) > self._max_body_bytes:
            raise Refused(413)


def read_head(scope: Scope) -> Request:
    """The head of a request: repeated headers and query values joined by commas, empty query values left out."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joined = "; " if name == "cookie" else ","
        headers[name] = f"{headers[name]}{joined}{value}" if name in headers else value
    path = scope["raw_path"].decode("latin-1")
    query_string = scope["query_string"].decode("latin-1")
    origin = f"{scope['scheme']}://{headers.get('host', 'localhost')}"
    return Request(
        method=scope["method"].upper(),
        path=path,
        origin=origin,
        url=f"{origin}{path}" + (f"?{query_string}" if query_string else ""),
        headers=headers,
        query=_query(query_string),
    )


def _query(text: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    spelled: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="replace"):
        found.setdefault(spelled.setdefault(name.lower(), name), []).append(value)
    joined = {name: ",".join(values) for name, values in found.items()}
    return {name: value for name, value in joined.items() if value}


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                message = await receive()
        except TimeoutError as error:
            raise Refused(408) from error
        if message["type"] == "http.disconnect":
            raise Gone
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def _response(function: Function, outcome: Outcome) -> Response:
    """The answer that a function's result means; raises FunctionFailed when it cannot be sent."""
    returned = outcome.returned
    named = next((value for output, value in outcome.outputs if output.kind == "http"), None)
    datum = named if named is not None else returned
    if datum is None:
        return Response(status=204)
    if datum.type == "string":
        return Response(status=200, headers=[("content-type", "text/plain; charset=utf-8")], body=datum.value.encode())
    value: dict[str, Any] = datum.value
    status = value["status_code"].value
    if not status.isdecimal() or not 200 <= int(status) <= 599:
        log.error("function %s answered with status %r; it must be from 200 to 599", function.name, status)
        raise FunctionFailed
    headers = [(name.lower(), text.value) for name, text in value["headers"].items() if name.lower() not in OURS]
    headers += [("set-cookie", text) for text in _cookies(value.get("cookies") or [])]
    for name, text in headers:
        if not _is_sendable(name, text):
            log.error("function %s answered with a header %r that HTTP cannot carry", function.name, name)
            raise FunctionFailed
    return Response(status=int(status), headers=headers, body=value["body"].value)


def _cookies(cookies: list[SimpleCookie]) -> list[str]:
    return [morsel.OutputString() for cookie in cookies for morsel in cookie.values()]


def _is_sendable(name: str, value: str) -> bool:
    is_token = bool(name) and all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in name)
    return is_token and all(c == "\t" or (c >= " " and c != "\x7f" and ord(c) < 256) for c in value)


async def _send(response: Response, send: Send) -> None:
    has_body = response.status not in WITHOUT_BODY
    headers = [(name.encode("latin-1"), value.strip().encode("latin-1")) for name, value in response.headers]
    if has_body:
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body if has_body else b""})
