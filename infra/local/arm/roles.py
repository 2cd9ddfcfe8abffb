"""Who may do what: a role as a list of actions, and the actions that a request needs beyond its own.

A container group with an identity or in a subnet needs rights on those too; Azure calls them linked, and says so in
another error than for the request itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
from msgspec import Struct, field

from infra.local.arm.errors import ArmError
from infra.local.arm.state import Json
from scaler.errors import BadSetting

ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
JOIN = "Microsoft.Network/virtualNetworks/subnets/join/action"
EXPECTED = "expected `actions: [Microsoft.ContainerInstance/…]`, or roles by name with `actions` each"


class Role(Struct, frozen=True, forbid_unknown_fields=True):
    """What whoever comes may do: patterns like ``Microsoft.ContainerInstance/containerGroups/*``."""

    actions: list[str]
    not_actions: list[str] = field(default_factory=list)

    def allows(self, action: str) -> bool:
        return any(_fits(p, action) for p in self.actions) and not any(_fits(p, action) for p in self.not_actions)


class _Named(Struct, frozen=True, forbid_unknown_fields=True):
    """A role as infra/app/roles.json has it. Scopes are not told apart here: there is one caller and one world."""

    actions: list[str]
    scope: str = ""
    description: str = ""


def read_role(file: Path) -> Role:
    """One role, or all the roles of a file in one. Raises ``BadSetting``."""
    try:
        raw = msgspec.yaml.decode(file.read_bytes())
        if isinstance(raw, dict) and "actions" in raw:
            return msgspec.convert(raw, Role)
        roles = msgspec.convert(raw, dict[str, _Named])
    except (OSError, msgspec.MsgspecError) as error:
        raise BadSetting(f"--authorization {file}: {error}; {EXPECTED}") from error
    return Role([action for role in roles.values() for action in role.actions])


def linked(body: Json) -> Iterator[tuple[str, str]]:
    """The actions, each with its scope, that the body of a PUT needs on other resources."""
    identity = body.get("identity")
    users = identity.get("userAssignedIdentities") if isinstance(identity, dict) else None
    for resource in users if isinstance(users, dict) else ():
        yield ASSIGN, resource
    properties = body.get("properties")
    subnets = properties.get("subnetIds") if isinstance(properties, dict) else None
    for subnet in subnets if isinstance(subnets, list) else ():
        if isinstance(subnet, dict) and isinstance(subnet.get("id"), str):
            yield JOIN, subnet["id"]


def linked_forbidden(actor: str, action: str, scope: str, missing: str, other: str) -> ArmError:
    """The request itself is allowed, and what it would use is not."""
    return ArmError(
        403,
        "LinkedAuthorizationFailed",
        f"The client '{actor}' with object id '{actor}' has permission to perform action '{action}' on scope "
        f"'{scope}'; however, it does not have permission to perform action(s) '{missing}' on the linked scope(s) "
        f"'{other}' (respectively) or the linked scope(s) are invalid.",
    )


def _fits(pattern: str, action: str) -> bool:
    return fnmatchcase(action.lower(), pattern.lower().replace("[", "[[]").replace("?", "[?]"))
