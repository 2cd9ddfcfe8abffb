"""One tick of one service, step by step; ``scaler`` runs it for many, and says why the steps have this order."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec import Struct
from msgspec.structs import replace

from scaler import allowance, cadence, measure, observe, plan, quota, rollout, starts
from scaler.allowance import Allowance, Asked, Kind, remembered
from scaler.conditions import condition
from scaler.decide import State, decide, initial_state
from scaler.durations import Durations, learned
from scaler.errors import Conflict, Unavailable
from scaler.happened import Rolled
from scaler.memory import (
    POOL,
    Backoff,
    Memory,
    conditions,
    next_backoff,
    room,
    told_of,
    waits,
)
from scaler.model import Condition, Decision, Group, Observation, Replica
from scaler.past import pack_newest
from scaler.ports import Calls, Stored
from scaler.quota import Quota
from scaler.rollout import Rollout
from scaler.shadow import decide_beside
from scaler.starts import Start
from scaler.tally import Ended, added
from scaler.template import Template
from scaler.tick.act import Actor, Making, act
from scaler.tick.looking import Shared
from scaler.tick.managed import Managed, World
from scaler.tick.recalled import recalled
from scaler.tick.rows import Outcome, to_record, to_save
from scaler.tick.rules import Allowed, rules
from scaler.tick.ticked import Stretch, Ticked

SIGHT_S = 120.0  # what was seen is acted on within this, or not at all: a tick that took longer has slept

log = logging.getLogger("scaler.tick")


class TickReport(Struct, frozen=True, kw_only=True):
    """How a tick of one service ended: ``saved``, ``lost`` (another tick has the turn) or ``unavailable: …``; and how
    many rows of replicas it left."""

    service: str
    outcome: str
    decision: Decision | None = None
    actions: tuple[str, ...] = ()
    left: int = 0


class Looked(Struct, frozen=True, kw_only=True):
    """What one look gave: what was seen, the rows as they should now read, what that measures, the quotas, and which
    version should run (None: no template is configured)."""

    seen: observe.Seen
    fleet: observe.Fleet
    measures: measure.Measures
    observation: Observation
    quotas: tuple[Quota, ...]
    rolled: Rollout | None


class ServiceTick:
    """One tick of one service, step by step."""

    def __init__(self, managed: Managed, world: World, now: float, cause: str, owed: Counter[str]) -> None:
        self.managed, self.world, self.now, self.cause = managed, world, now, cause
        self.owed = owed
        self.calls = Calls()
        self.stretches: list[Stretch] = []
        self.observed: Observation | None = None
        self.started = world.stopwatch()
        self.stored = Stored(service=managed.name)
        self.templates: dict[str, Template] = {}  # what replicas can be made from, by version
        self.memory: Memory | None = None
        self.told: tuple[Condition, ...] = ()
        self.failure = ""

    async def load(self) -> None:
        """Its rows and its memory; or ``failure`` says why not."""
        with self.calls.counting(), self._stretch("load"):
            try:
                self.stored = await self.world.store.load(self.managed.name)
                self.memory = await recalled(self.world.store, self.stored)
            except Unavailable as error:
                self.failure = str(error)

    def gave_up(self) -> TickReport:
        return self._told(TickReport(service=self.managed.name, outcome=f"unavailable: {self.failure}"))

    async def finish(self, shared: Shared) -> TickReport:
        with self.calls.counting():
            try:
                return self._told(await self._finish(shared))
            except Conflict:
                return self._told(TickReport(service=self.managed.name, outcome="lost"))
            except Unavailable as error:
                self.failure = str(error)
                return self.gave_up()

    def _told(self, report: TickReport) -> TickReport:
        """Those who watch hear of it, however it ended."""
        self.owed.update(self.calls.outcomes())
        ticked = Ticked(
            service=report.service,
            at=self.now,
            cause=self.cause,
            outcome=report.outcome,
            seconds=round(self.world.stopwatch() - self.started, 4),
            stretches=tuple(self.stretches),
            decision=report.decision,
            observation=self.observed,
            actions=report.actions,
            calls=self.calls.outcomes(),
            conditions=tuple(dict.fromkeys(c.name for c in self.told)),
        )
        self.world.watch(ticked)
        return report

    @contextmanager
    def _stretch(self, name: str) -> Iterator[None]:
        began = self.world.stopwatch() - self.started
        try:
            yield
        finally:
            self.stretches.append(Stretch(name, began, self.world.stopwatch() - self.started))

    async def _finish(self, shared: Shared) -> TickReport:
        memory = self.memory
        with self._stretch("observe"):
            looked = await self._looked(shared)
        self.observed = looked.observation
        state = memory.state if memory else initial_state(self.managed.policy)
        with self._stretch("decide"):
            decision, state_after = decide(self.managed.policy, state, looked.observation)
            shadow = self._shadow(memory.shadow if memory else None, state, looked.observation)
        backoff = next_backoff(memory.backoff if memory else {}, looked.fleet, self.now)
        outcome = self._outcome(shared, looked, decision, state_after, shadow, backoff)
        with self._stretch("save"):
            if self.present() - self.now > SIGHT_S:
                raise Unavailable(f"what it saw is older than {SIGHT_S:.0f} s")
            await self._save(outcome)
        if self.world.courier is not None:
            self.world.courier.send(self.managed.name, outcome.memory.outbox)
        with self._stretch("act"):
            actor = Actor(self._making(backoff), self.world, self.present)
            acted = await act(outcome.planned.actions, self.stored.replicas, actor)
        with self._stretch("record"):
            await self._record(state, outcome, acted)
            if memory is not None:
                await pack_newest(self.world.store, self.managed.name, memory.at, self.now)
        return TickReport(
            service=self.managed.name,
            outcome="saved",
            decision=decision,
            actions=tuple(acted),
            left=len(self.stored.replicas),
        )

    def _outcome(
        self,
        shared: Shared,
        looked: Looked,
        decision: Decision,
        state: State,
        shadow: tuple[Decision, State] | None,
        backoff: dict[str, Backoff],
    ) -> Outcome:
        """What is to be done, and what is to be remembered."""
        memory, fleet, seen, rolled = self.memory, looked.fleet, looked.seen, looked.rolled
        version = self.stored.row.endpoints_version + 1 if self.stored.row else 1
        allowed = self._allowed(backoff, looked, shared.allowance)
        planned = self._plan(decision.desired, looked, version, allowed)
        after = Memory(
            at=self.now,
            state=state,
            totals=looked.measures.totals,
            observation=looked.observation,
            decision=decision,
            backoff=backoff,
            shadow=shadow[1] if shadow else None,
            starts=starts.remembered(memory.starts if memory else (), self._started(fleet, seen)),
            durations=self._durations(looked),
            list_at=shared.listing.again_at,
            show_at=shared.looking.show_at,
            asked=self._asked(planned, shared.allowance),
            quotas=looked.quotas,
        )
        outcome = Outcome(
            memory=after,
            fleet=fleet,
            planned=planned,
            version=version,
            rolled=rolled,
            shadow=shadow[0] if shadow else None,
        )
        self.told = self._conditions(outcome, looked, shared.allowance)
        return replace(outcome, memory=self._remembering(memory, replace(after, conditions=self.told), rolled))

    def _conditions(self, outcome: Outcome, looked: Looked, room: Allowance) -> tuple[Condition, ...]:
        before, after, rolled = self.memory, outcome.memory, outcome.rolled
        name, regions = self.managed.name, self.managed.service.regions
        known = before.conditions if before else ()
        return (
            *conditions(known, looked.fleet, after.backoff, looked.seen, regions, after.decision, looked.quotas),
            *(rollout.conditions(rolled, self.templates, self.now) if rolled is not None else ()),
            *starts.advice(after.starts, self.now),
            *allowance.conditions(room, regions, self.now),
            *cadence.conditions(name, self.world.period_s, before.at if before else None, self.now),
            *self._lost(outcome.planned),
            *plan.cut_off(outcome.planned, self.now),
        )

    # -- observe

    async def _looked(self, shared: Shared) -> Looked:
        seen, signals, quotas = await self._look(shared)
        memory, template = self.memory, self.managed.template
        fleet = observe.look(seen, self._limits())
        measures = measure.measure(memory.totals if memory else None, seen, (r.name for r in fleet.replicas))
        rolled = self._rolled(fleet, seen)
        observation = measure.observation(
            seen,
            fleet,
            measures,
            memory_bytes=template.memory_bytes if template else None,
            signals=signals,
            pin=self.stored.pin,
            quota=room(
                memory.backoff if memory else {}, quotas, self.managed.service.regions, fleet.replicas, self.now
            ),
            template=rolled.target if rolled else "",
        )
        return Looked(seen=seen, fleet=fleet, measures=measures, observation=observation, quotas=quotas, rolled=rolled)

    async def _look(self, shared: Shared) -> tuple[observe.Seen, dict[str, float | None], tuple[Quota, ...]]:
        own = shared.own(self.managed.name)
        rows = [_addressed(observe.in_time(r, self.now), own) for r in self.stored.replicas]
        known = {r.name for r in rows}
        strays = [g for name, g in (own or {}).items() if name not in known]
        doubtful = [r.name for r in rows if self.world.is_listed(r.region) and observe.may_be_gone(r, own, self.now)]
        details = await shared.looking.show([*doubtful, *(g.name for g in strays)])
        rows += [observe.adopted(g, self._port, self.now) for g in strays if details.get(g.name) is not None]
        quotas = self.memory.quotas if self.memory else ()
        looks, signals, quotas = await asyncio.gather(
            shared.looking.at(rows, own, details),
            self.world.signals(self.managed),
            shared.looking.quotas(quotas, self.managed, rows, own, self.now),
        )
        seen = observe.Seen(
            at=self.now,
            replicas=tuple(rows),
            groups=own,
            stats=looks.stats,
            details=looks.details,
            front=self.stored.front,
            unasked=looks.unasked,
            list_at=shared.listing.again_at,
            show_at=shared.looking.show_at,
        )
        return seen, signals, quotas

    @property
    def _port(self) -> int:
        return self.managed.template.port if self.managed.template else 0

    def _limits(self) -> observe.Limits:
        service = self.managed.service
        return observe.Limits(start_deadline_s=service.start.deadline_s, unhealthy_after_s=service.unhealthy_after_s)

    def _shadow(self, state: State | None, live: State, seen: Observation) -> tuple[Decision, State] | None:
        policy = self.managed.shadow
        return None if policy is None else decide_beside(policy, state, live, seen)

    # -- plan

    def _rolled(self, fleet: observe.Fleet, seen: observe.Seen) -> Rollout | None:
        """Which version should run, after this look; None where no template is configured."""
        template = self.managed.template
        if template is None:
            return None
        view = rollout.View(at=self.now, replicas=fleet.replicas, failures=fleet.failures, stats=seen.stats)
        before = rollout.read(self.stored.rollout.data if self.stored.rollout else None)
        configured = rollout.version_of(template, self.now)
        after = rollout.advance(before, configured, view, self.managed.service.rollout)
        makeable = rollout.templates(after, template)
        self.templates = {v: t for v, t in makeable.items() if self.world.certify or not t.serves_tls}
        return after

    def _plan(self, desired: int, looked: Looked, version: int, allowed: Allowed) -> plan.Plan:
        return plan.plan(
            desired,
            looked.fleet.replicas,
            plan.Sight(at=self.now, planned_at=self.present(), stats=looked.seen.stats, front=looked.seen.front),
            rules(self.managed.service, looked.fleet.replicas, looked.rolled, self.templates, allowed),
            version=version,
            mint=lambda: self.world.mint(self.managed.name),
        )

    def _allowed(self, backoff: Mapping[str, Backoff], looked: Looked, allowance: Allowance) -> Allowed:
        durations, room = self.memory.durations if self.memory else None, quota.Room(looked.quotas, allowance)
        return Allowed(at=self.now, backoff=backoff, room=room, durations=durations)

    def _asked(self, planned: plan.Plan, allowance: Allowance) -> tuple[Asked, ...]:
        """Take from the allowance what is planned, at once: the other services of this pass plan with what is left."""
        asked: Counter[tuple[Kind, str]] = Counter()
        for action in planned.actions:
            if (kind := plan.KINDS.get(type(action))) is not None:
                asked[kind, action.replica.region] += 1
        for (kind, region), count in asked.items():
            allowance.take(kind, region, count)
        return remembered(self.memory.asked if self.memory else (), asked, self.now)

    def _lost(self, planned: plan.Plan) -> list[Condition]:
        lost = [r for r in planned.replicas if not self.world.is_listed(r.region)]
        return [condition("place_lost", self.now, about=f"{r.name} in {r.region}") for r in lost]

    def _started(self, fleet: observe.Fleet, seen: observe.Seen) -> list[Start]:
        return [starts.start_of(r, seen.details.get(r.name), seen.stats.get(r.name)) for r in fleet.started]

    def present(self) -> float:
        """Now; ``now`` is when the tick began."""
        return self.now + self.world.stopwatch() - self.started

    def _durations(self, looked: Looked) -> Durations | None:
        before = self.memory.durations if self.memory else None
        latencies_s = (s.latency_s for s in looked.seen.stats.values())
        return learned(before, latencies_s, looked.measures.completed, self.now)

    def _making(self, backoff: Mapping[str, Backoff]) -> Making:
        configured = self.managed.template
        return Making(
            service=self.managed.name,
            templates=self.templates,
            pool=None if waits(backoff, POOL, self.now) else self.managed.service.standby_pool,
            pooled=configured.hash if configured else "",
        )

    # -- save

    def _remembering(self, before: Memory | None, after: Memory, rolled: Rollout | None) -> Memory:
        """The memory with what others want to know of it: the totals, and the events that still have to be sent."""
        assert after.decision is not None
        assert after.observation is not None
        ended = Ended(
            decision=after.decision,
            desired_before=before.decision.desired if before and before.decision else None,
            seen=after.observation,
            calls=self.owed + Counter(self.calls.outcomes()),
            slo_wait_s=self.managed.service.slo_wait_s,
        )
        if rolled is not None:
            after = replace(after, rolled=Rolled(phase=rolled.phase, target=rolled.target, because=rolled.because))
        courier = self.world.courier  # where nobody wants to hear of events, none is kept
        outbox = told_of(self.managed.name, before, after, self.cause, courier.delivered()) if courier else ()
        return replace(after, tally=added(before.tally if before else None, ended), outbox=outbox)

    async def _save(self, outcome: Outcome) -> None:
        row, changes = to_save(self.stored, self.memory, outcome, self.managed.service.hold_limit_s)
        counted = self.calls.outcomes()
        self.stored = await self.world.store.save(self.stored, row, changes)
        self.owed.clear()  # these are in the tally now, with those of this tick so far
        self.owed.subtract(counted)

    # -- record

    async def _record(self, state: State, outcome: Outcome, acted: Sequence[str]) -> None:
        row = to_record(
            self.managed,
            state,
            outcome,
            tick=self.world.mint("tick"),
            cause=self.cause,
            actions=acted,
            seconds=round(self.world.stopwatch() - self.started, 4),
            calls=self.calls.counts(),
        )
        try:
            await self.world.store.record(row)
        except Unavailable as error:
            told = {"service": self.managed.name, "error": str(error)}
            log.warning("a decision was made and acted on, but not recorded", extra=told)


def _addressed(replica: Replica, own: Mapping[str, Group] | None) -> Replica:
    group = (own or {}).get(replica.name)
    return replace(replica, address=group.address) if group and group.address else replica
