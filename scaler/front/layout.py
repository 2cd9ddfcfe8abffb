"""Where the front's parts listen and what they allow: everything that Envoy's bootstrap is made from."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from scaler.errors import BadSetting

Json = dict[str, Any]
HOLD = "/hold"  # cluster names; no service is called so, for a service name has no slash
DISCOVERY = "/discovery"
SERVICE_HEADER = "x-aci-service"
STREAM_HEADER = "x-aci-stream"
STARTED_HEADER = "x-aci-started"
RETRY_HEADER = "x-aci-retry"  # in the hold's answer: try again, a replica may take it now
POLL_S = 10.0  # a poll with no news is answered after so long
PROBLEM = "application/problem+json"


class Address(Struct, frozen=True):
    """A host as an IP address, and a port; 0 lets the system choose."""

    host: str
    port: int


class Layout(Struct, frozen=True, kw_only=True):
    """What the bootstrap is made from. ``services`` gives each service's hold limit in seconds; the first of them also
    answers requests that name no service."""

    services: Mapping[str, float]
    discovery: Address
    listen: Address
    admin: Address
    refresh_s: float = 0.1  # pause between two polls; discovery lets a poll wait for news, so this is no poll rate
    request_timeout_s: float = 120.0  # for one request once it is not held any more
    body_limit_bytes: int = 10 * 2**20
    heap_limit_bytes: int = 2**30
    connection_limit: int = 20_000
    access_log: str | None = None
    certificate: str | None = None  # a PEM file with key and chain: then Envoy speaks TLS
    trusted: str | None = None  # certificates as PEM: replicas that serve TLS have one signed by them
    hold: bool = True  # False: no hold at all, to measure what it costs


def check(layout: Layout) -> None:
    """Raises ``BadSetting`` for what Envoy would refuse, or what would be unsafe."""
    if not layout.services:
        raise BadSetting("front: no service to route to; name at least one in autoscaler.yaml")
    for what, address in (("listen", layout.listen), ("discovery", layout.discovery), ("admin", layout.admin)):
        try:
            ipaddress.ip_address(address.host)
        except ValueError as error:
            raise BadSetting(f"front: {what}: {address.host!r} is no IP address; Envoy needs one here") from error
    if not ipaddress.ip_address(layout.admin.host).is_loopback:
        raise BadSetting(f"front: admin: {layout.admin.host} is not loopback; Envoy's admin port can stop the front")


def socket(address: Address) -> Json:
    """As Envoy writes an address."""
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def seconds(value: float) -> str:
    """As Envoy writes a duration."""
    return f"{value:.3f}s"
