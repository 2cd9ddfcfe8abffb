"""What a client asks for with a PUT, checked as Azure checks it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from infra.local.arm import wire
from infra.local.arm.errors import ArmError, invalid_update
from infra.local.arm.state import Group, Json

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
OS_TYPES = ("Windows", "Linux")
POLICIES = ("Always", "OnFailure", "Never")
FIRST_API = "2017-07-01-preview"
REGIONS = (
    "australiacentral", "australiaeast", "australiasoutheast", "austriaeast", "brazilsouth", "canadacentral",
    "canadaeast", "centralindia", "centralus", "eastasia", "eastus", "eastus2", "francecentral",
    "germanywestcentral", "indonesiacentral", "israelcentral", "italynorth", "japaneast", "japanwest",
    "koreacentral", "koreasouth", "malaysiawest", "mexicocentral", "newzealandnorth", "northcentralus",
    "northeurope", "norwayeast", "polandcentral", "qatarcentral", "southafricanorth", "southcentralus",
    "southeastasia", "southindia", "spaincentral", "swedencentral", "switzerlandnorth", "switzerlandwest",
    "uaenorth", "uksouth", "ukwest", "westcentralus", "westeurope", "westindia", "westus", "westus2", "westus3",
)  # fmt: skip


class Asked:
    """A well-formed PUT: everything that Azure keeps of it, with its defaults."""

    def __init__(self, name: str, raw: bytes) -> None:
        body = _without_nulls(decode(raw))
        try:
            msgspec.convert(body, wire.Body)
        except msgspec.ValidationError as error:
            raise _malformed(f"The request content was invalid and could not be deserialized: '{error}'.") from error
        self.location = _location(body.get("location"))
        self.tags = tags_of(body)
        self.zones: list[str] | None = body.get("zones")
        self.identity: Json | None = body.get("identity")
        self.properties = _properties(name, body.get("properties"))


def decode(raw: bytes) -> Json:
    """The JSON object of a body. Raises ``ArmError`` 400."""
    try:
        body = msgspec.json.decode(raw or b"{}")
    except msgspec.DecodeError as error:
        raise _malformed(f"The request content was invalid and could not be deserialized: '{error}'.") from error
    if not isinstance(body, dict):
        raise _malformed("The request content was invalid and could not be deserialized: 'an object was expected'.")
    return body


def _without_nulls(value: Any) -> Any:
    """A null means that nothing was said."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def tags_of(body: Json) -> dict[str, str]:
    tags = body.get("tags") or {}
    if not isinstance(tags, dict) or not all(isinstance(v, str) for v in tags.values()):
        raise _malformed("The request content was invalid: tags must be an object of strings.")
    return dict(tags)


def check_update(group: Group, asked: Asked) -> None:
    """An update cannot change what needs another machine. Raises ``ArmError``."""
    before, after = _fixed(group.properties), _fixed(asked.properties)
    if before != after or group.location != asked.location:
        raise invalid_update(group.name)


def _fixed(properties: Json) -> tuple[Any, ...]:
    requests = [(c["name"], c["properties"].get("resources")) for c in properties["containers"]]
    return properties.get("osType"), properties.get("restartPolicy"), properties.get("subnetIds"), requests


def _location(value: object) -> str:
    if not isinstance(value, str) or not value.replace(" ", ""):
        raise ArmError(400, "LocationRequired", "The location property is required for this definition.")
    location = value.replace(" ", "").lower()
    if location not in REGIONS:
        raise ArmError(
            400,
            "LocationNotAvailableForResourceType",
            f"The provided location '{value}' is not available for resource type "
            "'Microsoft.ContainerInstance/containerGroups'. List of available regions for the resource type is "
            f"'{','.join(REGIONS)}'.",
        )
    return location


def _properties(name: str, value: object) -> Json:
    if not NAME.fullmatch(name.lower()):
        raise ArmError(400, "InvalidContainerGroupName", f"The container group name '{name}' is invalid.")
    if not isinstance(value, dict):
        raise _malformed("The request content was invalid: properties are missing.")
    properties = dict(value)
    for key in ("provisioningState", "instanceView", "provisioningTimeoutInSeconds", "isCustomProvisioningTimeout"):
        properties.pop(key, None)
    if properties.get("osType") not in OS_TYPES:
        raise ArmError(
            400,
            "InvalidOsType",
            "The 'osType' for container group '<null>' is invalid. The value must be one of 'Windows,Linux'.",
        )
    properties.setdefault("restartPolicy", "Always")
    if properties["restartPolicy"] not in POLICIES:
        raise ArmError(
            400,
            "InvalidRestartPolicy",
            f"The 'restartPolicy' for container group '{name}' is invalid. "
            f"The value must be one of '{','.join(POLICIES)}'.",
        )
    containers = properties.get("containers")
    if not isinstance(containers, list) or not containers or len(containers) > 60:
        raise _malformed(f"The container group '{name}' must have 1 to 60 containers.")
    properties["containers"] = [_container(name, c) for c in containers]
    if len({c["name"] for c in properties["containers"]}) < len(containers):
        raise _malformed(f"The container names in container group '{name}' are not unique.")
    _check_address(name, properties.get("ipAddress"))
    return properties


def _container(group: str, value: object) -> Json:
    if not isinstance(value, dict) or not isinstance(value.get("properties"), dict):
        raise _malformed(f"A container of container group '{group}' has no properties.")
    name, properties = value.get("name"), dict(value["properties"])
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ArmError(
            400, "InvalidContainerName", f"The container name '{name}' in container group '{group}' is invalid."
        )
    if not isinstance(properties.get("image"), str) or not properties["image"]:
        raise ArmError(
            400,
            "InvalidContainerImage",
            f"The image of container '{name}' in container group '{group}' is not specified.",
        )
    properties.pop("instanceView", None)
    properties["resources"] = _resources(group, name, properties.get("resources"))
    if variables := properties.get("environmentVariables"):
        properties["environmentVariables"] = [_as_text(v) for v in variables]
    return {"name": name, "properties": properties}


def _as_text(variable: Json) -> Json:
    return {key: str(value) if key in ("value", "secureValue") else value for key, value in variable.items()}


def _resources(group: str, name: str, value: object) -> Json:
    requests = value.get("requests") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(requests, dict):
        raise ArmError(
            400,
            "ResourceRequestsNotSpecified",
            f"The resource requests are not specified in container '{name}' of contain group '{group}'. "
            f"Both memory and CPU requests are required since API version '{FIRST_API}'.",
        )
    amounts = dict(requests)
    for key, label in (("cpu", "Cpu"), ("memoryInGB", "MemoryInGB")):
        amount = amounts.get(key)
        if isinstance(amount, bool) or not isinstance(amount, int | float) or amount <= 0:
            raise ArmError(
                400,
                "ResourceSomeRequestsNotSpecified",
                f"The '{label}' request is not specified in container '{name}' of contain group '{group}'. "
                f"It is required since API version '{FIRST_API}'.",
            )
        amounts[key] = float(amount)
    return {**value, "requests": amounts}


def _check_address(name: str, value: object) -> None:
    if value is None:
        return
    ports = value.get("ports") if isinstance(value, dict) else None
    if not isinstance(ports, list) or not ports:
        raise ArmError(
            400,
            "MissingIpAddressPorts",
            f"The ports in the 'ipAddress' of container group '{name}' cannot be empty.",
        )


def _malformed(message: str) -> ArmError:
    return ArmError(400, "InvalidRequestContent", message)
