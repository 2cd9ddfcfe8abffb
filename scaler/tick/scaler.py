"""One pass: load, observe, decide, plan, save, act, record.

*Save before act.* The save is the fence: of two ticks at once one gets ``Conflict`` and stops. The fence does not stop
an instance that saved, slept and woke; so a create first moves its row ``intended → creating`` by ETag, and a delete
acts on ``deleting``, which has no way back. A crash between any two steps leaves rows that the next tick repairs.

*Load before list.* A row that another tick writes in between shows as a group without a row, and the fence then stops
us. The other way round a replica just made would look as if it had vanished.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from scaler.config import Config
from scaler.errors import Unavailable
from scaler.memory import Memory
from scaler.model import Group
from scaler.tick.looking import Shared
from scaler.tick.managed import Managed, World, no_longer
from scaler.tick.recalled import recalled
from scaler.tick.service import ServiceTick, TickReport

__all__ = ["Scaler", "TickReport"]
SWEEP_EVERY_S = 3600.0
SERVICES_AT_ONCE = 32
TICK_LIMIT_S = 45.0  # no service is begun later than this in a tick

log = logging.getLogger("scaler.tick")


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
            if groups is not None and self.world.front is not None:
                await self.world.front.keep(groups, now)
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
        busy = any(r.actions or r.left or r.outcome != "saved" for r in reports)  # a row may outlive its group
        if busy:
            self._swept_at = None
        elif self._swept_at is None or now - self._swept_at >= SWEEP_EVERY_S:
            self._swept_at = now
        return reports

    async def memory(self, service: str) -> Memory | None:
        """What a service remembers: its last observation, decision and conditions. None before its first tick."""
        return await recalled(self.store, await self.store.load(service))

    async def _pass(
        self, managed: Sequence[Managed], now: float, cause: str
    ) -> tuple[list[TickReport], Sequence[Group] | None]:
        passes = [ServiceTick(m, self.world, now, cause, self._owed[m.name]) for m in managed]
        gate, began = asyncio.Semaphore(SERVICES_AT_ONCE), self.world.stopwatch()

        async def load(one: ServiceTick) -> bool:
            async with gate:
                return await one.load()

        loaded = dict(
            zip([p.managed.name for p in passes], await asyncio.gather(*(load(p) for p in passes)), strict=True)
        )
        groups = await self._list(passes)
        shared = Shared(self.world, groups, (a for p in passes if p.memory for a in p.memory.asked), now)

        async def finish(one: ServiceTick) -> TickReport:
            async with gate:
                if not loaded[one.managed.name]:
                    return one.gave_up()
                if self.world.stopwatch() - began > TICK_LIMIT_S:
                    one.failure = f"the tick took longer than {TICK_LIMIT_S:.0f} s; this service is first next time"
                    return one.gave_up()
                return await one.finish(shared)

        # Those whose last tick is longest ago come first, so that a lack of time meets each in turn.
        order = sorted(passes, key=lambda p: p.stored.row.at if p.stored.row else 0.0)
        reports = {r.service: r for r in await asyncio.gather(*(finish(p) for p in order))}
        return [reports[p.managed.name] for p in passes], groups

    async def _list(self, passes: Sequence[ServiceTick]) -> Sequence[Group] | None:
        """Our own groups, by tag; None when Azure did not say. Strangers' groups are not looked at any further."""
        with passes[0].calls.counting():
            try:
                groups = await self.world.fleet.list()
            except Unavailable as error:
                log.warning("container groups could not be listed", extra={"error": str(error)})
                return None
        return [g for g in groups if g.tags.get("aci-autoscaler") == self.world.deployment_id]
