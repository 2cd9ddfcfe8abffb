"""What surrounds container groups: the cloud's own description, subscriptions, resource groups, providers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infra.local.arm.asked import REGIONS
from infra.local.arm.bodies import TENANT
from infra.local.arm.errors import ArmError
from infra.local.arm.group_rest import PROVIDER, VERSIONS
from infra.local.arm.http import Answer, Call, Request, Route, route
from infra.local.arm.state import Json

if TYPE_CHECKING:
    from infra.local.arm.arm import Arm

PROVIDER_PATH = re.compile(
    r"(?:/subscriptions/[^/]+(?:/resourceGroups/[^/]+)?)?/providers/([^/]+)(?:/([^/]+))?.*", re.I
)
ACTIONS = (
    "containerGroups/read",
    "containerGroups/write",
    "containerGroups/delete",
    "containerGroups/start/action",
    "containerGroups/stop/action",
    "containerGroups/restart/action",
    "containerGroups/containers/logs/read",
    "locations/usages/read",
    "locations/operations/read",
)
RESOURCES = "Microsoft.Resources/subscriptions"


def endpoints(request: Request) -> Answer:
    """One object, not a list: what ``az cloud register`` reads."""
    base = request.base
    return Answer(
        body={
            "name": "StandIn",
            "portal": base,
            "authentication": {
                "loginEndpoint": base,
                "audiences": ["https://management.core.windows.net/", "https://management.azure.com/"],
                "tenant": "common",
                "identityProvider": "AAD",
            },
            "resourceManager": base,
            "media": base,
            "graph": base,
            "graphAudience": base,
            "batch": base,
            "sqlManagement": base,
            "gallery": base,
            "microsoftGraphResourceId": base,
            "suffixes": {
                "storage": "core.windows.net",
                "keyVaultDns": "vault.azure.net",
                "acrLoginServer": "azurecr.io",
                "sqlServerHostname": "database.windows.net",
            },
        }
    )


def unknown_path(path: str) -> ArmError:
    """A resource type or a provider that is not here."""
    found = PROVIDER_PATH.fullmatch(path)
    if found is None:
        return ArmError(404, "NotFound", f"The requested path '{path}' was not found.")
    namespace, kind = found[1], found[2] or ""
    if namespace.lower() != PROVIDER.lower():
        return ArmError(404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")
    return ArmError(
        404,
        "InvalidResourceType",
        f"The resource type '{kind}' could not be found in the namespace '{namespace}' for this path. "
        f"The supported api-versions are '{', '.join(VERSIONS)}'.",
    )


def routes(arm: Arm) -> list[Route]:
    """Every route that is no container group's."""
    rest = AzureRest(arm)
    one, group = "/subscriptions/{subscription}", "/subscriptions/{subscription}/resourcegroups/{resource_group}"
    table = [
        ("GET", "/subscriptions", rest.subscriptions, ""),
        ("GET", "/tenants", rest.tenants, ""),
        ("GET", one, rest.subscription, f"{RESOURCES}/read"),
        ("GET", f"{one}/locations", rest.locations, f"{RESOURCES}/locations/read"),
        ("GET", f"{one}/resourcegroups", rest.resource_groups, f"{RESOURCES}/resourceGroups/read"),
        ("GET", group, rest.resource_group, f"{RESOURCES}/resourceGroups/read"),
        ("HEAD", group, rest.has_resource_group, f"{RESOURCES}/resourceGroups/read"),
        ("PUT", group, rest.resource_group, f"{RESOURCES}/resourceGroups/write"),
        ("GET", f"{one}/providers/{PROVIDER}", rest.provider, f"{RESOURCES}/providers/read"),
        ("POST", f"{one}/providers/{PROVIDER}/register", rest.provider, f"{PROVIDER}/register/action"),
        ("GET", f"/providers/{PROVIDER}/operations", rest.operations, ""),
    ]
    return [route(method, path, handler, action) for method, path, handler, action in table]


class AzureRest:
    """The handlers."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    def subscriptions(self, _call: Call) -> Answer:
        return Answer(body={"value": [_subscription(s) for s in self._arm.settings.subscriptions]})

    def subscription(self, call: Call) -> Answer:
        return Answer(body=_subscription(call.subscription))

    def tenants(self, _call: Call) -> Answer:
        return Answer(body={"value": [{"id": f"/tenants/{TENANT}", "tenantId": TENANT, "displayName": "stand-in"}]})

    def locations(self, call: Call) -> Answer:
        base = f"/subscriptions/{call.subscription}/locations"
        value = [{"id": f"{base}/{r}", "name": r, "displayName": r, "type": "Region"} for r in REGIONS]
        return Answer(body={"value": value})

    def resource_groups(self, call: Call) -> Answer:
        known = self._arm.settings.resource_groups
        names = {g.resource_group for g in self._arm.groups.listed(call.subscription)} if known is None else known
        return Answer(body={"value": [self._resource_group(call, name) for name in sorted(names)]})

    def resource_group(self, call: Call) -> Answer:
        self._arm.check_resource_group(call)
        return Answer(body=self._resource_group(call, call.names["resource_group"]))

    def has_resource_group(self, call: Call) -> Answer:
        self._arm.check_resource_group(call)
        return Answer(status=204)

    def provider(self, call: Call) -> Answer:
        kinds = [{"resourceType": "containerGroups", "locations": list(REGIONS), "apiVersions": list(VERSIONS[::-1])}]
        return Answer(
            body={
                "id": f"/subscriptions/{call.subscription}/providers/{PROVIDER}",
                "namespace": PROVIDER,
                "registrationState": "Registered",
                "resourceTypes": kinds,
            }
        )

    def operations(self, _call: Call) -> Answer:
        value = [
            {"name": f"{PROVIDER}/{a}", "display": {"provider": PROVIDER, "operation": a}, "origin": "User"}
            for a in ACTIONS
        ]
        return Answer(body={"value": value})

    def _resource_group(self, call: Call, name: str) -> Json:
        return {
            "id": f"/subscriptions/{call.subscription}/resourceGroups/{name}",
            "name": name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": "westeurope",
            "tags": {},
            "properties": {"provisioningState": "Succeeded"},
        }


def _subscription(subscription: str) -> Json:
    return {
        "id": f"/subscriptions/{subscription}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": subscription,
        "tenantId": TENANT,
        "displayName": "stand-in",
        "state": "Enabled",
        "subscriptionPolicies": {"locationPlacementId": "Public", "quotaId": "PayAsYouGo", "spendingLimit": "Off"},
    }
