"""A scaler over the world in memory, ticked by hand."""

from __future__ import annotations

import json
from functools import lru_cache

from msgspec.structs import replace

from scaler.config import Config, load
from scaler.decide import policy_of
from scaler.model import Decision, Front, Phase, Pin
from scaler.shadow import shadow_of
from scaler.template import Template
from scaler.tick.managed import Managed
from scaler.tick.managed import World as Ports
from scaler.tick.scaler import Scaler, TickReport
from tests.world import World

TEMPLATE = """
location: westeurope
properties:
  osType: Linux
  containers:
    - name: model
      properties:
        image: example.azurecr.io/inference:1
        ports: [{port: 8000}]
        resources: {requests: {cpu: 1.0, memoryInGB: 1.0}}
  ipAddress: {type: Public, ports: [{port: 8000}]}
"""
SERVICE = """
    template: replica.yaml
    regions: [westeurope, northeurope]
    replicas: {min: 0, max: 4}
    target: {concurrency: 1}
    scale_in: {window_s: 30, idle_s: 5, drain_deadline_s: 60}
"""


class Ticking:
    """One deployment in one world. ``tick`` moves the clock first, then ticks every service once."""

    def __init__(self, *, services: str | None = None, template: str = TEMPLATE, world: World | None = None) -> None:
        self.world = world or World(start_delay_s=20.0)
        self.scaler = self.deploy(services or f"services:\n  iris:{SERVICE}", template)
        self.front: Front | None = None  # what discovery says of itself with each tick; None: there is none

    def deploy(self, services: str, template: str = TEMPLATE, *, signer: str = "CN=test") -> Scaler:
        """Another version of the app, or another instance of it, over the same world. Without a ``signer`` replicas do
        not serve TLS."""
        config = load(services, "autoscaler.yaml")
        self.scaler = Scaler(config, managed(config, template, signer), ports(self.world))
        return self.scaler

    async def tick(self, after_s: float = 15.0, *, cause: str = "timer", only: str | None = None) -> TickReport:
        now = self.world.clock.advance(after_s)
        if self.front is not None:
            await self.world.store.write_front("iris", replace(self.front, at=now))
        reports = await self.scaler.tick(now, cause=cause, only=only)
        return reports[0]

    async def ticks_until(self, phase: Phase, number: int, *, service: str = "iris", most: int = 20) -> None:
        for _ in range(most):
            await self.tick()
            if sum(p is phase for p in (await self.phases(service)).values()) == number:
                return
        raise AssertionError(f"never {number} {phase}: {await self.phases(service)}")

    async def phases(self, service: str = "iris") -> dict[str, Phase]:
        return {r.name: r.phase for r in (await self.world.store.load(service)).replicas}

    async def pin(self, least: int, most: int | None = None) -> None:
        pin = Pin(min=least, max=least if most is None else most, since=self.world.clock())
        await self.world.store.write_pin("iris", pin, etag=None)

    async def last(self) -> tuple[Decision | None, dict[str, int]]:
        (row, *_) = await self.world.store.decisions("iris", since=0)
        memory = await self.scaler.memory("iris")
        return memory.decision if memory else None, json.loads(row.calls)


def managed(config: Config, template: str, signer: str) -> list[Managed]:
    return [
        Managed(
            name=name,
            service=service,
            policy=policy_of(service, name, "autoscaler.yaml"),
            template=_template(template, signer),
            shadow=shadow_of(service, name, "autoscaler.yaml"),
        )
        for name, service in config.services.items()
    ]


@lru_cache
def _template(text: str, signer: str) -> Template:
    """Made once: stretching its secrets takes a while on purpose."""
    return Template.read(text, "replica.yaml").given(token="planted-secret", signer=signer)


def ports(world: World) -> Ports:
    async def no_signals(_: Managed) -> dict[str, float | None]:
        return {}

    return Ports(
        store=world.store,
        fleet=world.fleet,
        replicas=world.replicas,
        mint=world.mint,
        stopwatch=world.clock,
        signals=no_signals,
        deployment_id="d1",
        replica_token="planted-secret",
        certify=lambda service, replica, now: f"planted-secret key of {service} {replica} at {now:.0f}",
    )
