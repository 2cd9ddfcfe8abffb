"""Watches the system from outside while a day is played: the admin API, and beside it Azure's list of groups."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec

from infra.local.places import RESOURCE_GROUP, SUBSCRIPTION

EVERY_S = 0.5
PAGE = 1000
ARM_VERSION = "2023-05-01"
ARM_AUDIENCE = "https://management.azure.com"


class Doors(msgspec.Struct, frozen=True, kw_only=True):
    """Where the system answers, and what it takes to be let in. Secrets stay out of ``repr``."""

    admin: str  # http://127.0.0.1:7071/api
    front: str
    arm: str
    identity: str
    key: str
    identity_header: str

    def __repr__(self) -> str:
        return f"Doors(admin={self.admin!r}, front={self.front!r}, arm={self.arm!r})"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What was to be seen at one moment (epoch s); ``groups`` are the container groups in Azure's list."""

    at: float
    ready: int
    starting: int
    draining: int
    desired: int
    groups: int
    off: bool = False
    pinned: bool = False
    because: str = ""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded decision, as far as the day is judged by it."""

    at: float
    cause: str
    desired: int
    limited_by: str | None
    because: str
    actions: tuple[str, ...] = ()


class Watcher:
    """Keeps samples and tallies. A moment without an answer leaves no sample: what is not known is not counted."""

    def __init__(self, doors: Doors, service: str, session: aiohttp.ClientSession) -> None:
        self._doors = doors
        self._service = f"{doors.admin}/services/{service}"
        self._session = session
        self._token: str | None = None
        self._held: dict[str, int] = {}
        self.samples: list[Sample] = []
        self.groups_seen: set[str] = set()
        self.groups_now: set[str] = set()

    @property
    def held_at_zero(self) -> int:
        """Requests that the front held because no replica was there, over all lives of discovery."""
        return sum(self._held.values())

    @property
    def latest(self) -> Sample | None:
        """The newest sample."""
        return self.samples[-1] if self.samples else None

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        while True:
            began = time.monotonic()
            await self.look()
            await asyncio.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))

    async def look(self) -> Sample | None:
        """One look; None where the admin API or the stand-in gave no answer."""
        try:
            self.groups_now = await self._list_groups()
            self.groups_seen |= self.groups_now
            seen = await self._read(self._service)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        if (front := seen.get("front")) is not None:
            start_id = front["start_id"]
            self._held[start_id] = max(self._held.get(start_id, 0), front["arrivals_total"])
        sample = Sample(
            at=time.time(),
            ready=seen["replicas"]["ready"],
            starting=seen["replicas"]["starting"],
            draining=seen["replicas"]["draining"],
            desired=seen["desired"] or 0,
            groups=len(self.groups_now),
            off=seen["off"],
            pinned=seen["pin"] is not None,
            because=seen["because"],
        )
        self.samples.append(sample)
        return sample

    async def decisions(self, since: float) -> list[Turn]:
        """Every decision recorded since then, oldest first."""
        turns: list[Turn] = []
        query = {"since": datetime.fromtimestamp(since, UTC).isoformat(), "limit": str(PAGE)}
        while True:
            page = await self._read(f"{self._service}/decisions", query)
            turns += [_turn(row) for row in page["decisions"]]
            if page["next"] is None:
                return turns[::-1]
            query["cursor"] = page["next"]

    async def pin(self, replicas: int, for_s: int, reason: str) -> None:
        """Pin a count over HTTP; it ends by itself."""
        body = {"replicas": replicas, "for": f"{for_s}s", "reason": reason, "actor": "demo"}
        headers = {"x-functions-key": self._doors.key}
        async with self._session.put(f"{self._service}/pin", json=body, headers=headers) as answer:
            if answer.status >= 300:
                raise aiohttp.ClientError(f"the pin was refused: HTTP {answer.status}: {(await answer.text())[:300]}")

    async def _read(self, url: str, query: dict[str, str] | None = None) -> Any:
        async with self._session.get(url, params=query, headers={"x-functions-key": self._doors.key}) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def _list_groups(self) -> set[str]:
        """The names in Azure's list, asked as the autoscaler asks: with a token of the identity endpoint."""
        path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}"
        url: str | None = f"{self._doors.arm}{path}/providers/Microsoft.ContainerInstance/containerGroups"
        url = f"{url}?api-version={ARM_VERSION}"
        names: set[str] = set()
        while url:
            headers = {"authorization": f"Bearer {await self._bearer()}"}
            async with self._session.get(url, headers=headers) as answer:
                if answer.status == 401:
                    self._token = None
                answer.raise_for_status()
                page = await answer.json()
            names |= {group["name"] for group in page["value"]}
            url = page.get("nextLink")
        return names

    async def _bearer(self) -> str:
        if self._token is None:
            headers = {"x-identity-header": self._doors.identity_header}
            query = {"api-version": "2019-08-01", "resource": ARM_AUDIENCE}
            async with self._session.get(self._doors.identity, params=query, headers=headers) as answer:
                answer.raise_for_status()
                self._token = str((await answer.json())["access_token"])
        return self._token


def _turn(row: dict[str, Any]) -> Turn:
    actions = row["actions"] if isinstance(row["actions"], list) else []
    return Turn(
        at=datetime.fromisoformat(row["at"]).timestamp(),
        cause=row["cause"],
        desired=row["desired"],
        limited_by=row["limited_by"],
        because=row["because"],
        actions=tuple(str(action) for action in actions),
    )
