"""What the functions call: ticks, and HTTP requests as Azure Functions hands them over, through our ASGI app and back.

``azure.functions.AsgiMiddleware`` does nearly this; it gives up the query string when the host passes it as parameters,
polls for the disconnect, and keeps one of several headers of a name.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode, urlsplit

import azure.functions as func

from scaler.cadence import limit_s, period_s
from scaler.errors import BadSetting

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from scaler.doctor import Check
    from scaler.web.doors import Scaler

EVERY_15_S = "*/15 * * * * *"

log = logging.getLogger("scaler.web")


class Entry:
    """What the functions call. Nothing is read, imported or connected before the first call needs it."""

    def __init__(
        self,
        build: Callable[[], Scaler] | None = None,
        clock: Callable[[], float] = time.time,
        env: Mapping[str, str] = os.environ,
    ) -> None:
        self.scaler = Once(build or from_environment)
        self._clock = clock
        self._env = env
        self._app: ASGIApp | None = None

    async def tick(self) -> None:
        """The timer: one pass over every service."""
        await self._tick("timer", None)

    async def wake(self, message: bytes) -> None:
        """A queue message ``{"service": "iris"}``; whatever else it says (Event Grid writes there too) means all."""
        try:
            body = json.loads(message) if message.strip() else {}
        except (ValueError, RecursionError):
            body = {}
        named = body.get("service") if isinstance(body, dict) else None
        await self._tick("queue", named if isinstance(named, str) else None)

    async def http(self, request: func.HttpRequest) -> func.HttpResponse:
        """Any HTTP function: the app knows the routes."""
        if self._app is None:
            self._app = self._served()
        return await answer(self._app, request)

    def _served(self) -> ASGIApp:
        from scaler.web.access import Access  # noqa: PLC0415 - a timer's instance never needs it
        from scaler.web.app import app  # noqa: PLC0415
        from scaler.web.problems import Problem, document  # noqa: PLC0415

        try:
            return app(
                self.scaler,
                self._clock,
                access=Access.read(self._env),
                limited=True,
                stale_after_s=self._limit_s,
                examine=self._examine,
            )
        except BadSetting as error:
            log.error("nobody is let in: %s", error)
            return document(Problem(500, "bad-setting", str(error)))

    async def _examine(self, service: str) -> Sequence[Check]:
        from scaler.doctor import examine_service  # noqa: PLC0415 - seldom asked for
        from scaler.settings import Settings  # noqa: PLC0415

        return await examine_service(Settings.read(self._env), service)

    @property
    def _limit_s(self) -> float:
        """How long a service may go without a tick, by the timer's own schedule."""
        return limit_s(period_s(self._env.get("AUTOSCALER_TICK_SCHEDULE", "").strip() or EVERY_15_S))

    @property
    def auth_level(self) -> func.AuthLevel:
        """What the host asks for: a key, or nothing where Entra ID stands before it and the app asks for roles."""
        entra = self._env.get("AUTOSCALER_AUTH", "").strip() == "entra"
        return func.AuthLevel.ANONYMOUS if entra else func.AuthLevel.FUNCTION

    async def _tick(self, cause: str, only: str | None) -> None:
        try:
            scaler = self.scaler()
        except BadSetting as error:
            log.error("the configuration cannot be used, nothing is scaled: %s", error)
            return
        known = only if only in scaler.config.services else None
        await scaler.tick(self._clock(), cause=cause, only=known)


class Once:
    """Builds the scaler with the first call and keeps it; many first calls at once build one. A failure is not kept."""

    def __init__(self, build: Callable[[], Scaler]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._built: Scaler | None = None

    def __call__(self) -> Scaler:
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built


def from_environment() -> Scaler:
    """The scaler that the environment describes. Raises ``BadSetting``."""
    from scaler.settings import Settings  # noqa: PLC0415

    settings = Settings.read(os.environ)
    from scaler.azure import connect  # noqa: PLC0415 - the SDKs take most of a second to import

    return connect(settings)


async def answer(app: ASGIApp, request: func.HttpRequest) -> func.HttpResponse:
    """The app's response to one request. A fault of the app is logged and answered with the 500 it sent."""
    exchange = _Exchange(request.get_body())
    try:
        await app(_scope(request), exchange.receive, exchange.send)
    except Exception:
        # Starlette answers first and raises afterwards, so that the server can log: here that is us.
        if exchange.status is None:
            raise
        log.exception("a request met a fault")
    assert exchange.status is not None, "the app ended without an answer"
    media = exchange.headers.pop("content-type", None)
    return func.HttpResponse(
        bytes(exchange.body), status_code=exchange.status, headers=exchange.headers, mimetype=media
    )


class _Exchange:
    """One request body in, one response out."""

    def __init__(self, body: bytes) -> None:
        self._request_body: bytes | None = body
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    async def receive(self) -> MutableMapping[str, Any]:
        if self._request_body is None:
            return {"type": "http.disconnect"}
        body, self._request_body = self._request_body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in message["headers"]}
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


def _scope(request: func.HttpRequest) -> MutableMapping[str, Any]:
    url = urlsplit(request.url)
    query = url.query or urlencode(dict(request.params))
    headers = [
        (k.lower().encode("latin-1", "replace"), v.encode("latin-1", "replace")) for k, v in request.headers.items()
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme or "http",
        "path": unquote(url.path),
        "raw_path": url.path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": (url.hostname or "localhost", url.port or 443),
    }
