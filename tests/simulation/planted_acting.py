"""Faults in how it plans and acts: the fence, creates and deletes, drains, rollouts, the act deadline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from scaler import plan
from scaler.errors import Conflict, OutOfCapacity, Unavailable
from scaler.model import Action, Phase, Replica, Undrain
from scaler.tick import act, scaler
from scaler.tick.act import Actor
from scaler.tick.looking import Listing
from scaler.tick.scaler import Passed, Scaler
from scaler.tick.service import ServiceTick
from tests.memory_store import MemoryStore, _Row
from tests.simulation.planting import Patch


def no_fence() -> Patch:
    """ETags are ignored: a row that is there may be written, whoever wrote it last."""

    def wrong(_: Any) -> Any:
        def match(self: MemoryStore, rows: dict[str, _Row], key: str, etag: str | None) -> None:
            if (key in rows) != (etag is not None):
                raise Conflict(key)

        return match

    return MemoryStore, "_match", wrong


def delete_before_drain() -> Patch:
    """What is not needed is deleted instead of drained."""

    def wrong(right: Any) -> Any:
        def to(replica: Replica, phase: Phase, *rest: Any, **changes: Any) -> Replica:
            return right(replica, Phase.DELETING if phase is Phase.DRAINING else phase, *rest, **changes)  # type: ignore[no-any-return]

        return to

    return plan, "_to", wrong


def new_name_on_retry() -> Patch:
    """A PUT without an answer is sent again, under another name."""

    def wrong(right: Any) -> Any:
        async def create(self: Actor, replica: Replica) -> None:
            try:
                await right(self, replica)
            except OutOfCapacity:
                raise
            except Unavailable:
                await self._ask_for(replace(replica, name=self._world.mint(self._making.service)))

        return create

    return Actor, "_create", wrong


def stale_intent() -> Patch:
    """A create does not move its row first: who slept since the save acts on an intent that may be none any more."""

    def wrong(_: Any) -> Any:
        async def create(self: Actor, replica: Replica) -> None:
            await self._ask_for(replica)

        return create

    return Actor, "_create", wrong


def starting_is_absent() -> Patch:
    """Only who is ready counts: what starts is asked for again."""

    def wrong(right: Any) -> Any:
        def wanted(desired: int, rows: list[Replica], *rest: Any, **named: Any) -> list[str]:
            return right(desired, [r for r in rows if r.phase is Phase.READY], *rest, **named)  # type: ignore[no-any-return]

        return wanted

    return plan, "_wanted", wrong


def undrains_what_is_deleted() -> Patch:
    """A replica that is being deleted is taken back when load returns."""

    def wrong(right: Any) -> Any:
        def taken_back(wanted: Sequence[str], rows: list[Replica], *rest: Any) -> list[Replica]:
            gone = (r for r in rows if r.phase is Phase.DELETING and r.template in wanted)
            return [*right(wanted, rows, *rest), *gone][: len(wanted)]

        return taken_back

    return plan, "_taken_back", wrong


def one_above_max() -> Patch:
    """One of the rows does not count against max."""

    def wrong(right: Any) -> Any:
        def room(rows: int, rules: plan.Rules, *, rolling: bool) -> int:
            return right(rows - 1, rules, rolling=rolling)  # type: ignore[no-any-return]

        return room

    return plan, "_room", wrong


def busy_is_idle() -> Patch:
    """A draining replica is deleted although it still has something in hand."""

    def wrong(right: Any) -> Any:
        def drained(replica: Replica, sight: plan.Sight, *rest: Any) -> Replica:
            stats = {name: replace(s, in_flight=0, queued=0) for name, s in sight.stats.items()}
            return right(replica, replace(sight, stats=stats), *rest)  # type: ignore[no-any-return]

        return drained

    return plan, "_drained", wrong


def drains_while_listed() -> Patch:
    """A replica is told to drain while the front still sends to it."""

    def wrong(_: Any) -> Any:
        return lambda *_: True

    return plan, "_has_left", wrong


def busiest_first() -> Patch:
    """Scale-in takes the busiest replica."""

    def wrong(right: Any) -> Any:
        def usefulness(*values: Any) -> tuple[float, ...]:
            *before, load, born = right(*values)
            return (*before, -load, born)

        return usefulness

    return plan, "_usefulness", wrong


def deadline_by_plan() -> Patch:
    """The drain deadline counts from when the drain was planned, not from when a tick found it begun."""

    def wrong(_: Any) -> Any:
        return lambda replica, sight: replica.phase_at

    return plan, "_drains_since", wrong


def deadline_by_intent() -> Patch:
    """The drain deadline counts from when the replica was intended."""

    def wrong(_: Any) -> Any:
        return lambda replica, sight: replica.intended_at

    return plan, "_drains_since", wrong


def acts_after_a_pause() -> Patch:
    """Actions have no deadline: who was held up carries them out whenever it goes on."""
    return act, "ACT_DEADLINE_S", lambda _: 1e9


def delete_overtakes_the_put() -> Patch:
    """Who is asked for this moment is given up at once when it is not needed."""
    return plan, "TURN_S", lambda _: 0.0


def conflict_is_nothing() -> Patch:
    """A create whose row another tick changed is sent all the same."""

    def wrong(right: Any) -> Any:
        async def create(self: Actor, replica: Replica) -> None:
            try:
                await right(self, replica)
            except Conflict:
                await self._ask_for(replica)

        return create

    return Actor, "_create", wrong


def ignores_retry_after() -> Patch:
    """Azure's Retry-After is not kept: the own back-off alone says when to try again."""

    def wrong(_: Any) -> Any:
        return lambda now, wait_s: now

    return act, "retry_at", wrong


def what_leaves_is_absent() -> Patch:
    """What drains or is deleted does not count against max."""

    def wrong(right: Any) -> Any:
        def room(rows: int, rules: plan.Rules, *, rolling: bool) -> int:
            return right(0, rules, rolling=rolling)  # type: ignore[no-any-return]

        return room

    return plan, "_room", wrong


def surge_always() -> Patch:
    """The surge is there without a rollout, too."""

    def wrong(_: Any) -> Any:
        return lambda rules, *, rolling: rules.max + rules.surge + 1

    return plan, "_ceiling", wrong


def old_ones_go_at_once() -> Patch:
    """A rollout takes the old replicas away before the new ones are ready."""

    def wrong(_: Any) -> Any:
        return lambda candidates, number, spare: candidates[: max(0, number)]

    return plan, "_keeping_ready", wrong


def asks_once() -> Patch:
    """A group that is still there after its delete is not asked to go again."""
    return plan, "DELETE_AGAIN_S", lambda _: 1e12


def removed_services_are_left() -> Patch:
    """What is taken out of the settings is not looked at any more."""

    def wrong(_: Any) -> Any:
        async def sweep(self: Scaler, listing: Listing, *rest: Any) -> Passed:
            return Passed([], listing, [])

        return sweep

    return Scaler, "_sweep", wrong


def undrain_is_not_told() -> Patch:
    """A replica that is taken back is not told so: it goes on draining, on the list."""

    def wrong(right: Any) -> Any:
        def actions(*args: Any) -> list[Action]:
            return [a for a in right(*args) if not isinstance(a, Undrain)]

        return actions

    return plan, "_actions", wrong


def list_has_no_versions() -> Patch:
    """The endpoint list changes under a version that the front has already."""

    def wrong(_: Any) -> Any:
        return lambda replica, sight: True

    return plan, "_is_unlisted", wrong


def one_after_another() -> Patch:
    """Services take turns: each waits for the one before to be done."""
    return scaler, "SERVICES_AT_ONCE", lambda _: 1


def pool_or_nothing() -> Patch:
    """A standby pool that has nothing to give is asked again and again."""

    def wrong(right: Any) -> Any:
        def making(self: ServiceTick, backoff: Any) -> Any:
            return replace(right(self, backoff), pool=self.managed.service.standby_pool)

        return making

    return ServiceTick, "_making", wrong


FAULTS = (
    no_fence,
    delete_before_drain,
    new_name_on_retry,
    stale_intent,
    starting_is_absent,
    undrains_what_is_deleted,
    one_above_max,
    busy_is_idle,
    drains_while_listed,
    busiest_first,
    deadline_by_plan,
    deadline_by_intent,
    acts_after_a_pause,
    delete_overtakes_the_put,
    conflict_is_nothing,
    ignores_retry_after,
    what_leaves_is_absent,
    surge_always,
    old_ones_go_at_once,
    asks_once,
    removed_services_are_left,
    undrain_is_not_told,
    list_has_no_versions,
    one_after_another,
    pool_or_nothing,
)
