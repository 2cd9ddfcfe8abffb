"""The operations on container groups."""

from __future__ import annotations

import fnmatch
import secrets
import uuid
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import msgspec

from infra.local.arm.asked import Asked, decode, tags_of
from infra.local.arm.bodies import group_body, operation_body
from infra.local.arm.errors import ArmError, provider_throttled, transitioning
from infra.local.arm.faults import CREATE, FATES, LIST, Fault, Victim, refusal
from infra.local.arm.http import Answer, Call, Route, route
from infra.local.arm.life import requested
from infra.local.arm.state import Container, Group, Key, Operation

if TYPE_CHECKING:
    from infra.local.arm.arm import Arm

PROVIDER = "Microsoft.ContainerInstance"
VERSIONS = (
    "2017-08-01-preview", "2017-10-01-preview", "2017-12-01-preview", "2018-02-01-preview", "2018-04-01", "2018-06-01",
    "2018-09-01", "2018-10-01", "2019-12-01", "2020-11-01", "2021-03-01", "2021-07-01", "2021-09-01", "2021-10-01",
    "2022-09-01", "2022-10-01-preview", "2023-05-01", "2024-05-01-preview", "2024-09-01-preview", "2024-10-01-preview",
    "2024-11-01-preview", "2025-09-01", "2026-06-01-preview", "2026-07-01", "2026-08-01-preview",
)  # fmt: skip
LIMIT_HEADER = "x-ms-ratelimit-remaining-subscription-resource-requests"
LOG_BYTES_RUNNING, LOG_BYTES_STOPPED = 4 * 1024 * 1024, 16 * 1024


def routes(arm: Arm) -> list[Route]:
    """Every route of the provider."""
    rest = GroupRest(arm)
    subscription = f"/subscriptions/{{subscription}}/providers/{PROVIDER}"
    groups = f"/subscriptions/{{subscription}}/resourceGroups/{{resource_group}}/providers/{PROVIDER}/containerGroups"
    group, kind = f"{groups}/{{name}}", f"{PROVIDER}/containerGroups"
    container = f"{group}/containers/{{container}}"
    place = f"{subscription}/locations/{{location}}"
    table = [
        ("GET", f"{subscription}/containerGroups", rest.list_all, f"{kind}/read"),
        ("GET", groups, rest.list_all, f"{kind}/read"),
        ("GET", group, rest.get, f"{kind}/read"),
        ("PUT", group, rest.put, f"{kind}/write"),
        ("PATCH", group, rest.patch, f"{kind}/write"),
        ("DELETE", group, rest.delete, f"{kind}/delete"),
        ("POST", f"{group}/stop", rest.stop, f"{kind}/stop/action"),
        ("POST", f"{group}/start", rest.start, f"{kind}/start/action"),
        ("POST", f"{group}/restart", rest.restart, f"{kind}/restart/action"),
        ("GET", f"{container}/logs", rest.logs, f"{kind}/containers/logs/read"),
        ("POST", f"{container}/exec", rest.attach, f"{kind}/containers/exec/action"),
        ("POST", f"{container}/attach", rest.attach, f"{kind}/containers/attach/action"),
        ("GET", f"{place}/operations/{{operation}}", rest.operation, f"{PROVIDER}/locations/operations/read"),
        ("GET", f"{place}/usages", rest.usages, f"{PROVIDER}/locations/usages/read"),
        ("GET", f"{place}/capabilities", rest.capabilities, f"{PROVIDER}/locations/capabilities/read"),
        ("GET", f"{place}/cachedImages", rest.cached_images, f"{PROVIDER}/locations/cachedImages/read"),
    ]
    return [route(method, path, handler, action, VERSIONS) for method, path, handler, action in table]


class GroupRest:
    """The handlers."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    def list_all(self, call: Call) -> Answer:
        resource_group = call.names.get("resource_group")
        if resource_group is not None:
            self._arm.check_resource_group(call)
        self._arm.groups.advance(call.now)
        groups = self._arm.groups.listed(call.subscription, resource_group)
        if fault := self._arm.faults.take(LIST, "GET", ""):
            groups = [g for g in groups if not fnmatch.fnmatchcase(g.name, fault.name)]
        size, skip = self._arm.settings.page_size, _skip(call)
        page = groups[skip : skip + size]
        body: dict[str, object] = {"value": [group_body(g, call.api, view=False) for g in page]}
        if skip + size < len(groups):
            query = urlencode({"api-version": call.api, "$skiptoken": str(skip + size)})
            body["nextLink"] = f"{call.request.base}{quote(call.request.clean_path)}?{query}"
        return Answer(body=body)

    def get(self, call: Call) -> Answer:
        return Answer(body=group_body(self._group(call), call.api))

    def put(self, call: Call) -> Answer:
        self._arm.check_resource_group(call)
        name = call.names["name"]
        body, claimed = self._arm.groups.resolved(decode(call.request.body), call.now)
        self._arm.check_linked(call, f"{PROVIDER}/containerGroups/write", body)
        asked = Asked(name, msgspec.json.encode(body))
        limits = self._count(call, "write")
        fault = self._arm.faults.take(CREATE, "PUT", name)
        if fault is not None and fault.fault not in FATES:
            raise refusal(fault, _victim(call, asked), str(uuid.uuid4()))
        if any("gpu" in c["properties"]["resources"]["requests"] for c in asked.properties["containers"]):
            # Azure has no machine of this kind left; how it says so today is not recorded.
            raise refusal(Fault(fault="no_capacity"), _victim(call, asked), "")
        fate = FATES[fault.fault] if fault is not None else None
        group, operation, created = self._arm.groups.put(
            call.subscription, call.names["resource_group"], name, asked, call.now, fate, claimed=claimed
        )
        shown = group_body(group, call.api, answering_put=True)
        return Answer(status=201 if created else 200, body=shown, headers=self._async(call, operation) | limits)

    def patch(self, call: Call) -> Answer:
        group = self._group(call)
        self._arm.groups.patch(group, tags_of(decode(call.request.body)))
        return Answer(body=group_body(group, call.api))

    def delete(self, call: Call) -> Answer:
        self._arm.check_resource_group(call)
        limits = self._count(call, "delete")
        self._arm.groups.advance(call.now)
        group = self._arm.groups.find(_key(call))
        if group is None:
            return Answer(status=204, headers=limits)
        body = group_body(group, call.api)  # as it was: the answer shows the last state
        self._arm.groups.delete(group, call.now)
        return Answer(body=body, headers=limits)

    def stop(self, call: Call) -> Answer:
        self._arm.groups.stop(self._group(call), call.now)
        return Answer(status=204)

    def start(self, call: Call) -> Answer:
        operation = self._arm.groups.start(self._group(call), call.now)
        return Answer(status=202, headers=self._async(call, operation))

    def restart(self, call: Call) -> Answer:
        operation = self._arm.groups.restart(self._group(call), call.now)
        return Answer(status=204, headers=self._async(call, operation))

    def logs(self, call: Call) -> Answer:
        group = self._group(call)
        container = _container(group, call)
        if container.started_at is None:
            raise transitioning(group.name)
        text = self._arm.logs(group, container.name)
        if tail := call.request.query.get("tail"):
            text = "".join(text.splitlines(keepends=True)[-int(tail) :]) if tail.isdigit() else text
        limit = LOG_BYTES_RUNNING if container.run is not None else LOG_BYTES_STOPPED
        return Answer(body={"content": text[-limit:]})

    def attach(self, call: Call) -> Answer:
        """The shape of the answer. No command is run: the address it names takes no connection."""
        group = self._group(call)
        _container(group, call)
        host = call.request.base.partition("://")[2]
        path = f"wss://{host}/execstream/sessionId/{uuid.uuid4()}?api-version=1.0&rows=24&cols=80"
        return Answer(body={"webSocketUri": path, "password": secrets.token_urlsafe(24)})

    def operation(self, call: Call) -> Answer:
        identifier = call.names["operation"].lower()
        self._arm.urls.check(identifier, call.request.query)
        self._arm.groups.advance(call.now)
        operation = self._arm.groups.operations.get(identifier)
        if operation is None:
            raise ArmError(404, "ResourceNotFound", f"The operation '{identifier}' was not found.")
        return Answer(body=operation_body(operation))

    def usages(self, call: Call) -> Answer:
        location = call.names["location"].lower()
        labels = {"ContainerGroups": "Container Groups", "StandardCores": "Standard Cores"}
        usage = self._arm.groups.usage(call.subscription, location)
        base = f"/subscriptions/{call.subscription}/providers/{PROVIDER}/locations/{location}/usages"
        return Answer(
            body={
                "value": [
                    {
                        "id": f"{base}/{name}",
                        "unit": "Count",
                        "currentValue": int(used),
                        "limit": int(limit),
                        "name": {"value": name, "localizedValue": labels[name]},
                    }
                    for name, (used, limit) in usage.items()
                ]
            }
        )

    def capabilities(self, call: Call) -> Answer:
        location = call.names["location"].lower()
        return Answer(
            body={
                "value": [
                    {
                        "resourceType": "containerGroups",
                        "osType": "Linux",
                        "location": location,
                        "ipAddressType": kind,
                        "gpu": "None",
                        "capabilities": {"maxMemoryInGB": 240.0, "maxCpu": 31.0, "maxGpuCount": 0.0},
                    }
                    for kind in ("Public", "Private")
                ]
            }
        )

    def cached_images(self, _call: Call) -> Answer:
        return Answer(body={"value": []})

    def _group(self, call: Call) -> Group:
        self._arm.check_resource_group(call)
        self._arm.groups.advance(call.now)
        return self._arm.groups.get(_key(call), call.names["resource_group"], call.names["name"])

    def _count(self, call: Call, kind: str) -> dict[str, str]:
        """Creations and deletions are counted by the provider too; what is left goes into two headers."""
        window = self._arm.meters.window(call.subscription, kind)
        if wait_s := window.wait_s(call.now):
            raise provider_throttled(max(1, int(wait_s + 0.999)))
        window.count(call.now)
        hour, five = window.left(call.now)
        return {f"{LIMIT_HEADER}-pt1h": str(hour), f"{LIMIT_HEADER}-pt5m": str(five)}

    def _async(self, call: Call, operation: Operation) -> dict[str, str]:
        url = self._arm.urls.url(call.request.base, call.subscription, operation.location, operation.id, call.now)
        return {
            "azure-asyncoperation": url,
            "azure-asyncnotification": "Enabled",
            "x-ms-request-id": f"{operation.location}:{operation.id}",
        }


def _key(call: Call) -> Key:
    return Key.of(call.subscription, call.names["resource_group"], call.names["name"])


def _container(group: Group, call: Call) -> Container:
    wanted = call.names["container"].lower()
    for container in group.containers:
        if container.name.lower() == wanted:
            return container
    raise ArmError(
        404,
        "ContainerNotFound",
        f"The container '{call.names['container']}' does not exist in the container group '{group.name}'.",
    )


def _victim(call: Call, asked: Asked) -> Victim:
    container = asked.properties["containers"][0]["properties"]
    group = Group(subscription="", resource_group="", name="", location="", properties=asked.properties, created_at=0)
    cpu, memory_gb = requested(group)
    return Victim(
        subscription=call.subscription,
        actor=call.actor,
        name=call.names["name"],
        kind="write",
        location=asked.location,
        image=container["image"],
        cpu=cpu,
        memory_gb=memory_gb,
        os_type=asked.properties["osType"],
    )


def _skip(call: Call) -> int:
    token = call.request.query.get("$skiptoken", "0")
    if not token.isdigit():
        raise ArmError(400, "InvalidSkipToken", f"The skip token '{token}' is invalid.")
    return int(token)
