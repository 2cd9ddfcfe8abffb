"""The order and pace in which requests go back to replicas that were full: oldest first, as fast as they take it.

Nobody tells the hold how fast that is, so it tries: the pace rises by half each second, and falls by a third with each
refusal. It settles a little above what the replicas take, with a refusal now and then.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

START_RATE = 100.0  # requests per second
LEAST_RATE, MOST_RATE = 1.0, 1000.0
RISE_A_SECOND, FALL = 1.5, 0.67
FALL_GAP_S = 0.1  # refusals that come together are one piece of news

Turn = asyncio.Future[None]


class Turns:
    """The queue of one service."""

    def __init__(self) -> None:
        self._rate = START_RATE
        self._risen_at = asyncio.get_running_loop().time()
        self._fallen_at = float("-inf")
        self._queue: list[tuple[float, int, Turn]] = []
        self._number = count()
        self._pump: asyncio.Task[None] | None = None

    def refused(self) -> None:
        """A replica was full: slower."""
        now = asyncio.get_running_loop().time()
        if now - self._fallen_at >= FALL_GAP_S:
            self._rate = max(LEAST_RATE, self.rate() * FALL)
            self._fallen_at = self._risen_at = now

    def rate(self) -> float:
        """Requests per second, now."""
        now = asyncio.get_running_loop().time()
        self._rate = min(MOST_RATE, self._rate * RISE_A_SECOND ** min(now - self._risen_at, 60.0))
        self._risen_at = now
        return self._rate

    def take(self, since: float) -> Turn:
        """Done when it is the turn of a request that waits ``since`` then; cancel it to step out of the queue."""
        turn: Turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (since, next(self._number), turn))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._let_go())
        return turn

    async def _let_go(self) -> None:
        while self._queue:
            await asyncio.sleep(1 / self.rate())
            while self._queue:
                _, _, turn = heapq.heappop(self._queue)
                if not turn.done():  # else it stepped out
                    turn.set_result(None)
                    break
