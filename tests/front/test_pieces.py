"""The pieces of discovery alone: lists and tags, who has which, turns, probes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.front.applied import SILENT_S, Applied
from scaler.front.endpoints import Endpoint, Endpoints, endpoints, version_of
from scaler.front.hold import AGAIN, Hold, Visit
from scaler.front.probe import Prober, connects
from scaler.front.turns import LEAST_RATE, START_RATE, Turns
from scaler.model import Phase
from scaler.ports import ServiceRow, Stored
from tests.front.parts import ready, until
from tests.front.replica import listener

A, B = ("10.0.0.1", 8000), ("10.0.0.2", 8000)


def listed(version: int, *ready: Endpoint) -> Endpoints:
    return Endpoints(service="iris", version=version, ready=ready)


def test_only_ready_replicas_with_an_address_are_listed() -> None:
    rows = tuple(ready(phase, f"10.0.0.{i}", 8000, phase) for i, phase in enumerate(Phase))
    stored = Stored(service="iris", row=ServiceRow(memory=b"", endpoints_version=3), replicas=rows)
    found = endpoints(stored, hold_limit_s=1)
    assert found.ready == (("10.0.0.3", 8000),)
    assert list(Phase)[3] is Phase.READY
    assert version_of(found.tag) == 3


@given(st.text(max_size=40))
def test_any_text_as_version_is_a_number(tag: str) -> None:
    assert version_of(tag) >= 0


def test_an_off_period_ends_by_the_clock_although_no_tick_has_said_so() -> None:
    off = Endpoints(service="iris", off=True, opens_at=100.0)
    assert off.is_off(99.0)
    assert not off.is_off(100.0)
    assert Endpoints(service="iris", off=True).is_off(1e12)


def test_applied_is_what_the_slowest_envoy_has_and_an_envoy_that_fell_silent_holds_nothing_back() -> None:
    applied = Applied()
    for each in (listed(1), listed(2, A), listed(3, A, B)):
        applied.served(each)
    applied.begin("one", listed(3, A, B).tag, 0.0)
    applied.begin("two", listed(2, A).tag, 0.0)
    assert applied.version(1.0) == 2
    assert applied.usable(listed(3, A, B), 1.0) == {A}
    assert applied.version(1000.0) == 2, "a poll that is open means that the Envoy is there"
    applied.end("two", 1000.0)
    assert applied.version(1000.0 + SILENT_S - 1) == 2
    assert applied.version(1000.0 + SILENT_S + 1) == 3


def test_nothing_is_usable_before_an_envoy_has_polled_or_when_its_list_is_not_known() -> None:
    applied = Applied()
    applied.served(listed(2, A))
    assert applied.usable(listed(2, A), 0.0) == frozenset()
    applied.begin("one", "77.unknown", 0.0)
    assert applied.usable(listed(2, A), 0.0) == frozenset()
    applied.begin("one", listed(2, A).tag, 0.0)
    assert applied.usable(listed(2, A), 0.0) == {A}


def test_made_up_node_ids_do_not_fill_the_memory() -> None:
    applied = Applied()
    for i in range(10_000):
        applied.begin(f"node-{i}", "1.x", float(i))
    assert len(applied._envoys) <= 64


async def test_the_oldest_request_has_the_first_turn_and_one_that_stepped_out_has_none() -> None:
    turns = Turns()
    order: list[str] = []
    taken = {name: turns.take(since) for name, since in (("young", 3.0), ("gone", 2.0), ("old", 1.0))}
    taken["young"].add_done_callback(lambda _: order.append("young"))
    taken["old"].add_done_callback(lambda _: order.append("old"))
    taken["gone"].cancel()
    await asyncio.gather(taken["young"], taken["old"])
    assert order == ["old", "young"]


async def test_refusals_slow_the_turns_down_once_for_those_that_come_together() -> None:
    turns = Turns()
    for _ in range(50):
        turns.refused()
    assert START_RATE * 0.6 < turns.rate() < START_RATE * 0.8
    assert turns.rate() >= LEAST_RATE


async def test_a_probe_tells_who_listens_and_asks_no_more_often_than_needed() -> None:
    asked: list[Endpoint] = []

    async def connect(endpoint: Endpoint) -> bool:
        asked.append(endpoint)
        return await connects(endpoint)

    with listener("127.0.0.1") as sock:
        sock.listen()
        there, nobody = sock.getsockname(), ("127.0.0.1", 1)
        prober = Prober(connect)
        answers = await asyncio.gather(*(prober.alive([there, nobody]) for _ in range(100)))
        assert all(answer == {there} for answer in answers)
        assert len(asked) == 2


@pytest.mark.parametrize("started_at", [float("nan"), float("inf"), -1e300, 0.0, 2e9, 1e30])
async def test_a_start_that_cannot_be_true_is_taken_as_now(started_at: float) -> None:
    now = 1_790_000_000.0
    hold = Hold("iris", hold_limit_s=0.0, clock=lambda: now)
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answer = await hold.visit(Visit(stream="s", attempt=1, started_at=started_at), gone)
    assert answer is not None
    assert answer.name == "no-replica"
    assert hold.expired_total == 1


async def test_beyond_the_limit_of_waiting_requests_the_next_is_refused_at_once_but_none_that_waited() -> None:
    hold = Hold("iris", hold_limit_s=30.0, waiting_limit=2)
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    visits = [asyncio.create_task(hold.visit(Visit(stream=f"s{i}", attempt=1, started_at=0), gone)) for i in range(2)]
    await until(lambda: hold.waiting == 2)
    refused = await hold.visit(Visit(stream="s9", attempt=1, started_at=0), gone)
    assert refused is not None
    assert refused.name == "too-many-waiting"
    again = asyncio.create_task(hold.visit(Visit(stream="s0", attempt=3, started_at=0), gone))
    await until(lambda: hold.waiting == 3)
    hold.close()
    assert await asyncio.gather(*visits, again) == [AGAIN] * 3
    assert hold.waiting == 0
