"""How many replicas the quotas of the regions have room for, read ahead of Azure's refusal. Pure.

A read tells what is used and what is the limit; with what we had there at that moment it becomes the most that a
service may have in the region, which holds until the next read, rows that come and go meanwhile included. Reads are
rare: a quota changes by a ticket, and what others use changes slowly; a region that looks full is read more often, so
that nobody waits long for room that is there again. A read that fails leaves everything as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from scaler.allowance import Allowance, Kind
from scaler.conditions import condition
from scaler.model import Condition, Phase, Replica
from scaler.observe import CLOCKS_APART_S
from scaler.plan import ACTIVE
from scaler.ports import Usage

GROUPS, CORES = "ContainerGroups", "StandardCores"
EVERY_S = 900.0
FULL_EVERY_S = 60.0


class Quota(Struct, frozen=True, kw_only=True):
    """What is known of a region. ``asked_at`` is when it was last asked for, answered or not; ``most`` counts this
    service's replicas (None: Azure never said); ``told`` is what it was made from."""

    region: str
    asked_at: float
    most: int | None = None
    told: str = ""


def due(known: Sequence[Quota], regions: Sequence[str], replicas: Sequence[Replica], now: float) -> list[str]:
    """The regions to ask for now."""
    by_region = {quota.region: quota for quota in known}

    def is_due(region: str) -> bool:
        if region not in by_region:
            return True
        every_s = FULL_EVERY_S if left(known, region, replicas) == 0 else EVERY_S
        return not -CLOCKS_APART_S <= now - by_region[region].asked_at < every_s

    return [region for region in regions if is_due(region)]


def read(before: Quota | None, region: str, lines: Sequence[Usage] | None, there: int, cpu: float, now: float) -> Quota:
    """What is known after asking: ``lines`` is the answer (None: there was none), ``there`` how many groups of the
    service the region has, and ``cpu`` the cores of one."""
    room = None if lines is None else has_room_for(lines, cpu)
    if room is None:
        return replace(before, asked_at=now) if before else Quota(region=region, asked_at=now)
    told = ", ".join(f"{line.name} {line.used:g} of {line.limit:g}" for line in lines or ())
    return Quota(region=region, asked_at=now, most=there + room, told=told)


def has_room_for(lines: Sequence[Usage], cpu: float) -> int | None:
    """How many more replicas a quota takes; None where it does not say."""
    free = {line.name: line.limit - line.used for line in lines}
    rooms = [free[GROUPS]] if GROUPS in free else []
    if CORES in free and cpu > 0:
        rooms.append(free[CORES] / cpu)
    return math.floor(max(0.0, min(rooms)) + 1e-9) if rooms else None


def left(known: Sequence[Quota], region: str, replicas: Sequence[Replica]) -> int | None:
    """How many more a region takes, intents counted among them: what drains and dies takes up room too. None: not
    known."""
    most = next((quota.most for quota in known if quota.region == region), None)
    taken = sum(r.region == region and r.phase is not Phase.INTENDED for r in replicas)
    return None if most is None else max(0, most - taken)


def ceiling(known: Sequence[Quota], regions: Sequence[str], replicas: Sequence[Replica]) -> int | None:
    """The most replicas that all regions together take, never less than there are; None where one did not say."""
    most = {quota.region: quota.most for quota in known}
    told = [most.get(region) for region in regions]
    if not told or None in told:
        return None
    return max(sum(filter(None, told)), sum(r.phase in ACTIVE for r in replicas))


class Room(Struct, frozen=True):
    """What each region takes now: by its quota, and by how many requests Azure takes in a while."""

    quotas: Sequence[Quota]
    allowance: Allowance

    def left(self, regions: Iterable[str], replicas: Sequence[Replica]) -> dict[tuple[Kind, str], int]:
        """How many creations and deletions each region takes."""
        found: dict[tuple[Kind, str], int] = {}
        for region in regions:
            creations = self.allowance.left("create", region)
            room = left(self.quotas, region, replicas)
            found["create", region] = creations if room is None else min(creations, room)
            found["delete", region] = self.allowance.left("delete", region)
        return found


def conditions(
    known: Sequence[Quota], regions: Sequence[str], limited_by: str | None, at: float
) -> Iterator[Condition]:
    """The quotas that keep a service from the replicas it wants."""
    if limited_by == "quota":
        yield from (
            condition(
                "quota", at, about=quota.region, said=f"room for {quota.most} replicas ({quota.told} were in use)"
            )
            for quota in known
            if quota.region in regions and quota.told
        )
