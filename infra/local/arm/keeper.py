"""Keeps the model and the real processes together: every request, every moment, every process that ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from infra.local.arm.arm import Arm
from infra.local.arm.faults import Fault
from infra.local.arm.groups import Groups
from infra.local.arm.http import Answer, Request
from infra.local.arm.images import Program, launch
from infra.local.arm.life import UNKNOWN_EXIT
from infra.local.arm.measure import Measure
from infra.local.arm.processes import Processes
from infra.local.arm.state import End, Group, Key, Start
from infra.local.arm.store import Memory, Store

MOST_LOG_BYTES = 4 * 1024 * 1024
LONGEST_SLEEP_S = 3600.0
SAMPLE_S = 2.0


class Keeper:
    """Drives one ``Arm``. Everything runs on the event loop, one thing at a time."""

    def __init__(
        self,
        arm: Arm,
        store: Store,
        images: dict[str, Program],
        *,
        root: Path,
        grace_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.arm = arm
        self._store = store
        self._images = images
        self._clock = clock
        self._processes = Processes(store.folder, root, grace_s, self._exited)
        self._measure = Measure(arm.series)
        self._waiting: list[Start] = []
        self._wake: asyncio.TimerHandle | None = None

    @property
    def groups(self) -> Groups:
        return self.arm.groups

    def open(self) -> None:
        """Go on where the last stand-in ended: its groups, and those of their processes that still run."""
        memory = self._store.load()
        self.groups.restore(memory.kept)
        for name, window in memory.windows.items():
            window.per_hour = self.groups.limits.changes_per_hour
            window.per_5_minutes = self.groups.limits.changes_per_5_minutes
            self.arm.meters.windows[name] = window
        runs = {c.run: owner(g.key, c.name) for g in self.groups.every() for c in g.containers if c.run is not None}
        self._processes.forget_logs(owner(g.key, c.name) for g in self.groups.every() for c in g.containers)
        alive = self._processes.adopt(memory.records, runs)
        now = self._clock()
        for group in list(self.groups.every()):
            for container in group.containers:
                if container.run is not None and container.run not in alive:
                    self.groups.exited(group.key, container.run, UNKNOWN_EXIT, now)
        self._settle()

    def answer(self, request: Request) -> Answer:
        """Answer one request. What it changed is on disk before the answer leaves."""
        answer = self.arm.answer(request, self._clock())
        self._settle(force=request.method not in ("GET", "HEAD"))
        return answer

    def inflict(self, fault: Fault) -> int:
        """Do at once what a fault does to groups that exist; how many it met."""
        now = self._clock()
        met = [g for g in self.groups.every() if fault.meets("", g.name) and g.is_started]
        for group in met:
            if fault.fault == "repairing":
                self.groups.repair(group, now, fault.seconds)
            else:
                for container in group.containers:
                    if container.run is not None:
                        self._processes.kill(container.run)
        self._settle(force=True)
        return len(met)

    def logs(self, group: Group, container: str) -> str:
        """The end of what a container wrote."""
        file = self._processes.log_file(owner(group.key, container))
        try:
            with file.open("rb") as log:
                log.seek(0, 2)
                log.seek(max(0, log.tell() - MOST_LOG_BYTES))
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    async def run(self) -> None:
        """Measure the containers until cancelled; all else happens by timers and signals."""
        while True:
            runs = {
                record.pid: (g.key, c.name)
                for g in self.groups.every()
                for c in g.containers
                if c.run is not None and (record := self._processes.records.get(c.run)) is not None
            }
            self._measure.sample(runs, self._clock())
            await asyncio.sleep(SAMPLE_S)

    def close(self) -> None:
        """Stop driving. The processes live on, as container groups do."""
        if self._wake is not None:
            self._wake.cancel()
        self._save()
        self._processes.close()

    def _exited(self, run: str, exit_code: int) -> None:
        now = self._clock()
        for group in list(self.groups.every()):
            if any(c.run == run for c in group.containers):
                self.groups.exited(group.key, run, exit_code, now)
        self._settle(force=True)

    def _due(self) -> None:
        self._wake = None
        self.groups.advance(self._clock())
        self._settle(force=True)

    def _settle(self, *, force: bool = False) -> None:
        """Do what the model asks for, write down what is, and set the alarm for the next moment."""
        effects = self.groups.take_effects()
        if effects or force:
            self._save()  # a run is written down before its process starts: it can be found by its mark
        for effect in effects:
            match effect:
                case Start():
                    self._waiting.append(effect)
                case End():
                    self._waiting = [w for w in self._waiting if w.run != effect.run]
                    self._processes.end(effect.run)
        self._start_waiting()
        if effects:
            self._save()
        self._set_alarm()

    def _start_waiting(self) -> None:
        """A container starts when its predecessor has left the address."""
        waiting, self._waiting = self._waiting, []
        for start in waiting:
            group = self.groups.find(start.key)
            container = None if group is None else next((c for c in group.containers if c.run == start.run), None)
            if group is None or container is None:
                continue
            whose = owner(start.key, start.container)
            if self._processes.is_ending(whose):
                self._waiting.append(start)
            else:
                made = launch(self._images, group, container.name, start.run)
                self._processes.start(start.run, whose, made, fresh=container.restart_count == 0)

    def _set_alarm(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        at = self.groups.next_at()
        if at is not None:
            wait_s = min(LONGEST_SLEEP_S, max(0.0, at - self._clock()))
            self._wake = asyncio.get_running_loop().call_later(wait_s, self._due)

    def _save(self) -> None:
        self._store.save(
            Memory(
                kept=self.groups.keep(),
                records=list(self._processes.records.values()),
                windows=self.arm.meters.windows,
            )
        )


def owner(key: Key, container: str) -> str:
    """Whose process it is, in one word that is also the name of its log file."""
    return f"{key.subscription}/{key.resource_group}/{key.name}/{container}"
