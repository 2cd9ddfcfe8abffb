"""The ports of one function instance: calls go out over the timeline, and may be lost there or on their way back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from scaler.errors import Unavailable
from scaler.foresight.history import Block, Span
from scaler.model import Front as FrontRow
from scaler.model import Group, GroupDetail, Phase, Pin, Replica, Stats
from scaler.ports import Changes, DecisionRow, DrawnRow, GroupRequest, RolloutRow, ServiceRow, Stored, Usage, outgoing
from tests.simulation.record import RECORD, TickRecord, service_of
from tests.simulation.timeline import run_now
from tests.simulation.weather import LIMITS_S, TABLE

if TYPE_CHECKING:
    from tests.simulation.history import History
    from tests.simulation.instances import Instance

T = TypeVar("T")
DRAINS = "save that begins a drain"


class Wire:
    """Carries calls of one instance to the world and back."""

    def __init__(self, instance: Instance, history: History) -> None:
        self._instance, self._history = instance, history
        self._timeline = history.timeline

    async def call(self, kind: str, effect: Callable[[], Awaitable[T]], about: str = "", step: str = "") -> T:
        """The answer, or ``Unavailable`` when none came in time; the effect may then have happened, or be to come.
        ``step`` is what it is for its instance, where that is more than its kind."""
        record = RECORD.get()
        await self._instance.step(step or kind, about)
        self._history.checks.sent(kind, about, record)
        await self._instance.frozen()
        service = _service_of(kind, about)
        self._history.checks.waited(about, self._waited_s(kind, service, record))
        fate = self._history.weather.fate(kind)
        answer: asyncio.Future[T] = self._instance.loop.create_future()
        trip_s = None if fate.there_s is None or fate.back_s is None else fate.there_s + fate.back_s

        def arrive() -> None:
            outcome = self._outcome(kind, effect, about, fate.error)
            if fate.back_s is not None:
                self._timeline.after(fate.back_s, lambda: self._deliver(answer, *outcome))

        if fate.there_s is not None:
            self._timeline.after(fate.there_s, arrive)
        if trip_s is None or trip_s > LIMITS_S[kind]:
            late = Unavailable(f"{kind}: no answer in time")
            self._timeline.after(LIMITS_S[kind], lambda: self._deliver(answer, None, late))
        try:
            with outgoing("table" if kind in TABLE else kind):
                value = await answer
        except Unavailable as error:
            record.failed_to(kind, about)
            self._history.checks.refused(kind, about, error, record)
            raise
        finally:
            record.comes(kind, service, self._instance.awake_s)
        record.heard(kind, about, value, self._timeline.now)
        return value

    def _waited_s(self, kind: str, service: str, record: TickRecord) -> float:
        """For how long the service of this call, or the first of many, had nothing under way and could go on."""
        awake_s = self._instance.awake_s
        return record.goes(kind, service, awake_s) if service else record.goes_shared(kind, awake_s, self._timeline.now)

    def _outcome(
        self, kind: str, effect: Callable[[], Awaitable[T]], about: str, error: Exception | None
    ) -> tuple[T | None, Exception | None]:
        told = (self._instance.name, kind, about)
        if error is not None:
            self._timeline.tell(*told, "→", error)
            return None, error
        try:
            value: T = run_now(effect())  # type: ignore[arg-type]
        except Exception as raised:  # whatever the world answers is the caller's to react to
            self._timeline.tell(*told, "→", type(raised).__name__, raised)
            return None, raised
        self._timeline.tell(*told)
        return value, None

    def _deliver(self, answer: asyncio.Future[T], value: T | None, error: Exception | None) -> None:
        def settle() -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)  # type: ignore[arg-type]

        self._instance.deliver(settle)


class WiredStore:
    """``ports.Store`` at the end of a wire."""

    def __init__(self, wire: Wire, instance: Instance, history: History) -> None:
        self._wire, self._instance, self._history = wire, instance, history
        self._store = history.world.store

    async def load(self, service: str) -> Stored:
        def effect() -> Awaitable[Stored]:
            self._history.front_of(service).write_row()
            return self._store.load(service)

        return await self._wire.call("load", effect, service)

    async def save(self, stored: Stored, row: ServiceRow, changes: Changes) -> Stored:
        record = RECORD.get()
        begun = any(r.phase is Phase.DRAINING and r.drain_since is None for r in changes.written)
        step = DRAINS if begun else "save"
        return await self._wire.call("save", lambda: self._save(stored, row, changes, record), stored.service, step)

    async def _save(self, stored: Stored, row: ServiceRow, changes: Changes, record: TickRecord) -> Stored:
        before = await self._store.load(stored.service)
        saved = await self._store.save(stored, row, changes)
        after = await self._store.load(stored.service)
        self._history.checks.saved(self._instance, before, after, record, alone=False)
        self._history.front_of(stored.service).heard(row.endpoints_version)
        return saved

    async def move(self, service: str, replica: Replica) -> Replica:
        record = RECORD.get()
        return await self._wire.call("move", lambda: self._move(service, replica, record), replica.name)

    async def _move(self, service: str, replica: Replica, record: TickRecord) -> Replica:
        before = await self._store.load(service)
        moved = await self._store.move(service, replica)
        after = await self._store.load(service)
        self._history.checks.saved(self._instance, before, after, record, alone=True)
        return moved

    async def record(self, row: DecisionRow) -> None:
        await self._wire.call("record", lambda: self._store.record(row), row.service)

    async def services(self) -> Sequence[str]:
        return await self._wire.call("services", self._store.services)

    async def decisions(
        self, service: str, *, since: float, until: float | None = None, limit: int = 100
    ) -> Sequence[DecisionRow]:
        read = lambda: self._store.decisions(service, since=since, until=until, limit=limit)  # noqa: E731
        return await self._wire.call("past", read, service)

    async def drawn(self, service: str, *, since: float, until: float) -> Sequence[DrawnRow]:
        return await self._wire.call("past", lambda: self._store.drawn(service, since=since, until=until), service)

    async def history(self, service: str, span: Span) -> Mapping[int, Block]:
        return await self._wire.call("past", lambda: self._store.history(service, span), service)

    async def past(self, service: str, *, first: int, last: int) -> Mapping[int, bytes]:
        return await self._wire.call("past", lambda: self._store.past(service, first=first, last=last), service)

    async def write_past(self, service: str, hour: int, data: bytes) -> None:
        await self._wire.call("past", lambda: self._store.write_past(service, hour, data), service)

    async def write_pin(self, service: str, pin: Pin, *, etag: str | None, create: bool = False) -> str:
        raise AssertionError("a tick writes no pin")

    async def remove_pin(self, service: str, *, etag: str | None) -> bool:
        raise AssertionError("a tick removes no pin")

    async def write_rollout(self, service: str, row: RolloutRow) -> RolloutRow:
        raise AssertionError("a tick writes the rollout with its save alone")

    async def write_front(self, service: str, front: FrontRow) -> None:
        raise AssertionError("a tick writes nothing of the front's")


class WiredFleet:
    """``ports.Fleet`` of one place at the end of a wire."""

    def __init__(self, wire: Wire, history: History, place: str) -> None:
        self._wire, self._azure, self._place = wire, history.azure, place

    async def list(self) -> Sequence[Group]:
        return await self._wire.call("list", lambda: self._azure.list(self._place), self._place)

    async def show(self, name: str) -> GroupDetail | None:
        return await self._wire.call("show", lambda: self._azure.show(name, self._place), name)

    async def create(self, request: GroupRequest) -> None:
        await self._wire.call("create", lambda: self._azure.create(request), request.name)

    async def delete(self, name: str) -> None:
        await self._wire.call("delete", lambda: self._azure.delete(name, self._place), name)

    async def usage(self, region: str) -> Sequence[Usage]:
        return await self._wire.call("usage", lambda: self._azure.usage(region), region)


class WiredReplicas:
    """``ports.Replicas`` at the end of a wire."""

    def __init__(self, wire: Wire, history: History) -> None:
        self._wire, self._azure = wire, history.azure

    async def stats(self, replica: Replica) -> Stats:
        return await self._wire.call("stats", lambda: self._azure.stats(replica), replica.name)

    async def drain(self, replica: Replica, *, draining: bool) -> None:
        record = RECORD.get()
        await self._wire.call("drain", lambda: self._azure.drain(replica, record, draining=draining), replica.name)


def _service_of(kind: str, about: str) -> str:
    """Whose call it is; empty for one that all share."""
    if kind in ("list", "services", "usage"):
        return ""
    return service_of(about)
