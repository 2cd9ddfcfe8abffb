"""Azure Resource Manager as one function of a request and a time: gate, handlers, headers. No I/O, no clock.

The doors call it with real requests; a simulation calls it with its own time and never opens a socket.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from infra.local.arm import azure_rest, group_rest, monitor, neighbours, standby_rest
from infra.local.arm.bodies import whole_time
from infra.local.arm.errors import (
    ArmError,
    forbidden,
    gateway_timeout,
    resource_group_not_found,
    subscription_not_found,
    throttled,
)
from infra.local.arm.faults import AFTER, ANY, Faults, Victim, refusal
from infra.local.arm.groups import Groups
from infra.local.arm.http import Answer, Call, Request, Route
from infra.local.arm.limits import Meters
from infra.local.arm.monitor import Series
from infra.local.arm.operation_urls import OperationUrls
from infra.local.arm.roles import Role, linked, linked_forbidden
from infra.local.arm.state import Group, Json
from infra.local.arm.tokens import LOGS, MANAGEMENT, METRICS, actor_of

RECORDED = "00000000-0000-0000-0000-000000000000"  # the subscription of the public recordings
VERSION = re.compile(r"\d{4}-\d\d-\d\d(-[a-z]+)?")
COMPACT = str.maketrans("", "", "-:")
GLOBAL = 15  # the tenant-wide buckets are so many times larger


class Settings(Struct, frozen=True, kw_only=True):
    """What an operator chose. ``resource_groups`` and ``role`` None: everything exists, everything is allowed.

    ``resource_groups`` are those of ``subscriptions``; the subscription of the public recordings has any.
    """

    subscriptions: tuple[str, ...] = (RECORDED,)
    resource_groups: frozenset[str] | None = None
    role: Role | None = None
    page_size: int = 100
    metric_lag_s: float = 120.0
    log_answers: Path | None = None


class Arm:
    """The whole stand-in but for its processes and doors."""

    def __init__(
        self,
        groups: Groups,
        settings: Settings | None = None,
        *,
        logs: Callable[[Group, str], str] = lambda _group, _container: "",
        series: Series | None = None,
    ) -> None:
        self.groups = groups
        self.settings = settings or Settings()
        self.meters = Meters(groups.limits)
        self.faults = Faults()
        self.series = series or Series()
        self.urls = OperationUrls()
        self.logs = logs
        self.used: set[str] = set()  # every action that a request needed
        self._routes = [
            *group_rest.routes(self),
            *standby_rest.routes(self),
            *azure_rest.routes(self),
            *monitor.routes(self),
            *neighbours.routes(self),
        ]

    def answer(self, request: Request, now: float) -> Answer:
        """What Azure would answer."""
        ids = {"x-ms-request-id": str(uuid.uuid4()), "x-ms-correlation-request-id": str(uuid.uuid4())}
        try:
            answer = self._answer(request, now)
        except ArmError as error:
            answer = Answer(status=error.status, body=error.body(), headers=error.headers)
        answer.headers = _always(ids, now) | answer.headers
        return answer

    def _answer(self, request: Request, now: float) -> Answer:
        path = request.clean_path
        if path.lower() == "/metadata/endpoints" and request.method == "GET":
            return azure_rest.endpoints(request)
        actor = actor_of(request.headers.get("authorization"), request.base, _audiences(path), now)
        route, names = self._find(request.method, path)
        api = _version(request, route)
        call = Call(request=request, names=names, api=api, actor=actor, now=now)
        self._check_subscription(names)
        headers = self._spend(route, call)
        self._check_action(route, call)
        name = names.get("name", "")
        self._refuse_by_fault(route, call, name)
        after = self.faults.take(AFTER, request.method, name) if name else None
        answer = route.handler(call)
        if after is not None and after.fault == "gateway_timeout":
            raise gateway_timeout()
        if after is not None:
            answer.hang_s = after.seconds
        answer.headers = headers | answer.headers
        return answer

    def check_resource_group(self, call: Call) -> None:
        """Raises ``ArmError`` 404 for a resource group that does not exist."""
        known, name = self.settings.resource_groups, call.names["resource_group"]
        if known is not None and call.subscription.lower() != RECORDED and name.lower() not in known:
            raise resource_group_not_found(name)

    def _find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        allowed = []
        for route in self._routes:
            if found := route.pattern.fullmatch(path):
                if route.method == method:
                    return route, found.groupdict()
                allowed.append(route.method)
        if allowed:
            raise ArmError(
                405,
                "HttpMethodNotAllowed",
                f"The requested resource does not support http method '{method}'.",
                {"allow": ", ".join(allowed)},
            )
        raise azure_rest.unknown_path(path)

    def _check_subscription(self, names: dict[str, str]) -> None:
        subscription = names.get("subscription")
        known = {s.lower() for s in (*self.settings.subscriptions, RECORDED)}
        if subscription is not None and subscription.lower() not in known:
            raise subscription_not_found(subscription)

    def _spend(self, route: Route, call: Call) -> dict[str, str]:
        """One token of Resource Manager's bucket, and the headers that tell how many are left."""
        subscription = call.names.get("subscription")
        if subscription is None:
            return {}
        bucket = self.meters.bucket(subscription, route.kind)
        if wait_s := bucket.take(call.now):
            raise throttled(route.kind, subscription, call.actor, max(1, int(wait_s + 0.999)))
        prefix = "x-ms-ratelimit-remaining-subscription"
        left = bucket.left()
        full = bucket.size * GLOBAL
        return {
            f"{prefix}-{route.kind}s": str(left),
            f"{prefix}-global-{route.kind}s": str(full - (bucket.size - left)),
        }

    def _check_action(self, route: Route, call: Call) -> None:
        if route.action and not self._allows(route.action):
            raise forbidden(call.actor, route.action, call.request.clean_path)

    def check_linked(self, call: Call, action: str, body: Json) -> None:
        """Raises ``ArmError`` 403 where the body would use something that the caller may not use."""
        for needed, scope in linked(body):
            if not self._allows(needed):
                raise linked_forbidden(call.actor, action, call.request.clean_path, needed, scope)

    def _allows(self, action: str) -> bool:
        self.used.add(action)
        return self.settings.role is None or self.settings.role.allows(action)

    def _refuse_by_fault(self, route: Route, call: Call, name: str) -> None:
        if "subscription" not in call.names:
            return
        if fault := self.faults.take(ANY, call.request.method, name):
            victim = Victim(subscription=call.subscription, actor=call.actor, name=name, kind=route.kind)
            raise refusal(fault, victim, str(uuid.uuid4()))


def _version(request: Request, route: Route) -> str:
    version = request.query.get("api-version", "").lower()
    if not version:
        if route.pattern.pattern.startswith("/v1/"):
            return "v1"
        raise ArmError(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    known = not route.versions or version in route.versions
    if not VERSION.fullmatch(version) or not known:
        supported = ", ".join(route.versions) or "those of the form 2023-05-01"
        raise ArmError(
            400,
            "InvalidApiVersionParameter",
            f"The api-version '{version}' is invalid. The supported versions are '{supported}'.",
        )
    return version


def _audiences(path: str) -> frozenset[str]:
    if path.lower().endswith("/metrics:getbatch"):
        return METRICS
    return LOGS if path.lower().startswith("/v1/") else MANAGEMENT


def _always(ids: dict[str, str], now: float) -> dict[str, str]:
    return {
        "cache-control": "no-cache",
        "pragma": "no-cache",
        "expires": "-1",
        "strict-transport-security": "max-age=31536000; includeSubDomains",
        "x-content-type-options": "nosniff",
        "x-ms-routing-request-id": f"LOCAL:{whole_time(now).translate(COMPACT)}:{ids['x-ms-request-id']}",
        **ids,
    }
