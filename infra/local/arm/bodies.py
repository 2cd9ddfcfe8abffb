"""Container groups and operations as Azure writes them: what it adds, what it never gives back, how it writes times."""

from __future__ import annotations

import copy
import uuid
from datetime import UTC, datetime
from typing import Any

from infra.local.arm.errors import TYPE
from infra.local.arm.life import run_state
from infra.local.arm.state import Container, Event, Group, Json, Operation, Outcome

SECRET_KEYS = frozenset({"secureValue", "password", "workspaceKey", "storageAccountKey"})
TENANT = "00000000-0000-4000-8000-0000000000ad"


def group_body(group: Group, api: str, *, view: bool = True, answering_put: bool = False) -> Json:
    """The whole resource. ``view`` False: as LIST gives it, without any ``instanceView``."""
    properties = _properties(group, api, view=view, answering_put=answering_put)
    body: Json = {"properties": properties, "id": group.id, "name": group.name, "type": TYPE}
    if group.identity is not None:
        body["identity"] = _identity(group)
    body["location"] = group.location
    if group.zones is not None:
        body["zones"] = list(group.zones)
    body["tags"] = dict(group.tags)
    return body


def operation_body(operation: Operation) -> Json:
    """``id`` is the group's, not the operation's own."""
    body: Json = {
        "id": operation.group_id,
        "status": operation.status,
        "startTime": precise_time(operation.started_at),
        "properties": {"events": [event_body(e) for e in operation.events]},
    }
    if operation.error is not None:
        body["error"] = {"message": operation.error}  # without a code: that is how it comes
    return body


def event_body(event: Event) -> Json:
    return {
        "count": event.count,
        "firstTimestamp": whole_time(event.first_at),
        "lastTimestamp": whole_time(event.at),
        "name": event.name,
        "message": event.message,
        "type": event.type,
    }


def whole_time(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milli_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def precise_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "4Z"


def without_secrets(value: Any) -> Any:
    """A copy without what Azure keeps to itself; the variable or the volume itself stays."""
    if isinstance(value, dict):
        kept = {k: without_secrets(v) for k, v in value.items() if k not in SECRET_KEYS}
        if isinstance(kept.get("secret"), dict):
            kept["secret"] = {}
        return kept
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return copy.copy(value)


def _properties(group: Group, api: str, *, view: bool, answering_put: bool) -> Json:
    asked: Json = without_secrets(group.properties)
    recent = api >= "2023"
    shown: Json = {"sku": asked.pop("sku", "Standard")} if recent else {}
    asked.pop("sku", None)
    shown["provisioningState"] = group.provisioning
    if recent:
        shown |= {"provisioningTimeoutInSeconds": 1800, "isCustomProvisioningTimeout": False}
    if api >= "2024":
        shown["isCreatedFromStandbyPool"] = group.pooled
    runtime = {c.name: c for c in group.containers}
    shown["containers"] = [
        {"name": c["name"], "properties": _container(c["properties"], runtime[c["name"]], group, api, view=view)}
        for c in asked.pop("containers")
    ]
    init = asked.pop("initContainers", [])
    if recent:
        shown["initContainers"] = init
    if "imageRegistryCredentials" in asked:
        shown["imageRegistryCredentials"] = asked.pop("imageRegistryCredentials")
    shown["restartPolicy"] = asked.pop("restartPolicy")
    if address := _ip_address(group, asked.pop("ipAddress", None), answering_put=answering_put):
        shown["ipAddress"] = address
    shown["osType"] = asked.pop("osType")
    if "volumes" in asked:
        shown["volumes"] = asked.pop("volumes")
    if view:
        shown["instanceView"] = {"events": [], "state": run_state(group)}
    shown.update(asked)
    return shown


def _container(properties: Json, container: Container, group: Group, api: str, *, view: bool) -> Json:
    shown = {"image": properties.pop("image")}
    if "command" in properties:
        shown["command"] = properties.pop("command")
    shown["ports"] = properties.pop("ports", [])
    shown["environmentVariables"] = properties.pop("environmentVariables", [])
    if api >= "2024":
        shown["configMap"] = properties.pop("configMap", {"keyValuePairs": {}})
    if view and (seen := _instance_view(container, group)):
        shown["instanceView"] = seen
    return shown | properties


def _instance_view(container: Container, group: Group) -> Json | None:
    """None until Azure has something to say: the pull, or a run."""
    if container.run is None and container.ended is None and not container.events:
        return None
    view: Json = {"restartCount": container.restart_count, "currentState": _current_state(container, group)}
    last = container.previous if container.ended is None or container.restart_at is None else container.ended
    if last is not None and container.restart_count:
        view["previousState"] = _terminated(last)
    elif container.restart_at is not None and container.ended is not None:
        view["previousState"] = _terminated(container.ended)
    if container.events:
        view["events"] = [event_body(e) for e in container.events]
    return view


def _current_state(container: Container, group: Group) -> Json:
    if container.run is not None and container.started_at is not None:
        return {"state": "Running", "startTime": milli_time(container.started_at), "detailStatus": ""}
    if container.restart_at is not None:
        return {"state": "Waiting", "detailStatus": "CrashLoopBackOff: Back-off restarting failed"}
    if container.ended is not None and (group.is_started or group.stopped):
        return _terminated(container.ended)
    return {"state": "Waiting", "detailStatus": ""}


def _terminated(outcome: Outcome) -> Json:
    return {
        "state": "Terminated",
        "startTime": milli_time(outcome.started_at),
        "exitCode": outcome.exit_code,
        "finishTime": milli_time(outcome.finished_at),
        "detailStatus": outcome.detail,
    }


def _ip_address(group: Group, asked: Json | None, *, answering_put: bool) -> Json | None:
    """The address itself is known only once the group started; a private group has nothing to show before that."""
    if asked is None:
        return None
    ip = group.address if group.is_started and not answering_put else None
    if ip is None and asked.get("type") == "Private":
        return None
    shown: Json = {"ports": asked.get("ports", [])}
    if ip is not None:
        shown["ip"] = ip
    shown["type"] = asked.get("type", "Public")
    if label := asked.get("dnsNameLabel"):
        shown["dnsNameLabel"] = label
        shown["autoGeneratedDomainNameLabelScope"] = asked.get("autoGeneratedDomainNameLabelScope", "Unsecure")
        shown["fqdn"] = f"{label}.{group.location}.azurecontainer.io"
    return shown


def _identity(group: Group) -> Json:
    assert group.identity is not None
    shown: Json = {"type": group.identity.get("type", "None")}
    if "SystemAssigned" in shown["type"]:
        shown = {"principalId": derived_id(group.id, "principal"), "tenantId": TENANT} | shown
    if users := group.identity.get("userAssignedIdentities"):
        shown["userAssignedIdentities"] = {
            name: {"principalId": derived_id(name, "principal"), "clientId": derived_id(name, "client")}
            for name in users
        }
    return shown


def derived_id(name: str, purpose: str) -> str:
    """An id that is always the same for the same thing."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{purpose}:{name.lower()}"))
