"""Retry-After: what Azure asked to be waited for, and whether those who could know of it wait."""

from __future__ import annotations

from msgspec import Struct

from scaler.errors import Unavailable
from scaler.model import Phase, Replica
from tests.simulation.record import TickRecord, service_of


class Wait(Struct):
    """Until when, by true time; by clocks how wrong it was written, and rewritten; and since when a row says so."""

    until: float
    clocks: set[float]
    known_at: float = 0.0


class Patience:
    """Waits of rows (deletes) and of the regions of a service (creates)."""

    def __init__(self) -> None:
        self._told: dict[str, Wait] = {}  # row → what was answered, until it is written down
        self._waits: dict[str, Wait] = {}

    def refused(self, about: str, error: Unavailable, record: TickRecord, now: float) -> None:
        """An answer said how long to wait."""
        if error.retry_after_s is not None:
            self._told[about] = Wait(now + error.retry_after_s, {record.off_s})

    def moved(self, was: Replica | None, row: Replica | None, now: float) -> None:
        """The tick that was refused writes it down, if it lives to do so."""
        written = row is not None and (row.phase is Phase.DELETING or row.failure is not None)
        if was is None or row is None or not written or row.name not in self._told:
            return
        wait = self._told.pop(row.name)
        wait.known_at = now
        self._waits[_region(row) if was.phase is Phase.CREATING else row.name] = wait

    def saved(self, service: str, record: TickRecord) -> None:
        """A tick wrote on: one whose clock is far behind drops a wait that seems too long to it."""
        for key, wait in self._waits.items():
            if key.startswith((f"{service}-", f"{service} ")):
                wait.clocks.add(record.off_s)

    def breaks_for(self, row: Replica, record: TickRecord, now: float) -> str:
        """Why a new row must not be; empty where it may."""
        return self._too_early(_region(row), record, now)

    def breaks_again(self, name: str, record: TickRecord, now: float) -> str:
        """Why a group must not be asked to go yet; empty where it may."""
        return self._too_early(name, record, now)

    def _too_early(self, key: str, record: TickRecord, now: float) -> str:
        wait = self._waits.get(key)
        if wait is None or wait.known_at > record.began_at:
            return ""
        clocks = {record.off_s, *wait.clocks}
        early_s = wait.until - now - (max(clocks) - min(clocks))
        return f"{key} is asked {early_s:.0f} s too early" if early_s > 0 else ""


def _region(row: Replica) -> str:
    return f"{service_of(row.name)} in {row.region}"
