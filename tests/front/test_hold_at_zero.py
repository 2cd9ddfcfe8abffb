"""Requests at zero replicas: held, told, woken, released; each with its own body, none lost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import os
from pathlib import Path

import aiohttp
import pytest

from tests.front.parts import Envoy, Table, discovery, envoy, layout, needs_envoy, replica, until

pytestmark = needs_envoy
IRIS = {"iris": 30.0}


async def post(front: Envoy, body: bytes, path: str = "/predict", **headers: str) -> tuple[int, dict[str, object]]:
    async with front.session.post(front.url + path, data=io.BytesIO(body), headers=headers) as response:
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize(("count", "size"), [(10, 100), (100, 1000), (20, 2**20)])
async def test_all_requests_held_at_zero_are_answered_by_the_first_replica(
    tmp_path: Path, count: int, size: int
) -> None:
    table = Table("iris")
    bodies = [os.urandom(size) for _ in range(count)]
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        asked = [asyncio.create_task(post(front, body)) for body in bodies]
        await until(lambda: table.fronts["iris"] and table.fronts["iris"][-1].waiting == count)
        async with replica("first") as (app, where):
            table.put("iris", where)
            answers = await asyncio.gather(*asked)
            assert [status for status, _ in answers] == [200] * count
            assert [said["sha256"] for _, said in answers] == [hashlib.sha256(b).hexdigest() for b in bodies]
            assert len(app.paths) == count


async def test_with_a_replica_present_nothing_passes_through_the_hold(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, replica("first") as (app, where):
        table.put("iris", where)
        async with envoy(tmp_path, layout(port, IRIS)) as front:
            for _ in range(50):
                assert (await post(front, b"x"))[0] == 200
            assert await front.stat("cluster./hold.upstream_rq_total") == 0
    assert len(app.paths) == 50
    assert table.fronts["iris"][-1].arrivals_total == 0


async def test_a_client_that_gives_up_is_not_counted_as_waiting_any_more(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        asked = asyncio.create_task(post(front, b"x"))
        await until(lambda: table.fronts["iris"] and table.fronts["iris"][-1].waiting == 1)
        asked.cancel()
        await until(lambda: table.fronts["iris"][-1].waiting == 0)
        assert table.fronts["iris"][-1].arrivals_total == 1


async def test_after_the_hold_limit_the_answer_is_503_with_a_time_to_come_back(tmp_path: Path) -> None:
    table, short = Table("iris"), {"iris": 0.3}
    async with discovery(table, short) as port, envoy(tmp_path, layout(port, short)) as front:
        async with front.session.get(front.url + "/predict") as response:
            assert response.status == 503
            assert int(response.headers["retry-after"]) >= 1
            assert response.content_type == "application/problem+json"
            assert "x-envoy-ratelimited" not in response.headers
            assert "x-aci-retry" not in response.headers
            assert (await response.json(content_type=None))["status"] == 503
        await until(lambda: table.fronts["iris"][-1].expired_total == 1)


async def test_the_row_is_written_before_the_tick_is_woken_and_no_more_than_once_a_second(tmp_path: Path) -> None:
    table = Table("iris")
    woken: list[int] = []
    at: list[float] = []

    async def wake(service: str) -> None:
        assert service == "iris"
        woken.append(table.fronts["iris"][-1].waiting)
        at.append(asyncio.get_running_loop().time())

    async with discovery(table, IRIS, wake=wake) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        asked = [asyncio.create_task(post(front, b"x")) for _ in range(5)]
        await until(lambda: len(woken) == 3)
        assert woken[0] >= 1
        assert woken[1:] == [5, 5]
        assert all(later - earlier >= 0.99 for earlier, later in itertools.pairwise(at))
        async with replica("first") as (_, where):
            table.put("iris", where)
            await asyncio.gather(*asked)


async def test_a_slow_or_broken_wake_holds_up_nobody(tmp_path: Path) -> None:
    table = Table("iris")

    async def wake(service: str) -> None:
        await asyncio.Event().wait()

    async with discovery(table, IRIS, wake=wake) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        asked = asyncio.create_task(post(front, b"x"))
        await until(lambda: table.fronts["iris"] and table.fronts["iris"][-1].waiting == 1)
        async with replica("first") as (_, where):
            table.put("iris", where)
            assert (await asked)[0] == 200


async def test_off_hours_are_refused_with_the_next_opening_and_wake_nobody(tmp_path: Path) -> None:
    table = Table("iris")
    woken: list[str] = []

    async def wake(service: str) -> None:
        woken.append(service)

    table.put("iris", off=True, wakes=False, opens_at=asyncio.get_running_loop().time() + 4e9)
    async with discovery(table, IRIS, wake=wake) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        async with front.session.post(front.url + "/predict", data=b"x") as response:
            assert response.status == 503
            assert int(response.headers["retry-after"]) > 1e9
            assert "off-hours" in (await response.json(content_type=None))["type"]
        await until(lambda: table.fronts["iris"][-1].refused_off_hours_total == 1)
        assert not woken
        assert table.fronts["iris"][-1].waiting == 0


async def test_off_hours_with_wake_are_held(tmp_path: Path) -> None:
    table = Table("iris")
    table.put("iris", off=True, wakes=True)
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        asked = asyncio.create_task(post(front, b"x"))
        await until(lambda: table.fronts["iris"] and table.fronts["iris"][-1].waiting == 1)
        async with replica("first") as (_, where):
            table.put("iris", where)
            assert (await asked)[0] == 200


async def test_a_body_above_the_limit_is_413_and_one_at_the_limit_passes(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, replica("first") as (_, where):
        table.put("iris", where)
        async with envoy(tmp_path, layout(port, IRIS, body_limit_bytes=2**20)) as front:
            assert (await post(front, b"x" * 2**20))[0] == 200
            status, said = await post(front, b"x" * (2**20 + 1))
            assert (status, said["title"]) == (413, "Content Too Large")


async def test_a_hundred_megabytes_end_with_413_or_a_closed_connection(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, replica("first") as (app, where):
        table.put("iris", where)
        async with envoy(tmp_path, layout(port, IRIS)) as front:
            with contextlib.suppress(aiohttp.ClientError):
                assert (await post(front, b"x" * 100_000_000))[0] == 413
            assert not app.paths
            assert (await post(front, b"x"))[0] == 200
