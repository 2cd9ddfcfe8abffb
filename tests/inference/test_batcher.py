"""The batcher with models made for the test: what is joined, who gets what, who waits."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from inference.batcher import Batcher
from inference.errors import Refused
from inference.meter import Meter
from inference.model import Model, buckets_up_to
from inference.settings import Settings
from inference.wire import Outputs, Signature

SIGNATURE = Signature(input_name="data", dtype="float32", row_shape=(1,), outputs=(("predictions", "float32", (1,)),))


class Doubling(Model):
    """Answers twice the number; 13 breaks it. `gate`, if given, is waited for by every batch."""

    def __init__(self, seconds: dict[int, float], gate: threading.Event | None = None) -> None:
        super().__init__("doubling", Path(__file__), SIGNATURE)
        self.set_costs(seconds)
        self.gate = gate
        self.sizes: list[int] = []
        self.begun = threading.Event()

    def run(self, payloads: list[bytes], rows: int) -> Outputs:
        self.sizes.append(rows)
        self.begun.set()
        if self.gate is not None:
            assert self.gate.wait(10)
        numbers = np.frombuffer(b"".join(payloads), dtype=np.float32).reshape(rows, 1)
        if (numbers == 13).any():
            raise ValueError("13")
        return Outputs((numbers * 2,))

    def warm_up(self) -> None:
        raise AssertionError("not needed")


class Asked:
    """A job that keeps what it was told."""

    def __init__(self, *numbers: float) -> None:
        self.payload = struct.pack(f"<{len(numbers)}f", *numbers)
        self.rows = len(numbers)
        self.at = time.monotonic()
        self.deadline = self.at + 30
        self.gone = False
        self.told: bytes | Refused | None = None
        self.done = asyncio.Event()

    def answer(self, outputs: Outputs, begin: int) -> None:
        self.told = outputs.text(begin, begin + self.rows)
        self.done.set()

    def refuse(self, reason: Refused) -> None:
        self.told = reason
        self.done.set()


QUICK = dict.fromkeys(buckets_up_to(8), 1e-5)
SLOW = {size: 0.01 + size * 0.001 for size in buckets_up_to(8)}


def batcher(model: Model, **settings: float) -> tuple[Batcher, Meter]:
    meter = Meter()
    made = Settings(models=(), **settings)  # type: ignore[arg-type]
    return Batcher(model, made, meter, asyncio.get_running_loop()), meter


async def told(*jobs: Asked) -> list[bytes | Refused | None]:
    for job in jobs:
        await asyncio.wait_for(job.done.wait(), 10)
    return [job.told for job in jobs]


@pytest.mark.parametrize("seconds", [QUICK, SLOW], ids=["on the loop", "in the thread"])
async def test_jobs_that_are_there_together_are_one_batch_and_get_their_own_rows(seconds: dict[int, float]) -> None:
    model = Doubling(seconds)
    queue, meter = batcher(model)
    jobs = [Asked(1), Asked(2, 3), Asked(4)]
    for job in jobs:
        queue.submit(job)
    assert await told(*jobs) == [b"[[2.0]]", b"[[4.0],[6.0]]", b"[[8.0]]"]
    assert model.sizes == [4]
    assert (meter.completed, meter.in_flight, meter.queued) == (3, 0, 0)
    queue.close()


@pytest.mark.parametrize("seconds", [QUICK, SLOW], ids=["on the loop", "in the thread"])
async def test_a_bad_row_fails_only_its_own_request(seconds: dict[int, float]) -> None:
    queue, meter = batcher(Doubling(seconds))
    jobs = [Asked(1), Asked(13), Asked(3)]
    for job in jobs:
        queue.submit(job)
    first, second, third = await told(*jobs)
    assert (first, third) == (b"[[2.0]]", b"[[6.0]]")
    assert isinstance(second, Refused)
    assert second.status == 500
    assert (meter.completed, meter.failed) == (2, 1)
    queue.close()


class Unwritable(Asked):
    """A job whose answer cannot be written."""

    def answer(self, outputs: Outputs, begin: int) -> None:
        raise TypeError("no such encoder")


async def test_an_answer_that_cannot_be_written_fails_alone_and_the_queue_goes_on() -> None:
    queue, meter = batcher(Doubling(QUICK))
    first, broken, third = Asked(1), Unwritable(2), Asked(3)
    for job in (first, broken, third):
        queue.submit(job)
    assert (await told(first, third)) == [b"[[2.0]]", b"[[6.0]]"]
    assert isinstance(broken.told, Refused)
    assert broken.told.status == 500
    later = Asked(4)
    queue.submit(later)
    assert await told(later) == [b"[[8.0]]"]
    assert (meter.completed, meter.failed) == (3, 1)
    queue.close()


async def test_what_queues_while_a_batch_runs_is_the_next_one() -> None:
    gate = threading.Event()
    model = Doubling(SLOW, gate)
    queue, _ = batcher(model)
    first, others = Asked(1), [Asked(n) for n in range(5)]
    queue.submit(first)
    assert await asyncio.to_thread(model.begun.wait, 10)
    for job in others:
        queue.submit(job)
    gate.set()
    await told(first, *others)
    assert model.sizes == [1, 5]
    queue.close()


async def test_a_model_of_depth_two_is_given_a_full_batch_while_the_first_runs_and_never_a_third() -> None:
    gate = threading.Event()
    model = Doubling(dict.fromkeys(buckets_up_to(4), 60.0), gate)  # so it claims: nothing is due for a minute
    model.depth = 2
    queue, meter = batcher(model)
    first, fill, more = Asked(1), [Asked(n) for n in range(4)], [Asked(n) for n in range(20, 24)]
    queue.submit(first)
    assert await asyncio.to_thread(model.begun.wait, 10)
    for job in fill[:3]:
        queue.submit(job)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (model.sizes, meter.in_flight, meter.queued) == ([1], 1, 3)  # not full: it can still grow
    queue.submit(fill[3])
    for _ in range(20):
        await asyncio.sleep(0)
    assert meter.in_flight == 5
    for job in more:
        queue.submit(job)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (meter.in_flight, meter.queued) == (5, 4)
    gate.set()
    assert await told(first, *fill, *more) == [b"[[%.1f]]" % (2 * n) for n in (1, 0, 1, 2, 3, 20, 21, 22, 23)]
    assert model.sizes == [1, 4, 4]
    assert (meter.completed, meter.in_flight, meter.queued) == (9, 0, 0)
    queue.close()


async def test_what_is_not_full_is_taken_when_the_batch_before_it_comes_back_early() -> None:
    gate = threading.Event()
    model = Doubling(dict.fromkeys(buckets_up_to(4), 60.0), gate)
    model.depth = 2
    queue, _ = batcher(model)
    first, second = Asked(1), Asked(2)
    queue.submit(first)
    assert await asyncio.to_thread(model.begun.wait, 10)
    queue.submit(second)
    gate.set()
    assert await told(first, second) == [b"[[2.0]]", b"[[4.0]]"]
    queue.close()


async def test_gone_and_late_jobs_are_not_computed() -> None:
    gate = threading.Event()
    model = Doubling(SLOW, gate)
    queue, meter = batcher(model)
    first, gone, late = Asked(1), Asked(2), Asked(3)
    queue.submit(first)
    assert await asyncio.to_thread(model.begun.wait, 10)
    gone.gone = True
    late.deadline = 0.0
    queue.submit(gone)
    queue.submit(late)
    queue.expire(time.monotonic())
    (refused,) = await told(late)
    assert isinstance(refused, Refused)
    assert refused.status == 504
    gate.set()
    await told(first)
    assert model.sizes == [1]
    assert (meter.failed, meter.queued, gone.told) == (2, 0, None)
    queue.close()


async def test_a_set_wait_fills_the_batch_and_a_full_batch_does_not_wait() -> None:
    model = Doubling(QUICK)
    queue, _ = batcher(model, max_wait_ms=5000)
    jobs = [Asked(n) for n in range(8)]
    for job in jobs:
        queue.submit(job)
        await asyncio.sleep(0)
    await told(*jobs)
    assert model.sizes == [8]


async def test_a_lone_caller_never_waits_for_company() -> None:
    model = Doubling({1: 3.0, 8: 3.1})  # so it claims; waiting for others would take as long
    queue, meter = batcher(model, linger=1.0)
    for number in range(5):
        job = Asked(number)
        queue.submit(job)
        await asyncio.sleep(0)  # one turn of the loop
        assert (meter.queued, meter.in_flight) == (0, 1)
        await told(job)
    queue.close()


async def test_callers_that_came_back_together_are_waited_for_and_others_are_not() -> None:
    model = Doubling({1: 3.0, 2: 3.1, 4: 3.2})
    queue, _ = batcher(model, linger=0.3)
    pair = [Asked(1), Asked(2)]
    for job in pair:
        queue.submit(job)
    await told(*pair)
    again = [Asked(3), Asked(4)]
    queue.submit(again[0])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert model.sizes == [2]  # the other one is expected
    queue.submit(again[1])
    await told(*again)
    assert model.sizes == [2, 2]
    queue.close()


async def test_a_request_larger_than_a_batch_is_taken_alone() -> None:
    model = Doubling(QUICK)
    queue, _ = batcher(model)
    jobs = [Asked(1), Asked(*range(20)), Asked(2)]
    for job in jobs:
        queue.submit(job)
    await told(*jobs)
    assert sum(model.sizes) == 22
    assert 20 in model.sizes


def test_a_full_bucket_is_taken_where_padding_would_cost_more() -> None:
    model = Doubling({1: 1.0, 2: 1.1, 4: 4.0, 8: 4.2})
    assert [model.take(rows) for rows in (1, 2, 3, 8, 99)] == [1, 2, 2, 8, 8]


def test_busy_seconds_are_the_integral_of_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 101.0, 104.0, 104.5, 110.0])  # made, begun, one ended, all ended, asked
    monkeypatch.setattr("inference.meter.time", SimpleNamespace(monotonic=lambda: next(now)))
    meter = Meter()
    meter.queued = 2
    meter.begin(2)
    meter.end(1)
    meter.end(1)
    assert meter.busy_s() == 2 * 3.0 + 1 * 0.5


@pytest.mark.parametrize(("seconds", "served"), [(QUICK, 20), (SLOW, 4)])
async def test_a_full_queue_is_emptied_on_the_spot_where_that_costs_less_than_refusing(
    seconds: dict[int, float], served: int
) -> None:
    one, meter = batcher(Doubling(seconds), max_queue=4)
    jobs = [Asked(i + 20) for i in range(20)]
    taken = []
    for job in jobs:  # no turn of the loop between them
        if not one.full or one.relieve():
            one.submit(job)
            taken.append(job)
    assert len(taken) == served
    assert await told(*taken) == [b"[[%.1f]]" % (2 * i + 40) for i in range(served)]
    assert (meter.completed, meter.queued, meter.in_flight) == (served, 0, 0)
    one.close()


class Naps(threading.Event):
    """Counts who waits; nobody does."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.taken.append(timeout)
        return True


@pytest.mark.parametrize(("here", "naps"), [(1, 2), (2, 0)])
async def test_on_one_core_the_loop_rests_once_a_burst_while_a_batch_runs(
    monkeypatch: pytest.MonkeyPatch, here: int, naps: int
) -> None:
    monkeypatch.setattr("inference.batcher.cores", lambda: here)
    model = Doubling(SLOW, threading.Event())
    assert model.gate is not None
    one, _ = batcher(model, max_queue=6)
    one._back_early = nap = Naps()
    jobs = [Asked(i) for i in range(7)]
    one.submit(jobs[0])
    await asyncio.sleep(0)
    for job in jobs[1:]:  # a burst while the first is computed
        one.submit(job)
    await asyncio.sleep(0)
    for _ in range(3):  # one that meets a full queue
        assert one.full
        one.met_full()
    await asyncio.sleep(0)
    assert len(nap.taken) == naps
    model.gate.set()
    assert len(await told(*jobs)) == 7
    await asyncio.sleep(0)
    assert len(nap.taken) == naps  # nobody rests when nothing runs
    one.close()
