"""Faults in what it takes for true, and what it makes of it: lists, silence, absence, the calendar, money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from scaler import budget, decide, measure, observe
from scaler.azure.places import Places, _placed
from scaler.errors import Unavailable
from scaler.model import Group, GroupDetail, Phase, Replica
from scaler.tick import scaler, service
from scaler.tick.looking import Listing, Looking, Shared
from scaler.tick.scaler import Scaler
from scaler.tick.service import ServiceTick
from tests.simulation.planting import Patch


def no_answer_means_gone() -> Patch:
    """A GET that fails is read as a group that does not exist."""

    def wrong(right: Any) -> Any:
        async def show(self: Looking, names: Sequence[str]) -> dict[str, GroupDetail | None]:
            return {**dict.fromkeys(names), **await right(self, names)}

        return show

    return Looking, "show", wrong


def absence_from_a_list_means_gone() -> Patch:
    """What a list leaves out is forgotten without a look."""

    def wrong(_: Any) -> Any:
        async def show(self: Looking, names: Sequence[str]) -> dict[str, GroupDetail | None]:
            return dict.fromkeys(names)

        return show

    return Looking, "show", wrong


def whatever_its_tag() -> Patch:
    """Groups are ours by service, whatever deployment they belong to."""

    def wrong(_: Any) -> Any:
        async def listed(self: Scaler, passes: Sequence[ServiceTick]) -> Sequence[Group] | None:
            try:
                return await self.world.fleet.list()
            except Unavailable:
                return None

        return listed

    return Scaler, "_list", wrong


def row_goes_first() -> Patch:
    """A row is forgotten once its group was asked to go, not once it is gone."""

    def wrong(right: Any) -> Any:
        def step(replica: Replica, *rest: Any) -> Replica | None:
            return None if replica.phase is Phase.DELETING else right(replica, *rest)

        return step

    return observe, "_step", wrong


def missing_is_zero() -> Patch:
    """Data that nobody gave are taken for fresh."""

    def wrong(_: Any) -> Any:
        return lambda *_: "fresh"

    return measure, "quality", wrong


def strays_are_left() -> Patch:
    """A group with our tags that no row knows is not looked at."""

    def wrong(right: Any) -> Any:
        async def look(self: ServiceTick, shared: Shared) -> Any:
            seen, signals = await right(self, shared)
            return replace(seen, replicas=tuple(r for r in seen.replicas if r.etag)), signals

        return look

    return ServiceTick, "_look", wrong


def future_is_believed() -> Patch:
    """Times of a clock that was ahead hold a row back until then."""

    def wrong(_: Any) -> Any:
        return lambda replica, _: replica

    return observe, "in_time", wrong


def slow_rows_hold_up_all() -> Patch:
    """Services whose rows are there wait for the row that is slowest to load."""
    return scaler, "TOGETHER_S", lambda _: 60.0


def failed_list_is_empty() -> Patch:
    """A list that failed is read as one without groups."""

    def wrong(right: Any) -> Any:
        async def listing(self: Scaler, passes: Sequence[ServiceTick], before: Listing | None, now: float) -> Listing:
            found: Listing = await right(self, passes, before, now)
            return found if found.groups is not None else Listing(groups=())

        return listing

    return Scaler, "_listing", wrong


def silent_is_dead() -> Patch:
    """Who is silent for long is deleted, not drained."""

    def wrong(right: Any) -> Any:
        def silent(replica: Replica, *rest: Any) -> Replica:
            after = right(replica, *rest)
            return replace(after, phase=Phase.DELETING) if after.phase is Phase.DRAINING else after  # type: ignore[no-any-return]

        return silent

    return observe, "_silent", wrong


def own_silence_counts() -> Patch:
    """Who hears nobody blames them all."""

    def wrong(_: Any) -> Any:
        def silent(replica: Replica, detail: Any, seen: observe.Seen, since: float) -> Replica:
            return replace(replica, phase=Phase.DRAINING, phase_at=seen.at, because="silent")

        return silent

    return observe, "_silent", wrong


def home_is_everywhere() -> Patch:
    """Groups of other resource groups are looked for at home."""

    def wrong(_: Any) -> Any:
        return lambda self, name: [self._fleets[""]]

    return Places, "_homes", wrong


def half_a_list_is_a_list() -> Patch:
    """Where one resource group does not answer, the others are taken for all there is."""

    def wrong(_: Any) -> Any:
        async def listed(self: Places) -> Sequence[Group]:
            found: list[Group] = []
            for place, fleet in self._fleets.items():
                try:
                    found += [_placed(group, place) for group in await fleet.list()]
                except Unavailable:
                    continue
            return found

        return listed

    return Places, "list", wrong


def open_all_night() -> Patch:
    """An off period does not close what requests keep busy."""

    def wrong(right: Any) -> Any:
        def calendar(trail: Any, policy: Any, period: Any, *rest: Any, **named: Any) -> None:
            right(trail, policy, replace(period, off=False, wakes=True), *rest, **named)

        return calendar

    return decide, "_calendar", wrong


def opens_on_the_dot() -> Patch:
    """A floor of the calendar is asked for when it begins, a cold start too late."""

    def wrong(_: Any) -> Any:
        return lambda *_: None

    return decide, "_floor_ahead", wrong


def pins_never_end() -> Patch:
    """A pin stays in force after its end."""

    def wrong(_: Any) -> Any:
        return lambda pin, at: pin

    return decide, "_pin_in_force", wrong


def money_is_no_object() -> Patch:
    """The budget caps nothing."""

    def wrong(_: Any) -> Any:
        return lambda *_: None

    return budget, "ceiling", wrong


def quota_of_none() -> Patch:
    """A region without room means that there may be no replica at all."""

    def wrong(right: Any) -> Any:
        def room(*args: Any) -> int | None:
            return None if right(*args) is None else 0

        return room

    return service, "room", wrong


def min_is_advice() -> Patch:
    """The floor counts only while somebody asks."""

    def wrong(_: Any) -> Any:
        return lambda *_, **__: None

    return decide, "_calendar", wrong


FAULTS = (
    no_answer_means_gone,
    absence_from_a_list_means_gone,
    whatever_its_tag,
    row_goes_first,
    missing_is_zero,
    strays_are_left,
    future_is_believed,
    slow_rows_hold_up_all,
    failed_list_is_empty,
    silent_is_dead,
    own_silence_counts,
    home_is_everywhere,
    half_a_list_is_a_list,
    open_all_night,
    opens_on_the_dot,
    pins_never_end,
    money_is_no_object,
    quota_of_none,
    min_is_advice,
)
