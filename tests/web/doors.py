"""The admin API over a real scaler and the world in memory, reached through httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from scaler.config import Service, load
from scaler.decide import Policy, policy_of
from scaler.template import Template
from scaler.tick.managed import Managed
from scaler.tick.managed import World as TickWorld
from scaler.tick.scaler import Scaler
from scaler.web.app import app
from scaler.web.doors import Report
from tests.scaler.ticking import TEMPLATE
from tests.world import World

CONFIG = """
services:
  iris:
    replicas: {min: 1, max: 6}
    target: {concurrency: 4}
    schedule:
      timezone: Europe/Berlin
      rules:
        - {days: mon-fri, from: "07:30", to: "20:00", min: 2}
        - {days: sat-sun, off: true}
  digits:
    replicas: {min: 0, max: 3}
    target: {concurrency: 2}
    forecast: false
"""


def scaler_of(world: World, text: str = CONFIG, template: Template | None = None) -> Scaler:
    """The scaler of a configuration, over the world in memory; without a template it decides and creates nothing."""

    async def no_signals(_: Managed) -> dict[str, float | None]:
        return {}

    config = load(text, "autoscaler.yaml")
    managed = [
        Managed(name=name, service=service, policy=_policy(service, name), template=template or _template(service))
        for name, service in config.services.items()
    ]
    given = TickWorld(
        store=world.store,
        fleet=world.fleet,
        replicas=world.replicas,
        mint=world.mint,
        stopwatch=world.clock,
        signals=no_signals,
        deployment_id="d1",
    )
    return Scaler(config, managed, given)


def _policy(service: Service, name: str) -> Policy:
    template = _template(service)
    return policy_of(service, name, "autoscaler.yaml", size=template.size if template else None)


def _template(service: Service) -> Template | None:
    return Template.read(TEMPLATE, "replica.yaml") if service.template else None


class Door:
    """A client of the admin API, and the world behind it."""

    def __init__(self, world: World, scaler: Scaler, client: httpx.AsyncClient) -> None:
        self.world, self.scaler, self.client = world, scaler, client

    async def tick(self, *, times: int = 1, every_s: float = 15.0) -> Sequence[Report]:
        reports: Sequence[Report] = []
        for _ in range(times):
            self.world.clock.advance(every_s)
            reports = await self.scaler.tick(self.world.clock(), cause="timer")
        return reports

    def deploy(self, template: Template, text: str = CONFIG) -> None:
        """The same app with another template."""
        self.scaler = scaler_of(self.world, text, template)

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.client.request(method, f"/api/{path}", **more)


@asynccontextmanager
async def door(text: str = CONFIG, **options: Any) -> AsyncIterator[Door]:
    world = World()
    scaler = scaler_of(world, text)
    doors: list[Door] = []
    served = app(lambda: doors[0].scaler, world.clock, **options)
    transport = httpx.ASGITransport(served, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        doors.append(Door(world, scaler, client))
        yield doors[0]


def problem(response: httpx.Response, status: int, name: str) -> str:
    """Asserts that the response is this problem; gives its sentence."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == status
    assert told["type"] == f"urn:aci-autoscaler:problem:{name}", told
    assert isinstance(told["detail"], str)
    assert told["detail"].endswith("."), told["detail"]
    return str(told["detail"])
