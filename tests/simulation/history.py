"""All of it together: ``run(seed)`` lives one day, then lets the faults stop and waits for everything to be right."""

from __future__ import annotations

import hashlib
import logging

from msgspec import Struct
from msgspec.structs import replace

from scaler.front.endpoints import endpoints
from scaler.model import Phase
from tests.simulation.azure import Azure
from tests.simulation.checks import Checks
from tests.simulation.instances import Instance
from tests.simulation.operators import Operators
from tests.simulation.timeline import Timeline, run_now
from tests.simulation.traffic import HOLD_LIMIT_S, Front
from tests.simulation.weather import MANAGER, SERVER, TABLE, Weather
from tests.world import World

STORM_TICKS = 160
SETTLE_TICKS = 100  # at most so many after the faults have stopped, until all is as desired
SETTLE_EVERY_S = 15.0
STEADY_TICKS = 50  # requests come for so long, and none after: chance alone moves the desired count meanwhile
SHOWN = 60  # lines of the trace before a violation


class Outcome(Struct, frozen=True, kw_only=True):
    """How a history ended; ``violation`` is empty where all held."""

    seed: int
    violation: str
    digest: str
    settled_ticks: int  # -1: never reached
    counts: dict[str, int]
    trace: list[str]


class History:
    """One seed's world, and everybody in it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World()
        self.timeline = Timeline(seed, self.world.clock)
        self.random = self.timeline.random
        self.weather = Weather(self.timeline)
        self.checks = Checks(self)
        self.typical_s = self.random.choice((1.0, 4.0, 12.0))  # seconds of work in a request
        self.has_front = self.random.random() < 0.9
        self.places = self.random.choice((("",), ("",), ("", "second")))  # resource groups, each with a list of its own
        self.azure = Azure(self)
        self.fronts: dict[str, Front] = {}
        self.operators = Operators(self)
        self.instances: list[Instance] = []
        self._dead: list[Instance] = []
        self._started = 0
        self._interval_s = self.random.choice((10.0, 15.0, 30.0))
        self._settling = False
        for _ in range(self.random.choice((1, 2))):
            self._start()

    # -- what others ask of it

    def front_of(self, service: str) -> Front:
        if service not in self.fronts:
            self.fronts[service] = Front(service, self)
        return self.fronts[service]

    def died(self, instance: Instance) -> None:
        self.instances.remove(instance)
        self._dead.append(instance)
        if not self._settling:
            self.timeline.after(1.0 + 40.0 * self.random.random(), self._start_one_if_few)

    def wake(self, service: str) -> None:
        self.timeline.after(0.1 + self.random.random(), lambda: self._tick("wake", service))

    def deploy(self) -> None:
        """Instances with the new settings; the old ones go on for a while."""
        for old in list(self.instances):
            self.timeline.after(30.0 * self.random.random(), lambda old=old: self._retire(old))  # type: ignore[misc]
        self._start()

    # -- the day

    def run(self) -> Outcome:
        self._schedule()
        self._timer()
        self.timeline.run_until(self.timeline.began_at + STORM_TICKS * self._interval_s)
        settled = self._settle() if not self.checks.violation else -1
        for instance in (*self.instances, *self._dead):
            instance.end()
        told = self.timeline.trace()
        return Outcome(
            seed=self.seed,
            violation=self.checks.violation,
            digest=hashlib.sha256("\n".join(told).encode()).hexdigest()[:16],
            settled_ticks=settled,
            counts=self.checks.counts,
            trace=told,
        )

    def _schedule(self) -> None:
        weather, day_s = self.weather, STORM_TICKS * self._interval_s
        self._now_and_then(day_s / 12, self._traffic, at_once=True)
        if weather.operators:
            self._now_and_then(day_s / 8, self.operators.act)
        if weather.strangers:
            self._now_and_then(day_s / 8, self.azure.stranger)
        if weather.outages:
            self._now_and_then(day_s / 8, self._outage)
        if weather.walls:
            self._now_and_then(day_s / 8, self._wall)

    def _now_and_then(self, mean_s: float, act: object, *, at_once: bool = False) -> None:
        def again() -> None:
            if not self.weather.calm:
                act()  # type: ignore[operator]
                self.timeline.after(self.random.expovariate(1 / mean_s), again)

        self.timeline.after(0.0 if at_once else self.random.expovariate(1 / mean_s), again)

    def _traffic(self) -> None:
        for service in sorted(self.operators.ever):
            busy = self.random.choice((0.0, 0.0, 0.5, 1.0, 2.0, 4.0))  # requests at once
            self.front_of(service).load(min(0.6, busy / self.typical_s))

    def _outage(self) -> None:
        seconds = 200.0 * self.random.random()
        if self.weather.discovery and self.random.random() < 0.4:
            self.timeline.tell("weather", f"no discovery for {seconds:.0f} s")
            self.weather.discovery_out_until = self.timeline.now + seconds
        else:
            self.weather.strike(self.random.choice((TABLE, MANAGER, SERVER, ("list",), ("stats",))), seconds)

    def _wall(self) -> None:
        self.azure.wall(self.random.choice(("westeurope", "northeurope")), self.random.choice((0, 1, 2, 100, 100)))

    # -- ticks

    def _timer(self) -> None:
        if self._settling:
            return
        self.timeline.after(self._interval_s, self._timer)
        if self.weather.turns(self.weather.missed):
            return
        self._tick("timer")
        if self.weather.turns(self.weather.doubled):
            self.timeline.after(3.0 * self.random.random() ** 2, lambda: self._tick("timer"))

    def _tick(self, cause: str, only: str | None = None) -> None:
        if not self.instances:
            return
        instance = self.random.choice(self.instances)
        self._set_clock(instance)
        instance.tick(cause, only)

    def _set_clock(self, instance: Instance) -> None:
        if self.weather.turns(self.weather.steps):
            right, wrong = instance.clock_off_s, self.random.choice((-900.0, -60.0, 60.0, 900.0, 40_000.0))
            self._step_clock(instance, wrong)
            self.timeline.after(900.0 * self.random.random(), lambda: self._step_clock(instance, right))

    def _step_clock(self, instance: Instance, off_s: float) -> None:
        instance.clock_off_s = off_s
        self.timeline.tell(instance.name, f"clock is off by {off_s:.0f} s")

    def _start(self) -> None:
        self._started += 1
        instance = Instance(f"instance{self._started}", self, self.operators.config, self.operators.template)
        if self.weather.skews and not self.weather.calm:
            instance.clock_off_s = self.random.uniform(-3.0, 3.0)
        self.instances.append(instance)

    def _start_one_if_few(self) -> None:
        if not self._settling and len(self.instances) < 2:
            self._start()

    def _retire(self, instance: Instance) -> None:
        if instance in self.instances and len(self.instances) > 1:
            instance.die("retired")

    # -- the end

    def _settle(self) -> int:
        """Ticks until all is as desired, with no more faults; what is on its way still arrives."""
        self._settling = self.weather.calm = True
        self.weather.discovery_out_until = 0.0
        self.timeline.tell("weather", "calm")
        self.azure.mend()
        for instance in list(self.instances):
            instance.die("the storm is over")
        self.operators.mend()
        for service in sorted(self.operators.ever):
            steady = self.random.choice((0.0, 1.0)) if service in self.operators.config.services else 0.0
            self.front_of(service).load(min(0.6, steady / self.typical_s))
        for ticks in range(1, SETTLE_TICKS + 1):
            if ticks == STEADY_TICKS:
                for service in sorted(self.operators.ever):
                    self.front_of(service).load(0.0)
            self._tick("timer")
            self.timeline.run_until(self.timeline.now + SETTLE_EVERY_S)
            if self.checks.violation:
                return -1
            if not (why := self._unsettled()):
                return ticks
        self.checks.violated("all is as desired in the end", f"not within {SETTLE_TICKS} ticks: {why}")
        return -1

    def _unsettled(self) -> str:
        """What is not as desired yet; empty when all is."""
        for service in sorted(self.operators.ever):
            stored = run_now(self.world.store.load(service))
            desired = stored.row.desired if stored.row and service in self.operators.config.services else 0
            rows = {r.name: r for r in stored.replicas}
            unfit = [f"{r.name} {r.phase}" for r in stored.replicas if r.phase is not Phase.READY]
            unfit += [f"{r.name} old" for r in stored.replicas if r.template != self.operators.template.hash]
            unfit += [f"{r.name} still drains" for r in stored.replicas if self.azure.is_draining(r.name)]
            groups = {h.name for h in self.azure.own(service)}
            listed = endpoints(stored, hold_limit_s=HOLD_LIMIT_S).ready
            if unfit or len(rows) != desired or groups != rows.keys():
                return f"{service} wants {desired}, has {sorted(rows)} {unfit}, groups {sorted(groups)}"
            if set(listed) != set(self.front_of(service).applied):
                return f"{service}: Envoy has another list than the table"
            if self.front_of(service).is_idle and desired > self.operators.least(service):
                return f"{service} wants {desired}, and nobody asks for any"
        return ""


def run(seed: int) -> Outcome:
    """The whole history of one seed; the same each time, in whatever process."""
    ours = logging.getLogger("scaler")
    level = ours.level
    ours.setLevel(logging.CRITICAL)  # what is logged of so many faults takes most of the time
    try:
        return History(seed).run()
    finally:
        ours.setLevel(level)  # others in this process may be looking


def brief(seed: int) -> Outcome:
    """Without the part of the trace that nobody will read."""
    outcome = run(seed)
    return replace(outcome, trace=outcome.trace[-SHOWN:] if outcome.violation else [])
