"""What one tick went by and was answered: the checks judge it by what it could know."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

from msgspec import Struct, field

from scaler.config import Config
from scaler.model import Front, Group, Pin, Stats
from scaler.ports import Stored
from scaler.tick.scaler import TICK_LIMIT_S


class TickRecord(Struct):
    """``off_s`` is how wrong its clock is; it keeps the clock that it began with, for it reckons on by a stopwatch."""

    began_at: float
    off_s: float
    config: Config
    places: tuple[str, ...] = ("",)
    pins: dict[str, Pin | None] = field(default_factory=dict)
    fronts: dict[str, Front | None] = field(default_factory=dict)
    lists: dict[str, Sequence[Group]] = field(default_factory=dict)  # by place
    stats: dict[str, Stats] = field(default_factory=dict)
    heard_at: dict[str, float] = field(default_factory=dict)  # replica → when it answered
    failed: set[tuple[str, str]] = field(default_factory=set)
    saved_at: dict[str, float] = field(default_factory=dict)  # by service
    most: dict[str, int] = field(default_factory=dict)  # max and surge that it planned by, by service
    out: dict[str, int] = field(default_factory=dict)  # calls under way, by service, or by kind where many share them
    waits_since: dict[str, float] = field(default_factory=dict)  # service → awake time when its last call ended
    loaded: set[str] = field(default_factory=set)  # services whose rows are there, and that did nothing with them yet
    shared_at: float = 0.0  # awake time when the last of the calls ended that many services wait for: lists

    @property
    def at(self) -> float:
        """When it began, by its own clock."""
        return self.began_at + self.off_s

    @property
    def listed(self) -> dict[str, Group] | None:
        """What Azure has, by name; None where one of the lists failed."""
        if len(self.lists) < len(self.places):
            return None
        return {g.name: g for groups in self.lists.values() for g in groups}

    def goes(self, kind: str, service: str, awake: float) -> float:
        """A call of a service goes out; gives for how long none had, though every list was there."""
        waited_s = 0.0 if self.out.get(service) else self._waited_s(service, awake)
        if kind != "past":
            self.loaded.discard(service)
        self.out[service] = self.out.get(service, 0) + 1
        return waited_s

    def goes_shared(self, kind: str, awake: float, now: float) -> float:
        """A call for many goes out; gives for how long the first of those had waited whose rows are there."""
        self.out[kind] = self.out.get(kind, 0) + 1
        if now - self.began_at > TICK_LIMIT_S:
            return 0.0  # the tick is too late to begin with them: their turn is the next
        idle = (s for s in self.loaded if not self.out.get(s))
        return max((self._waited_s(s, awake) for s in idle), default=0.0)

    def _waited_s(self, service: str, awake: float) -> float:
        if self.out.get("usage"):
            return 0.0  # for whom it is, is not known
        return awake - max(self.waits_since.get(service, awake), self.shared_at)

    def comes(self, kind: str, service: str, awake: float) -> None:
        """A call of a service ended, or one that many share (empty)."""
        self.out[service or kind] -= 1
        if service:
            self.waits_since[service] = awake
        else:
            self.shared_at = awake

    def heard(self, kind: str, about: str, value: object, now: float) -> None:
        if kind == "list":
            self.lists[about] = value  # type: ignore[assignment]
        elif kind == "stats":
            assert isinstance(value, Stats)
            self.stats[about], self.heard_at[about] = value, now
        elif kind == "load":
            assert isinstance(value, Stored)
            self.pins[about], self.fronts[about] = value.pin, value.front
            self.loaded.add(about)

    def failed_to(self, kind: str, about: str) -> None:
        self.failed.add((kind, about))
        if kind == "past":
            self.loaded.discard(about)


def service_of(about: str) -> str:
    """Whose replica this is, or the service itself."""
    return about.rpartition("-")[0] or about


RECORD: ContextVar[TickRecord] = ContextVar("record")
