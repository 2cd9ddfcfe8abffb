"""What must hold always: each check looks at the world as it truly is, not as the tick under test believes it to be."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from scaler import rollout
from scaler.config import Service
from scaler.memory import Memory
from scaler.model import Decision, Group, GroupDetail, Phase, Pin, Replica, Stats
from scaler.ports import GroupRequest, Stored
from scaler.tick.scaler import TickReport
from tests.simulation.azure import P99_OF_TYPICAL
from tests.simulation.timeline import run_now
from tests.world import Held

if TYPE_CHECKING:
    from tests.simulation.history import History
    from tests.simulation.instances import Instance

COMMANDS = ("off", "pin", "schedule_max", "quota", "max", "removed")  # rules that may lower a count unseen
ACTIVE = (Phase.INTENDED, Phase.CREATING, Phase.STARTING, Phase.READY)
SAVE_S = 10.0  # from a plan to its rows in the table, at most
ON_TIME_S = 35.0  # a PUT that arrives later than this after it was sent is a late one


class TickRecord(Struct):
    """What one tick was answered."""

    began_at: float
    pins: dict[str, Pin | None] = field(default_factory=dict)
    listed: dict[str, Group] | None = None
    stats: dict[str, Stats] = field(default_factory=dict)
    shown: dict[str, GroupDetail | None] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def heard(self, kind: str, about: str, value: object) -> None:
        if kind == "list":
            self.listed = {g.name: g for g in value}  # type: ignore[attr-defined]
        elif kind == "stats":
            assert isinstance(value, Stats)
            self.stats[about] = value
        elif kind == "load":
            assert isinstance(value, Stored)
            self.pins[about] = value.pin
        elif kind == "show":
            self.shown[about] = value  # type: ignore[assignment]


RECORD: ContextVar[TickRecord] = ContextVar("record")


class Checks:
    """Looks on; the first thing that must not be ends the history."""

    def __init__(self, history: History) -> None:
        self._history, self._timeline = history, history.timeline
        self.violation = ""
        self._sent_at: dict[str, float] = {}  # create → when it was first sent
        self.late: set[str] = set()  # groups whose PUT arrived after its row was given up, or nearly
        self._drains_since: dict[str, float] = {}  # rows that drain, by true time
        self._heard_at: dict[str, float] = {}  # replica → when any tick last had an answer from it
        self.counts: dict[str, int] = {}

    def violated(self, rule: str, what: str) -> None:
        if not self.violation:
            self.violation = f"{rule}: {what}"
            self._timeline.tell("VIOLATED", self.violation)
            self._timeline.stopped = True

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # -- calls

    def sent(self, kind: str, about: str) -> None:
        if kind == "create":
            self._sent_at.setdefault(about, self._timeline.now)

    def answered(self, kind: str, about: str) -> None:
        if kind == "stats":
            self._heard_at[about] = self._timeline.now

    def creates(self, request: GroupRequest) -> None:
        """A PUT arrives at Azure."""
        self.count("creates")
        held = self._history.azure.fleet.held.get(request.name)
        if held is not None:
            self.violated("nothing is created twice", f"a PUT on {request.name}, which exists, restarts it")

    def created(self, held: Held) -> None:
        service, name = held.tags["service"], held.name
        rows = {r.name: r for r in self._rows(service)}
        row = rows.get(name)
        in_time = self._timeline.now - self._sent_at.get(name, 0.0) <= ON_TIME_S
        if row is None or row.phase is not Phase.CREATING:
            if in_time and row is None and self._history.clocks_off_s < ON_TIME_S:
                self.violated("no group without a row", f"{name} is created, and no row knows it")
            self.late.add(name)
            return
        if not in_time:
            self.late.add(name)
            return
        most = self._most(service, rows)
        groups = [h.name for h in self._history.azure.own(service) if h.name not in self.late]
        if len(groups) > most:
            self.violated("never above max and surge", f"{name} is one too many for {most}: {groups}")

    def _most(self, service: str, rows: dict[str, Replica]) -> int:
        """Of all settings that an instance may act by."""
        rolling = len({r.template for r in rows.values()}) > 1
        rolling |= _rolling({}, rows, run_now(self._history.world.store.load(service)))
        known = [s for i in self._history.instances if (s := i.config.services.get(service)) is not None]
        return max(s.replicas.max + (s.rollout.surge if rolling else 0) for s in known)

    def deletes(self, name: str) -> None:
        """A DELETE arrives at Azure."""
        held = self._history.azure.fleet.held.get(name)
        if held is None or held.deleted_at is not None:
            return None
        self.count("deletes")
        if self._history.azure.is_foreign(name):
            return self.violated("nothing foreign is touched", f"{name} is deleted, with tags {held.tags}")
        row = next((r for r in self._rows(held.tags["service"]) if r.name == name), None)
        if row is None or row.phase is not Phase.DELETING:
            return self.violated("a row says what is done", f"{name} is deleted while its row is {row and row.phase}")
        if held.server.in_flight:
            self._drops(held, row)
        return None

    def _drops(self, held: Held, row: Replica) -> None:
        """Requests are cut off by a delete: only after the drain deadline, or of who was silent for too long."""
        now, slack = self._timeline.now, self._history.clocks_off_s + SAVE_S
        service = self._history.operators.ever[held.tags["service"]]
        since = self._drains_since.get(held.name)
        deadline_s = self._deadline_s(held)
        if since is not None and now - since >= deadline_s - slack:
            return self.count("cut off by the drain deadline")
        silent_s = now - self._heard_at.get(held.name, 0.0)
        if silent_s >= service.unhealthy_after_s - slack:
            return self.count("cut off unheard")
        drained = "never drained" if since is None else f"drained for {now - since:.0f} s"
        return self.violated(
            "no request is dropped", f"{held.name} has {held.server.in_flight} in flight, {drained}: {row.because}"
        )

    def _deadline_s(self, held: Held) -> float:
        """The soonest that a drain may be cut short: as configured, by default where the service was removed, or
        learned from the p99 that every replica reports."""
        configured_s = self._history.operators.ever[held.tags["service"]].scale_in.drain_deadline_s
        learned_s = max(30.0, 10 * P99_OF_TYPICAL * self._history.typical_s)
        return min(configured_s, Service().scale_in.drain_deadline_s, learned_s)

    def drains(self, held: Held, *, draining: bool) -> None:
        """POST or DELETE /drain arrives at whoever has the address."""
        if self._history.azure.is_foreign(held.name):
            return self.violated("nothing foreign is touched", f"{held.name} is told to drain")
        row = next((r for r in self._rows(held.tags["service"]) if r.name == held.name), None)
        if not draining or row is None or row.phase is not Phase.DRAINING or row.drain_version is None:
            return None
        front = self._history.front_of(held.tags["service"])
        waited_s = self._timeline.now - self._drains_since[held.name]
        half_s = self._deadline_s(held) / 2 - self._history.clocks_off_s - SAVE_S
        if self._history.has_front and front.version < row.drain_version and waited_s < half_s:
            self.violated("out of the list before it drains", f"{held.name} after {waited_s:.0f} s")
        return None

    # -- rows

    def saved(self, instance: Instance, before: Stored, after: Stored, record: TickRecord, *, alone: bool) -> None:
        """Rows were written; ``alone``: one was moved, by an action."""
        was, rows = {r.name: r for r in before.replicas}, {r.name: r for r in after.replicas}
        for name in was.keys() | rows.keys():
            if was.get(name) != rows.get(name):
                self._moved(was.get(name), rows.get(name), record)
        if alone:
            return
        if (service := instance.config.services.get(after.service)) is not None:
            assert after.row is not None
            rolling = _rolling(was, rows, after)
            self._ceiling(was, rows, after.row.desired, service, rolling=rolling)
            self._floor(was, rows, after, service, record, rolling=rolling)
        self._order(was, rows, record)
        self._blind(before, after, record)
        self._known(after, record)

    def _moved(self, was: Replica | None, row: Replica | None, record: TickRecord) -> None:
        name = (was or row).name  # type: ignore[union-attr]
        if row is None or row.phase is not Phase.DRAINING:
            if row is None or row.phase is Phase.READY:
                self._drains_since.pop(name, None)
        else:
            self._drains_since.setdefault(name, self._timeline.now)
        if was is not None and was.phase is Phase.DELETING and row is not None and row.phase is not Phase.DELETING:
            self.violated("deleting has no way back", f"{name} became {row.phase}")
        if row is None:
            held = self._history.azure.fleet.held.get(name)
            if held is not None and held.deleted_at is None and held.created_at < record.began_at:
                self.violated("no group without a row", f"the row of {name} is removed, and its group is there")

    def _ceiling(
        self, was: dict[str, Replica], rows: dict[str, Replica], desired: int, service: Service, *, rolling: bool
    ) -> None:
        new = [n for n, r in rows.items() if n not in was and r.phase is Phase.INTENDED]
        most = service.replicas.max + (service.rollout.surge if rolling else 0)
        if new and len(rows) > most:
            phases = sorted(str(r.phase) for r in rows.values())
            self.violated("never above max and surge", f"{len(rows)} rows for {most}: {phases}")
        active = sum(r.phase in ACTIVE for r in rows.values())
        most = desired + (max(1, service.rollout.surge) if rolling else 0)
        if new and active > most:
            self.violated("no more is asked for than desired", f"{active} with {new}, desired are {desired}")

    def _floor(
        self,
        was: dict[str, Replica],
        rows: dict[str, Replica],
        after: Stored,
        service: Service,
        record: TickRecord,
        *,
        rolling: bool,
    ) -> None:
        assert after.row is not None
        desired = after.row.desired
        least = service.replicas.min
        if desired < least and record.pins.get(after.service) is None and not _is_commanded(_decision(after)):
            self.violated("never below min", f"desired is {desired}, min is {least}")
        drained = _scaled_in(was, rows)
        ready = sum(r.phase is Phase.READY for r in rows.values())
        if drained and ready < desired - (1 if rolling and service.rollout.surge == 0 else 0):
            self.violated("never below desired by our own act", f"{drained} drain, {ready} ready are left of {desired}")

    def _order(self, was: dict[str, Replica], rows: dict[str, Replica], record: TickRecord) -> None:
        """The least busy go first, of replicas of one version."""
        drained = _scaled_in(was, rows)
        stay = [n for n, r in was.items() if r.phase is Phase.READY and _is(rows.get(n), Phase.READY)]
        for name in drained:
            for other in stay:
                mine, theirs = record.stats.get(name), record.stats.get(other)
                if mine is None or theirs is None or was[name].template != was[other].template:
                    continue
                if mine.in_flight > theirs.in_flight and mine.phase == theirs.phase:
                    self.violated("least in flight first", f"{name} drains, {other} is less busy")

    def _blind(self, before: Stored, after: Stored, record: TickRecord) -> None:
        if before.row is None or after.row is None or after.row.desired >= before.row.desired:
            return
        serving = [r.name for r in before.replicas if r.phase in (Phase.READY, Phase.DRAINING)]
        unheard = [n for n in serving if n not in record.stats and not (record.listed and n not in record.listed)]
        if unheard and all(_is(_row(after, n), Phase.READY, Phase.DRAINING) for n in unheard):
            decision = _decision(after)
            if not _is_commanded(decision):
                self.violated(
                    "no scale-in while blind",
                    f"{before.row.desired} to {after.row.desired} with no answer from {unheard}: {decision.because}",
                )

    def _known(self, after: Stored, record: TickRecord) -> None:
        """What a list showed has a row by now: a group is above max, or unknown, for one list at most."""
        rows = {r.name for r in after.replicas}
        for name, group in (record.listed or {}).items():
            ours = group.tags.get("aci-autoscaler") == "d1" and group.tags.get("service") == after.service
            held = self._history.azure.fleet.held.get(name)
            there = held is not None and held.deleted_at is None
            if ours and there and name not in rows and ("show", name) not in record.failed:
                self.violated("no group without a row", f"{name} was listed, and has no row after the save")

    # -- ticks

    def ended(self, report: TickReport) -> None:
        self.count(f"ticks {report.outcome.partition(':')[0]}")

    def _rows(self, service: str) -> tuple[Replica, ...]:
        return run_now(self._history.world.store.load(service)).replicas


def _is(replica: Replica | None, *phases: Phase) -> bool:
    return replica is not None and replica.phase in phases


def _scaled_in(was: dict[str, Replica], rows: dict[str, Replica]) -> list[str]:
    """Replicas that leave because they are not needed."""
    left = (rows[n] for n, r in was.items() if r.phase is Phase.READY and _is(rows.get(n), Phase.DRAINING))
    return [r.name for r in left if r.because == "scale-in"]


def _row(stored: Stored, name: str) -> Replica | None:
    return next((r for r in stored.replicas if r.name == name), None)


def _rolling(was: dict[str, Replica], rows: dict[str, Replica], after: Stored) -> bool:
    """Whether replicas of another version than the one that should run are about, or just were."""
    rolled = rollout.read(after.rollout.data if after.rollout else None)
    return rolled is not None and any(r.template != rolled.target for r in (*was.values(), *rows.values()))


def _is_commanded(decision: Decision) -> bool:
    """Whether a rule that may lower a count unseen had a part in it."""
    return decision.limited_by in COMMANDS or any(step.name in COMMANDS for step in decision.steps)


def _decision(stored: Stored) -> Decision:
    assert stored.row is not None
    decision = msgspec.msgpack.decode(stored.row.memory, type=Memory).decision
    assert decision is not None
    return decision
