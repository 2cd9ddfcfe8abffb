"""One save, judged by itself: how many there may be, how many there must be, who goes first, and on what knowledge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec

from scaler import rollout
from scaler.config import Rule, Service
from scaler.memory import Memory
from scaler.model import Decision, Phase, Pin, Step
from scaler.ports import Stored
from tests.simulation.record import TickRecord

ACTIVE = (Phase.INTENDED, Phase.CREATING, Phase.STARTING, Phase.READY)
SERVING = (Phase.READY, Phase.DRAINING)
CAPS = ("schedule_max", "budget", "quota", "max", "removed")  # rules that may lower a count below its floor
UNSEEN = (*CAPS, "off", "pin")  # rules that may lower a count whatever was seen
FRONT_SILENT_S = 60.0
SOONEST_S = 4.0  # no start takes less, so the next floor is asked for before
DAY_S = 86_400.0

Wrong = tuple[str, str]  # the promise, and what breaks it


class Save:
    """What was stored before and after a save, and what its tick knew; ``service`` is None for one that is no longer
    configured."""

    def __init__(self, *, before: Stored, after: Stored, record: TickRecord, service: Service | None) -> None:
        self.before, self.after, self.record, self.service = before, after, record, service
        self.was = {r.name: r for r in before.replicas}
        self.rows = {r.name: r for r in after.replicas}

    def wrongs(self) -> Iterator[Wrong]:
        """Every promise that this save breaks."""
        if self.service is not None:
            yield from self._ceiling(self.service)
            yield from self._floor(self.service)
            yield from self._calendar(self.service)
        yield from self._order()
        yield from self._blind()

    @property
    def most(self) -> int:
        """The max, with the surge in a rollout."""
        return 0 if self.service is None else self.service.replicas.max + (self.service.rollout.surge * self._rolling)

    @property
    def new(self) -> list[str]:
        """Replicas that are asked for."""
        return [n for n, r in self.rows.items() if n not in self.was and r.phase is Phase.INTENDED]

    @property
    def desired(self) -> int:
        assert self.after.row is not None
        return self.after.row.desired

    @cached_property
    def memory(self) -> Memory:
        assert self.after.row is not None
        return msgspec.msgpack.decode(self.after.row.memory, type=Memory)

    @property
    def decision(self) -> Decision:
        decision = self.memory.decision
        assert decision is not None
        return decision

    @property
    def pin(self) -> Pin | None:
        """The pin in force when the tick began."""
        pin, at = self.record.pins.get(self.after.service), self.record.at
        return pin if pin and pin.since <= at and (pin.until is None or at < pin.until) else None

    @property
    def _rolling(self) -> bool:
        """Whether active replicas of another version than the one that should run are about, or just were."""
        rolled = rollout.read(self.after.rollout.data if self.after.rollout else None)
        if rolled is None:
            return False
        active = [r for r in (*self.was.values(), *self.rows.values()) if r.phase in ACTIVE or r.name not in self.was]
        return any(r.template != rolled.target for r in active)

    @property
    def _scaled_in(self) -> list[str]:
        """Replicas that leave because they are not needed."""
        left = (self.rows[n] for n, r in self.was.items() if r.phase is Phase.READY and self._is(n, Phase.DRAINING))
        return [r.name for r in left if r.because == "scale-in"]

    @property
    def _there(self) -> list[str]:
        """Active replicas, those that this save gives up included."""
        left = ("scale-in", "no longer needed")
        rows = [(r, self.rows[n]) for n, r in self.was.items() if r.phase in ACTIVE and n in self.rows]
        return [r.name for _, r in rows if r.phase in ACTIVE or (r.because in left and not r.failure)]

    def _is(self, name: str, *phases: Phase) -> bool:
        return name in self.rows and self.rows[name].phase in phases

    def _ceiling(self, service: Service) -> Iterator[Wrong]:
        new = self.new
        if new and len(self.rows) > self.most:
            phases = sorted(str(r.phase) for r in self.rows.values())
            yield "never above max and surge", f"{len(self.rows)} rows for {self.most}: {phases}"
        active = sum(r.phase in ACTIVE for r in self.rows.values())
        most = self.desired + (max(1, service.rollout.surge) if self._rolling else 0)
        if new and active > most:
            yield "no more is asked for than desired", f"{active} with {new}, desired are {self.desired}"

    def _floor(self, service: Service) -> Iterator[Wrong]:
        least = self.pin.min if self.pin else 0 if _closed(service, self.record.at) else service.replicas.min
        if self.desired < least and _before(self.decision, CAPS) < least:
            yield "never below min", f"desired is {self.desired}, least is {least}"
        stats = self.record.stats
        quota = next((s.after for s in self.decision.steps if s.name == "quota"), None)
        if quota is not None and quota < len(there := self._there):
            yield "want of room takes nothing away", f"{quota} may be had, and there are {there}"
        drained = [n for n in self._scaled_in if n not in stats or stats[n].phase != "starting"]
        ready = sum(r.phase is Phase.READY for r in self.rows.values())
        if drained and ready < self.desired - (1 if self._rolling and service.rollout.surge == 0 else 0):
            yield "never below desired by our own act", f"{drained} drain, {ready} ready are left of {self.desired}"

    def _calendar(self, service: Service) -> Iterator[Wrong]:
        """Closed is closed, a floor is met when it begins, and a pin ends by itself: by the clock of the tick."""
        at, rules = self.record.at, service.schedule.rules
        pin = self.record.pins.get(self.after.service)
        if self.pin is None and pin is not None and any(s.name == "pin" for s in self.decision.steps):
            yield "a pin ends by itself", f"{pin.min} to {pin.max} until {pin.until}, and it is {at}"
        floors = [rule.min for rule in rules if rule.min]
        if (
            self.new
            and self.pin is None
            and not service.replicas.min
            and not floors
            and _closed(service, at, wake=False)
        ):
            yield "closed is closed", f"{self.new} while the service is off"
        ahead = at + SOONEST_S
        least = max((r.min for r in rules if r.min and _in_force(r, ahead)), default=0)
        capped = [r.max for r in rules if r.max is not None and (_in_force(r, at) or _in_force(r, ahead))]
        least = min((least, *capped))
        if self.pin is None and not _closed(service, ahead) and _before(self.decision, CAPS) < least:
            yield "a floor is met when it begins", f"{self.desired} are desired, least is {least} in {SOONEST_S:.0f} s"

    def _order(self) -> Iterator[Wrong]:
        """The least busy go first, of replicas of one version."""
        stats = self.record.stats
        stay = [n for n, r in self.was.items() if r.phase is Phase.READY and self._is(n, Phase.READY)]
        for name in self._scaled_in:
            for other in stay:
                mine, theirs = stats.get(name), stats.get(other)
                if mine is None or theirs is None or self.was[name].template != self.was[other].template:
                    continue
                if mine.in_flight > theirs.in_flight and mine.phase == theirs.phase:
                    yield "least in flight first", f"{name} drains, {other} is less busy"

    def _blind(self) -> Iterator[Wrong]:
        if self.before.row is None or self.desired >= self.before.row.desired:
            return
        unknown = list(self._unknown())
        if unknown and _before(self.decision, UNSEEN) < self.before.row.desired:
            step = f"{self.before.row.desired} to {self.desired}: {self.decision.because}"
            yield "no scale-in while blind", f"{step} There was no answer from {', '.join(unknown)}"

    def _unknown(self) -> Iterator[str]:
        """Whom the tick should have heard of, and did not."""
        record, front = self.record, self.record.fronts.get(self.after.service)
        serving = [n for n, r in self.was.items() if r.phase in SERVING]
        yield from (n for n in serving if n not in record.stats and self._is(n, *SERVING))
        serves = {*serving, *(n for n in self.was if self._is(n, *SERVING))}
        if record.listed is None and not serves & record.stats.keys():
            yield "Azure"
        if front is not None and record.at - front.at > FRONT_SILENT_S:
            yield "the front"


def _before(decision: Decision, rules: Sequence[str]) -> int:
    """The count before the first of these rules lowered it."""
    lowered = (s for s in decision.steps if s.name in rules and s.after < s.before)
    first: Step | None = next(lowered, None)
    return decision.desired if first is None else first.before


def _closed(service: Service, at: float, *, wake: bool | None = None) -> bool:
    """Whether the calendar switches it off; ``wake``: only by rules that say so of it."""
    off = [r for r in service.schedule.rules if r.off and _in_force(r, at)]
    return any(wake in (None, r.wake) for r in off)


def _in_force(rule: Rule, at: float) -> bool:
    """Of rules like the simulation's: every day, within one day, in UTC."""
    return _seconds(rule.start) <= at % DAY_S < _seconds(rule.end)


def _seconds(clock: str | None) -> float:
    assert clock is not None
    hours, minutes, seconds = map(int, clock.split(":"))
    return 3600.0 * hours + 60.0 * minutes + seconds
