"""One pass: load, observe, decide, plan, save, act, record.

*Save before act.* The save is the fence: of two ticks at once one gets ``Conflict`` and stops. The fence does not stop
an instance that saved, slept and woke; so a create first moves its row ``intended → creating`` by ETag, and a delete
acts on ``deleting``, which has no way back. A crash between any two steps leaves rows that the next tick repairs.

*Load before list.* A row that another tick writes in between shows as a group without a row, and the fence then stops
us. The other way round a replica just made would look as if it had vanished.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from scaler import observe, plan
from scaler.act import Actor, act
from scaler.config import Config
from scaler.decide import State, decide, initial_state
from scaler.errors import Conflict, Unavailable
from scaler.happened import Happened, happened, view, waiting
from scaler.managed import Managed, World, no_longer
from scaler.memory import Backoff, Memory, conditions, next_backoff, recall, waits
from scaler.model import (
    Decision,
    Group,
    GroupDetail,
    Observation,
    Phase,
    Replica,
    Stats,
)
from scaler.past import minutes, newest_over, over, packed, ticks_of
from scaler.ports import Calls, Changes, DecisionRow, ServiceRow, Stored
from scaler.shadow import decide_beside
from scaler.tally import Ended, added
from scaler.ticked import Stretch, Ticked

SWEEP_EVERY_S = 3600.0
SCRAPES_AT_ONCE = 64

log = logging.getLogger("scaler.tick")


class TickReport(Struct, frozen=True, kw_only=True):
    """How a tick of one service ended: ``saved``, ``lost`` (another tick has the turn) or ``unavailable: …``."""

    service: str
    outcome: str
    decision: Decision | None = None
    actions: tuple[str, ...] = ()


class Scaler:
    """Ticks the services of one deployment."""

    def __init__(self, config: Config, managed: Sequence[Managed], world: World) -> None:
        self.config = config
        self.managed: Mapping[str, Managed] = {m.name: m for m in managed}
        self.world = world
        self.store = world.store
        self._swept_at: float | None = None  # of this process: a fresh one sweeps with its first tick
        self._owed: defaultdict[str, Counter[str]] = defaultdict(Counter)  # calls after a save, for the next tally

    async def tick(self, now: float, *, cause: str, only: str | None = None) -> list[TickReport]:
        """One pass over every service, or one. ``now`` is epoch seconds; ``cause`` (timer, wake, …) is recorded, and
        decides nothing. Raises KeyError for a service that is not configured."""
        managed = list(self.managed.values()) if only is None else [self.managed[only]]
        reports, groups = await self._pass(managed, now, cause)
        if only is None:
            reports += await self._sweep(groups or (), now, cause)
        return reports

    async def _sweep(self, groups: Sequence[Group], now: float, cause: str) -> list[TickReport]:
        """Tick what is no longer configured and has groups left, or rows: those are looked for now and then."""
        left = {g.tags.get("service", "") for g in groups} - {""}
        if self._swept_at is None or now - self._swept_at >= SWEEP_EVERY_S:
            try:
                left |= set(await self.store.services())
            except Unavailable as error:
                log.warning("services that are no longer configured were not looked for", extra={"error": str(error)})
        left -= set(self.managed)
        reports, _ = await self._pass([no_longer(name) for name in sorted(left)], now, cause) if left else ([], ())
        busy = any(r.actions or r.outcome != "saved" for r in reports)
        if busy:
            self._swept_at = None
        elif self._swept_at is None or now - self._swept_at >= SWEEP_EVERY_S:
            self._swept_at = now
        return reports

    async def memory(self, service: str) -> Memory | None:
        """What a service remembers: its last observation, decision and conditions. None before its first tick."""
        return recall(await self.store.load(service))

    async def _pass(
        self, managed: Sequence[Managed], now: float, cause: str
    ) -> tuple[list[TickReport], Sequence[Group] | None]:
        passes = [_Pass(m, self.world, now, cause, self._owed[m.name]) for m in managed]
        loaded = await asyncio.gather(*(p.load() for p in passes))
        groups = await self._list(passes)
        ends = (p.finish(groups) if ok else p.gave_up() for p, ok in zip(passes, loaded, strict=True))
        return list(await asyncio.gather(*ends)), groups

    async def _list(self, passes: Sequence[_Pass]) -> Sequence[Group] | None:
        """Our own groups, by tag; None when Azure did not say. Strangers' groups are not looked at any further."""
        with passes[0].calls.counting():
            try:
                groups = await self.world.fleet.list()
            except Unavailable as error:
                log.warning("container groups could not be listed", extra={"error": str(error)})
                return None
        return [g for g in groups if g.tags.get("aci-autoscaler") == self.world.deployment_id]


class _Pass:
    """One tick of one service, step by step."""

    def __init__(self, managed: Managed, world: World, now: float, cause: str, owed: Counter[str]) -> None:
        self.managed, self.world, self.now, self.cause = managed, world, now, cause
        self.owed = owed
        self.calls = Calls()
        self.stretches: list[Stretch] = []
        self.observed: Observation | None = None
        self.started = world.stopwatch()
        self.stored = Stored(service=managed.name)
        self.failure = ""

    async def load(self) -> bool:
        with self.calls.counting(), self._stretch("load"):
            try:
                self.stored = await self.world.store.load(self.managed.name)
            except Unavailable as error:
                self.failure = str(error)
                return False
        return True

    async def gave_up(self) -> TickReport:
        return self._told(TickReport(service=self.managed.name, outcome=f"unavailable: {self.failure}"))

    async def finish(self, groups: Sequence[Group] | None) -> TickReport:
        with self.calls.counting():
            try:
                return self._told(await self._finish(groups))
            except Conflict:
                return self._told(TickReport(service=self.managed.name, outcome="lost"))
            except Unavailable as error:
                self.failure = str(error)
                return await self.gave_up()

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

    async def _finish(self, groups: Sequence[Group] | None) -> TickReport:
        own = None if groups is None else {g.name: g for g in groups if g.tags.get("service") == self.managed.name}
        memory = recall(self.stored)
        with self._stretch("observe"):
            seen, signals = await self._look(own)
        fleet = observe.look(seen, self._limits())
        measures = observe.measure(memory.totals if memory else None, seen, (r.name for r in fleet.replicas))
        observed = observe.observation(
            seen,
            fleet,
            measures,
            memory_bytes=self.managed.template.memory_bytes if self.managed.template else None,
            signals=signals,
            pin=self.stored.pin,
            quota=None,
        )
        self.observed = observed
        state = memory.state if memory else initial_state(self.managed.policy)
        with self._stretch("decide"):
            decision, state_after = decide(self.managed.policy, state, observed)
            shadow = self._shadow(memory.shadow if memory else None, state, observed)
        backoff = next_backoff(memory.backoff if memory else {}, fleet, self.now)
        version = self.stored.row.endpoints_version + 1 if self.stored.row else 1
        planned = self._plan(decision, fleet, seen, backoff, version)
        after = Memory(
            at=self.now,
            state=state_after,
            totals=measures.totals,
            observation=observed,
            decision=decision,
            conditions=conditions(
                memory.conditions if memory else (), fleet, backoff, seen, self.managed.service.regions, decision
            ),
            backoff=backoff,
            shadow=shadow[1] if shadow else None,
        )
        after = self._remembering(memory, after)
        with self._stretch("save"):
            await self._save(after, fleet, planned, version)
        if self.world.courier is not None:
            self.world.courier.send(self.managed.name, after.outbox)
        with self._stretch("act"):
            outcomes = await act(planned.actions, self.stored.replicas, Actor(self.managed, self.world, self.now))
        with self._stretch("record"):
            await self._record(state, after, shadow[0] if shadow else None, planned, outcomes)
            await self._pack(memory)
        return TickReport(service=self.managed.name, outcome="saved", decision=decision, actions=tuple(outcomes))

    # -- observe

    async def _look(self, own: Mapping[str, Group] | None) -> tuple[observe.Seen, dict[str, float | None]]:
        rows = [_addressed(observe.in_time(r, self.now), own) for r in self.stored.replicas]
        known = {r.name for r in rows}
        strays = [g for name, g in (own or {}).items() if name not in known]
        doubtful = [r.name for r in rows if observe.may_be_gone(r, own, self.now)]
        details = await self._show([*doubtful, *(g.name for g in strays)])
        rows += [observe.adopted(g, self._port, self.now) for g in strays if details.get(g.name) is not None]
        scrapable = [r for r in rows if r.address and r.phase not in (Phase.INTENDED, Phase.DELETING)]
        stats, signals = await asyncio.gather(self._scrape(scrapable), self.world.signals(self.managed))
        silent = [r.name for r in rows if r.name not in stats and _worth_a_look(r, own)]
        seen = observe.Seen(
            at=self.now,
            replicas=tuple(rows),
            groups=own,
            stats=stats,
            details=details | await self._show([name for name in silent if name not in details]),
            front=self.stored.front,
        )
        return seen, signals

    async def _scrape(self, rows: Sequence[Replica]) -> dict[str, Stats]:
        gate = asyncio.Semaphore(SCRAPES_AT_ONCE)

        async def one(replica: Replica) -> tuple[str, Stats] | None:
            async with gate:
                try:
                    return replica.name, await self.world.replicas.stats(replica)
                except Unavailable:
                    return None

        answers = await asyncio.gather(*(one(r) for r in rows))
        return dict(a for a in answers if a is not None)

    async def _show(self, names: Sequence[str]) -> dict[str, GroupDetail | None]:
        async def one(name: str) -> tuple[str, GroupDetail | None] | None:
            try:
                return name, await self.world.fleet.show(name)
            except Unavailable:
                return None

        answers = await asyncio.gather(*(one(name) for name in names))
        return dict(a for a in answers if a is not None)

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

    def _plan(
        self,
        decision: Decision,
        fleet: observe.Fleet,
        seen: observe.Seen,
        backoff: Mapping[str, Backoff],
        version: int,
    ) -> plan.Plan:
        service, template = self.managed.service, self.managed.template
        rules = plan.Rules(
            max=service.replicas.max,
            surge=service.surge,
            template=template.hash if template and not waits(backoff, template.hash, self.now) else None,
            port=self._port,
            region=next((r for r in service.regions if not waits(backoff, r, self.now)), None),
            drain_deadline_s=service.scale_in.drain_deadline_s,
            idle_s=service.scale_in.idle_s,
            unhealthy_after_s=service.unhealthy_after_s,
        )
        took_s = self.world.stopwatch() - self.started
        sight = plan.Sight(at=self.now, planned_at=self.now + took_s, stats=seen.stats, front=seen.front)
        return plan.plan(
            decision.desired,
            fleet.replicas,
            sight,
            rules,
            version=version,
            mint=lambda: self.world.mint(self.managed.name),
        )

    # -- save

    def _remembering(self, before: Memory | None, after: Memory) -> Memory:
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
        outbox: tuple[Happened, ...] = ()
        if self.world.courier is not None:
            now = view(after)
            assert now is not None
            new = happened(self.managed.name, view(before), now, self.cause)
            outbox = waiting(before.outbox if before else (), new, self.world.courier.delivered(), self.now)
        return replace(after, tally=added(before.tally if before else None, ended), outbox=outbox)

    async def _save(self, memory: Memory, fleet: observe.Fleet, planned: plan.Plan, version: int) -> None:
        before = {r.name: r for r in self.stored.replicas}
        changed = endpoints(self.stored.replicas) != endpoints(planned.replicas)
        current = self.stored.row.endpoints_version if self.stored.row else 0
        decision = memory.decision
        assert decision is not None
        row = ServiceRow(
            memory=msgspec.msgpack.encode(memory),
            endpoints_version=version if changed else current,
            off=decision.off,
            opens_at=decision.opens_at,
            wakes=decision.wakes,
            hold_limit_s=self.managed.service.hold_limit_s,
            at=self.now,
            desired=decision.desired,
            because=decision.because,
        )
        rows = planned.replicas if changed else [_never_listed(r, version, current) for r in planned.replicas]
        written = tuple(r for r in rows if before.get(r.name) != r)
        removed = tuple(before[r.name] for r in (*fleet.removed, *planned.removed) if r.name in before)
        counted = self.calls.outcomes()
        self.stored = await self.world.store.save(self.stored, row, Changes(written=written, removed=removed))
        self.owed.clear()  # these are in the tally now, with those of this tick so far
        self.owed.subtract(counted)

    # -- record

    async def _record(
        self, state: State, after: Memory, shadow: Decision | None, planned: plan.Plan, outcomes: Sequence[str]
    ) -> None:
        decision = after.decision
        assert decision is not None
        counts = {p.value: sum(r.phase is p for r in planned.replicas) for p in Phase}
        row = DecisionRow(
            service=self.managed.name,
            at=self.now,
            tick=self.world.mint("tick"),
            cause=self.cause,
            desired=decision.desired,
            limited_by=decision.limited_by,
            because=decision.because,
            decision=msgspec.msgpack.encode(decision),
            observation=msgspec.msgpack.encode(after.observation),
            state_before=msgspec.msgpack.encode(state),
            policy=msgspec.msgpack.encode(self.managed.policy),
            shadow=msgspec.msgpack.encode(shadow) if shadow else b"",
            actions=json.dumps(list(outcomes)),
            replicas=json.dumps(counts),
            seconds=round(self.world.stopwatch() - self.started, 4),
            calls=json.dumps({**self.calls.counts(), "table": self.calls.counts().get("table", 0) + 1}),
        )
        try:
            await self.world.store.record(row)
        except Unavailable as error:
            told = {"service": self.managed.name, "error": str(error)}
            log.warning("a decision was made and acted on, but not recorded", extra=told)

    async def _pack(self, before: Memory | None) -> None:
        """Once an hour, the hour that is over by now: for those who look back over days."""
        hour = newest_over(self.now)
        if before is None or over(hour, before.at):
            return
        try:
            points = minutes(await ticks_of(self.world.store, self.managed.name, hour))
            await self.world.store.write_past(self.managed.name, hour, packed(points))
        except Unavailable as error:
            log.info("an hour could not be packed; who looks at it does it", extra={"error": str(error)})


def _never_listed(replica: Replica, version: int, current: int) -> Replica:
    """What became ready and was to leave within one tick was in no list: every list there is does without it."""
    return replace(replica, drain_version=current) if replica.drain_version == version else replica


def endpoints(replicas: Sequence[Replica]) -> set[tuple[str, str, int]]:
    """What the front may send to."""
    return {(r.name, r.address, r.port) for r in replicas if r.phase is Phase.READY and r.address}


def _addressed(replica: Replica, own: Mapping[str, Group] | None) -> Replica:
    group = (own or {}).get(replica.name)
    return replace(replica, address=group.address) if group and group.address else replica


def _worth_a_look(replica: Replica, own: Mapping[str, Group] | None) -> bool:
    """A silent replica whose group Azure calls settled, or failed, is worth a GET; one still being made is not."""
    group = (own or {}).get(replica.name)
    going = replica.phase in (Phase.INTENDED, Phase.DELETING)
    return group is not None and not going and group.provisioning_state not in ("Pending", "Creating")
