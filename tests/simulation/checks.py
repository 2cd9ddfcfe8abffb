"""What must hold always: each check looks at the world as it truly is, not as the tick under test believes it to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from scaler.config import Service
from scaler.errors import Unavailable
from scaler.model import Phase, Replica
from scaler.ports import GroupRequest, Stored
from scaler.tick.scaler import TickReport
from tests.simulation.azure import P99_OF_TYPICAL
from tests.simulation.counts import Save
from tests.simulation.patience import Patience
from tests.simulation.record import TickRecord, service_of
from tests.simulation.timeline import run_now
from tests.world import Held

if TYPE_CHECKING:
    from tests.simulation.history import History
    from tests.simulation.instances import Instance

ON_THE_WAY_S = 15.0  # a PUT that arrives later than this after it left is a late one
BLOCKED_S = 1.0
REFUSES = 8  # an order to serve again may be lost, or refused, now and then
LOAD_S = 10.0  # a tick dates what it sees by when it began, and looks so much later at most


class Sent(Struct):
    """A PUT that left: when, the max and surge that its tick planned by, and when that tick saved its plan."""

    at: float
    most: int
    planned_at: float


class Checks:
    """Looks on; the first thing that must not be ends the history."""

    def __init__(self, history: History) -> None:
        self._history, self._timeline = history, history.timeline
        self.violation = ""
        self._sent: dict[str, Sent] = {}
        self._most: dict[str, int] = {}  # service → the max and surge of its newest plan
        self._late: dict[str, float] = {}  # groups whose PUT arrived late → when a row knew of them
        self._drains_since: dict[str, float] = {}  # rows that drain, by true time
        self._heard_at: dict[str, float] = {}  # replica → when a tick that saved had an answer from it
        self._clocks: dict[str, tuple[float, float]] = {}  # row → how wrong the clocks were that it was written by
        self._terms: dict[str, Service] = {}  # rows that are to go → the settings by which that was decided
        self._refuses: dict[str, int] = {}  # row → how often in a row it was found draining on the list
        self.patience = Patience()
        self.counts: dict[str, int] = {}

    def violated(self, rule: str, what: str) -> None:
        if not self.violation:
            self.violation = f"{rule}: {what}"
            self._timeline.tell("VIOLATED", self.violation)
            self._timeline.stopped = True

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # -- calls

    def sent(self, kind: str, about: str, record: TickRecord) -> None:
        """A call is about to leave: all that may still come between is that its instance is frozen in this moment."""
        if kind == "create":
            service = service_of(about)
            self._sent[about] = Sent(self._timeline.now, record.most[service], record.saved_at[service])
            self._waits_for_region(self._row(service, about), record)
        if kind == "delete" and (early := self.patience.breaks_again(about, record, self._timeline.now)):
            self.violated("Retry-After is honoured", early)

    def refused(self, kind: str, about: str, error: Unavailable, record: TickRecord) -> None:
        """A call failed, or was answered with a refusal."""
        if kind in ("create", "delete"):
            self.patience.refused(about, error, record, self._timeline.now)

    def waited(self, about: str, seconds: float) -> None:
        """A service that could go on, the one of this call or one of many, had no call under way for so long."""
        if seconds > BLOCKED_S:
            self.violated(
                "a slow service blocks no other", f"{about or 'the list'} waited {seconds:.1f} s for nothing of its own"
            )

    def creates(self, request: GroupRequest) -> None:
        """A PUT arrives at Azure."""
        self.count("creates")
        if request.name in self._history.azure.fleet.held:
            self.violated("nothing is created twice", f"a PUT on {request.name}, which exists, restarts it")

    def created(self, held: Held) -> None:
        """It took effect. A late one is beyond the ceiling until a row knows of it, and may find no row at all."""
        service, name = held.tags["service"], held.name
        sent, row = self._sent[name], self._row(service, name)
        if self._timeline.now - sent.at + self._apart_s(name) > ON_THE_WAY_S:
            self._late[name] = float("inf")
            return self.count("creates that came late")
        if row is None:
            return self.violated("no group without a row", f"{name} is created, and no row knows it")
        counted = [h.name for h in self._history.azure.own(service) if self._late.get(h.name, 0.0) <= sent.planned_at]
        most = max(sent.most, self._most[service])  # by a newer plan there may be more beside it
        if len(counted) > most:
            self.violated("never above max and surge", f"{name} is one too many for {most}: {counted}")
        return None

    def deletes(self, name: str) -> None:
        """A DELETE arrives at Azure."""
        held = self._history.azure.fleet.held.get(name)
        if held is None or held.deleted_at is not None:
            return None
        self.count("deletes")
        if self._history.azure.is_foreign(name):
            return self.violated("nothing foreign is touched", f"{name} is deleted, with tags {held.tags}")
        row = self._row(held.tags["service"], name)
        if row is None or row.phase is not Phase.DELETING:
            return self.violated("a row says what is done", f"{name} is deleted while its row is {row and row.phase}")
        if held.server.in_flight or self._history.azure.on_the_way[name]:
            self._cut_off(held, row)
        return None

    def _cut_off(self, held: Held, row: Replica) -> None:
        """Requests are cut off by a delete: only after the drain deadline, or of who drained and was silent for long.
        Clocks that are apart shorten either by as much, if the row was written by them."""
        now, slack_s, terms = self._timeline.now, self._apart_s(held.name), self._terms[held.name]
        since = self._drains_since.get(held.name)
        if since is not None and now - since >= self._deadline_s(terms) - slack_s:
            return self.count("cut off by the drain deadline")
        silent_since = max(since or now, self._heard_at.get(held.name, 0.0)) - LOAD_S
        if now - silent_since >= terms.unhealthy_after_s - slack_s:
            return self.count("cut off unheard")
        drained = "never drained" if since is None else f"drained for {now - since:.1f} s"
        hand = f"{held.server.in_flight} in flight and {self._history.azure.on_the_way[held.name]} on their way"
        return self.violated("no request is dropped", f"{held.name} has {hand}, {drained}: {row.because}")

    def _deadline_s(self, terms: Service) -> float:
        """The soonest that a drain may be cut short: as set, or as learned from the p99 that every replica reports."""
        return min(terms.scale_in.drain_deadline_s, max(30.0, 10 * P99_OF_TYPICAL * self._history.typical_s))

    def drains(self, held: Held, record: TickRecord, *, draining: bool) -> None:
        """POST or DELETE /drain arrives at whoever has the address."""
        if self._history.azure.is_foreign(held.name):
            return self.violated("nothing foreign is touched", f"{held.name} is told to drain")
        service = held.tags["service"]
        row = self._row(service, held.name)
        if not draining or row is None or row.phase is not Phase.DRAINING or row.drain_version is None:
            return None
        waited_s = self._timeline.now - self._drains_since[held.name]
        half_s = self._deadline_s(record.config.services.get(service, Service())) / 2
        has_left = not self._history.has_front or self._history.front_of(service).version >= row.drain_version
        if not has_left and waited_s < half_s - self._apart_s(held.name, record):
            self.violated("out of the list before it drains", f"{held.name} after {waited_s:.0f} s")
        return None

    # -- rows

    def saved(self, instance: Instance, before: Stored, after: Stored, record: TickRecord, *, alone: bool) -> None:
        """Rows were written; ``alone``: one was moved, by an action."""
        save = Save(before=before, after=after, record=record, service=instance.config.services.get(after.service))
        for name in save.was.keys() | save.rows.keys():
            if save.was.get(name) != save.rows.get(name):
                self._moved(name, save)
                if alone:
                    self.patience.moved(save.was.get(name), save.rows.get(name), self._timeline.now)
        self.patience.saved(after.service, record)
        if alone:
            return
        record.saved_at[after.service] = self._timeline.now
        record.most[after.service] = self._most[after.service] = save.most
        for rule, what in save.wrongs():
            self.violated(rule, what)
        self._thrifty(save)
        self._takes_part(save)
        self._known(save)
        self._unheard_drain(save)
        self._heard_at |= {n: at for n, at in record.heard_at.items() if n in save.rows}

    def _moved(self, name: str, save: Save) -> None:
        was, row, record = save.was.get(name), save.rows.get(name), save.record
        low, high = self._clocks.get(name, (0.0, 0.0))
        self._clocks[name] = min(low, record.off_s), max(high, record.off_s)
        if row is not None and row.phase is Phase.DRAINING:
            self._drains_since.setdefault(name, self._timeline.now)
        elif row is None or row.phase is not Phase.DELETING:
            self._drains_since.pop(name, None)
        if row is not None and row.phase is Phase.DELETING and (was is None or was.phase is not Phase.DELETING):
            self._terms[name] = save.service or Service()
        if was is None and row is not None and row.phase is Phase.INTENDED:
            self._waits_for_region(row, record)
        self._one_way(name, was, row, save)
        if row is None:
            self._forgotten(name, record)

    def _waits_for_region(self, row: Replica | None, record: TickRecord) -> None:
        if row is not None and (early := self.patience.breaks_for(row, record, self._timeline.now)):
            self.violated("Retry-After is honoured", early)

    def _one_way(self, name: str, was: Replica | None, row: Replica | None, save: Save) -> None:
        """Ways that no row may go."""
        if was is None:
            if row is not None and row.phase is not Phase.INTENDED and name not in (save.record.listed or {}):
                self.violated("a row says what is done", f"{name} is {row.phase} from nothing")
        elif row is not None and was.phase is Phase.DELETING and row.phase is not Phase.DELETING:
            self.violated("deleting has no way back", f"{name} became {row.phase}")
        elif row is not None and was.phase is Phase.READY and row.phase is Phase.DELETING and not row.failure:
            self.violated("out of the list before it drains", f"{name} goes without a drain: {row.because}")

    def _forgotten(self, name: str, record: TickRecord) -> None:
        """A row is removed: only when its group is gone, as far as no PUT arrived since the tick looked that was late,
        or that wrong clocks made look late."""
        held = self._history.azure.fleet.held.get(name)
        late = name in self._late or self._apart_s(name, record) > ON_THE_WAY_S
        if held is not None and (held.created_at < record.began_at or not late):
            self.violated("no group without a row", f"the row of {name} is removed, and its group is there")

    def _known(self, save: Save) -> None:
        """What a list showed has a row by now: a group is above max, or unknown, for one list at most."""
        for name in save.rows.keys() & self._late.keys():
            self._late[name] = min(self._late[name], self._timeline.now)
        for name, group in (save.record.listed or {}).items():
            ours = group.tags.get("aci-autoscaler") == "d1" and group.tags.get("service") == save.after.service
            held = self._history.azure.fleet.held.get(name)
            there = held is not None and held.deleted_at is None
            told = ("show", name) not in save.record.failed and save.record.at >= save.memory.show_at
            if ours and there and told and name not in save.rows:
                self.violated("no group without a row", f"{name} was listed, and has no row after the save")

    def _thrifty(self, save: Save) -> None:
        """Nothing new once the budget is spent: by what Azure bills, where no clock ever was wrong."""
        budget = save.service.budget if save.service else None
        if budget is None or budget.daily is None or self._history.weather.steps or not save.new:
            return
        spent_h = self._history.azure.billed_s(save.after.service) / 3600.0
        if spent_h > budget.daily:
            self.violated("the budget caps", f"{save.new} after {spent_h:.2f} of {budget.daily:.2f} replica hours")

    def _takes_part(self, save: Save) -> None:
        """Who is on the list and says that it drains is told to serve again, within a few ticks."""
        for name, row in save.rows.items():
            stats = save.record.stats.get(name)
            if stats is None or row.phase is not Phase.READY or stats.phase != "draining":
                self._refuses.pop(name, None)
                continue
            self._refuses[name] = self._refuses.get(name, 0) + 1
            if self._refuses[name] > REFUSES:
                self.violated("who is listed serves", f"{name} drains on the list, found so {REFUSES} times")

    def _unheard_drain(self, save: Save) -> None:
        """Who drains for its silence was silent for long, while another of its service was heard."""
        for name, row in save.rows.items():
            was = save.was.get(name)
            if was is None or was.phase is not Phase.READY or row.phase is not Phase.DRAINING:
                continue
            if row.because == "scale-in":
                continue
            silent_s = self._timeline.now - self._heard_at.get(name, 0.0)
            least_s = (save.service or Service()).unhealthy_after_s - LOAD_S - self._apart_s(name, save.record)
            others = save.record.stats.keys() & save.was.keys() - {name}
            if name in save.record.stats or not others or silent_s < least_s:
                self.violated("no scale-in while blind", f"{name} drains, unheard for {silent_s:.0f} s: {row.because}")

    # -- ticks

    def ended(self, report: TickReport) -> None:
        self.count(f"ticks {report.outcome.partition(':')[0]}")

    def _row(self, service: str, name: str) -> Replica | None:
        return next((r for r in run_now(self._history.world.store.load(service)).replicas if r.name == name), None)

    def _apart_s(self, name: str, record: TickRecord | None = None) -> float:
        """How far apart the clocks were that this row was written, and is now judged, by."""
        low, high = self._clocks.get(name, (0.0, 0.0))
        off_s = record.off_s if record else 0.0
        return max(high, off_s) - min(low, off_s)
