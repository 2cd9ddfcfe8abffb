"""Faults on request, for tests and demonstrations: what Azure does on a bad day, queued and used up one by one."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from infra.local.arm.errors import (
    ArmError,
    container_group_not_found,
    inaccessible_image,
    internal_error,
    no_capacity,
    provider_throttled,
    quota_reached,
    registry_error,
    service_unavailable,
    throttled,
    transitioning,
)

CREATE = frozenset(
    {"quota", "no_capacity", "inaccessible_image", "registry_error", "no_capacity_async", "failed", "crash_loop"}
)
ANY = frozenset({"throttled", "provider_throttled", "transitioning", "internal_error", "unavailable", "gone"})
AFTER = frozenset({"gateway_timeout", "hang"})
LIST = frozenset({"unlisted"})
NOW = frozenset({"repairing", "crash"})
FATES = {"no_capacity_async": "no_capacity", "failed": "failed", "crash_loop": "crash"}

Name = Literal[
    "quota",
    "no_capacity",
    "inaccessible_image",
    "registry_error",
    "no_capacity_async",
    "failed",
    "crash_loop",
    "throttled",
    "provider_throttled",
    "transitioning",
    "internal_error",
    "unavailable",
    "gone",
    "gateway_timeout",
    "hang",
    "repairing",
    "crash",
    "unlisted",
]


class Fault(Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault: which, how often, and for which requests.

    ``method`` and ``name`` (a pattern for the group's name) narrow it; a fault of creation meets only PUT. ``seconds``
    is how long a repair or an unanswered request lasts. ``unlisted`` is a list without the groups of that name.
    """

    fault: Name
    times: int = 1
    method: str | None = None
    name: str = "*"
    retry_after_s: int = 10
    seconds: float = 5.0

    def meets(self, method: str, name: str) -> bool:
        if self.fault in LIST:
            return method == "GET"
        wanted = self.method or ("PUT" if self.fault in CREATE else None)
        return (wanted is None or wanted.upper() == method) and fnmatch.fnmatchcase(name, self.name)


class Victim(Struct, frozen=True, kw_only=True):
    """What the message of a fault speaks of."""

    subscription: str
    actor: str
    name: str
    kind: str  # read, write, delete
    location: str = "westeurope"
    image: str = ""
    cpu: float = 1.0
    memory_gb: float = 1.0
    os_type: str = "Linux"


class Faults:
    """The queue."""

    def __init__(self) -> None:
        self.queued: list[Fault] = []

    def add(self, raw: bytes) -> Fault:
        """Queue what a request describes. Raises ``msgspec.MsgspecError``."""
        fault = msgspec.json.decode(raw, type=Fault)
        if fault.fault not in NOW:
            self.queued.append(fault)
        return fault

    def take(self, among: frozenset[str], method: str, name: str) -> Fault | None:
        """The first queued fault of these that meets the request; it is used up by one."""
        for fault in self.queued:
            if fault.fault in among and fault.meets(method, name):
                fault.times -= 1
                if fault.times <= 0:
                    self.queued.remove(fault)
                return fault
        return None


def refusal(fault: Fault, victim: Victim, new_id: str) -> ArmError:
    """The answer that goes with a fault."""
    makers: dict[str, Callable[[], ArmError]] = {
        "quota": lambda: quota_reached("StandardCores", victim.location, limit=10, used=10, wanted=victim.cpu),
        "no_capacity": lambda: no_capacity(victim.location, victim.cpu, victim.memory_gb, victim.os_type),
        "inaccessible_image": lambda: inaccessible_image(victim.image, victim.name),
        "registry_error": registry_error,
        "throttled": lambda: throttled(victim.kind, victim.subscription, victim.actor, fault.retry_after_s),
        "provider_throttled": lambda: provider_throttled(fault.retry_after_s),
        "transitioning": lambda: transitioning(victim.name),
        "internal_error": lambda: internal_error(new_id, new_id),
        "unavailable": service_unavailable,
        "gone": lambda: container_group_not_found(victim.name),
    }
    return makers[fault.fault]()
