"""One-to-many news within an event loop: whoever waits wakes up, nothing is queued."""

from __future__ import annotations

import asyncio


class News:
    """``fire`` ends the wait of everybody who waits at that moment."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def fire(self) -> None:
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self._next = None

    def next(self) -> asyncio.Future[None]:
        """Done at the next ``fire``; take it before looking at what changes. It is shared: never cancel it."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next


async def first(*futures: asyncio.Future[None], timeout_s: float) -> None:
    """Return when one of them is done or the time is over, whichever comes first; cancels none of them."""
    await asyncio.wait(futures, timeout=max(0.0, timeout_s), return_when=asyncio.FIRST_COMPLETED)
