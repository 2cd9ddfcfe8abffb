"""What container groups lean on, of other providers: identities, subnets, address records of private DNS zones.

Every identity, subnet and zone exists, but those whose name begins with ``missing``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.local.arm.asked import decode
from infra.local.arm.errors import ArmError
from infra.local.arm.http import Answer, Call, Route, route
from infra.local.arm.state import Json

if TYPE_CHECKING:
    from infra.local.arm.arm import Arm

RECORD = "Microsoft.Network/privateDnsZones/A"
SUBNET = "Microsoft.Network/virtualNetworks/subnets"
IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities"
DELEGATION = "Microsoft.ContainerInstance/containerGroups"


def routes(arm: Arm) -> list[Route]:
    """Read all of them, write records."""
    rest = Neighbours(arm)
    place = "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers"
    record = f"{place}/Microsoft.Network/privateDnsZones/{{zone}}/A/{{record}}"
    subnet = f"{place}/Microsoft.Network/virtualNetworks/{{network}}/subnets/{{name}}"
    return [
        route("GET", record, rest.record, f"{RECORD}/read", ("2024-06-01",)),
        route("PUT", record, rest.write, f"{RECORD}/write", ("2024-06-01",)),
        route("GET", subnet, rest.subnet, f"{SUBNET}/read"),
        route("GET", f"{place}/{IDENTITY}/{{name}}", rest.identity, f"{IDENTITY}/read"),
    ]


class Neighbours:
    """The handlers."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._records: dict[str, Json] = {}

    def record(self, call: Call) -> Answer:
        self._present(call, call.names["zone"], RECORD)
        if call.request.clean_path.lower() not in self._records:
            name = call.names["record"]
            raise ArmError(404, "NotFound", f"The resource record '{name}' does not exist in resource group.")
        return Answer(body=self._body(call))

    def write(self, call: Call) -> Answer:
        """``If-Match`` never matches: etags are not kept, and whoever sends one wants to know whether he may write."""
        self._present(call, call.names["zone"], RECORD)
        if call.request.headers.get("if-match"):
            raise ArmError(412, "PreconditionFailed", "The condition 'If-Match' in the request was not satisfied.")
        properties = decode(call.request.body).get("properties")
        addresses = properties.get("aRecords") if isinstance(properties, dict) else None
        if not isinstance(properties, dict) or not isinstance(addresses, list) or not 0 < len(addresses) < 21:
            raise ArmError(400, "BadRequest", "aRecords must hold 1 to 20 addresses.")
        path = call.request.clean_path.lower()
        created = path not in self._records
        self._records[path] = properties
        return Answer(status=201 if created else 200, body=self._body(call))

    def subnet(self, call: Call) -> Answer:
        self._present(call, call.names["name"], SUBNET)
        delegation = {"name": "groups", "properties": {"serviceName": DELEGATION}}
        properties = {"addressPrefix": "10.90.1.0/24", "delegations": [delegation], "provisioningState": "Succeeded"}
        return Answer(body={"id": call.request.clean_path, "name": call.names["name"], "properties": properties})

    def identity(self, call: Call) -> Answer:
        self._present(call, call.names["name"], IDENTITY)
        return Answer(body={"id": call.request.clean_path, "name": call.names["name"], "type": IDENTITY})

    def _present(self, call: Call, name: str, kind: str) -> None:
        self._arm.check_resource_group(call)
        if name.lower().startswith("missing"):
            group = call.names["resource_group"]
            message = f"The Resource '{kind}/{name}' under resource group '{group}' was not found."
            raise ArmError(404, "ResourceNotFound", message)

    def _body(self, call: Call) -> Json:
        path = call.request.clean_path
        properties = {**self._records[path.lower()], "isAutoRegistered": False}
        return {"id": path, "name": call.names["record"], "type": RECORD, "properties": properties}
