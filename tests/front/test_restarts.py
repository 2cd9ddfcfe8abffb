"""Discovery, Envoy and the table go away and come back while requests are held."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import aiohttp
import pytest

from tests.front.parts import Envoy, Table, discovery, envoy, layout, needs_envoy, replica, until
from tests.front.replica import listener

pytestmark = needs_envoy
IRIS = {"iris": 30.0}


async def post(front: Envoy, path: str = "/predict") -> int:
    async with front.session.post(front.url + path, data=io.BytesIO(b"x" * 1000)) as response:
        await response.read()
        return response.status


def free_port() -> int:
    with listener("127.0.0.1") as sock:
        return int(sock.getsockname()[1])


def waiting(table: Table, count: int) -> bool:
    return bool(table.fronts["iris"]) and table.fronts["iris"][-1].waiting == count


async def test_discovery_may_be_gone_for_seconds_while_requests_are_held(tmp_path: Path) -> None:
    table, port = Table("iris"), free_port()
    first = discovery(table, IRIS, port=port)
    await first.__aenter__()
    async with envoy(tmp_path, layout(port, IRIS)) as front:
        asked = [asyncio.create_task(post(front)) for _ in range(20)]
        await until(lambda: waiting(table, 20))
        earlier = table.fronts["iris"][-1].start_id
        await first.__aexit__(None, None, None)
        more = asyncio.create_task(post(front))
        await asyncio.sleep(1.5)  # how long it is gone is what is tested
        async with discovery(table, IRIS, port=port):
            await until(lambda: waiting(table, 21))
            assert table.fronts["iris"][-1].start_id != earlier
            async with replica("r") as (_, where):
                table.put("iris", where)
                assert await asyncio.gather(*asked, more) == [200] * 21


async def test_replicas_are_served_on_while_discovery_is_gone(tmp_path: Path) -> None:
    table, port = Table("iris"), free_port()
    async with replica("r") as (_, where):
        table.put("iris", where)
        gone = discovery(table, IRIS, port=port)
        await gone.__aenter__()
        async with envoy(tmp_path, layout(port, IRIS)) as front:
            assert await post(front) == 200
            await gone.__aexit__(None, None, None)
            assert [await post(front) for _ in range(20)] == [200] * 20


async def test_a_new_discovery_that_cannot_read_the_table_leaves_envoy_the_list_it_has(tmp_path: Path) -> None:
    table, port = Table("iris"), free_port()
    async with replica("r") as (_, where):
        version = table.put("iris", where, version=17)
        gone = discovery(table, IRIS, port=port)
        await gone.__aenter__()
        async with envoy(tmp_path, layout(port, IRIS)) as front:
            assert await post(front) == 200
            await gone.__aexit__(None, None, None)
            table.away = True
            async with discovery(table, IRIS, port=port):
                await until_polled(front, port, version)
                assert [await post(front) for _ in range(20)] == [200] * 20


async def until_polled(front: Envoy, port: int, version: int) -> None:
    for _ in range(500):
        async with front.session.get(f"http://127.0.0.1:{port}/healthz") as response:
            if (await response.json())["services"]["iris"]["applied_version"] == version:
                return
        await asyncio.sleep(0.01)
    raise AssertionError("Envoy never asked the new discovery")


async def test_the_table_may_be_away_at_the_start_and_for_a_while(tmp_path: Path) -> None:
    table = Table("iris")
    table.away = True
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        asked = asyncio.create_task(post(front))
        async with front.session.get(f"http://127.0.0.1:{port}/healthz") as response:
            assert response.status == 200
        await until_waiting_inside(front, port, 1)
        async with replica("r") as (_, where):
            table.put("iris", where)
            table.away = False
            assert await asked == 200
            table.away = True
            assert [await post(front) for _ in range(20)] == [200] * 20


async def until_waiting_inside(front: Envoy, port: int, count: int) -> None:
    for _ in range(500):
        async with front.session.get(f"http://127.0.0.1:{port}/healthz") as response:
            if (await response.json())["services"]["iris"]["waiting"] == count:
                return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing came to wait")


@pytest.mark.verify
async def test_after_a_kill_of_envoy_the_next_one_serves_and_the_old_waiters_are_not_counted(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port:
        async with envoy(tmp_path / "one", layout(port, IRIS)) as front:
            asked = [asyncio.create_task(post(front)) for _ in range(5)]
            await until(lambda: waiting(table, 5))
            front.process.kill()
            ended = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(each, aiohttp.ClientError) for each in ended)
            await until(lambda: waiting(table, 0))
        async with envoy(tmp_path / "two", layout(port, IRIS)) as front:
            held = asyncio.create_task(post(front))
            await until(lambda: waiting(table, 1))
            async with replica("r") as (_, where):
                table.put("iris", where)
                assert await held == 200


@pytest.mark.verify
async def test_envoy_that_starts_before_discovery_holds_and_serves_once_it_is_there(tmp_path: Path) -> None:
    table, port = Table("iris"), free_port()
    async with replica("r") as (_, where):
        table.put("iris", where)
        async with envoy(tmp_path, layout(port, IRIS)) as front:
            asked = asyncio.create_task(post(front))
            await front.until_retried("iris")
            assert not asked.done()
            async with discovery(table, IRIS, port=port):
                assert await asked == 200


async def test_a_table_made_anew_that_counts_from_the_start_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    table = Table("iris")
    async with (
        discovery(table, IRIS) as port,
        replica("old") as (_, old),
        replica("new", "127.64.0.7") as (_, new),
        envoy(tmp_path, layout(port, IRIS)) as front,
    ):
        table.put("iris", old, version=5)
        assert await post(front) == 200
        table.put("iris", new, version=5)
        await front.until_hosts("iris", new)


async def test_applied_version_follows_the_table_up_and_never_runs_ahead_of_envoy(tmp_path: Path) -> None:
    table = Table("iris")
    async with (
        discovery(table, IRIS) as port,
        replica("a") as (_, a),
        replica("b", "127.64.0.7") as (_, b),
        envoy(tmp_path, layout(port, IRIS)) as front,
    ):
        for round_ in range(10):
            there = b if round_ % 2 else a
            version = table.put("iris", there)
            await until(lambda version=version: table.fronts["iris"][-1].applied_version == version)  # type: ignore[misc]
            assert await front.hosts("iris") == [f"{there[0]}:{there[1]}"]
        seen = [front_row.applied_version for front_row in table.fronts["iris"]]
        assert seen == sorted(seen)
