"""Who may do what where Entra ID stands before the app: the roles reader, operator and waker.

With function keys the host refuses a wrong key before we are called, and there is nothing to do here. With Entra ID
(App Service authentication, "Easy Auth") the functions are anonymous to the host, the platform checks the token and
says in headers who calls; then it is for us to ask for the role. Those headers count only while the platform sets
them: anybody can send them to an app that has no authentication before it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Literal, Self

from msgspec import Struct
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from scaler.errors import BadSetting
from scaler.web.problems import Problem, document

OPEN = frozenset({"/api/health", "/api/openapi.json", "/api/dashboard"})
PRINCIPAL, PRINCIPAL_NAME = "x-ms-client-principal", "x-ms-client-principal-name"
ROLE_CLAIMS = frozenset({"roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"})
PRINCIPAL_LIMIT_BYTES = 32 * 1024


class Access(Struct, frozen=True, kw_only=True):
    """``kind``: what lets a caller in. ``platform``: App Service authentication is on, so its headers are its own."""

    kind: Literal["keys", "entra"] = "keys"
    platform: bool = False

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Self:
        """From AUTOSCALER_AUTH (``keys``, ``entra``) and the platform's WEBSITE_AUTH_ENABLED. Raises ``BadSetting``."""
        kind = env.get("AUTOSCALER_AUTH", "").strip() or "keys"
        platform = env.get("WEBSITE_AUTH_ENABLED", "").strip().lower() == "true"
        if kind not in ("keys", "entra"):
            raise BadSetting(f"environment: AUTOSCALER_AUTH: {kind!r} is neither `keys` nor `entra`")
        if kind == "entra" and not platform:
            raise BadSetting(
                "environment: AUTOSCALER_AUTH: `entra` needs App Service authentication, which is off; nobody is let in"
            )
        return cls(kind=kind, platform=platform)  # type: ignore[arg-type]


class Gate:
    """Lets a request through to the app when its caller has the role for it."""

    def __init__(self, inner: ASGIApp, access: Access) -> None:
        self._inner = inner
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._access.kind == "entra" and scope["path"] not in OPEN:
            refusal = refused(Request(scope))
            if refusal is not None:
                await document(refusal)(scope, receive, send)
                return
        await self._inner(scope, receive, send)


def refused(request: Request) -> Problem | None:
    """Why this caller may not do this; None where it may."""
    roles = roles_of(request.headers.get(PRINCIPAL, ""))
    if roles is None:
        detail = "Nobody is signed in: send a token of Entra ID for this app."
        return Problem(401, "not-signed-in", detail, headers={"www-authenticate": "Bearer"})
    needed = needed_roles(request.method, request.url.path)
    if not roles & needed:
        return Problem(
            403, "no-role", f"This needs one of the app roles {', '.join(sorted(needed))}; you have none of them."
        )
    return None


def needed_roles(method: str, path: str) -> frozenset[str]:
    """Any of these roles lets a caller do this."""
    if method in ("GET", "HEAD"):
        return frozenset({"reader", "operator"})
    if path.endswith("/wake") or path in ("/api/alerts", "/api/events"):
        return frozenset({"waker", "operator"})
    return frozenset({"operator"})


def roles_of(header: str) -> frozenset[str] | None:
    """The app roles in the platform's header; None where it names nobody."""
    if not header or len(header) > PRINCIPAL_LIMIT_BYTES:
        return None
    try:
        principal = json.loads(base64.b64decode(header, validate=True))
        claims = principal["claims"]
        own = {principal.get("role_typ"), *ROLE_CLAIMS}
        return frozenset(str(c["val"]).lower() for c in claims if c["typ"] in own)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
