"""A request and an answer, free of any server: what the doors and the tests give to ``Arm``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

SLASHES = re.compile(r"/{2,}")


class Request(Struct, frozen=True, kw_only=True):
    """``query`` has lower-case names, decoded values; ``headers`` lower-case names; ``base`` is ``https://host:port``."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    base: str = "https://management.azure.com"

    @property
    def clean_path(self) -> str:
        """Without repeated slashes, which real clients send, and without one at the end."""
        return SLASHES.sub("/", self.path).rstrip("/") or "/"


class Answer(Struct, kw_only=True):
    """``body`` None: no body at all. ``hang_s``: nothing is sent for so long, then the connection ends."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang_s: float | None = None


class Call(Struct, frozen=True, kw_only=True):
    """A request that passed the gate: the names of its path, its version, who sent it and when."""

    request: Request
    names: Mapping[str, str]
    api: str
    actor: str
    now: float

    @property
    def subscription(self) -> str:
        return self.names["subscription"]


Handler = Callable[[Call], Answer]


class Route(Struct, frozen=True, kw_only=True):
    """One operation. ``action`` is what the caller must be allowed; ``versions`` empty: any that is well formed."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler
    action: str
    versions: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The bucket of Resource Manager that pays for it."""
        return {"GET": "read", "HEAD": "read", "DELETE": "delete"}.get(self.method, "write")


def route(method: str, path: str, handler: Handler, action: str, versions: tuple[str, ...] = ()) -> Route:
    """A route from a path like ``/subscriptions/{subscription}/…``; case does not matter."""
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))
    return Route(
        method=method,
        pattern=re.compile(pattern, re.IGNORECASE),
        handler=handler,
        action=action,
        versions=versions,
    )
