"""The doors that change something, or only say "tick now": pins, ticks, wakes, alerts, events."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from scaler import rollout
from scaler.errors import BadSetting
from scaler.model import Pin
from scaler.ports import Stored
from scaler.tick.recalled import recalled
from scaler.web import views
from scaler.web.access import Access
from scaler.web.bodies import convert, iso, query_flag, read_json
from scaler.web.doors import Report, Scaler, actor, known
from scaler.web.pins import in_force, line, listed, read_pin, tag
from scaler.web.preview import decision_with
from scaler.web.problems import Problem
from scaler.web.reading import answer

ALERT_LIMIT_BYTES = 256 * 1024  # the most that Azure Monitor sends
ORIGIN = r"^[!-~]+$"
EVENTS_LIMIT_BYTES = 1024 * 1024  # the most that Event Grid puts into one batch

log = logging.getLogger("scaler.audit")


class Reasoned(Struct, forbid_unknown_fields=True, kw_only=True):
    """An optional body of the changes that need none."""

    reason: str = ""
    actor: str | None = None


class RolloutBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """``POST services/{s}/rollout``; ``to`` is the version an undo goes back to."""

    action: Literal["undo", "retry"]
    to: str | None = None
    reason: str = ""
    actor: str | None = None


class Essentials(Struct, kw_only=True):
    """What is read of an alert; an alert decides nothing, so nothing else is."""

    monitor_condition: str = field(name="monitorCondition")
    targets: list[str] = field(name="alertTargetIDs", default_factory=list)


class AlertData(Struct, kw_only=True):
    essentials: Essentials
    custom: Any = field(name="customProperties", default=None)


class Alert(Struct, kw_only=True):
    """Azure Monitor's common alert schema."""

    schema: str = field(name="schemaId")
    data: AlertData
    custom: Any = field(name="customProperties", default=None)


class Event(Struct, kw_only=True):
    """One event, in Event Grid's schema or as a CloudEvent."""

    subject: str = ""
    event_type: str | UnsetType = field(name="eventType", default=UNSET)
    type: str | UnsetType = UNSET
    data: Any = None


class Changing:
    """Handlers of PUT, DELETE and POST."""

    def __init__(self, scaler: Callable[[], Scaler], clock: Callable[[], float], *, access: Access) -> None:
        self._scaler = scaler
        self._clock = clock
        self._access = access

    async def put_pin(self, request: Request) -> Response:
        scaler, now = self._scaler(), self._clock()
        name = known(scaler, request.path_params["service"])
        body, pin = read_pin(await read_json(request), service=scaler.config.services[name], now=now)
        pin = replace(pin, actor=actor(request, body.actor, access=self._access))
        stored = await scaler.store.load(name)
        if query_flag(request, "dry_run"):
            return answer(
                {"service": name, "pin": views.pin_view(pin), "effect": await _preview(scaler, stored, pin, now)}
            )
        etag = stored.pin_etag if in_force(stored.pin, now) else None
        if _preconditions(request, etag):
            written = await scaler.store.write_pin(name, pin, etag=stored.pin_etag, create=stored.pin_etag is None)
        else:
            written = await scaler.store.write_pin(name, pin, etag=None)
        self._audit("pin", name, pin.actor, pin.reason, min=pin.min, max=pin.max, until=iso(pin.until))
        effect = await self._tick(scaler, name, "admin")
        told = {"service": name, "pin": views.pin_view(pin), "effect": effect}
        return answer(told, 200 if effect["outcome"] == "saved" else 202, {"etag": tag(written)})

    async def delete_pin(self, request: Request) -> Response:
        scaler, now = self._scaler(), self._clock()
        name = known(scaler, request.path_params["service"])
        body = await _reasoned(request)
        stored = await scaler.store.load(name)
        if query_flag(request, "dry_run"):
            there = in_force(stored.pin, now) is not None
            return answer({"service": name, "removed": there, "effect": await _preview(scaler, stored, None, now)})
        guarded = _preconditions(request, stored.pin_etag if in_force(stored.pin, now) else None)
        removed = await scaler.store.remove_pin(name, etag=stored.pin_etag if guarded else None)
        who = actor(request, body.actor, access=self._access)
        self._audit("unpin", name, who, line(body.reason, "reason"), removed=removed)
        effect = await self._tick(scaler, name, "admin")
        return answer(
            {"service": name, "removed": removed, "effect": effect}, 200 if effect["outcome"] == "saved" else 202
        )

    async def rollout(self, request: Request) -> Response:
        """Go back to an earlier version, or try the one of the template file once more."""
        scaler, now = self._scaler(), self._clock()
        name = known(scaler, request.path_params["service"])
        raw = await read_json(request)
        body = convert({} if raw is None else raw, RolloutBody, "body")
        who = actor(request, body.actor, access=self._access)
        stored = await scaler.store.load(name)
        before = rollout.read(stored.rollout.data if stored.rollout else None)
        if before is None or stored.rollout is None:
            raise Problem(404, "no-rollout", f"{name} has no versions yet: nothing was ever made from a template.")
        reason = line(body.reason, "reason")
        try:
            if body.action == "undo":
                after = rollout.undone(before, now, by=who, reason=reason, to=body.to)
            else:
                after = rollout.retried(before, now, by=who)
        except BadSetting as error:
            raise Problem(409, "no-such-turn", f"{str(error)[0].upper()}{str(error)[1:]}.") from error
        await scaler.store.write_rollout(name, replace(stored.rollout, data=msgspec.msgpack.encode(after)))
        self._audit(body.action, name, who, reason, target=after.target)
        effect = await self._tick(scaler, name, "admin")
        shown = views.rollout_view(name, await scaler.store.load(name))
        return answer(shown | {"effect": effect}, 200 if effect["outcome"] == "saved" else 202)

    async def tick(self, request: Request) -> Response:
        return await self._ticked(request, "admin")

    async def wake(self, request: Request) -> Response:
        return await self._ticked(request, "wake")

    async def _ticked(self, request: Request, cause: str) -> Response:
        scaler = self._scaler()
        name = known(scaler, request.path_params["service"])
        body = await _reasoned(request)
        who = actor(request, body.actor, access=self._access)
        if query_flag(request, "dry_run"):
            stored, now = await scaler.store.load(name), self._clock()
            told = {"service": name, "effect": await _preview(scaler, stored, in_force(stored.pin, now), now)}
            return answer(told)
        if cause == "admin":
            self._audit("tick", name, who, line(body.reason, "reason"))
        effect = await self._tick(scaler, name, cause)
        if effect["outcome"].startswith("unavailable"):
            raise Problem(
                503,
                "unavailable",
                f"The tick of {name} changed nothing: {effect['outcome']}.",
                headers={"retry-after": "5"},
            )
        return answer({"service": name, "effect": effect}, 200 if effect["outcome"] == "saved" else 202)

    async def alerts(self, request: Request) -> Response:
        """Azure Monitor's alerts, fired and resolved: both only mean "tick"."""
        scaler = self._scaler()
        alert = convert(await read_json(request, ALERT_LIMIT_BYTES), Alert, "alert")
        if alert.schema != "azureMonitorCommonAlertSchema":
            detail = (
                "schemaId: expected azureMonitorCommonAlertSchema; turn on the common alert schema in the action group."
            )
            raise Problem(422, "bad-alert", detail)
        essentials = alert.data.essentials
        custom = alert.data.custom if isinstance(alert.data.custom, dict) else alert.custom
        named = custom.get("service") if isinstance(custom, dict) else None
        services = {named} if named in scaler.config.services else _mentioned(scaler, essentials.targets)
        return await self._woken(scaler, services, "alert", essentials.monitor_condition.lower())

    async def events(self, request: Request) -> Response:
        """Event Grid: its handshake, and events that only mean "tick"."""
        raw = await read_json(request, EVENTS_LIMIT_BYTES)
        events = convert(raw if isinstance(raw, list) else [raw], list[Event], "events")
        if not events:
            raise Problem(422, "bad-event", "events: expected at least one event.")
        for event in events:
            if event.event_type == "Microsoft.EventGrid.SubscriptionValidationEvent":
                code = event.data.get("validationCode") if isinstance(event.data, dict) else None
                if not isinstance(code, str) or len(code) > 200:
                    raise Problem(422, "bad-event", "events[0].data.validationCode: expected a string.")
                return answer({"validationResponse": code})
            if event.event_type is UNSET and event.type is UNSET:
                raise Problem(422, "bad-event", "events: each needs `eventType` (Event Grid) or `type` (CloudEvents).")
        scaler = self._scaler()
        return await self._woken(
            scaler, _mentioned(scaler, [e.subject for e in events]), "event", f"{len(events)} event(s)"
        )

    async def allow_events(self, request: Request) -> Response:
        """The handshake of CloudEvents webhooks: Event Grid asks whether it may send, and how often."""
        origin = request.headers.get("webhook-request-origin", "")
        if not re.fullmatch(ORIGIN, origin):
            raise Problem(400, "bad-handshake", "WebHook-Request-Origin: expected who asks, without blanks.")
        return Response(status_code=200, headers={"webhook-allowed-origin": origin, "webhook-allowed-rate": "120"})

    async def _woken(self, scaler: Scaler, services: set[str], cause: str, what: str) -> Response:
        """Tick the services mentioned, or all of them when none is."""
        now = self._clock()
        reports: list[Report] = []
        if services:
            for name in sorted(services):
                reports += await scaler.tick(now, cause=cause, only=name)
        else:
            reports += await scaler.tick(now, cause=cause)
        outcomes = {r.service: r.outcome for r in reports}
        return answer({"cause": cause, "what": what, "outcomes": outcomes}, 202)

    async def _tick(self, scaler: Scaler, name: str, cause: str) -> views.Json:
        reports = await scaler.tick(self._clock(), cause=cause, only=name)
        report = next((r for r in reports if r.service == name), None)
        return views.effect_view(report.outcome if report else "lost", report.decision if report else None)

    def _audit(self, verb: str, service: str, who: str, reason: str, **more: object) -> None:
        facts = {"verb": verb, "service": service, "actor": who, "reason": reason, **more}
        log.info("an operator changed something", extra={"audit": facts})


async def _reasoned(request: Request) -> Reasoned:
    raw = await read_json(request)
    return convert({} if raw is None else raw, Reasoned, "body")


async def _preview(scaler: Scaler, stored: Stored, pin: Pin | None, now: float) -> views.Json:
    decision = decision_with(await recalled(scaler.store, stored), scaler.managed[stored.service].policy, pin, now)
    return views.effect_view("preview", decision)


def _preconditions(request: Request, etag: str | None) -> bool:
    """Whether the request has any; refused with 412 where one does not hold."""
    if_match, if_none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if if_match is not None and not listed(if_match, etag):
        raise Problem(
            412, "changed-meanwhile", "If-Match: the pin is not the one you read; read it again, then decide."
        )
    if if_none_match is not None and listed(if_none_match, etag):
        raise Problem(
            412, "pin-exists", "If-None-Match: there is a pin already; read it, or send its ETag in If-Match."
        )
    return if_match is not None or if_none_match is not None


def _mentioned(scaler: Scaler, resources: list[str]) -> set[str]:
    """The services whose container groups (``<service>-<random>``) these resource ids name."""
    found = set()
    for resource in resources:
        head, slash, group = resource.lower().rpartition("/containergroups/")
        service = group.partition("/")[0].rpartition("-")[0]
        if slash and head and service in scaler.config.services:
            found.add(service)
    return found
