"""The operations on standby pools and on container group profiles that a pool needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.local.arm.asked import Asked
from infra.local.arm.bodies import without_secrets
from infra.local.arm.errors import ArmError
from infra.local.arm.http import Answer, Call, Route, route
from infra.local.arm.standby import decoded
from infra.local.arm.state import Json

if TYPE_CHECKING:
    from infra.local.arm.arm import Arm

PROFILE_VERSIONS = (
    "2024-05-01-preview", "2024-09-01-preview", "2024-10-01-preview", "2024-11-01-preview", "2025-09-01",
    "2026-06-01-preview", "2026-07-01", "2026-08-01-preview",
)  # fmt: skip
POOL_VERSIONS = ("2024-03-01", "2025-03-01", "2025-10-01", "2026-04-01")


def routes(arm: Arm) -> list[Route]:
    rest = StandbyRest(arm)
    group = "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers"
    profile, pool = (
        "Microsoft.ContainerInstance/containerGroupProfiles",
        "Microsoft.StandbyPool/standbyContainerGroupPools",
    )
    table = [
        ("PUT", profile, rest.put_profile, PROFILE_VERSIONS),
        ("GET", profile, rest.get_profile, PROFILE_VERSIONS),
        ("PUT", pool, rest.put_pool, POOL_VERSIONS),
        ("GET", pool, rest.get_pool, POOL_VERSIONS),
        ("DELETE", pool, rest.delete_pool, POOL_VERSIONS),
    ]
    verbs = {"PUT": "write", "GET": "read", "DELETE": "delete"}
    return [
        route(method, f"{group}/{kind}/{{name}}", handler, f"{kind}/{verbs[method]}", versions)
        for method, kind, handler, versions in table
    ]


class StandbyRest:
    """The handlers."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    def put_profile(self, call: Call) -> Answer:
        self._arm.check_resource_group(call)
        asked = Asked(call.names["name"], call.request.body)
        body: Json = {**_named(call), "location": asked.location, "properties": {**asked.properties, "revision": 1}}
        self._arm.groups.standby.profiles[call.request.clean_path.lower()] = {**body, "properties": asked.properties}
        return Answer(body=without_secrets(body))

    def get_profile(self, call: Call) -> Answer:
        body = self._arm.groups.standby.profiles.get(call.request.clean_path.lower())
        if body is None:
            raise _missing(call)
        return Answer(body=without_secrets(body))

    def put_pool(self, call: Call) -> Answer:
        self._arm.check_resource_group(call)
        body = {**decoded(call.request.body), **_named(call)}
        pool = self._arm.groups.put_pool(call.request.clean_path, body, call.now)
        return Answer(status=201, body=pool.body)

    def get_pool(self, call: Call) -> Answer:
        return Answer(body=self._pool(call))

    def delete_pool(self, call: Call) -> Answer:
        self._arm.groups.standby.pools.pop(call.request.clean_path.lower(), None)
        return Answer(status=204)

    def _pool(self, call: Call) -> Json:
        pool = self._arm.groups.standby.pools.get(call.request.clean_path.lower())
        if pool is None:
            raise _missing(call)
        return pool.body


def _named(call: Call) -> Json:
    path = call.request.clean_path
    kind = "/".join(path.rsplit("/", 3)[1:3])
    return {"id": path, "name": call.names["name"], "type": kind}


def _missing(call: Call) -> ArmError:
    return ArmError(404, "ResourceNotFound", f"The Resource '{call.request.clean_path}' was not found.")
