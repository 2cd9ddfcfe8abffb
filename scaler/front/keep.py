"""Keeps the front alive: makes its container group when it is gone, renews it when it is not what it should be, and has
its name lead to where it is.

Its name is fixed, for clients know it; a PUT on it restarts it where it is, which is what a change of its configuration
wants. What goes wrong is said and tried again after a wait that doubles: a PUT every tick would eat the region's budget
of creations. The wait is this process's own; a fresh process tries at once, which is one PUT more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Protocol

from scaler.errors import OutOfCapacity, Refused, Unavailable
from scaler.model import Group
from scaler.ports import Fleet, GroupRequest

FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 900.0
UNSETTLED = frozenset({"Pending", "Creating", "Updating", "Accepted", "Deleting", "Repairing"})
RECORD = "front"

log = logging.getLogger("scaler.front")


class Records(Protocol):
    """Names that lead to addresses."""

    async def keep(self, name: str, address: str) -> bool:
        """Have the name lead to this address; whether that was new. Raises ``Unavailable``."""


class Keeper:
    """Looks at the front once a tick."""

    def __init__(self, fleet: Fleet, request: GroupRequest, records: Records | None = None) -> None:
        self._fleet, self._request, self._records = fleet, request, records
        self._template = json.loads(request.body)["tags"]["template"]
        self._failures = 0
        self._not_before = 0.0
        self._told: str | None = None  # the address that the record is known to have

    async def keep(self, groups: Sequence[Group], now: float) -> None:
        """``groups`` are the deployment's own, as just listed. Nothing is raised: the next tick looks again."""
        front = next((g for g in groups if g.name == self._request.name), None)
        try:
            if self._is_to_be_made(front) and now >= self._not_before:
                await self._make(front, now)
            if front is not None and front.address:
                await self._point_to(front.address)
        except (Unavailable, Refused, OutOfCapacity) as error:
            log.warning("the front is not as it should be: %s", error)

    def _is_to_be_made(self, front: Group | None) -> bool:
        if front is None:
            return True
        if front.provisioning_state in UNSETTLED:
            return False
        return front.provisioning_state == "Failed" or front.tags.get("template") != self._template

    async def _make(self, front: Group | None, now: float) -> None:
        # Counted before it is sent: a PUT whose answer is lost may have been taken all the same.
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**self._failures)
        self._failures, self._not_before = self._failures + 1, now + wait_s
        log.info("the front is made" if front is None else "the front is renewed")
        await self._fleet.create(self._request)

    async def _point_to(self, address: str) -> None:
        self._failures = 0
        if self._records is None or address == self._told:
            return
        if await self._records.keep(RECORD, address):
            log.info("the front's name leads to a new address")
        self._told = address
