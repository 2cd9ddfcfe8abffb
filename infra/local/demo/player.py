"""Sends requests at their times, whether or not earlier ones were answered, and judges every answer."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Literal

import aiohttp
import msgspec

Outcome = Literal["ok", "failed", "refused_off_hours"]

# Flowers from the middle of their species, whatever the model: a swapped answer shows at once.
FLOWERS: tuple[tuple[tuple[float, float, float, float], int], ...] = (
    ((5.1, 3.5, 1.4, 0.2), 0),
    ((4.9, 3.1, 1.5, 0.1), 0),
    ((5.0, 3.4, 1.5, 0.2), 0),
    ((5.7, 2.8, 4.1, 1.3), 1),
    ((5.6, 2.7, 4.2, 1.3), 1),
    ((6.1, 2.8, 4.0, 1.3), 1),
    ((6.5, 3.0, 5.8, 2.2), 2),
    ((7.2, 3.6, 6.1, 2.5), 2),
    ((6.7, 3.3, 5.7, 2.5), 2),
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One request: when it was due (epoch s), how long until its answer (s), what became of it and, if bad, why."""

    due_at: float
    wait_s: float
    outcome: Outcome
    why: str = ""


class Player:
    """Plays arrivals against one address. ``may_refuse(at)``: whether the schedule lets one be turned away."""

    def __init__(self, url: str, may_refuse: Callable[[float], bool], *, patience_s: float) -> None:
        self._url = url
        self._may_refuse = may_refuse
        self._patience_s = patience_s
        self._sent_at: list[float] = []
        self.answers: list[Answer] = []

    @property
    def sent(self) -> int:
        """How many requests were sent."""
        return len(self._sent_at)

    def sent_since(self, at: float) -> int:
        """How many requests were due since then (epoch s)."""
        return len(self._sent_at) - bisect_left(self._sent_at, at)

    async def play(self, starts_at: float, arrivals_s: Sequence[float]) -> None:
        """Send a request at each ``starts_at + arrival`` (epoch s); returns when every one has its answer."""
        timeout = aiohttp.ClientTimeout(total=self._patience_s, sock_connect=10)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session,
            asyncio.TaskGroup() as group,
        ):
            for number, arrival_s in enumerate(arrivals_s):
                due_at = starts_at + arrival_s
                if (ahead_s := due_at - time.time()) > 0:
                    await asyncio.sleep(ahead_s)
                group.create_task(self._send(session, due_at, number))
                self._sent_at.append(due_at)

    async def _send(self, session: aiohttp.ClientSession, due_at: float, number: int) -> None:
        flower, species = FLOWERS[number % len(FLOWERS)]
        try:
            async with session.post(self._url, json={"data": [flower]}) as answer:
                body = await answer.read()
                outcome, why = self._judge(answer, body, species, due_at)
        except TimeoutError:
            outcome, why = "failed", f"no answer within {self._patience_s:.0f} s"
        except (aiohttp.ClientError, OSError) as error:
            outcome, why = "failed", f"{type(error).__name__}: {error}"
        # From when it was due, not from when this machine got round to sending it.
        self.answers.append(Answer(due_at=due_at, wait_s=time.time() - due_at, outcome=outcome, why=why))

    def _judge(self, answer: aiohttp.ClientResponse, body: bytes, species: int, due_at: float) -> tuple[Outcome, str]:
        if answer.status == 503 and answer.headers.get("Retry-After", "").isdigit() and self._may_refuse(due_at):
            return "refused_off_hours", ""
        if answer.status != 200:
            return "failed", f"HTTP {answer.status}: {body[:200].decode(errors='replace')}"
        try:
            predictions = msgspec.json.decode(body)["predictions"]
        except (msgspec.DecodeError, KeyError, TypeError):
            return "failed", f"not an answer of a model: {body[:200].decode(errors='replace')}"
        if predictions != [species]:
            return "failed", f"wrong answer: {predictions} where {[species]} is right"
        return "ok", ""
