"""The two errands of discovery for one service: read its rows, and tell the tick what waits."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol
from uuid import uuid4

from msgspec.structs import replace

from scaler.errors import Unavailable
from scaler.front.endpoints import endpoints
from scaler.front.hold import Hold
from scaler.front.news import News, first
from scaler.front.wake import Wake
from scaler.model import Front
from scaler.ports import Stored

log = logging.getLogger("scaler.front")

HEARTBEAT_S = 5.0  # a row that does not change is written so often
WRITE_GAP_S = 1.0  # between two writes, but for news that a tick waits for
WAKE_GAP_S = 1.0  # between two wakes
STORE_S = 5.0  # for one read or write, whatever the store itself allows


class Rows(Protocol):
    """The part of ``ports.Store`` that discovery needs."""

    async def load(self, service: str) -> Stored: ...

    async def write_front(self, service: str, front: Front) -> None: ...


class Watch:
    """Keeps one ``Hold`` and the table at one; ``hold_limit_s`` is the configuration's, for a service without a row."""

    def __init__(
        self, hold: Hold, rows: Rows, wake: Wake, *, service: str, hold_limit_s: float, refresh_s: float
    ) -> None:
        self.hold = hold
        self._rows = rows
        self._wake = wake
        self._service = service
        self._hold_limit_s = hold_limit_s
        self._refresh_s = refresh_s
        self._start_id = str(uuid4())
        self._at_once = News()  # read now: a tick has just ended
        self._written: Front | None = None  # None too after a write that failed
        self._written_at = float("-inf")  # monotonic, as is the next
        self._woken_at = float("-inf")
        self._waking: asyncio.Task[None] | None = None
        self._failing: set[str] = set()

    async def read(self) -> None:
        """Read the rows for ever, every ``refresh_s`` and after each wake. What was last read stays in force."""
        while True:
            now = self._at_once.next()
            await self._read_once()
            await first(now, timeout_s=self._refresh_s)

    async def _read_once(self) -> None:
        try:
            async with asyncio.timeout(STORE_S):
                stored = await self._rows.load(self._service)
            self.hold.learn(endpoints(stored, hold_limit_s=self._hold_limit_s))
        except (Unavailable, TimeoutError) as error:
            self._failed("read", error)
        except Exception as error:  # a row that cannot be read must not take the front of the others down
            self._failed("read", error)
        else:
            self._recovered("read")

    async def tell(self) -> None:
        """Write row ``front`` for ever: when it changes, and now and then; and wake the tick while anybody waits."""
        while True:
            news, changed = self.hold.news.next(), self.hold.changed.next()
            wakes = self._may_wake()
            if wakes or self._is_due():
                await self._write_once()
            if wakes:
                self._woken_at = time.monotonic()
                self._waking = asyncio.create_task(self._wake_once())
            await first(news, changed, timeout_s=self._rest_s())

    def front(self) -> Front:
        """The row as it would be written now."""
        hold, now = self.hold, time.time()
        return Front(
            start_id=self._start_id,
            at=now,
            waiting=hold.waiting,
            arrivals_total=hold.arrivals_total,
            expired_total=hold.expired_total,
            refused_off_hours_total=hold.refused_off_hours_total,
            applied_version=hold.applied.version(now),
        )

    def _may_wake(self) -> bool:
        idle = self._waking is None or self._waking.done()
        return self.hold.waiting > 0 and idle and time.monotonic() - self._woken_at >= WAKE_GAP_S

    def _is_due(self) -> bool:
        written, front = self._written, self.front()
        age_s = time.monotonic() - self._written_at
        if age_s >= HEARTBEAT_S or (written is None and age_s >= WRITE_GAP_S):
            return True
        if written is None or replace(front, at=written.at) == written:
            return False
        # A replica that leaves waits for this version before it drains.
        return age_s >= WRITE_GAP_S or front.applied_version != written.applied_version

    def _rest_s(self) -> float:
        """Seconds until there may be something to do although nothing happens."""
        now = time.monotonic()
        unsaid = self._written is None or replace(self.front(), at=self._written.at) != self._written
        due_at = self._written_at + (WRITE_GAP_S if unsaid else HEARTBEAT_S)
        if self.hold.waiting:
            due_at = min(
                due_at, max(self._woken_at, now if self._waking and not self._waking.done() else 0) + WAKE_GAP_S
            )
        return max(0.01, due_at - now)

    async def _write_once(self) -> None:
        front = self.front()
        self._written_at = time.monotonic()
        try:
            async with asyncio.timeout(STORE_S):
                await self._rows.write_front(self._service, front)
        except (Unavailable, TimeoutError) as error:
            self._written = None
            self._failed("write", error)
        else:
            self._written = front
            self._recovered("write")

    async def _wake_once(self) -> None:
        try:
            await self._wake(self._service)
        except Unavailable as error:
            self._failed("wake", error)
        else:
            self._recovered("wake")
        self._at_once.fire()

    def _failed(self, what: str, error: Exception) -> None:
        """Say it once, not once a second."""
        if what not in self._failing:
            self._failing.add(what)
            reason = str(error) or type(error).__name__
            log.warning(
                "front: a call fails and is tried again",
                extra={"service": self._service, "call": what, "reason": reason},
            )

    def _recovered(self, what: str) -> None:
        if what in self._failing:
            self._failing.discard(what)
            log.info("front: a call works again", extra={"service": self._service, "call": what})
