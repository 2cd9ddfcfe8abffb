"""Timers: one call at a time, late ones collapsed, missed ones made up for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from infra.local.functions.app import TimerTrigger
from infra.local.functions.schedule import parse
from infra.local.functions.timers import Monitor, run_timer
from tests.infra.functions.serving import StepClock


def timer(schedule: str, *, run_on_startup: bool = False, is_monitored: bool = False) -> TimerTrigger:
    return TimerTrigger(schedule=parse(schedule, 0.0), run_on_startup=run_on_startup, is_monitored=is_monitored)


@asynccontextmanager
async def running(
    trigger: TimerTrigger, call: Callable[[bool], Awaitable[None]], clock: StepClock, monitor: Monitor
) -> AsyncIterator[None]:
    task = asyncio.create_task(run_timer("t", trigger, call, clock, monitor))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_timer_is_called_at_each_of_its_times(tmp_path: Path) -> None:
    clock = StepClock(3.0)
    calls: list[tuple[float, bool]] = []

    async def call(is_past_due: bool) -> None:
        calls.append((clock.now(), is_past_due))

    async with running(timer("*/15 * * * * *"), call, clock, Monitor(tmp_path / "m.json")):
        for _ in range(3):
            clock.move_to(await clock.asleep_until())
        await clock.asleep_until()

    assert calls == [(15.0, False), (30.0, False), (45.0, False)]


async def test_ticks_that_fall_into_a_long_call_become_one_at_once(tmp_path: Path) -> None:
    clock = StepClock(0.0)
    calls: list[float] = []

    async def call(_is_past_due: bool) -> None:
        calls.append(clock.now())
        if len(calls) == 1:
            clock.move_to(50.0)  # the call took 40 s: 20, 30, 40 and 50 have passed

    async with running(timer("*/10 * * * * *"), call, clock, Monitor(tmp_path / "m.json")):
        clock.move_to(await clock.asleep_until())
        next_at = await clock.asleep_until()

    assert calls == [10.0, 50.0]
    assert next_at == 60.0


async def test_a_timer_never_overlaps_itself(tmp_path: Path) -> None:
    clock = StepClock(0.0)
    began, goes_on = asyncio.Event(), asyncio.Event()
    at_once = 0
    most = 0

    async def call(_is_past_due: bool) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        began.set()
        await goes_on.wait()
        at_once -= 1

    async with running(timer("* * * * * *"), call, clock, Monitor(tmp_path / "m.json")):
        clock.move_to(await clock.asleep_until())
        await began.wait()
        clock.move_to(20.0)
        await asyncio.sleep(0)
        goes_on.set()
        await clock.asleep_until()

    assert most == 1


async def test_run_on_startup_calls_at_once_and_then_by_the_schedule(tmp_path: Path) -> None:
    clock = StepClock(3.0)
    calls: list[tuple[float, bool]] = []

    async def call(is_past_due: bool) -> None:
        calls.append((clock.now(), is_past_due))

    async with running(timer("0 * * * * *", run_on_startup=True), call, clock, Monitor(tmp_path / "m.json")):
        next_at = await clock.asleep_until()

    assert calls == [(3.0, False)]
    assert next_at == 60.0


async def test_calls_missed_while_the_host_was_away_are_made_up_for_by_one(tmp_path: Path) -> None:
    trigger = timer("0 * * * * *", is_monitored=True)
    calls: list[tuple[float, bool]] = []

    async def run_from(at: float) -> float:
        clock = StepClock(at)

        async def call(is_past_due: bool) -> None:
            calls.append((clock.now(), is_past_due))

        async with running(trigger, call, clock, Monitor(tmp_path / "m.json")):
            return await clock.asleep_until()

    assert await run_from(30.0) == 60.0
    assert await run_from(40.0) == 60.0
    assert calls == []
    assert await run_from(500.0) == 540.0
    assert calls == [(500.0, True)]


async def test_a_clock_set_back_does_not_bring_the_same_time_twice(tmp_path: Path) -> None:
    clock = StepClock(0.0)
    calls: list[float] = []

    async def call(_is_past_due: bool) -> None:
        calls.append(clock.now())

    async with running(timer("*/10 * * * * *"), call, clock, Monitor(tmp_path / "m.json")):
        await clock.asleep_until()
        clock.move_to(10.0)
        clock.move_to(9.999)
        next_at = await clock.asleep_until()

    assert calls == [9.999]
    assert next_at == 20.0


def test_a_monitor_whose_file_is_broken_knows_nothing_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text("{broken")
    monitor = Monitor(path)

    assert monitor.due_at("t") is None
    monitor.remember("t", 5.0)
    assert monitor.due_at("t") == 5.0
