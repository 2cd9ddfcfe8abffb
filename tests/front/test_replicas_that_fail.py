"""Replicas that die, are full, or come back: a request is lost only when nothing else is left to try."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.front.parts import Envoy, Table, discovery, envoy, layout, needs_envoy, replica, replica_process, until

pytestmark = needs_envoy
IRIS = {"iris": 30.0}


async def post(front: Envoy, body: bytes = b"x", path: str = "/predict") -> tuple[int, dict[str, object]]:
    async with front.session.post(front.url + path, data=io.BytesIO(body)) as response:
        return response.status, await response.json(content_type=None)


async def test_requests_in_flight_on_the_only_replica_survive_its_kill(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        with replica_process("dies", "127.64.0.2", mood="stalls") as (process, where):
            table.put("iris", where)
            await front.until_hosts("iris", where)
            bodies = [os.urandom(50_000) for _ in range(30)]
            asked = [asyncio.create_task(post(front, body)) for body in bodies]
            await front.until_active("iris", 30)
            process.kill()
            process.wait()
            await until(lambda: table.fronts["iris"][-1].waiting == 30)  # the table still calls it ready
            async with replica("next", "127.64.0.3") as (_, other):
                table.put("iris", other)
                answers = await asyncio.gather(*asked)
            assert [status for status, _ in answers] == [200] * 30
            assert [said["sha256"] for _, said in answers] == [hashlib.sha256(b).hexdigest() for b in bodies]


@pytest.mark.verify
async def test_a_replica_that_comes_back_at_the_same_address_is_used_again_without_a_new_list(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        with replica_process("iris", "127.64.0.2", mood="stalls") as (process, where):
            table.put("iris", where)
            await front.until_hosts("iris", where)
            asked = [asyncio.create_task(post(front)) for _ in range(10)]
            await front.until_active("iris", 10)
            process.kill()
            process.wait()
            await until(lambda: table.fronts["iris"][-1].waiting == 10)
            with replica_process("iris", *where):
                assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 10


async def test_a_replica_dead_among_others_costs_no_request(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        with ExitStack() as stack:
            started = [stack.enter_context(replica_process(f"r{i}", f"127.64.1.{i + 1}")) for i in range(3)]
            table.put("iris", *(where for _, where in started))
            await front.until_hosts("iris", *(where for _, where in started))
            for victim in (0, 1):
                asked = [asyncio.create_task(post(front, path="/predict?sleep=0.05")) for _ in range(60)]
                await asyncio.sleep(0.02)
                started[victim][0].kill()
                assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 60


async def test_nine_dead_replicas_listed_beside_one_alive_cost_no_request(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front, replica("r") as (_, where):
        table.put("iris", where, *((f"127.64.2.{i}", 1) for i in range(1, 10)))
        await front.until_hosts("iris", where, *((f"127.64.2.{i}", 1) for i in range(1, 10)))
        answers = [await post(front) for _ in range(20)]
        assert [status for status, _ in answers] == [200] * 20


async def test_a_request_that_kills_replicas_is_given_up_before_it_has_killed_them_all(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        with ExitStack() as stack:
            started = [
                stack.enter_context(replica_process(f"r{i}", f"127.64.1.{i + 1}", mood="dies")) for i in range(7)
            ]
            table.put("iris", *(where for _, where in started))
            await front.until_hosts("iris", *(where for _, where in started))
            status, said = await post(front, path="/poison")
            killed = sum(process.poll() is not None for process, _ in started)
            assert killed in (4, 5)  # one that still takes connections when it is asked is counted with the next
            assert (status, said["detail"]) == (503, f"{killed} replicas went away while they had this request.")
            assert (await post(front))[0] == 200


async def test_a_replica_that_is_full_gets_the_request_again_later(tmp_path: Path) -> None:
    table = Table("iris")
    async with (
        discovery(table, IRIS) as port,
        envoy(tmp_path, layout(port, IRIS)) as front,
        replica("small", at_once=4) as (app, where),
    ):
        table.put("iris", where)
        await front.until_hosts("iris", where)
        answers = await asyncio.gather(*(post(front, path="/predict?sleep=0.02") for _ in range(60)))
        assert [status for status, _ in answers] == [200] * 60
        assert app.refused > 0


async def test_a_hundred_held_requests_are_all_answered_by_a_replica_that_takes_eight_at_a_time(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        asked = [asyncio.create_task(post(front, path="/predict?sleep=0.02")) for _ in range(100)]
        await until(lambda: table.fronts["iris"] and table.fronts["iris"][-1].waiting == 100)
        async with replica("small", at_once=8) as (_, where):
            table.put("iris", where)
            assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 100


async def test_an_error_that_a_replica_answers_is_the_answer(tmp_path: Path) -> None:
    table = Table("iris")
    async with (
        discovery(table, IRIS) as port,
        envoy(tmp_path, layout(port, IRIS)) as front,
        replica("one") as (app, where),
    ):
        table.put("iris", where)
        await front.until_hosts("iris", where)
        for status in (400, 404, 422, 500, 501, 504):
            for _ in range(10):
                assert (await post(front, path=f"/status/{status}"))[0] == status
        assert len(app.paths) == 60
        assert (await post(front))[0] == 200


async def test_a_replica_taken_from_the_list_finishes_what_it_has(tmp_path: Path) -> None:
    table = Table("iris")
    async with (
        discovery(table, IRIS) as port,
        envoy(tmp_path, layout(port, IRIS)) as front,
        replica("leaves") as (app, where),
        replica("stays") as (_, other),
    ):
        table.put("iris", where)
        await front.until_hosts("iris", where)
        app.latch.clear()
        asked = [asyncio.create_task(post(front)) for _ in range(5)]
        await until(lambda: app.in_flight == 5)
        version = table.put("iris", other)
        await until(lambda: table.fronts["iris"][-1].applied_version == version)
        assert (await post(front))[1]["replica"] == "stays"
        app.latch.set()
        assert [said["replica"] for _, said in await asyncio.gather(*asked)] == ["leaves"] * 5


async def test_a_hung_replica_holds_its_requests_no_longer_than_it_lives(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        with replica_process("hangs", "127.64.0.2") as (process, where):
            table.put("iris", where)
            await front.until_hosts("iris", where)
            assert (await post(front))[0] == 200
            process.send_signal(signal.SIGSTOP)
            asked = [asyncio.create_task(post(front)) for _ in range(5)]
            await front.until_active("iris", 5)
            async with replica("next", "127.64.0.3") as (_, other):
                table.put("iris", other)
                process.kill()
                assert [said["replica"] for _, said in await asyncio.gather(*asked)] == ["next"] * 5


@pytest.mark.verify
async def test_a_request_that_kills_the_only_replica_whenever_it_returns_is_given_up(tmp_path: Path) -> None:
    table = Table("iris")
    async with discovery(table, IRIS) as port, envoy(tmp_path, layout(port, IRIS)) as front:
        with ExitStack() as stack:
            process, where = stack.enter_context(replica_process("r", "127.64.0.2", mood="dies"))
            table.put("iris", where)
            asked = asyncio.create_task(post(front, path="/poison"))
            lives = 1
            while not asked.done():
                if process.poll() is not None:
                    again = replica_process("r", *where, mood="dies")
                    process, where = await asyncio.to_thread(stack.enter_context, again)
                    lives += 1
                await asyncio.sleep(0.01)
            status, said = await asked
            assert (status, "replicas went away" in str(said["detail"])) == (503, True), said
            assert lives <= 8  # one that is back before it is looked for is not counted
