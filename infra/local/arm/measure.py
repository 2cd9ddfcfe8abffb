"""What the containers use: CPU and memory of their processes, children included, sampled every few seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import psutil

from infra.local.arm.monitor import Series
from infra.local.arm.state import Key


class Measure:
    """Turns CPU seconds into millicores between two samples."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._last: dict[int, tuple[float, float]] = {}  # pid: when, CPU seconds until then

    def sample(self, processes: Mapping[int, tuple[Key, str]], now: float) -> None:
        """Measure these processes, given by id with their group and container."""
        self._last = {pid: last for pid, last in self._last.items() if pid in processes}
        for pid, (key, container) in processes.items():
            with contextlib.suppress(psutil.Error):
                cpu_s, memory_bytes = used(pid)
                self._series.add(key, container, "MemoryUsage", now, memory_bytes)
                if (last := self._last.get(pid)) is not None and now > last[0]:
                    millicores = 1000 * max(0.0, cpu_s - last[1]) / (now - last[0])
                    self._series.add(key, container, "CpuUsage", now, millicores)
                self._last[pid] = (now, cpu_s)
        self._series.forget({key for key, _ in processes.values()})


def used(pid: int) -> tuple[float, float]:
    """CPU seconds so far and bytes of memory now, of a process and everything it started. Raises ``psutil.Error``."""
    first = psutil.Process(pid)
    cpu_s = memory_bytes = 0.0
    for process in [first, *first.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            cpu_s += times.user + times.system
            memory_bytes += process.memory_info().rss
    return cpu_s, memory_bytes
