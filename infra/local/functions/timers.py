"""Timers as Azure's host runs them: one call at a time, late ones collapsed into one, missed ones made up for once.

The next call is reckoned from the moment the last one began. If it is overdue when that call ends, it follows at once,
and only once, however many were due. A monitored timer (one that fires at most once a minute) remembers on disk when it
is due; if that passed while the host was away, it is called once at the start with ``past_due`` set.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from azure.functions.timer import TimerRequest

from infra.local.functions.app import Function, TimerTrigger

log = logging.getLogger(__name__)
# A laptop that slept shows a clock that jumped: look at it at least this often.
LONGEST_SLEEP_S = 5.0


def timer_argument(function: Function, is_past_due: bool) -> object:
    """What a timer's function is given: a TimerRequest, or the JSON behind it where it asks for text."""
    if function.annotation not in (str, bytes):
        return TimerRequest(past_due=is_past_due)
    return json.dumps({"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": is_past_due})


class Clock(Protocol):
    """The time, and waiting for it."""

    def now(self) -> float:
        """Epoch seconds."""

    async def sleep_until(self, at: float) -> None:
        """Return when it is ``at`` or later."""


class WallClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    async def sleep_until(self, at: float) -> None:
        while (left_s := at - self.now()) > 0:  # noqa: ASYNC110 - no event tells that the clock has moved
            await asyncio.sleep(min(left_s, LONGEST_SLEEP_S))


class Monitor:
    """Remembers in one small file when each monitored timer is due next."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def due_at(self, name: str) -> float | None:
        """When this timer was to fire next, in epoch seconds, if that is known."""
        due_at = self._read().get(name)
        return float(due_at) if isinstance(due_at, int | float) else None

    def remember(self, name: str, due_at: float) -> None:
        """Keep it for the next start; a full disk costs no more than that."""
        try:
            self._path.write_text(json.dumps(self._read() | {name: due_at}), encoding="utf-8")
        except OSError as error:
            log.warning("cannot remember when timer %s is due: %s", name, error)

    def _read(self) -> dict[str, object]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


async def run_timer(
    name: str,
    trigger: TimerTrigger,
    call: Callable[[bool], Awaitable[None]],
    clock: Clock,
    monitor: Monitor,
) -> None:
    """Call ``call(past_due)`` by the schedule, for ever; ``call`` must not raise."""
    now = clock.now()
    missed_at = monitor.due_at(name) if trigger.is_monitored else None
    next_at = trigger.schedule.next_after(now)
    is_past_due = missed_at is not None and missed_at < now
    if is_past_due or trigger.run_on_startup:
        await call(is_past_due)
        next_at = trigger.schedule.next_after(now)
    while True:
        if trigger.is_monitored:
            monitor.remember(name, next_at)
        await clock.sleep_until(next_at)
        # Never before its time, even if the clock was set back a little meanwhile: the same time would come twice.
        began_at = max(clock.now(), next_at)
        await call(False)
        next_at = trigger.schedule.next_after(began_at)
