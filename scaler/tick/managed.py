"""What ticks work on, and with: a service with what its settings compile to, and the world that the ports lead to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from scaler.config import Service
from scaler.decide import Policy, policy_of
from scaler.model import Group
from scaler.ports import Fleet, Replicas, Store
from scaler.template import Template
from scaler.tick.ticked import Courier, Ticked, note


class Managed(Struct, frozen=True, kw_only=True):
    """A service with what its settings compile to. ``template`` is None where none is configured: none is created."""

    name: str
    service: Service
    policy: Policy
    template: Template | None
    shadow: Policy | None = None  # decides beside the live policy, and only records


class FrontKeeper(Protocol):
    """Has the front there and reachable."""

    async def keep(self, groups: Sequence[Group], now: float) -> None:
        """Look at it once. ``groups`` are the deployment's own. Raises nothing."""


class World(Struct, frozen=True, kw_only=True):
    """What ticks are given: the ports, and two things that a pure core must not have: fresh names and a stopwatch."""

    store: Store
    fleet: Fleet
    replicas: Replicas
    mint: Callable[[str], str]  # service → a name never given before
    stopwatch: Callable[[], float]  # monotonic seconds
    signals: Callable[[Managed], Awaitable[dict[str, float | None]]]
    deployment_id: str
    replica_token: str = ""
    certify: Callable[[str, str, float], str] | None = None  # service, replica, now → its key and certificate, as PEM
    is_listed: Callable[[str], bool] = lambda region: True  # whether the list of groups covers this region
    period_s: float | None = None  # a tick is due so often; None: nobody knows
    watch: Callable[[Ticked], None] = note
    courier: Courier | None = None
    front: FrontKeeper | None = None  # None: the front is somebody else's business

    def __repr__(self) -> str:
        return f"World(deployment_id={self.deployment_id!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("deployment_id", self.deployment_id)]


def no_longer(name: str) -> Managed:
    """A service that replicas are left of and no settings."""
    service = Service()
    policy = replace(policy_of(service, name, "(no longer configured)"), removed=True)
    return Managed(name=name, service=service, policy=policy, template=None)
