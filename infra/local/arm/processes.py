"""Real processes behind the containers: started, ended, found again after the stand-in itself was killed.

A process outlives the stand-in, as a container group outlives the client. It is known by its id together with the
moment the kernel started it, and it carries the id of its run in its environment, so that neither a reused id nor a
stand-in killed between starting a process and writing that down can make it take one process for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from infra.local.arm.images import MARK, Launch
from infra.local.arm.life import UNKNOWN_EXIT
from infra.local.ledger import boot, started

POLL_S = 0.02


class Record(Struct, kw_only=True):
    """One process. ``started`` is the kernel's tick count since this boot."""

    run: str
    owner: str  # group and container, for the one who reads
    pid: int
    started: int
    boot: str
    ending: bool = False

    @property
    def is_alive(self) -> bool:
        return self.boot == boot() and started(self.pid) == self.started


class Processes:
    """The processes of one stand-in. Needs a running event loop."""

    def __init__(self, folder: Path, root: Path, grace_s: float, on_exit: Callable[[str, int], None]) -> None:
        self.records: dict[str, Record] = {}
        self._folder = folder
        self._root = root
        self._grace_s = grace_s
        self._on_exit = on_exit
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._watches: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def start(self, run: str, owner: str, launch: Launch, *, fresh: bool) -> None:
        """Start a process in a session of its own, its log anew if it is ``fresh``. One that cannot be started ends
        with exit code 127."""
        log = self.log_file(owner)
        log.parent.mkdir(parents=True, exist_ok=True)
        folder = self._root if not launch.folder else self._folder / launch.folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("wb" if fresh else "ab") as out:
                child = subprocess.Popen(
                    launch.command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=launch.environment,
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:  # no such program; a name or a value that no environment can hold
            with log.open("a") as out_text:
                out_text.write(f"exec {launch.command[0]}: {getattr(error, 'strerror', None) or error}\n")
            asyncio.get_running_loop().call_soon(self._on_exit, run, 127)
            return
        self._children[run] = child
        ticks = started(child.pid)
        record = Record(run=run, owner=owner, pid=child.pid, started=ticks or 0, boot=boot())
        self.records[run] = record
        self._watch(record)

    def end(self, run: str) -> None:
        """Ask a process to end; force follows after the grace time. One that is gone already is left alone."""
        record = self.records.get(run)
        if record is None or record.ending:
            return
        record.ending = True
        signal_group(record, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        self._timers[run] = loop.call_later(self._grace_s, signal_group, record, signal.SIGKILL)

    def kill(self, run: str) -> None:
        """Kill a process as if it had crashed."""
        if (record := self.records.get(run)) is not None:
            signal_group(record, signal.SIGKILL)

    def is_ending(self, owner: str) -> bool:
        """Whether an earlier process of this owner still has its address."""
        return any(record.ending and record.owner == owner for record in self.records.values())

    def adopt(self, kept: Iterable[Record], runs: dict[str, str]) -> set[str]:
        """Take over what an earlier stand-in left running; ``runs`` are the runs that should be there, with their
        owners. Gives those that are. A run that nobody wrote down is found by its mark."""
        for record in kept:
            if record.is_alive:
                self.records[record.run] = record
        missing = runs.keys() - self.records.keys()
        carried = marked() if missing else {}
        for run in missing & carried.keys():
            pid = carried[run][0]
            if (ticks := started(pid)) is not None:
                self.records[run] = Record(run=run, owner=runs[run], pid=pid, started=ticks, boot=boot())
        for record in list(self.records.values()):
            self._watch(record)
            if record.ending or record.run not in runs:
                record.ending = False
                self.end(record.run)
        return {run for run in runs if run in self.records}

    def forget_logs(self, owners: Iterable[str]) -> None:
        """Remove the logs of all others."""
        kept = {self.log_file(owner) for owner in owners}
        for file in (self._folder / "logs").glob("*.log"):
            if file not in kept:
                file.unlink(missing_ok=True)

    def log_file(self, owner: str) -> Path:
        return self._folder / "logs" / f"{owner.replace('/', '_')}.log"

    def close(self) -> None:
        """Forget the processes without ending them."""
        loop = asyncio.get_running_loop()
        for fd in self._watches.values():
            loop.remove_reader(fd)
            os.close(fd)
        for timer in self._timers.values():
            timer.cancel()
        for child in self._children.values():
            child.returncode = child.returncode or 0  # it lives on: nobody is to warn about that
        self._watches, self._timers = {}, {}

    def _watch(self, record: Record) -> None:
        try:
            fd = os.pidfd_open(record.pid)
        except ProcessLookupError:
            asyncio.get_running_loop().call_soon(self._gone, record)
            return
        self._watches[record.run] = fd
        asyncio.get_running_loop().add_reader(fd, self._gone, record)

    def _gone(self, record: Record) -> None:
        """The process ended: what it started goes with it, as in a container."""
        if (fd := self._watches.pop(record.run, None)) is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
        if (timer := self._timers.pop(record.run, None)) is not None:
            timer.cancel()
        self.records.pop(record.run, None)
        child = self._children.pop(record.run, None)
        if child is None:
            _kill(marked().get(record.run, []))
            self._on_exit(record.run, UNKNOWN_EXIT)
            return
        # Until it is waited for, its id cannot be used again: the group is still its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        code = child.wait()
        self._on_exit(record.run, code if code >= 0 else 128 - code)


def signal_group(record: Record, number: signal.Signals) -> None:
    """Signal a process and what it started, if it is still the one that was recorded."""
    if record.is_alive:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(record.pid, number)


def reap(records: Iterable[Record], runs: Iterable[str], patience_s: float) -> int:
    """End everything recorded, and every process that carries one of the runs; how many there were."""
    found = [record for record in records if record.is_alive]
    for record in found:
        signal_group(record, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while any(record.is_alive for record in found) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    wanted = {*runs, *(record.run for record in found)}
    unrecorded = wanted - {record.run for record in found}
    carried = marked()
    _kill(pid for run in wanted for pid in carried.get(run, []))
    while any(record.is_alive for record in found) and time.monotonic() < deadline + patience_s:
        time.sleep(POLL_S)
    return len(found) + sum(run in carried for run in unrecorded)


def marked() -> dict[str, list[int]]:
    """The processes that carry a run in their environment, by run; the one that leads its session first."""
    prefix = f"{MARK}=".encode()
    found: dict[str, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            pid = int(entry.name)
            for variable in (entry / "environ").read_bytes().split(b"\0"):
                if variable.startswith(prefix):
                    pids = found.setdefault(variable[len(prefix) :].decode(), [])
                    pids.insert(0 if os.getsid(pid) == pid else len(pids), pid)
    return found


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
