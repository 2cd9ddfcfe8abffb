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
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from scaler.allowance import Allowance
from scaler.config import Config
from scaler.errors import Unavailable
from scaler.memory import Memory
from scaler.model import Group
from scaler.observe import latest_retry_at, retry_at
from scaler.tick.looking import Listing, Looking, Shared
from scaler.tick.managed import Managed, World, no_longer
from scaler.tick.recalled import recalled
from scaler.tick.service import ServiceTick, TickReport

__all__ = ["Scaler", "TickReport"]
SWEEP_EVERY_S = 3600.0
SERVICES_AT_ONCE = 32
TOGETHER_S = 1.0  # a row that takes longer to load is not waited for by the other services
TICK_LIMIT_S = 45.0  # no service is begun later than this in a tick

log = logging.getLogger("scaler.tick")


class Passed(NamedTuple):
    """How one pass went: the reports, the newest list of groups, and what services failed of that no port may say."""

    reports: list[TickReport]
    listing: Listing
    faults: list[BaseException]


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
        decides nothing. Raises KeyError for a service that is not configured. A fault in one service is raised when all
        else is done: nobody is to suffer from it."""
        managed = list(self.managed.values()) if only is None else [self.managed[only]]
        began, allowance = self.world.stopwatch(), Allowance(now)
        passed = await self._pass(managed, now, cause, allowance)
        if only is None:
            swept = await self._sweep(passed.listing, now + self.world.stopwatch() - began, cause, allowance)
            passed = Passed(passed.reports + swept.reports, passed.listing, passed.faults + swept.faults)
            if passed.listing.groups is not None and self.world.front is not None:
                await self.world.front.keep(passed.listing.groups, now)
        if passed.faults:
            raise passed.faults[0]
        return passed.reports

    async def _sweep(self, listing: Listing, now: float, cause: str, allowance: Allowance) -> Passed:
        """Tick what is no longer configured and has groups left, or rows: those are looked for now and then."""
        left = {g.tags.get("service", "") for g in listing.groups or ()} - {""}
        if self._swept_at is None or now - self._swept_at >= SWEEP_EVERY_S:
            try:
                left |= set(await self.store.services())
            except Unavailable as error:
                log.warning("services that are no longer configured were not looked for", extra={"error": str(error)})
        left -= set(self.managed)
        removed = [no_longer(name) for name in sorted(left)]
        swept = await self._pass(removed, now, cause, allowance, listing)
        busy = any(r.actions or r.left or r.outcome != "saved" for r in swept.reports)  # a row may outlive its group
        if busy or swept.faults:
            self._swept_at = None
        elif self._swept_at is None or now - self._swept_at >= SWEEP_EVERY_S:
            self._swept_at = now
        return swept

    async def memory(self, service: str) -> Memory | None:
        """What a service remembers: its last observation, decision and conditions. None before its first tick."""
        return await recalled(self.store, await self.store.load(service))

    async def _pass(
        self,
        managed: Sequence[Managed],
        now: float,
        cause: str,
        allowance: Allowance,
        listing: Listing | None = None,
    ) -> Passed:
        """Services whose rows are there do not wait for long for those that are slow to load: these follow, with a list
        of their own, for it has to be younger than every row. ``listing`` is the one before."""
        passes = [ServiceTick(m, self.world, now, cause, self._owed[m.name]) for m in managed]
        gate, began = asyncio.Semaphore(SERVICES_AT_ONCE), self.world.stopwatch()

        async def finish(one: ServiceTick, load: asyncio.Future[None], shared: Shared) -> TickReport:
            await load  # it is done, and raises here what it raised
            async with gate:
                if one.failure:
                    return one.gave_up()
                if self.world.stopwatch() - began > TICK_LIMIT_S:
                    one.failure = f"the tick took longer than {TICK_LIMIT_S:.0f} s; this service is first next time"
                    return one.gave_up()
                return await one.finish(shared)

        loads = {one: asyncio.ensure_future(_load(one, gate)) for one in passes}
        finishes: list[asyncio.Future[TickReport]] = []
        waiting = set(loads.values())
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=TOGETHER_S)
                # Those whose last tick is longest ago come first, so that a lack of time meets each in turn.
                there = sorted((one for one, load in loads.items() if load in done), key=_last_at)
                if there:
                    shared = await self._shared(there, listing, allowance, now)
                    listing = shared.listing
                    finishes += [asyncio.ensure_future(finish(one, loads[one], shared)) for one in there]
            ended = await asyncio.gather(*finishes, return_exceptions=True)
        finally:  # a tick that is given up leaves nothing under way
            under_way: Sequence[asyncio.Future[None] | asyncio.Future[TickReport]] = [*loads.values(), *finishes]
            for task in under_way:
                task.cancel()
        assert listing is not None
        faults = [f for f in ended if isinstance(f, BaseException)]
        for fault in faults:
            log.error("the tick of a service failed", exc_info=fault)
        reports = {r.service: r for r in ended if isinstance(r, TickReport)}
        return Passed([reports[m.name] for m in managed if m.name in reports], listing, faults)

    async def _shared(
        self, there: Sequence[ServiceTick], before: Listing | None, allowance: Allowance, now: float
    ) -> Shared:
        memories = [one.memory for one in there if one.memory]
        allowance.know(a for memory in memories for a in memory.asked)
        listing = await self._listing(there, before, now)
        show_at = _latest((memory.show_at for memory in memories), now)
        return Shared(Looking(self.world, there[0].present, show_at), listing, allowance)

    async def _listing(self, passes: Sequence[ServiceTick], before: Listing | None, now: float) -> Listing:
        """Our own groups, unless Azure does not say; it is not asked before it allows that, and only once in a tick in
        which it does not say: whoever is late would wait for it twice."""
        if before is not None and before.groups is None:
            return before
        asked = (one.memory.list_at for one in passes if one.memory)
        if (again_at := _latest(asked, now)) > now:
            return Listing(groups=None, again_at=again_at)
        try:
            return Listing(groups=await self._list(passes))
        except Unavailable as error:
            log.warning("container groups could not be listed", extra={"error": str(error)})
            wait_s = error.retry_after_s
            return Listing(groups=None, again_at=0.0 if wait_s is None else retry_at(passes[0].present(), wait_s))

    async def _list(self, passes: Sequence[ServiceTick]) -> Sequence[Group]:
        """Our own groups, by tag; strangers' are not looked at any further. Raises ``Unavailable``."""
        with passes[0].calls.counting():
            groups = await self.world.fleet.list()
        return [g for g in groups if g.tags.get("aci-autoscaler") == self.world.deployment_id]


async def _load(one: ServiceTick, gate: asyncio.Semaphore) -> None:
    async with gate:
        await one.load()


def _latest(waits: Iterable[float], now: float) -> float:
    """Until when Azure asked to be waited for, as services remember; not what a clock that was ahead wrote."""
    return max((at for at in waits if at <= latest_retry_at(now)), default=0.0)


def _last_at(one: ServiceTick) -> float:
    """When its service was last ticked."""
    return one.stored.row.at if one.stored.row else 0.0
