"""Asks whether a replica's port still answers: Envoy's failure alone does not tell a full replica from a dead one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

from scaler.front.endpoints import Endpoint

CONNECT_S = 1.0
GAP_S = 0.1  # between two rounds, however many requests ask
Connect = Callable[[Endpoint], Awaitable[bool]]


async def connects(endpoint: Endpoint) -> bool:
    """Whether a TCP connection comes about within ``CONNECT_S``; nothing is sent, so TLS or not makes no difference."""
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(*endpoint)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


class Prober:
    """Rounds of probes, one at a time, shared by all who want to know."""

    def __init__(self, connect: Connect = connects) -> None:
        self._connect = connect
        self._round: asyncio.Task[None] | None = None
        self._ended_round_began_at = float("-inf")  # loop time
        self._alive: frozenset[Endpoint] = frozenset()

    async def alive(self, endpoints: Iterable[Endpoint]) -> frozenset[Endpoint]:
        """Those that answer now: by a round that began after this call did."""
        called_at = asyncio.get_running_loop().time()
        asked = frozenset(endpoints)
        while self._ended_round_began_at < called_at:
            if self._round is None:
                self._round = asyncio.create_task(self._probe(asked))
            await asyncio.shield(self._round)
        return self._alive & asked

    async def _probe(self, endpoints: frozenset[Endpoint]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(max(0.0, self._ended_round_began_at + GAP_S - loop.time()))
            began_at = loop.time()
            found = await asyncio.gather(*(self._connect(each) for each in endpoints))
            self._alive = frozenset(each for each, alive in zip(endpoints, found, strict=True) if alive)
            self._ended_round_began_at = began_at
        finally:
            self._round = None
