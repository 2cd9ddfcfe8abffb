"""What all services of one pass share while they look at the world: bounded concurrency, and one deadline.

Requests queue here and not in a connection pool, where waiting would count as the replica's own silence. What is not
asked before the deadline was not seen, which is not the same as silent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from scaler import quota
from scaler.allowance import Allowance
from scaler.errors import Unavailable
from scaler.model import Group, GroupDetail, Phase, Replica, Stats
from scaler.observe import retry_at
from scaler.ports import Usage
from scaler.quota import Quota
from scaler.tick.managed import Managed, World

SCRAPES_AT_ONCE = 96
SILENT_AT_ONCE = 24  # of these at most, to replicas that gave no answer last time either
SHOWS_AT_ONCE = 16
SHOWS_A_PASS = 100  # Resource Manager refills 25 reads a second, and others read too
LOOK_LIMIT_S = 12.0
USAGE_LIMIT_S = 3.0  # a quota is good to know, and not worth more of a tick

log = logging.getLogger("scaler.tick")


class Looks(Struct, frozen=True, kw_only=True):
    """What was seen of one service's replicas. ``unasked`` are those whose turn did not come."""

    stats: Mapping[str, Stats]
    details: Mapping[str, GroupDetail | None]
    unasked: frozenset[str]


class Looking:
    """Looks for one pass. Azure is asked about no single group before ``show_at``, as it wished."""

    def __init__(self, world: World, present: Callable[[], float], show_at: float = 0.0) -> None:
        self._world, self._present, self.show_at = world, present, show_at
        self._scrapes = asyncio.Semaphore(SCRAPES_AT_ONCE)
        self._silent = asyncio.Semaphore(SILENT_AT_ONCE)
        self._shows = asyncio.Semaphore(SHOWS_AT_ONCE)
        self._shows_left = SHOWS_A_PASS
        self._until = asyncio.get_running_loop().time() + LOOK_LIMIT_S
        self._usages: dict[str, Sequence[Usage] | None] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def at(
        self, rows: Sequence[Replica], own: Mapping[str, Group] | None, details: Mapping[str, GroupDetail | None]
    ) -> Looks:
        """Ask each replica, and Azure about those that do not answer, or answer for the first time, as far as
        ``details`` does not tell of them already."""
        scrapable = [r for r in rows if r.address and r.phase not in (Phase.INTENDED, Phase.DELETING)]
        answers = await asyncio.gather(*(self._scrape(r) for r in scrapable))
        stats = {r.name: a for r, a in zip(scrapable, answers, strict=True) if isinstance(a, Stats)}
        unasked = frozenset(r.name for r, a in zip(scrapable, answers, strict=True) if a is _UNASKED)
        worth = [r.name for r in rows if r.name not in unasked and _worth_a_look(r, own, stats.get(r.name))]
        more = await self.show([name for name in worth if name not in details])
        return Looks(stats=stats, details={**details, **more}, unasked=unasked)

    async def show(self, names: Sequence[str]) -> dict[str, GroupDetail | None]:
        """What Azure says of groups; None where it says that there is none. What it did not tell is left out."""
        shown = await asyncio.gather(*(self._show(name) for name in names))
        return {n: d for n, d in zip(names, shown, strict=True) if d is None or isinstance(d, GroupDetail)}

    async def quotas(
        self,
        known: Sequence[Quota],
        managed: Managed,
        replicas: Sequence[Replica],
        own: Mapping[str, Group] | None,
        now: float,
    ) -> tuple[Quota, ...]:
        """What is known of the quotas of a service's regions, read anew where that is due. A pool's groups are counted
        by Azure before we claim them, so nothing is read where there is one, nor kept of the time before it."""
        if managed.template is None or managed.service.standby_pool is not None:
            return ()
        if own is None:
            return tuple(known)
        regions, found = managed.service.regions, {one.region: one for one in known}
        due = quota.due(known, regions, replicas, now)
        there = Counter(group.region for group in own.values())
        for region, lines in zip(due, await asyncio.gather(*(self._usage(region) for region in due)), strict=True):
            found[region] = quota.read(found.get(region), region, lines, there[region], managed.template.cpu, now)
        return tuple(found[region] for region in regions if region in found)

    async def _usage(self, region: str) -> Sequence[Usage] | None:
        """The quota of a region, asked for once in a pass; None where Azure did not say."""
        async with self._turns[region]:
            if region not in self._usages:
                self._usages[region] = None
                try:
                    async with asyncio.timeout(USAGE_LIMIT_S):
                        self._usages[region] = await self._world.fleet.usage(region)
                except (Unavailable, TimeoutError) as error:
                    told = str(error) or f"no answer within {USAGE_LIMIT_S:.0f} s"
                    log.warning("a quota could not be read", extra={"region": region, "error": told})
            return self._usages[region]

    async def _scrape(self, replica: Replica) -> Stats | object | None:
        if replica.silent_since is not None:
            async with self._silent:
                return await self._answer(replica)
        return await self._answer(replica)

    async def _answer(self, replica: Replica) -> Stats | object | None:
        async with self._scrapes:
            if self._late():
                return _UNASKED
            try:
                return await self._world.replicas.stats(replica)
            except Unavailable:
                return None

    async def _show(self, name: str) -> GroupDetail | object | None:
        async with self._shows:
            if self._late() or self._shows_left <= 0 or self._present() < self.show_at:
                return _UNASKED
            self._shows_left -= 1
            try:
                return await self._world.fleet.show(name)
            except Unavailable as error:
                if error.retry_after_s is not None:
                    self.show_at = retry_at(self._present(), error.retry_after_s)
                return _UNASKED

    def _late(self) -> bool:
        return asyncio.get_running_loop().time() >= self._until


class Listing(Struct, frozen=True, kw_only=True):
    """Our own groups as Azure lists them; None where it did not say. ``again_at``: no list before then, as it asked."""

    groups: Sequence[Group] | None
    again_at: float = 0.0


class Shared:
    """What services that are ticked together have in common: Azure's list, the looks at replicas, and what Azure still
    takes."""

    def __init__(self, looking: Looking, listing: Listing, allowance: Allowance) -> None:
        self.looking, self.listing, self.allowance = looking, listing, allowance
        self._own: defaultdict[str, dict[str, Group]] = defaultdict(dict)
        for group in listing.groups or ():
            self._own[group.tags.get("service", "")][group.name] = group

    def own(self, service: str) -> Mapping[str, Group] | None:
        """The groups of a service; None where Azure did not say."""
        return self._own[service] if self.listing.groups is not None else None


_UNASKED = object()


def _worth_a_look(replica: Replica, own: Mapping[str, Group] | None, stats: Stats | None) -> bool:
    """A silent replica whose group Azure calls settled, or failed, is worth a GET; one still being made is not. And one
    that is ready for the first time: its events tell how long each phase of its start took."""
    group = (own or {}).get(replica.name)
    if group is None or replica.phase in (Phase.INTENDED, Phase.DELETING):
        return False
    if stats is not None:
        return replica.ready_at is None and stats.phase == "ready"
    return group.provisioning_state not in ("Pending", "Creating")
