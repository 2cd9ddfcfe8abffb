"""Function instances: each has its own loop, its own clock and its own settings; it pauses, wakes and dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from scaler.azure.places import Places
from scaler.config import Config
from scaler.decide import policy_of
from scaler.template import Template
from scaler.tick.managed import Managed, World
from scaler.tick.scaler import Scaler, TickReport
from tests.simulation.loop import SteppedLoop
from tests.simulation.record import RECORD, TickRecord
from tests.simulation.wire import DRAINS, Wire, WiredFleet, WiredReplicas, WiredStore

if TYPE_CHECKING:
    from tests.simulation.history import History

DEPLOYMENT = "d1"
SLEEPS_BEFORE = ("", "", "save", "create", DRAINS)  # empty: any call


class Instance:
    """One process of the function app, with the settings that it was deployed with."""

    def __init__(self, name: str, history: History, config: Config, template: Template) -> None:
        self.name, self.config, self.template = name, config, template
        self._history, self._timeline = history, history.timeline
        self.loop = SteppedLoop(history.timeline, self._due)  # type: ignore[abstract]  # more is not asked of it
        self.dead = False
        self.paused = False
        self.clock_off_s = 0.0  # how wrong its clock is
        self._slept_s = 0.0
        self.ticks = 0
        self._inbox: list[Callable[[], None]] = []
        self._timers: list[Callable[[], None]] = []
        self._dies_in: int | None = None
        self._pauses_in: int | None = None
        self._frozen = False  # it sleeps in the midst of a call
        self._pauses_before = ""  # a kind of call; empty: any, after as many as that
        wire = Wire(self, history)
        self.scaler = Scaler(
            config,
            [_managed(name, config, template) for name in config.services],
            World(
                store=WiredStore(wire, self, history),
                fleet=Places({place: WiredFleet(wire, history, place) for place in history.places}),
                replicas=WiredReplicas(wire, history),
                mint=history.world.mint,
                stopwatch=lambda: history.timeline.now,
                signals=_no_signals,
                deployment_id=DEPLOYMENT,
            ),
        )

    @property
    def clock(self) -> float:
        return self._timeline.now + self.clock_off_s

    @property
    def awake_s(self) -> float:
        """Goes on while it is awake."""
        return self._timeline.now - self._slept_s

    def tick(self, cause: str, only: str | None = None) -> None:
        """Begin a tick; it goes on as its calls are answered."""
        if self.dead or self.paused or (only is not None and only not in self.config.services):
            return
        weather, random = self._history.weather, self._timeline.random
        if weather.turns(weather.crash):
            self._dies_in = random.randint(1, 14)
        if weather.turns(weather.pause):
            self._pauses_in, self._pauses_before = random.randint(1, 14), random.choice(SLEEPS_BEFORE)
        self.ticks += 1
        self._timeline.tell(self.name, "tick", cause, only or "", f"{self.clock_off_s:+.0f} s" * bool(self.clock_off_s))
        self.loop.create_task(self._tick(self.clock, cause, only))
        self._run()

    async def _tick(self, now: float, cause: str, only: str | None) -> None:
        places = self._history.places
        record = TickRecord(
            began_at=self._timeline.now,
            off_s=self.clock_off_s,
            config=self.config,
            places=places,
            shared_at=self.awake_s,
        )
        RECORD.set(record)
        try:
            reports = await self.scaler.tick(now, cause=cause, only=only)
        except asyncio.CancelledError:
            raise
        except Exception as fault:  # a tick reacts to everything a port may raise: this is its fault
            self._history.checks.violated("a tick raises nothing", f"{type(fault).__name__}: {fault}")
            raise
        for report in reports:
            self._timeline.tell(self.name, "ended", report.service, report.outcome, *_told(report))
            self._history.checks.ended(report)

    async def step(self, kind: str, about: str) -> None:
        """Called before each call goes out: the place where an instance dies or falls asleep."""
        if self.dead:
            raise asyncio.CancelledError
        if self._dies_in is not None:
            self._dies_in -= 1
            if self._dies_in == 0:
                self.die(f"before {kind} {about}")
                await asyncio.sleep(0)
        if self._pauses_in is not None and self._pauses_before in ("", kind):
            self._pauses_in = 0 if self._pauses_before else self._pauses_in - 1
            if self._pauses_in == 0:
                self._pause(f"before {kind} {about}")
                if self._timeline.random.random() < 0.5:
                    await self._slept()
                else:
                    self._frozen = True

    async def frozen(self) -> None:
        """It was stopped in the midst of what it did, and goes on there before any time limit has a say."""
        if self._frozen:
            self._frozen = False
            await asyncio.sleep(0)

    async def _slept(self) -> None:
        """It was stopped while it waited: what is due by then comes first."""
        woken = self.loop.create_future()
        self._inbox.append(lambda: None if woken.done() else woken.set_result(None))
        await woken

    def deliver(self, act: Callable[[], None]) -> None:
        """Something comes back to this instance: now, or when it wakes, or never."""
        if self.dead:
            return
        if self.paused:
            self._inbox.append(act)
            return
        act()
        self._run()

    def _due(self, timer: Callable[[], None]) -> None:
        if self.paused:
            self._timers.append(timer)
        else:
            self.deliver(timer)

    def die(self, why: str) -> None:
        self._timeline.tell(self.name, "dies", why)
        self.dead = self.loop.stopped = True
        self._history.died(self)

    def _pause(self, why: str) -> None:
        random = self._timeline.random
        seconds = random.choice((10.0, 60.0, 300.0, 900.0)) * random.random()
        self._timeline.tell(self.name, f"sleeps {seconds:.0f} s", why)
        self._pauses_in = None
        self.paused = self.loop.stopped = True
        self._slept_s += seconds
        self._timeline.after(seconds, self._wake)

    def _wake(self) -> None:
        if self.dead:
            return
        self._timeline.tell(self.name, "wakes")
        self.paused = self.loop.stopped = False
        inbox, self._inbox = self._inbox, []
        self._timeline.random.shuffle(inbox)
        timers, self._timers = self._timers, []
        for act in (*timers, *inbox):  # as asyncio does: what is due is cancelled before what was answered goes on
            act()
        self._run()

    def _run(self) -> None:
        self.loop.run_ready()
        if self.loop.faults:
            raise self.loop.faults[0]

    def end(self) -> None:
        """Of the history: nothing is left half-way."""
        self.dead, self.loop.stopped = True, False
        self.loop.end()


async def _no_signals(_: Managed) -> dict[str, float | None]:
    return {}


def _managed(name: str, config: Config, template: Template) -> Managed:
    service = config.services[name]
    return Managed(name=name, service=service, policy=policy_of(service, name, "simulated"), template=template)


def _told(report: TickReport) -> tuple[object, ...]:
    because = report.decision.because if report.decision else ""
    return (because, *(f"[{action}]" for action in report.actions))
