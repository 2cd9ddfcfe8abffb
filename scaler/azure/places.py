"""Container groups in several resource groups, of several subscriptions where need be: one ``ports.Fleet`` over many.

Quotas are per region and subscription, so more than 100 replicas in a region need another subscription. A region is
then written ``northeurope@second``, where ``second`` is a place that AUTOSCALER_PLACES names.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from scaler.errors import Refused
from scaler.model import Group, GroupDetail
from scaler.ports import Fleet, GroupRequest, Usage

LISTS_AT_ONCE = 16


class Places:
    """``ports.Fleet`` over one resource group for each place; the empty name is the one at home."""

    def __init__(self, fleets: Mapping[str, Fleet]) -> None:
        self._fleets = fleets
        self._where: dict[str, str] = {}  # group → place, as last listed or created here

    async def list(self) -> Sequence[Group]:
        """All of them, or ``Unavailable``: with one list missing, nothing could be concluded from absence."""
        gate = asyncio.Semaphore(LISTS_AT_ONCE)

        async def one(place: str) -> Sequence[Group]:
            async with gate:
                return [_placed(group, place) for group in await self._fleets[place].list()]

        lists = await asyncio.gather(*(one(place) for place in self._fleets))
        self._where = {g.name: place for place, groups in zip(self._fleets, lists, strict=True) for g in groups}
        return [group for groups in lists for group in groups]

    async def show(self, name: str) -> GroupDetail | None:
        shown = await asyncio.gather(*(fleet.show(name) for fleet in self._homes(name)))
        return next((detail for detail in shown if detail is not None), None)

    async def create(self, request: GroupRequest) -> None:
        if request.place not in self._fleets:
            raise Refused(f"there is no place {request.place!r}", code="PlaceLost")
        self._where[request.name] = request.place
        await self._fleets[request.place].create(request)

    async def delete(self, name: str) -> None:
        await asyncio.gather(*(fleet.delete(name) for fleet in self._homes(name)))

    async def usage(self, region: str) -> Sequence[Usage]:
        name, _, place = region.partition("@")
        return await self._fleets[place].usage(name)

    def _homes(self, name: str) -> builtins.list[Fleet]:
        """Where a group is; every place, where that is not known: an instance that listed nothing yet."""
        place = self._where.get(name)
        return [self._fleets[place]] if place is not None else builtins.list(self._fleets.values())


def _placed(group: Group, place: str) -> Group:
    return replace(group, region=f"{group.region}@{place}") if place else group
