"""What people do meanwhile: pins, other bounds, other templates, services taken away and brought back."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from math import inf
from typing import TYPE_CHECKING

from msgspec.structs import replace

from scaler.config import (
    Bounds,
    Budget,
    Config,
    RolloutText,
    Rule,
    ScaleIn,
    ScheduleText,
    Service,
    StandbyPool,
    Start,
    Target,
)
from scaler.model import Pin
from scaler.template import Template
from tests.simulation.azure import BAD_IMAGE
from tests.simulation.timeline import run_now

if TYPE_CHECKING:
    from tests.simulation.history import History

TEMPLATE = """
properties:
  containers:
    - name: model
      properties:
        image: example.azurecr.io/IMAGE
        ports: [{port: 8000}]
        resources: {requests: {cpu: 1.0, memoryInGB: 1.0}}
  ipAddress: {type: Public, ports: [{port: 8000}]}
"""
REGIONS = ["westeurope", "northeurope"]
_OWN = "/subscriptions/s/resourceGroups/g/providers"
POOL = StandbyPool(
    pool=f"{_OWN}/Microsoft.StandbyPool/standbyContainerGroupPools/p",
    profile=f"{_OWN}/Microsoft.ContainerInstance/containerGroupProfiles/f",
)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


@cache
def template(image: str) -> Template:
    return Template.read(TEMPLATE.replace("IMAGE", image), "replica.yaml")


class Operators:
    """Holds what is deployed now, and changes it now and then."""

    def __init__(self, history: History) -> None:
        self._history, self._timeline = history, history.timeline
        self._random = history.timeline.random
        self._images = 1
        self.template = template("inference:1")
        names = ("a", "b", "c")[: self._random.choice((1, 1, 1, 2, 2, 3))]
        self.config = Config(services={name: self._service() for name in names})
        self.ever = dict(self.config.services)  # every service there ever was, as it was last

    def _service(self) -> Service:
        random = self._random
        least, most = random.choice((0, 0, 1, 2)), random.choice((1, 2, 3, 4, 6))
        most = max(least, most)
        return Service(
            regions=self._regions(),
            replicas=Bounds(min=least, max=most),
            target=Target(concurrency=random.choice((1.0, 2.0))),
            scale_in=ScaleIn(
                window_s=random.choice((30.0, 90.0)), drain_deadline_s=random.choice((60.0, 180.0)), idle_s=5.0
            ),
            start=Start(deadline_s=random.choice((180.0, 400.0)), expected_s=40.0),
            rollout=RolloutText(
                surge=random.choice((0, 1, 1, 2)) if most > 1 else 1, gate_s=random.choice((1.0, 60.0))
            ),
            forecast=random.random() < 0.5,
            spares=random.random() < 0.3,
            standby_pool=POOL if random.random() < 0.3 else None,
            schedule=self._schedule(most),
            budget=self._budget(),
        )

    def _regions(self) -> list[str]:
        """Of several places, a region may be tried in each."""
        placed = [f"{region}@{place}".rstrip("@") for region in REGIONS for place in self._history.places]
        return self._random.sample(placed, self._random.choice((1, 2)))

    def _schedule(self, most: int) -> ScheduleText:
        """Within the day that is lived: closed for a while, or a floor, or a cap; half of all services have none."""
        random, rules = self._random, []
        for rule in random.sample(
            (Rule(off=True), Rule(off=True, wake=True), Rule(min=1), Rule(min=2), Rule(max=1)), 2
        ):
            if random.random() < 0.25:
                start = self._timeline.began_at + random.uniform(60.0, 4000.0)
                span = replace(rule, start=_clock(start), end=_clock(start + random.uniform(120.0, 1200.0)))
                rules.append(replace(span, min=None if span.min is None else min(span.min, most)))
        return ScheduleText(rules=rules)

    def _budget(self) -> Budget | None:
        """Some services have money for so many replica hours."""
        if self._random.random() < 0.8:
            return None
        return Budget(daily=self._random.uniform(0.3, 3.0), replica_hour=1.0)

    def act(self) -> None:
        """One change, whichever."""
        random, weights = self._random, (5, 4, 3, 3, 1, 2)
        change = random.choices((self._pin, self._unpin, self._roll, self._rebound, self._break, self._remove), weights)
        change[0]()

    def mend(self) -> None:
        """Before the end: an image that starts, and no more changes."""
        self._roll()

    def least(self, service: str) -> float:
        """What there is for a service that nobody uses, at most: its floors, those that are to come included. A
        forecast may expect somebody."""
        if service not in self.config.services:
            return 0
        terms, now = self.config.services[service], self._timeline.now
        if terms.forecast:
            return inf
        pin = run_now(self._history.world.store.load(service)).pin
        pinned = pin.min if pin and (pin.until is None or now < pin.until) else 0
        return max(terms.replicas.min, pinned, *(rule.min or 0 for rule in terms.schedule.rules), 0)

    def _any(self) -> str:
        return self._random.choice(sorted(self.config.services))

    def _pin(self) -> None:
        name, now = self._any(), self._timeline.now
        least = self._random.randint(0, 4)
        until = None if self._random.random() < 0.3 else now + 600 * self._random.random()
        pin = Pin(min=least, max=least + self._random.randint(0, 2), since=now, until=until, actor="operator")
        self._timeline.tell("operator", f"pins {name} to {pin.min}..{pin.max}")
        run_now(self._history.world.store.write_pin(name, pin, etag=None))
        self._history.wake(name)
        if self._random.random() < 0.3:  # and has second thoughts
            self._timeline.after(1.0 + 20.0 * self._random.random(), lambda: self._unpin(name))

    def _unpin(self, name: str | None = None) -> None:
        name = name or self._any()
        self._timeline.tell("operator", f"unpins {name}")
        run_now(self._history.world.store.remove_pin(name, etag=None))
        self._history.wake(name)

    def _roll(self) -> None:
        self._images += 1
        self.template = template(f"inference:{self._images}")
        self._timeline.tell("operator", f"deploys image {self._images}: {self.template.hash}")
        self._history.deploy()

    def _break(self) -> None:
        self.template = template(BAD_IMAGE)
        self._timeline.tell("operator", f"deploys an image that does not start: {self.template.hash}")
        self._history.deploy()

    def _rebound(self) -> None:
        name = self._any()
        before = self.config.services[name]
        service = replace(self._service(), rollout=RolloutText(), budget=before.budget)
        self._timeline.tell("operator", f"deploys {name} with {service.replicas.min}..{service.replicas.max}")
        self._set({**self.config.services, name: service})

    def _remove(self) -> None:
        """A service is taken out of the settings, or one that was is brought back."""
        back = sorted(set(self.ever) - set(self.config.services))
        if back:
            self._timeline.tell("operator", f"brings back {back[0]}")
            self._set({**self.config.services, back[0]: self.ever[back[0]]})
        elif len(self.config.services) > 1:
            name = self._any()
            self._timeline.tell("operator", f"removes {name}")
            self._set({n: s for n, s in self.config.services.items() if n != name})

    def _set(self, services: dict[str, Service]) -> None:
        self.config = Config(services=dict(sorted(services.items())))
        self.ever |= services
        self._history.deploy()
