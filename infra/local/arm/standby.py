"""Standby pools: groups that run already, and are given away under a new name; and the profiles they are made from.

As far as the documentation says: a claim is an ordinary PUT that names pool and profile; only the config map may differ
from the profile; with none left a group is made the slow way, or the claim is refused if it says so; the pool refills
itself. How long a claim takes is not documented: here a moment. Groups in a pool are not shown and run no process.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec
from msgspec import Struct, field

from infra.local.arm.delays import Draw, StartDelay
from infra.local.arm.errors import ArmError
from infra.local.arm.state import Json

CLAIMED = StartDelay(0.0, 0.0, 0.5)  # image and process are there


class ProfileUse(Struct):
    id: str = ""


class PoolUse(Struct):
    id: str = ""
    fails_when_empty: bool = field(name="failContainerGroupCreateOnReuseFailure", default=False)


class ContainerUse(Struct):
    name: str
    properties: Json = field(default_factory=dict)


class Claim(Struct, kw_only=True):
    """The properties of a PUT that names a profile, and perhaps a pool."""

    profile: ProfileUse = field(name="containerGroupProfile", default_factory=ProfileUse)
    pool: PoolUse | None = field(name="standbyPoolProfile", default=None)
    containers: list[ContainerUse] = field(default_factory=list)


class Pool(Struct, kw_only=True):
    """``ready_at`` has an entry for each group of the pool: when it will run, or has begun to."""

    body: Json
    profile: str
    most: int
    ready_at: list[float] = field(default_factory=list)

    def ready(self, now: float) -> int:
        return sum(at <= now for at in self.ready_at)


class Standby(Struct, kw_only=True):
    """All profiles and pools, by resource id in lower case."""

    profiles: dict[str, Json] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)

    def put_pool(self, resource: str, body: Json, draw: Draw, now: float) -> Pool:
        """Create a pool, or change its size. Raises ``ArmError``."""
        try:
            most = int(body["properties"]["elasticityProfile"]["maxReadyCapacity"])
            profile = str(body["properties"]["containerGroupProperties"]["containerGroupProfile"]["id"]).lower()
        except (LookupError, TypeError, ValueError) as error:
            raise ArmError(400, "InvalidRequestContent", f"The standby pool lacks {error}.") from error
        if profile not in self.profiles:
            raise _no_profile(profile)
        pool = Pool(body=body, profile=profile, most=most)
        if (before := self.pools.get(resource.lower())) is not None:
            pool.ready_at = before.ready_at[:most]
        while len(pool.ready_at) < most:
            pool.ready_at.append(now + draw(self.profiles[profile]["properties"]).started_s)
        self.pools[resource.lower()] = pool
        return pool

    def resolved(self, body: Json, draw: Draw, now: float) -> tuple[Json, StartDelay | None]:
        """What a PUT asks for, its profile filled in, and the delay of a start from a pool: None where there is no
        pool, or none left in it. Raises ``ArmError``."""
        asked = body.get("properties")
        if not isinstance(asked, dict) or not {"containerGroupProfile", "standbyPoolProfile"} & asked.keys():
            return body, None
        try:
            claim = msgspec.convert(asked, Claim)
        except msgspec.ValidationError as error:
            raise ArmError(400, "InvalidRequestContent", f"The request content was invalid: '{error}'.") from error
        profile = claim.profile.id.lower()
        if profile not in self.profiles:
            raise _no_profile(profile)
        whole = {**body, "properties": _merged(self.profiles[profile]["properties"], asked, claim)}
        return whole, self._claimed(claim.pool, profile, draw, now) if claim.pool else None

    def _claimed(self, claim: PoolUse, profile: str, draw: Draw, now: float) -> StartDelay | None:
        resource = claim.id
        pool = self.pools.get(resource.lower())
        if pool is None or pool.profile != profile:
            raise ArmError(
                400, "StandbyPoolNotFound", f"The standby pool '{resource}' does not exist for this profile."
            )
        if not pool.ready(now):
            if claim.fails_when_empty:
                raise ArmError(409, "StandbyPoolReuseFailed", f"The standby pool '{resource}' has no ready group.")
            return None
        pool.ready_at.remove(min(pool.ready_at))
        pool.ready_at.append(now + draw(self.profiles[profile]["properties"]).started_s)
        return CLAIMED


def _merged(profile: Json, asked: Json, claim: Claim) -> Json:
    """The profile with the config maps of the request; whatever else the request says of containers is refused."""
    merged = copy.deepcopy(profile)
    containers = {c["name"]: c["properties"] for c in merged["containers"]}
    for container in claim.containers:
        if container.name not in containers or set(container.properties) - {"configMap"}:
            message = "Only the config map of a container may differ from the container group profile."
            raise ArmError(400, "ContainerGroupProfileMismatch", message)
        containers[container.name] |= container.properties
    return merged | {k: asked[k] for k in ("containerGroupProfile", "standbyPoolProfile") if k in asked}


def _no_profile(profile: str) -> ArmError:
    return ArmError(400, "ContainerGroupProfileNotFound", f"The container group profile '{profile}' does not exist.")


def decoded(raw: bytes) -> Json:
    """The JSON object of a body. Raises ``ArmError`` 400."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ArmError(400, "InvalidRequestContent", f"The request content was invalid: '{error}'.") from error
