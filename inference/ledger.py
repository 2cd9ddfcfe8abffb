"""What the workers of one replica tell each other: a page of shared memory with a row of figures each.

Every worker writes its own row only, some twenty times a second, and any of them answers `/stats` with the sum. A row
carries a version that is odd while it is written; a reader that met an odd or a changed one reads again. A worker that
takes the place of a dead one goes on from the totals in its row, so the replica's counters never run backwards.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.meter import EDGES_S, Meter
from inference.wire import Array

if TYPE_CHECKING:
    from collections.abc import Callable

FIGURES = (
    "arrivals", "completed", "failed", "rejected", "in_flight", "queued", "busy_s", "latency_sum_s", "cpu",
    "memory_bytes",
)  # fmt: skip
BINS = len(EDGES_S) + 1
VERSION = 0  # of a row
DRAIN, LOADED, SHARED = 0, 1, 2  # before the rows
WIDTH = 1 + len(FIGURES) + 2 * BINS  # version, figures, all latencies, recent latencies
TRIES = 100


class Ledger:
    """The shared page; made before the workers are forked."""

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, 8 * (SHARED + workers * WIDTH))
        cells: Array = np.frombuffer(self._memory, dtype=np.float64)
        self._cells = cells
        self._rows = cells[SHARED:].reshape(workers, WIDTH)

    @property
    def draining(self) -> bool:
        """Whether the replica was told to drain, by whichever worker heard it."""
        return bool(self._cells[DRAIN])

    @draining.setter
    def draining(self, value: bool) -> None:
        self._cells[DRAIN] = float(value)

    @property
    def loaded(self) -> bool:
        """Whether the worker that listens from the start can answer; the others listen only once they can."""
        return bool(self._cells[LOADED])

    @loaded.setter
    def loaded(self, value: bool) -> None:
        self._cells[LOADED] = float(value)

    def write(self, slot: int, figures: dict[str, float], counts: list[int], recent: list[int]) -> None:
        """Puts down the figures of worker `slot`."""
        row = self._rows[slot]
        row[VERSION] += 1
        row[1:] = [*(figures[name] for name in FIGURES), *counts, *recent]
        row[VERSION] += 1

    def resume(self, slot: int, meter: Meter) -> None:
        """Gives a new worker the totals of the one it replaces; what that one had in hand has failed."""
        said = dict(zip(FIGURES, self._rows[slot][1:].tolist(), strict=False))
        meter.arrivals = int(said["arrivals"])
        meter.completed = int(said["completed"])
        meter.failed = int(said["failed"] + said["in_flight"] + said["queued"])
        meter.rejected = int(said["rejected"])
        meter.latency_sum_s = said["latency_sum_s"]
        meter.resume_busy(said["busy_s"])
        start = 1 + len(FIGURES)
        meter.counts = [int(count) for count in self._rows[slot][start : start + BINS]]

    def total(self) -> tuple[dict[str, float], list[int], list[int]]:
        """The sums over all workers: figures, all latencies by bin, recent latencies by bin."""
        cells = sum((self._steady(row) for row in self._rows), np.zeros(WIDTH - 1))
        figures = dict(zip(FIGURES, cells.tolist(), strict=False))
        start = len(FIGURES)
        bins: Callable[[Any], list[int]] = lambda part: [int(count) for count in part]  # noqa: E731
        return figures, bins(cells[start : start + BINS]), bins(cells[start + BINS :])

    @staticmethod
    def _steady(row: Array) -> Array:
        for _ in range(TRIES):
            before = row[VERSION]
            copied: Array = row[1:].copy()
            if before % 2 == 0 and row[VERSION] == before:
                return copied
        return row[1:].copy()  # its writer died in the middle: the next one repairs it
