"""What the containers use: CPU and memory of their processes, children included, sampled every few seconds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from infra.local.arm.monitor import Series
from infra.local.arm.state import Key

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Used(Struct):
    """CPU seconds so far, of children that ended too, and bytes of memory now."""

    cpu_s: float = 0.0
    memory_bytes: float = 0.0


class Measure:
    """Turns CPU seconds into millicores between two samples."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._last: dict[int, tuple[float, float]] = {}  # pid: when, CPU seconds until then

    def sample(self, processes: Mapping[int, tuple[Key, str]], now: float) -> None:
        """Measure these processes, given by id with their group and container."""
        sessions = by_session() if processes else {}
        last, self._last = self._last, {}
        for pid, (key, container) in processes.items():
            if (used := sessions.get(pid)) is None:
                continue
            self._series.add(key, container, "MemoryUsage", now, used.memory_bytes)
            self._last[pid] = (now, used.cpu_s)
            if pid in last and now > last[pid][0]:
                millicores = 1000 * max(0.0, used.cpu_s - last[pid][1]) / (now - last[pid][0])
                self._series.add(key, container, "CpuUsage", now, millicores)
        self._series.forget({key for key, _ in processes.values()})


def by_session() -> dict[int, Used]:
    """What each session uses. A container's process leads one, and what it starts stays in it."""
    sessions: dict[int, Used] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                # The second field is the program's name in parentheses and may hold anything.
                fields = stat[stat.rindex(")") + 2 :].split()
                used = sessions.setdefault(int(fields[3]), Used())
                used.cpu_s += sum(map(int, fields[11:15])) / TICKS_PER_S
                used.memory_bytes += int(fields[21]) * PAGE_BYTES
    return sessions
