"""Requests that wait, first in, first out, in cohorts of a second."""

from __future__ import annotations

from collections import deque

NOTHING = 1e-9  # less than this is rounding, not a request


class Queue:
    """Who waited longer than ``slo_wait_s`` when served is late; who waited longer than ``patience_s`` is gone."""

    def __init__(self, slo_wait_s: float, patience_s: float) -> None:
        self.total = 0.0
        self._slo_wait_s, self._patience_s = slo_wait_s, patience_s
        self._cohorts: deque[list[float]] = deque()  # [second of arrival, requests left]

    def join(self, at: int, count: float) -> None:
        """Requests arrive at second ``at``."""
        if count > 0:
            self._cohorts.append([at, count])
            self.total += count

    def give_up(self, at: int) -> float:
        """Take out those who will not wait any longer; how many."""
        lost = 0.0
        while self._cohorts and at - self._cohorts[0][0] > self._patience_s:
            lost += self._cohorts.popleft()[1]
        self._less(lost)
        return lost

    def take(self, at: int, room: float) -> tuple[float, float]:
        """Take out as many as there is room for; how many, and how many of them are late."""
        taken = late = 0.0
        while self._cohorts and room > NOTHING:
            cohort = self._cohorts[0]
            some = min(cohort[1], room)
            room -= some
            taken += some
            if at - cohort[0] > self._slo_wait_s:
                late += some
            cohort[1] -= some
            if cohort[1] <= NOTHING:
                self._cohorts.popleft()
        self._less(taken)
        return taken, late

    def clear(self) -> float:
        """Send everybody away; how many."""
        gone, self.total = self.total, 0.0
        self._cohorts.clear()
        return gone

    def _less(self, count: float) -> None:
        self.total = max(0.0, self.total - count) if self._cohorts else 0.0
