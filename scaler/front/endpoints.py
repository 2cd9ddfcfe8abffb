"""The endpoint list of one service: made from its rows in the state table, told to Envoy as an EDS answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from hashlib import blake2b

import msgspec
from msgspec import Struct

from scaler.model import Phase, Replica
from scaler.ports import Stored

ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
Endpoint = tuple[str, int]
BY_TLS = {"tls": True}  # of an endpoint's metadata: Envoy takes the socket of the bootstrap that matches it


class Endpoints(Struct, frozen=True, kw_only=True):
    """Who may be sent requests now, and what to do with requests when that is nobody.

    ``version`` is the table's ``endpoints_version``; ``tag`` is what Envoy gets to see of it, with a hash of the list,
    so that a table that was made anew, and counts from zero again, is not taken for the old one.
    """

    service: str
    version: int = 0
    ready: tuple[Endpoint, ...] = ()
    by_tls: frozenset[Endpoint] = frozenset()  # of those
    off: bool = False  # and no request may wake it
    opens_at: float | None = None
    hold_limit_s: float = 300.0

    @property
    def tag(self) -> str:
        digest = blake2b(repr((self.ready, sorted(self.by_tls))).encode(), digest_size=4).hexdigest()
        return f"{self.version}.{digest}"

    def is_off(self, now: float) -> bool:
        """Off ends by the clock too: a tick that comes late must not turn away the first request of the day."""
        return self.off and (self.opens_at is None or now < self.opens_at)


def endpoints(stored: Stored, *, hold_limit_s: float) -> Endpoints:
    """What the rows say; ``hold_limit_s`` for a service that has no row yet."""
    ready = tuple(sorted(set(_usable(stored.replicas))))
    by_tls = frozenset(_usable(r for r in stored.replicas if r.serves_tls))
    row = stored.row
    if row is None:
        return Endpoints(service=stored.service, ready=ready, by_tls=by_tls, hold_limit_s=hold_limit_s)
    return Endpoints(
        service=stored.service,
        version=row.endpoints_version,
        ready=ready,
        by_tls=by_tls,
        off=row.off and not row.wakes,
        opens_at=row.opens_at,
        hold_limit_s=row.hold_limit_s,
    )


def _usable(replicas: Iterable[Replica]) -> Iterable[Endpoint]:
    """Ready and with an address that Envoy takes: one that it refuses would cost it the whole list."""
    for replica in replicas:
        if replica.phase is Phase.READY and replica.address and 0 < replica.port < 65536:
            try:
                yield str(ipaddress.ip_address(replica.address)), replica.port
            except ValueError:
                continue


def version_of(tag: str) -> int:
    """The table's version within a tag; 0 for what is no tag of ours."""
    number = tag.partition(".")[0]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 19 else 0


def answer(tag: str, lists: Iterable[Endpoints]) -> bytes:
    """A DiscoveryResponse with one cluster for each list. An empty list is said, so that Envoy forgets the old one."""
    return msgspec.json.encode(
        {"version_info": tag, "type_url": ASSIGNMENT, "resources": [_assignment(each) for each in lists]}
    )


def _assignment(endpoints: Endpoints) -> dict[str, object]:
    members = [_member(endpoint, by_tls=endpoint in endpoints.by_tls) for endpoint in endpoints.ready]
    return {
        "@type": ASSIGNMENT,
        "cluster_name": endpoints.service,
        "endpoints": [{"lb_endpoints": members}] if members else [],
    }


def _member(endpoint: Endpoint, *, by_tls: bool) -> dict[str, object]:
    host, port = endpoint
    member: dict[str, object] = {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
    if by_tls:
        member["metadata"] = {"filter_metadata": {"envoy.transport_socket_match": BY_TLS}}
    return member
