"""The admin API as one Starlette app: every route of it, and what it answers to a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp

from scaler.web import dashboard, metrics, openapi
from scaler.web.access import Access, Gate
from scaler.web.changing import Changing
from scaler.web.doors import Scaler
from scaler.web.problems import HANDLERS
from scaler.web.rates import Limiter
from scaler.web.reading import Examine, Reading, answer

STALE_AFTER_S = 120.0
KEYS = Access()


def app(
    scaler_factory: Callable[[], Scaler],
    clock: Callable[[], float],
    *,
    stale_after_s: float = STALE_AFTER_S,
    access: Access = KEYS,
    limited: bool = False,
    examine: Examine | None = None,
) -> ASGIApp:
    """The app. ``scaler_factory`` is called by each request that needs the scaler, and is to give the same one;
    ``clock`` gives epoch seconds. ``limited``: a caller that comes too often is told to wait. ``examine`` looks at
    all that a service needs, from where this runs."""
    reading = Reading(scaler_factory, clock, examine)
    changing = Changing(scaler_factory, clock, access=access)
    open_doors = _Open(scaler_factory, clock, stale_after_s)
    one = "/services/{service}"
    routes = [
        _route("/services", GET=reading.services),
        _route(one, GET=reading.service),
        _route(f"{one}/pin", GET=reading.pin, PUT=changing.put_pin, DELETE=changing.delete_pin),
        _route(f"{one}/rollout", GET=reading.rollout, POST=changing.rollout),
        _route(f"{one}/decisions", GET=reading.decisions),
        _route(f"{one}/explain", GET=reading.explain),
        _route(f"{one}/schedule", GET=reading.schedule),
        _route(f"{one}/history", GET=reading.history),
        _route(f"{one}/chart", GET=reading.chart),
        _route(f"{one}/forecast", GET=reading.forecast),
        _route(f"{one}/doctor", GET=reading.doctor),
        _route(f"{one}/tick", POST=changing.tick),
        _route(f"{one}/wake", POST=changing.wake),
        _route("/alerts", POST=changing.alerts),
        _route("/events", POST=changing.events, OPTIONS=changing.allow_events),
        _route("/metrics", GET=open_doors.metrics),
        _route("/health", GET=open_doors.health),
        _route("/openapi.json", GET=open_doors.openapi),
        _route("/dashboard", GET=open_doors.dashboard),
    ]
    # No redirects for a slash too many: behind a gateway they would name a host that nobody outside can reach.
    served = Starlette(routes=[Mount("/api", Router(routes, redirect_slashes=False))], exception_handlers=HANDLERS)
    served.router.redirect_slashes = False
    gated = Gate(served, access)
    return Limiter(gated, clock) if limited else gated


Handler = Callable[[Request], Awaitable[Response]]


def _route(path: str, **handlers: Handler) -> Route:
    """One route for all methods of a path, so that a refusal names every method that there is."""

    async def dispatch(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await handlers[method](request)

    return Route(path, dispatch, methods=list(handlers))


class _Open:
    """Metrics, and the doors without a key: they tell nothing about any service."""

    def __init__(self, scaler: Callable[[], Scaler], clock: Callable[[], float], stale_after_s: float) -> None:
        self._scaler = scaler
        self._clock = clock
        self._stale_after_s = stale_after_s

    async def metrics(self, _: Request) -> Response:
        scaler, now = self._scaler(), self._clock()
        names = sorted(scaler.config.services)
        stored = await asyncio.gather(*(scaler.store.load(name) for name in names))
        text = metrics.exposition(scaler.config, stored, now)
        return Response(text, headers={"content-type": metrics.MEDIA_TYPE, "cache-control": "no-store"})

    async def health(self, _: Request) -> Response:
        """200 while every service was ticked within the limit, else 503: somebody outside can watch the watcher."""
        scaler, now = self._scaler(), self._clock()
        stored = await asyncio.gather(*(scaler.store.load(name) for name in scaler.config.services))
        oldest = min((s.row.at if s.row else 0.0 for s in stored), default=0.0)
        late = sum(now - (s.row.at if s.row else 0.0) > self._stale_after_s for s in stored)
        told = {
            "status": "stale" if late else "ok",
            "services": len(stored),
            "late": late,
            "oldest_tick_age_s": round(max(0.0, now - oldest), 3) if oldest else None,
            "limit_s": self._stale_after_s,
        }
        return answer(told, 503 if late else 200)

    async def openapi(self, _: Request) -> Response:
        return answer(openapi.document())

    async def dashboard(self, _: Request) -> Response:
        return dashboard.shell()
