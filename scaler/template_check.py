"""What can be wrong with a replica template, said before Azure would: minutes later, and once a replica. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from scaler.errors import BadSetting
from scaler.model import Json

# Set for each replica, whatever the template says.
OWN_VARIABLES = ("REPLICA", "PORT", "REPLICA_TOKEN", "TLS_CERTIFICATE")
API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
RESERVED_PORTS: tuple[tuple[int, int], ...] = (
    (22, 22), (1025, 1027), (3389, 3399), (9999, 9999), (19000, 19000), (19080, 19080), (19100, 19100), (19390, 19390),
    (20000, 30000), (49152, 65534),
)  # fmt: skip


def check(raw: Json, file: str) -> tuple[str, ...]:
    """Warnings about a template that can be used. Raises ``BadSetting`` for one that cannot."""
    checker = _Check(file)
    checker.group(raw)
    return tuple(checker.warnings)


class _Check:
    def __init__(self, file: str) -> None:
        self._file = file
        self.warnings: list[str] = []

    def group(self, raw: Json) -> None:
        properties = raw["properties"]
        version = raw.get("apiVersion")
        if version is not None and not (isinstance(version, str) and API_VERSION.fullmatch(version)):
            self.fail("apiVersion", f"{version!r} is no API version; write it like '2023-05-01'")
        for key, value in self.mapping(raw.get("tags", {}), "tags").items():
            if not isinstance(value, str):
                self.fail(f"tags.{key}", "expected text; put the value in quotes")
        containers = properties.get("containers")
        if not isinstance(containers, list) or not containers:
            self.fail("properties.containers", "no containers; a replica needs one that serves the model")
        for i, container in enumerate(containers):
            self.container(container, f"properties.containers[{i}]", first=i == 0)
        if (system := properties.get("osType", "Linux")) != "Linux":
            self.fail("properties.osType", f"{system!r}; replicas are Linux containers")
        for i, container in enumerate(self.sequence(properties.get("initContainers", []), "properties.initContainers")):
            self.init_container(container, f"properties.initContainers[{i}]")
        self.address(properties)
        for path, holder, key in self.holders(properties):
            if not holder.get(key):
                self.fail(f"{path}.{key}", f"missing, for Azure exports no secrets; fill in {key}")

    def container(self, container: object, path: str, *, first: bool) -> None:
        inner = self.mapping(self.mapping(container, path).get("properties"), f"{path}.properties")
        path += ".properties"
        if not isinstance(inner.get("image"), str):
            self.fail(f"{path}.image", "missing; name the image of the container")
        resources = self.mapping(inner.get("resources"), f"{path}.resources")
        requests = self.mapping(resources.get("requests"), f"{path}.resources.requests")
        for key in ("cpu", "memoryInGB"):
            self.positive(requests.get(key), f"{path}.resources.requests.{key}")
        if "gpu" in requests:
            self.warnings.append(
                f"{self._file}: {path}.resources.requests.gpu: Azure retired GPUs on Container Instances on 2025-07-14 "
                "and will refuse to create this group; take `gpu` out to run on CPUs"
            )
        ports = self.ports(inner.get("ports", []), f"{path}.ports")
        if first and not ports:
            self.fail(f"{path}.ports", "no port; name the one that the server listens on, like `- {port: 8000}`")
        self.variables(inner.get("environmentVariables", []), f"{path}.environmentVariables")

    def address(self, properties: Json) -> None:
        path = "properties.ipAddress"
        if "ipAddress" not in properties:
            self.fail(
                path, "missing; without an address nothing reaches the replica: type Public, or Private with subnetIds"
            )
        address = self.mapping(properties["ipAddress"], path)
        open_ports = self.ports(address.get("ports", []), f"{path}.ports")
        port = properties["containers"][0]["properties"]["ports"][0]["port"]
        if port not in open_ports:
            self.fail(
                f"{path}.ports", f"port {port} of the first container is not among them; add `- {{port: {port}}}`"
            )
        kind, subnets = address.get("type"), properties.get("subnetIds")
        if kind not in ("Public", "Private"):
            self.fail(f"{path}.type", f"expected Public or Private, got {kind!r}")
        if kind == "Private" and not subnets:
            self.fail("properties.subnetIds", "missing; a private address needs a subnet: `subnetIds: [{id: …}]`")
        if kind == "Public" and subnets:
            self.fail(
                f"{path}.type", "Public; a group in a subnet has no public address: make it Private or drop subnetIds"
            )
        if "dnsNameLabel" in address:
            self.warnings.append(
                f"{self._file}: {path}.dnsNameLabel: left out, for no two replicas can share a DNS name"
            )

    def ports(self, value: object, path: str) -> list[int]:
        found = []
        for i, entry in enumerate(self.sequence(value, path)):
            port: Any = self.mapping(entry, f"{path}[{i}]").get("port")
            if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
                self.fail(f"{path}[{i}].port", f"expected a number from 1 to 65535, got {port!r}")
            if any(low <= port <= high for low, high in RESERVED_PORTS):
                self.fail(f"{path}[{i}].port", f"Azure keeps port {port} for itself; take another, like 8000")
            found.append(port)
        return found

    def variables(self, value: object, path: str) -> None:
        for i, entry in enumerate(self.sequence(value, path)):
            variable = self.mapping(entry, f"{path}[{i}]")
            name = variable.get("name")
            if not isinstance(name, str) or not name:
                self.fail(f"{path}[{i}].name", "missing; name the variable")
            for key in ("value", "secureValue"):
                if not isinstance(variable.get(key, ""), str):
                    self.fail(f"{path}[{i}].{key}", f"{name}: expected text; put the value in quotes")
            if "value" not in variable and "secureValue" not in variable and name not in OWN_VARIABLES:
                self.fail(
                    f"{path}[{i}].secureValue",
                    f"{name} has no value, for Azure exports no secrets; fill in secureValue",
                )

    def init_container(self, container: object, path: str) -> None:
        inner = self.mapping(self.mapping(container, path).get("properties"), f"{path}.properties")
        self.variables(inner.get("environmentVariables", []), f"{path}.properties.environmentVariables")

    def holders(self, properties: Json) -> Iterator[tuple[str, Json, str]]:
        """Wherever a group needs a secret: path, mapping, and the key in it that an export leaves empty."""
        path = "properties.imageRegistryCredentials"
        for i, entry in enumerate(self.sequence(properties.get("imageRegistryCredentials", []), path)):
            registry = self.mapping(entry, f"{path}[{i}]")
            if "identity" not in registry:
                yield f"{path}[{i}]", registry, "password"
        for i, entry in enumerate(self.sequence(properties.get("volumes", []), "properties.volumes")):
            path = f"properties.volumes[{i}]"
            volume = self.mapping(entry, path)
            if "secret" in volume:
                yield path, volume, "secret"
            share = self.mapping(volume.get("azureFile", {}), f"{path}.azureFile")
            if share and "userAssignedIdentityClientId" not in share:
                yield f"{path}.azureFile", share, "storageAccountKey"
        path = "properties.diagnostics"
        diagnostics = self.mapping(properties.get("diagnostics", {}), path)
        if "logAnalytics" in diagnostics:
            path += ".logAnalytics"
            yield path, self.mapping(diagnostics["logAnalytics"], path), "workspaceKey"

    def fail(self, path: str, problem: str) -> NoReturn:
        raise BadSetting(f"{self._file}: {path}: {problem}")

    def mapping(self, value: object, path: str) -> Json:
        if not isinstance(value, dict):
            self.fail(path, "missing" if value is None else "expected a mapping")
        return value

    def sequence(self, value: object, path: str) -> Sequence[object]:
        if not isinstance(value, list):
            self.fail(path, "expected a list")
        return value

    def positive(self, value: object, path: str) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            self.fail(path, f"expected a number above 0, got {value!r}")
