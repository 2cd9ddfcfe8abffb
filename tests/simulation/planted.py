"""Faults put into the production code on purpose, each small; a history in which one is at work must not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from scaler import measure, observe, plan
from scaler.errors import Conflict, OutOfCapacity, Unavailable
from scaler.model import Group, GroupDetail, Phase, Replica
from scaler.tick.act import Actor
from scaler.tick.looking import Looking, Shared
from scaler.tick.scaler import Scaler
from scaler.tick.service import ServiceTick
from tests.memory_store import MemoryStore, _Row
from tests.simulation.history import Outcome, run

Patch = tuple[object, str, Callable[[Any], Any]]  # where, what, and from the right code the wrong one


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


FAULTS = (
    no_fence,
    delete_before_drain,
    new_name_on_retry,
    no_answer_means_gone,
    absence_from_a_list_means_gone,
    stale_intent,
    starting_is_absent,
    whatever_its_tag,
    row_goes_first,
    missing_is_zero,
    undrains_what_is_deleted,
    one_above_max,
    busy_is_idle,
    drains_while_listed,
    busiest_first,
    strays_are_left,
    future_is_believed,
)


@contextmanager
def planted(fault: Callable[[], Patch]) -> Iterator[None]:
    """Within it, the fault is at work."""
    where, what, wrong = fault()
    right = vars(where)[what]
    setattr(where, what, wrong(right))
    try:
        yield
    finally:
        setattr(where, what, right)


def caught(fault: Callable[[], Patch], seeds: Iterable[int]) -> Outcome | None:
    """The first of these histories that does not hold with the fault at work."""
    with planted(fault):
        return next((outcome for seed in seeds if (outcome := run(seed)).violation), None)
