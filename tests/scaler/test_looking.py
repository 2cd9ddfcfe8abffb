"""One look for all services of a pass: bounded, and over at its deadline; what was not asked is not called silent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from scaler import measure, observe
from scaler.errors import Unavailable
from scaler.model import Group, Phase, Replica, Stats
from scaler.ports import Usage
from scaler.tick import looking
from scaler.tick.looking import SCRAPES_AT_ONCE, SHOWS_A_PASS, SILENT_AT_ONCE, Looking
from tests.builders import NOW, group, replica, stats
from tests.scaler.ticking import Ticking, ports
from tests.world import World

pytestmark = pytest.mark.anyio


class Slow:
    """Replicas that answer when they are let, and count how many are asked at once."""

    def __init__(self, *, silent: bool = False) -> None:
        self.now = self.most = self.asked = 0
        self.silent = silent

    async def stats(self, row: Replica) -> Stats:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.now -= 1
        if self.silent:
            raise Unavailable("no answer")
        return stats(row.name)

    async def drain(self, row: Replica, *, draining: bool) -> None:
        raise AssertionError("looking changes nothing")


def rows(number: int, **changes: Any) -> list[Replica]:
    return [replica(f"r{i:04d}", **changes) for i in range(number)]


def listed(replicas: list[Replica]) -> Mapping[str, Group]:
    return {r.name: group(r.name) for r in replicas}


async def test_all_services_together_ask_no_more_than_so_many_replicas_at_once() -> None:
    world, slow = World(), Slow()
    shared = Looking(replace(ports(world), replicas=slow), lambda: NOW)
    services = [rows(80) for _ in range(10)]
    looks = await asyncio.gather(*(shared.at(r, listed(r), {}) for r in services))
    assert (slow.asked, slow.most) == (800, SCRAPES_AT_ONCE)
    assert all(len(look.stats) == 80 and not look.unasked for look in looks)


async def test_those_that_were_silent_before_do_not_hold_up_the_others() -> None:
    world, slow = World(), Slow(silent=True)
    dead = rows(200, silent_since=NOW - 30)
    await Looking(replace(ports(world), replicas=slow), lambda: NOW).at(dead, None, {})
    assert slow.most == SILENT_AT_ONCE


async def test_what_is_not_asked_before_the_deadline_is_not_called_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "LOOK_LIMIT_S", -1.0)
    all_rows = rows(3)
    looks = await Looking(ports(World()), lambda: NOW).at(all_rows, listed(all_rows), {})
    assert looks.unasked == {r.name for r in all_rows}
    assert (looks.stats, looks.details) == ({}, {})
    seen = observe.Seen(
        at=NOW, replicas=tuple(all_rows), groups=listed(all_rows), stats={}, details={}, unasked=looks.unasked
    )
    fleet = observe.look(seen, observe.Limits(start_deadline_s=900, unhealthy_after_s=60))
    assert [r.silent_since for r in fleet.replicas] == [None] * 3
    assert measure.quality(seen, fleet.replicas) == "blind"


async def test_a_pass_asks_azure_about_no_more_than_so_many_replicas() -> None:
    world = World()
    silent = rows(SHOWS_A_PASS + 50)
    for row in silent:
        world.fleet.add(row.name, tags={})
    looks = await Looking(replace(ports(world), replicas=Slow(silent=True)), lambda: NOW).at(silent, listed(silent), {})
    assert len(looks.details) == SHOWS_A_PASS


async def test_a_replica_that_is_ready_for_the_first_time_is_looked_up_for_the_phases_of_its_start() -> None:
    world = World()
    fresh = [replica("a", Phase.STARTING), replica("b")]
    for row in fresh:
        world.fleet.add(row.name, tags={})
    looks = await Looking(replace(ports(world), replicas=Slow()), lambda: NOW).at(fresh, listed(fresh), {})
    assert set(looks.details) == {"a"}


async def test_a_quota_that_is_not_told_in_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: str) -> Sequence[Usage]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("scaler.tick.looking.USAGE_LIMIT_S", 0.001)
    ticking = Ticking()
    monkeypatch.setattr(ticking.world.fleet, "usage", never)
    async with asyncio.timeout(10):
        assert (await ticking.tick()).outcome == "saved"
