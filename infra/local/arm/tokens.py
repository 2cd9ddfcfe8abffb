"""Tokens: those the identity endpoint hands out, which nobody signed, and what the other doors make of a token."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlsplit

from infra.local.arm.bodies import TENANT, derived_id
from infra.local.arm.errors import unauthenticated

LIFE_S = 86_400
ISSUER = f"https://sts.windows.net/{TENANT}/"
MANAGEMENT = frozenset({"management.azure.com", "management.core.windows.net"})
METRICS = frozenset({"metrics.monitor.azure.com", "monitor.azure.com"})
LOGS = frozenset({"api.loganalytics.io", "api.loganalytics.azure.com"})


def issue(resource: str, client_id: str, now: float, *, resource_id: str = "") -> tuple[str, int]:
    """A token for an audience and the second it ends. Azurite, azure-identity and ``az`` take it for a real one."""
    at = int(now)
    claims = {
        "aud": resource,
        "iss": ISSUER,
        "iat": at,
        "nbf": at - 300,
        "exp": at + LIFE_S,
        "oid": derived_id(client_id, "principal"),
        "sub": derived_id(client_id, "principal"),
        "tid": TENANT,
        "appid": client_id,
        "idtyp": "app",
        "ver": "1.0",
        "xms_mirid": resource_id
        or "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/local/providers/"
        f"Microsoft.ManagedIdentity/userAssignedIdentities/{client_id}",
    }
    parts = [_encode({"alg": "none", "typ": "JWT"}), _encode(claims), "AAAA"]
    return ".".join(parts), at + LIFE_S


def actor_of(authorization: str | None, base: str, audiences: frozenset[str], now: float) -> str:
    """Who sends this token. Any token is taken; one that can be read must not be old or meant for somebody else.

    Raises ``ArmError`` 401.
    """
    if not authorization:
        raise unauthenticated(
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
            "The authentication failed because of missing 'Authorization' header.",
        )
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        message = "The 'Authorization' header is provided in an invalid format."
        raise unauthenticated("AuthenticationFailedInvalidHeader", message, message)
    claims = claims_of(token.strip())
    if claims is None:
        return "unknown"
    ends_at = claims.get("exp")
    if isinstance(ends_at, int | float) and ends_at <= now:
        message = "The access token expiry UTC time is earlier than current UTC time."
        raise unauthenticated("ExpiredAuthenticationToken", message, "The access token expired.")
    host = urlsplit(str(claims.get("aud", ""))).hostname
    if host is not None and host not in audiences and host != urlsplit(base).hostname:
        message = f"The access token has been obtained for wrong audience or resource '{claims['aud']}'."
        raise unauthenticated("InvalidAuthenticationTokenAudience", message, "The audience is invalid.")
    return str(claims.get("oid", "unknown"))


def claims_of(token: str) -> dict[str, Any] | None:
    """The claims of a token in three parts; None for one that cannot be read."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None


def _encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
