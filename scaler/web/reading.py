"""The doors that only read: services, pins, decisions, explanations, schedule, forecast."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scaler.doctor import Check
from scaler.foresight.band import foresight
from scaler.past import Point
from scaler.ports import DecisionRow, Store
from scaler.recompute import blocks_of
from scaler.schedule import DAY_S, compile_schedule, preview
from scaler.tick.recalled import recalled
from scaler.web import views
from scaler.web.bodies import YEAR_3000, iso, query_instant, query_number
from scaler.web.doors import Scaler, known
from scaler.web.history import CARRIED_S, History, binned, columns, starts
from scaler.web.picture import Shown, picture
from scaler.web.pins import in_force, listed, tag
from scaler.web.problems import Problem

PAGE = 100
CURSOR = r"^[0-9]{15}-[0-9A-Za-z_.-]{1,80}$"
PAGE_LIMIT = 1000
HISTORY_MINUTES = 31 * 24 * 60
LOOK_BACK_S = 24 * 3600.0
COMING = 0.15  # of the span shown is drawn right of now


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that no cache keeps."""
    told = {"cache-control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(body), status_code=status, headers=told, media_type="application/json")


Examine = Callable[[str], Awaitable[Sequence[Check]]]


class Reading:
    """Handlers of GET."""

    def __init__(
        self, scaler: Callable[[], Scaler], clock: Callable[[], float], examine: Examine | None = None
    ) -> None:
        self._scaler = scaler
        self._examine = examine
        self._clock = clock
        self._history = History()

    async def services(self, _: Request) -> Response:
        scaler, now = self._scaler(), self._clock()
        names = sorted(scaler.config.services)
        stored = await asyncio.gather(*(scaler.store.load(name) for name in names))
        lines = [
            views.summary_view(name, scaler.config.services[name], s, now)
            for name, s in zip(names, stored, strict=True)
        ]
        return answer({"at": iso(now), "services": lines})

    async def doctor(self, request: Request) -> Response:
        """Every check of a service, made from here and with the identity that ticks have."""
        name = known(self._scaler(), request.path_params["service"])
        if self._examine is None:
            raise Problem(404, "not-here", "There is no Azure behind this API, so there is nothing to examine.")
        checks = await self._examine(name)
        told = [msgspec.to_builtins(c) for c in checks]
        return answer({"service": name, "ok": all(c.ok is not False for c in checks), "checks": told})

    async def service(self, request: Request) -> Response:
        scaler, now = self._scaler(), self._clock()
        name = known(scaler, request.path_params["service"])
        stored = await scaler.store.load(name)
        return answer(views.service_view(name, scaler.config.services[name], stored, now))

    async def pin(self, request: Request) -> Response:
        scaler, now = self._scaler(), self._clock()
        name = known(scaler, request.path_params["service"])
        stored = await scaler.store.load(name)
        pin = in_force(stored.pin, now)
        if pin is None:
            raise Problem(404, "no-pin", f"{name} has no pin: its count follows demand and schedule.")
        headers = {"etag": tag(stored.pin_etag)}
        if listed(request.headers.get("if-none-match", ""), stored.pin_etag):
            return Response(status_code=304, headers=headers)
        return answer({"service": name, "pin": views.pin_view(pin)}, headers=headers)

    async def rollout(self, request: Request) -> Response:
        scaler = self._scaler()
        name = known(scaler, request.path_params["service"])
        return answer(views.rollout_view(name, await scaler.store.load(name)))

    async def decisions(self, request: Request) -> Response:
        scaler, now = self._scaler(), self._clock()
        name = known(scaler, request.path_params["service"])
        limit = query_number(request, "limit", PAGE, 1, PAGE_LIMIT)
        since = query_instant(request, "since")
        until = query_instant(request, "until")
        cursor = _cursor(request.query_params.get("cursor"))
        since = now - LOOK_BACK_S if since is None else since
        rows = await _page(scaler.store, name, since, until, cursor, limit + 1)
        more = len(rows) > limit
        shown = rows[:limit]
        return answer(
            {
                "service": name,
                "since": iso(since),
                "decisions": [views.decision_view(row) for row in shown],
                "next": _cursor_text(shown[-1]) if more else None,
            }
        )

    async def explain(self, request: Request) -> Response:
        scaler, now = self._scaler(), self._clock()
        name = known(scaler, request.path_params["service"])
        asked = query_instant(request, "at")
        at = now if asked is None else asked
        rows = await scaler.store.decisions(name, since=0.0, until=at, limit=2)
        if not rows:
            raise Problem(404, "no-decision", f"No decision of {name} is recorded at or before {iso(at)}.")
        before = views.decision_view(rows[1]) if len(rows) > 1 else None
        named = blocks_of(rows[0])
        explained = views.explained_view(rows[0], await scaler.store.history(name, named) if named else {})
        return answer({"service": name, "asked_at": iso(at), "decision": explained, "before": before})

    async def schedule(self, request: Request) -> Response:
        scaler, now = self._scaler(), self._clock()
        name = known(scaler, request.path_params["service"])
        days = query_number(request, "days", 14, 1, 366)
        text = scaler.config.services[name].schedule
        periods = preview(compile_schedule(text, f"services.{name}.schedule"), now, float(days))
        zone = ZoneInfo(text.timezone)
        shown = [views.period_view(p, zone) for p in periods]
        return answer({"service": name, "timezone": text.timezone, "days": days, "periods": shown})

    async def history(self, request: Request) -> Response:
        name, points, since, until = await self._past(request)
        told = {"service": name, "since": iso(since), "until": iso(until), "step_s": (until - since) / len(points)}
        return answer(told | {"points": columns(points), "starts": starts(points)})

    async def chart(self, request: Request) -> Response:
        width = query_number(request, "width", 960, 300, 2000)
        scaler, now = self._scaler(), self._clock()
        name, points, since, until = await self._past(request)
        service = scaler.config.services[name]
        # What comes is drawn right of now, and not where one looks back.
        end = until + (until - since) * COMING if query_instant(request, "until") is None else until
        stored = await scaler.store.load(name) if end > until else None
        schedule = compile_schedule(service.schedule, f"services.{name}.schedule")
        shown = Shown(
            name=name,
            points=points,
            since=since,
            now=until,
            until=end,
            zone=ZoneInfo(service.schedule.timezone),
            bound=service.replicas.max,
            periods=preview(schedule, since, (end - since) / DAY_S),
            pin=in_force(stored.pin, now) if stored else None,
            foresight=foresight(await recalled(scaler.store, stored)) if stored else None,
            width=float(width),
        )
        return Response(picture(shown), headers={"cache-control": "no-store"}, media_type="image/svg+xml")

    async def _past(self, request: Request) -> tuple[str, list[Point], float, float]:
        scaler, now = self._scaler(), self._clock()
        name = known(scaler, request.path_params["service"])
        minutes = query_number(request, "minutes", 360, 5, HISTORY_MINUTES)
        bins = query_number(request, "points", 240, 10, 1000)
        until = query_instant(request, "until") or now
        since = max(0.0, until - minutes * 60)
        step_s = (until - since) / bins
        ticks = await self._history.points(scaler.store, name, max(0.0, since - CARRIED_S), until, now, step_s=step_s)
        return name, binned(ticks, since, until, bins), since, until

    async def forecast(self, request: Request) -> Response:
        scaler = self._scaler()
        name = known(scaler, request.path_params["service"])
        if not scaler.config.services[name].forecast:
            detail = f"{name} has no forecast: set `forecast: true` in autoscaler.yaml to let it look ahead."
            raise Problem(404, "no-forecast", detail)
        found = foresight(await recalled(scaler.store, await scaler.store.load(name)))
        if found is None:
            raise Problem(404, "no-forecast", f"{name} has no forecast now: arrivals are not known, or not yet.")
        return answer(views.forecast_view(name, found))


async def _page(
    store: Store, name: str, since: float, until: float | None, cursor: tuple[int, str] | None, wanted: int
) -> list[DecisionRow]:
    """At most ``wanted`` rows after the cursor, newest first. Rows of one millisecond share their place in time, so
    what is fetched grows until enough of it lies beyond the cursor."""
    if cursor is not None:
        edge = min(cursor[0] / 1000 + 0.001, YEAR_3000)
        until = edge if until is None else min(until, edge)
    fetch = wanted + 1
    while True:
        rows = await store.decisions(name, since=since, until=until, limit=fetch)
        beyond = [r for r in rows if cursor is None or _place(r) < cursor]
        if len(beyond) >= wanted or len(rows) < fetch:
            return beyond[:wanted]
        fetch *= 2


def _place(row: DecisionRow) -> tuple[int, str]:
    """Where a row lies among the others, as its RowKey has it."""
    return int(row.at * 1000), row.tick


def _cursor_text(row: DecisionRow) -> str:
    at_ms, tick = _place(row)
    return f"{at_ms:015d}-{tick}"


def _cursor(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    if not re.fullmatch(CURSOR, text):
        detail = "cursor: give `next` of the page before, unchanged, or none for the first page."
        raise Problem(422, "bad-query", detail)
    return int(text[:15]), text[16:]
