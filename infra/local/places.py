"""Where things are on this machine: folders of the checkout, ports of the parts, variables that move them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from scaler.errors import BadSetting

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
DEMO = ROOT / ".demo"

SUBSCRIPTION = "00000000-0000-4000-8000-00000000acda"
RESOURCE_GROUP = "aci-autoscaler-local"
REGION = "westeurope"
STORAGE_ACCOUNT = "devstoreaccount1"


class Ports(Struct, frozen=True, kw_only=True):
    """The port of each door, on 127.0.0.1. The names in capitals are the variables that change them."""

    front: int = 8080
    discovery: int = 8081
    identity: int = 8442
    arm: int = 8443
    functions: int = 7071
    envoy_admin: int = 9901
    blob: int = 10000
    queue: int = 10001
    table: int = 10002


# From PORT_BASE on, in this order: two checkouts side by side need one variable each.
ORDER = Ports.__struct_fields__
LAST_PORT = 65_535


def variable_of(door: str) -> str:
    """The environment variable that sets the port of a door: ``envoy_admin`` -> ``ENVOY_ADMIN_PORT``."""
    return f"{door.upper()}_PORT"


def read_ports(environ: Mapping[str, str]) -> Ports:
    """Ports from the environment: ``PORT_BASE`` moves all, ``FRONT_PORT`` and the like one. Raises ``BadSetting``."""
    chosen: dict[str, int] = {}
    if "PORT_BASE" in environ:
        base = _port("PORT_BASE", environ["PORT_BASE"], LAST_PORT - len(ORDER))
        chosen = {door: base + offset for offset, door in enumerate(ORDER)}
    for door in ORDER:
        if text := environ.get(variable_of(door)):
            chosen[door] = _port(variable_of(door), text, LAST_PORT)
    ports = Ports(**chosen)
    owners: dict[int, str] = {}
    for door in ORDER:
        port = getattr(ports, door)
        if port in owners:
            raise BadSetting(
                f"{variable_of(owners[port])} and {variable_of(door)} are both {port}; give each part a port of its own"
            )
        owners[port] = door
    return ports


def _port(variable: str, text: str, highest: int) -> int:
    if not text.isascii() or not text.isdigit() or not 1024 <= int(text) <= highest:
        raise BadSetting(f"{variable}={text!r} is no usable port; expected a number from 1024 to {highest}")
    return int(text)
