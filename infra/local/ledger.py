"""Which processes are ours: written down as they start, so that the next start can end what a killed one left behind.

A process is known by its id together with the moment the kernel started it and the boot it belongs to: ids are used
again, these three together are not.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import msgspec

POLL_S = 0.02


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One process that was started: ``started`` is the kernel's tick count since boot."""

    part: str
    pid: int
    started: int
    boot: str


def started(pid: int) -> int | None:
    """When the kernel started this process, in its ticks; None when there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold anything, spaces and parentheses too.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def boot() -> str:
    """The name of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Ledger:
    """A file with one line for each process that was started and, as far as anybody noted, not ended."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._boot = boot()
        file.parent.mkdir(parents=True, exist_ok=True)

    def note(self, part: str, pid: int) -> None:
        """Write down a process that has just been started."""
        if (ticks := started(pid)) is None:
            return
        line = msgspec.json.encode(Entry(part=part, pid=pid, started=ticks, boot=self._boot))
        with self._file.open("ab") as file:
            file.write(line + b"\n")

    def left(self) -> list[Entry]:
        """What was written down and still runs; half-written lines of a killed writer count as nothing."""
        if not self._file.exists():
            return []
        entries = []
        for line in self._file.read_bytes().splitlines():
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except msgspec.DecodeError:
                continue
            if entry.boot == self._boot and started(entry.pid) == entry.started:
                entries.append(entry)
        return entries

    def reap(self, patience_s: float = 5.0) -> list[Entry]:
        """End what is left, with its process group: asked first, forced after ``patience_s``. Gives what was ended."""
        ended = self.left()
        for entry in ended:
            end_group(entry.pid, signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        while (rest := self.left()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for entry in rest:
            end_group(entry.pid, signal.SIGKILL)
        deadline = time.monotonic() + patience_s
        while self.left() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        self._file.unlink(missing_ok=True)
        return ended


def end_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group that this process leads, or the process alone if it leads none."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return
