"""Counts and times of one process: what `/stats` and `/metrics` say is read from here.

Every arrival ends in exactly one of completed, failed or rejected, so at any moment
`arrivals = completed + failed + rejected + in_flight + queued`. `busy_s` is the integral of `in_flight` over time.
"""

from __future__ import annotations

import bisect
import os
import resource
import time
from collections import deque

from inference.settings import cores

# Upper edges of the latency histogram in seconds: steps of 25 % from 0.1 ms to about 2 minutes.
EDGES_S = tuple(1e-4 * 1.25**step for step in range(64))
WINDOW_S = 60.0
SLICE_S = 5.0
FOLD_AT = 4096


class Meter:
    """The counters; written by the event loop's thread only."""

    def __init__(self) -> None:
        self.arrivals = self.completed = self.failed = self.rejected = 0
        self.in_flight = self.queued = 0
        self._busy_s = 0.0
        self._changed_at = time.monotonic()
        self.latencies: list[float] = []  # appended to by every answer, folded now and then
        self.counts = [0] * (len(EDGES_S) + 1)
        self.latency_sum_s = 0.0
        self._slices: deque[tuple[float, list[int]]] = deque()

    def begin(self, requests: int) -> None:
        """`requests` leave the queue and are computed from now on."""
        self._advance()
        self.queued -= requests
        self.in_flight += requests

    def end(self, requests: int) -> None:
        """The computing of `requests` is over, well or not."""
        self._advance()
        self.in_flight -= requests
        if len(self.latencies) >= FOLD_AT:
            self.fold()

    def busy_s(self) -> float:
        self._advance()
        return self._busy_s

    def resume_busy(self, busy_s: float) -> None:
        """Goes on from the seconds that another process counted."""
        self._busy_s += busy_s

    def _advance(self) -> None:
        now = time.monotonic()
        self._busy_s += self.in_flight * (now - self._changed_at)
        self._changed_at = now

    def fold(self) -> None:
        """Moves the raw latencies into the histogram and the window."""
        now = time.monotonic()
        if not self._slices or now - self._slices[-1][0] >= SLICE_S:
            self._slices.append((now, [0] * (len(EDGES_S) + 1)))
            while now - self._slices[0][0] > WINDOW_S:
                self._slices.popleft()
        newest = self._slices[-1][1]
        latencies, self.latencies = self.latencies, []
        for latency in latencies:
            bin_ = bisect.bisect_left(EDGES_S, latency)
            newest[bin_] += 1
            self.counts[bin_] += 1
        self.latency_sum_s += sum(latencies)

    def recent(self) -> list[int]:
        """Answers per bin over about the last minute."""
        self.fold()
        bins = [0] * (len(EDGES_S) + 1)
        for _, counts in self._slices:
            for index, count in enumerate(counts):
                bins[index] += count
        return bins


def quantile(bins: list[int], share: float) -> float | None:
    """Seconds under which `share` of the answers stayed (linear inside a bin); None without answers."""
    total = sum(bins)
    if not total:
        return None
    rank, below = share * total, 0
    for index, count in enumerate(bins):
        if count and below + count >= rank:
            low = EDGES_S[index - 1] if index else 0.0
            high = EDGES_S[min(index, len(EDGES_S) - 1)]
            return round(low + (high - low) * (rank - below) / count, 6)
        below += count
    return EDGES_S[-1]


class Usage:
    """CPU share (0..1 of the cores this process may use) and resident memory of this process."""

    def __init__(self) -> None:
        self._cores = cores()
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._at, self._used_s = time.monotonic(), self._cpu_s()
        self._cpu = 0.0

    def cpu(self) -> float:
        """The share since about a second ago at the earliest; readings closer together repeat the last one."""
        now = time.monotonic()
        if now - self._at >= 0.5:
            used_s = self._cpu_s()
            self._cpu = min(1.0, (used_s - self._used_s) / (now - self._at) / self._cores)
            self._at, self._used_s = now, used_s
        return round(self._cpu, 4)

    def memory_bytes(self) -> int:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * self._page_bytes

    @staticmethod
    def _cpu_s() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime
