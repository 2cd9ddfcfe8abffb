"""The only queue, the only clock and the only dice of a history: what happens when, in one order."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeVar

from tests.world import Clock

Act = Callable[[], None]
T = TypeVar("T")


class Timeline:
    """Acts in the order of their times; those of one moment in the order they were posted."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self.clock = clock
        self.began_at = clock.at
        self.random = Random(seed)
        self.stopped = False
        self._queue: list[tuple[float, int, Act]] = []
        self._posted = 0
        self._told: list[tuple[float, str, tuple[object, ...]]] = []

    @property
    def now(self) -> float:
        return self.clock.at

    @property
    def passed_s(self) -> float:
        return self.clock.at - self.began_at

    def post(self, at: float, act: Act) -> None:
        self._posted += 1
        heappush(self._queue, (max(at, self.now), self._posted, act))

    def after(self, seconds: float, act: Act) -> None:
        self.post(self.now + seconds, act)

    def run_until(self, at: float) -> None:
        while self._queue and self._queue[0][0] <= at and not self.stopped:
            self.clock.at, _, act = heappop(self._queue)
            act()
        self.clock.at = at

    def tell(self, who: str, *what: object) -> None:
        """One line of the trace; ``what`` is put into words only when it is printed, so it must not change."""
        self._told.append((self.now, who, what))

    def trace(self) -> list[str]:
        return [f"{at - self.began_at:9.3f} {who:<10} {' '.join(map(str, what))}" for at, who, what in self._told]


def run_now(call: Coroutine[Any, Any, T]) -> T:
    """The world in memory never waits: its coroutines end with the first step."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("the world in memory waited")
