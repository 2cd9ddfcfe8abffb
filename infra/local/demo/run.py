"""One demo: start the system, play the day, stop the system, judge what was seen."""

from __future__ import annotations

import asyncio
import math
import os
import time
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console

from infra.local import system as joined
from infra.local.demo.arrivals import Playback
from infra.local.demo.day import (
    HOLD_LIMIT_S,
    PINNED,
    SERVICE,
    Day,
    built_in_day,
    recorded_day,
    write_settings,
)
from infra.local.demo.live import Screen
from infra.local.demo.player import Player
from infra.local.demo.verdict import Evidence, Expectation, Summary, expectations, summarize
from infra.local.demo.watch import Sample, Turn, Watcher
from infra.local.guards import check_config
from infra.local.leftovers import reap_replicas
from infra.local.places import DEMO, LOCAL, Ports
from infra.local.supervisor import Supervisor

TICK_EVERY_SECOND = "* * * * * *"
START_DELAY = "1.5-3"  # seconds a container group takes to start, in the stand-in
# How long after its settings are written the day begins: the function host reads them and has to be up by then.
MARGINS_S = (9.0, 20.0, 40.0)
LONGEST_NIGHT_S = 50.0  # the last start was slow at times, and one that was slow is given up later
SHOW_EVERY_S = 0.25


class TooSlow(Exception):
    """The machine did not get the system up in time for the day."""


class Demo:
    """A demo on these ports; ``trace`` takes the place of the built-in working hours; ``tls``: replicas serve it."""

    def __init__(self, ports: Ports, console: Console, trace: tuple[str, Playback] | None, *, tls: bool) -> None:
        self._ports = ports
        self._console = console
        self._trace = trace
        self._tls = tls
        self._began = time.monotonic()

    async def run(self) -> bool:
        """Play the day; whether everything that must hold did."""
        screen = Screen(self._console)
        config_file = write_settings(DEMO, self._day(time.time()), image=joined.IMAGE)
        system = joined.prepare(
            self._ports,
            config_file,
            check_config(config_file),
            tick_schedule=TICK_EVERY_SECOND,
            start_delay=START_DELAY,
            tls=self._tls,
        )
        supervisor = Supervisor(LOCAL, screen.say, trust=joined.trust(system))
        try:
            day = await self._start(system, supervisor, screen)
            with screen:
                seen = await self._play(system, supervisor, day, screen)
        finally:
            await supervisor.stop()
            reap_replicas()
        left = joined.processes_left(system)
        seen = msgspec.structs.replace(seen, processes_left=left, seconds=time.monotonic() - self._began)
        return self._report(seen)

    def _day(self, starts_at: float) -> Day:
        if self._trace is None:
            return built_in_day(starts_at)
        name, playback = self._trace
        return recorded_day(starts_at, playback, name)

    async def _start(self, system: joined.System, supervisor: Supervisor, screen: Screen) -> Day:
        """Bring everything up; the day's settings are written as late as can be, for its hours are real ones."""
        parts = joined.parts(system, os.environ)
        screen.say("starting: Azurite, the stand-in for Azure Resource Manager, the function host, discovery, Envoy")
        await supervisor.start([part for part in parts if part.level == 0])
        rest = [part for part in parts if part.level > 0]
        for margin_s in MARGINS_S:
            day = self._day(math.ceil(time.time() + margin_s))
            write_settings(DEMO, day, image=joined.IMAGE)
            await supervisor.start(rest)
            if time.time() < day.starts_at:
                screen.say(f"everything is up after {time.monotonic() - self._began:.1f} s; the day begins")
                return day
            screen.say("this machine took longer than expected; the day is put off")
            await supervisor.end([part.key for part in rest])
        raise TooSlow("this machine does not get the function host up within 40 s; end other work on it and try again")

    async def _play(self, system: joined.System, supervisor: Supervisor, day: Day, screen: Screen) -> Evidence:
        player = Player(f"{system.doors.front}/predict", day.may_refuse, patience_s=HOLD_LIMIT_S + 10)
        connector = aiohttp.TCPConnector(ssl=joined.trust(system))
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            watcher = Watcher(system.doors, SERVICE, session)
            beside = [
                asyncio.create_task(watcher.watch()),
                asyncio.create_task(self._pin_in_time(day, watcher, screen)),
                asyncio.create_task(_keep_showing(screen, day, player, watcher)),
            ]
            try:
                await player.play(day.starts_at, day.arrivals_s)
                last = await _wait_for_zero(watcher, day)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
            turns = await _all_turns(watcher, day, screen)
        return Evidence(
            day=day,
            answers=player.answers,
            sent=player.sent,
            samples=watcher.samples,
            turns=turns,
            groups_seen=len(watcher.groups_seen),
            groups_left=last.groups if last else len(watcher.groups_now),
            held_at_zero=watcher.held_at_zero,
            restarts=sum(supervisor.restarts.values()),
            processes_left=(),
            seconds=0.0,
        )

    async def _pin_in_time(self, day: Day, watcher: Watcher, screen: Screen) -> None:
        pin = day.phase("pin")
        await asyncio.sleep(max(0.0, pin.start - time.time()))
        try:
            await watcher.pin(PINNED, round(pin.end - pin.start), "the demo")
            screen.say(f"pinned to {PINNED} replicas over HTTP for {pin.end - pin.start:.0f} s")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            screen.say(f"the pin could not be set: {error}")

    def _report(self, seen: Evidence) -> bool:
        """Write the summary and the picture, print the verdict."""
        from infra.local.demo.plot import draw  # noqa: PLC0415 - a second of import, wanted only here

        summary, checks = summarize(seen), expectations(seen)
        _write(DEMO / "summary.json", summary)
        draw(DEMO / "day.png", seen, summary)
        for check in checks:
            self._console.print(_line(check), highlight=False, markup=False, soft_wrap=True)
        held = all(check.held for check in checks)
        verdict = "everything held" if held else f"{sum(not check.held for check in checks)} expectations failed"
        self._console.print(
            f"{verdict}: {summary.requests} requests, {summary.failed} failed, {summary.late} late, "
            f"{time.monotonic() - self._began:.0f} s; .demo/summary.json, .demo/day.png, logs in .local/logs",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        return held


async def _keep_showing(screen: Screen, day: Day, player: Player, watcher: Watcher) -> None:
    while True:
        screen.show(day, player, watcher)
        await asyncio.sleep(SHOW_EVERY_S)


async def _wait_for_zero(watcher: Watcher, day: Day) -> Sample | None:
    """After the last request: until the fleet is gone, or the night is over. Gives the last look."""
    deadline = time.monotonic() + LONGEST_NIGHT_S
    while time.monotonic() < deadline:
        sample = watcher.latest
        if (
            sample
            and sample.at > day.ends_at
            and not sample.groups
            and not sample.ready + sample.starting + sample.draining
        ):
            break
        await asyncio.sleep(0.2)
    return await watcher.look()


async def _all_turns(watcher: Watcher, day: Day, screen: Screen) -> list[Turn]:
    try:
        return await watcher.decisions(day.starts_at - 1)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        screen.say(f"the recorded decisions could not be read: {error}")
        return []


def _line(check: Expectation) -> str:
    return f"{'ok    ' if check.held else 'FAILED'}  {check.what}  ({check.seen})"


def _write(file: Path, summary: Summary) -> None:
    text = msgspec.json.format(msgspec.json.encode(summary), indent=2)
    file.write_bytes(text + b"\n")
