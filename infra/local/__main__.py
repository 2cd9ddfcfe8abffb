"""``python -m infra.local up|demo|down``: the whole system on this machine, kept running or played a day against."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console

from infra.local import system as joined
from infra.local.children import die_with_my_parent
from infra.local.demo.arrivals import compress, read_trace
from infra.local.demo.day import PEAK_RATE, SEED, WORK_S, write_settings
from infra.local.demo.run import START_DELAY, Demo, TooSlow
from infra.local.guards import CannotStart, check_config, check_ports, check_room, check_tools, holder, only_one
from infra.local.leftovers import reap, reap_replicas
from infra.local.places import DEMO, LOCAL, Ports, read_ports
from infra.local.supervisor import NotStarted, Say, Supervisor
from scaler.errors import BadSetting

LOCK = LOCAL / "run" / "lock"
DEMO_LIMIT_S = 232.0
DOWN_PATIENCE_S = 30.0


def main() -> int:
    """Exit code 0: done; 1: an expectation of the day did not hold; 2: could not start; 130: stopped by Ctrl-C."""
    options = _options().parse_args()
    console = Console()
    if "MAKELEVEL" in os.environ:
        die_with_my_parent(signal.SIGTERM)
    try:
        match options.command:
            case "up":
                return _up(console, options.config, tls=options.tls)
            case "demo":
                return _demo(console, options.trace, tls=options.tls)
            case _:
                return _down(console)
    except (BadSetting, CannotStart, NotStarted, TooSlow) as problem:
        print(f"{options.command}: {problem}", file=sys.stderr)
        return 2
    except OSError as problem:
        place = problem.filename or LOCAL
        print(
            f"{options.command}: {place}: {problem.strerror or problem}; make room or mend the rights there",
            file=sys.stderr,
        )
        return 2


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start everything and keep it running until Ctrl-C")
    up.add_argument("--config", type=Path, help="an autoscaler.yaml of your own")
    demo = commands.add_parser("demo", help="start everything, play a day, judge it, stop everything")
    demo.add_argument(
        "--trace", type=Path, help="a recording of lines t_s,requests to play instead of the built-in day"
    )
    for command in (up, demo):
        command.add_argument("--tls", action="store_true", help="replicas serve TLS, as in the variant public on Azure")
    commands.add_parser("down", help="stop what `up` or `demo` of this folder started")
    return parser


def _demo(console: Console, trace_file: Path | None, *, tls: bool) -> int:
    trace = None
    if trace_file is not None:
        playback = compress(read_trace(trace_file), WORK_S, peak_rate=PEAK_RATE, seed=SEED)
        trace = (trace_file.name, playback)
        share = "every request" if playback.share == 1 else f"one request in {1 / playback.share:.1f}"
        _sayer(console)(
            f"{trace_file.name}: {playback.factor:.1f} times as fast, {share}: {len(playback.arrivals_s)} requests"
        )
    ports = _ready_to_start()
    with only_one(LOCK, "make demo"):
        reap(_sayer(console))
        check_ports(ports)
        demo = Demo(ports, console, trace, tls=tls)
        return _until_stopped(_within_limit(demo), stopped=130)


async def _within_limit(demo: Demo) -> int:
    try:
        async with asyncio.timeout(DEMO_LIMIT_S):
            return 0 if await demo.run() else 1
    except TimeoutError:
        print(f"demo: the day did not end within {DEMO_LIMIT_S:.0f} s; see .local/logs", file=sys.stderr)
        return 1


def _up(console: Console, config_file: Path | None, *, tls: bool) -> int:
    config = check_config(config_file) if config_file is not None else None
    ports = _ready_to_start()
    with only_one(LOCK, "make up"):
        reap(_sayer(console))
        check_ports(ports)
        if config_file is None:
            config_file = write_settings(DEMO, None, image=joined.IMAGE)
            config = check_config(config_file)
        assert config is not None
        schedule = os.environ.get("AUTOSCALER_TICK_SCHEDULE", "*/5 * * * * *")
        system = joined.prepare(ports, config_file, config, tick_schedule=schedule, start_delay=START_DELAY, tls=tls)
        return _until_stopped(_keep_up(console, system), stopped=0)


async def _keep_up(console: Console, system: joined.System) -> int:
    say = _sayer(console)
    supervisor = Supervisor(LOCAL, say, trust=joined.trust(system))
    try:
        say("starting: Azurite, the stand-in for Azure Resource Manager, the function host, discovery, Envoy")
        await supervisor.start(joined.parts(system, os.environ))
        console.print(_how_to_use(system), highlight=False, markup=False, soft_wrap=True)
        await asyncio.Event().wait()
    finally:
        say("stopping")
        await supervisor.stop()
        reap_replicas()
        say("everything is stopped")
    return 0


def _sayer(console: Console) -> Say:
    def say(text: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')}  {text}", highlight=False, markup=False, soft_wrap=True)

    return say


def _until_stopped(work: Coroutine[Any, Any, int], stopped: int) -> int:
    """Run ``work``; Ctrl-C, SIGTERM and a closed terminal end it in order, and give ``stopped``."""

    async def run() -> int:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return stopped

    return asyncio.run(run())


def _ready_to_start() -> Ports:
    """Everything that can be looked at before anything is touched."""
    ports = read_ports(os.environ)
    check_tools()
    check_room(LOCAL)
    return ports


def _down(console: Console) -> int:
    """Stop the start that holds the lock, then end whatever is left."""
    pid = holder(LOCK)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_PATIENCE_S
        while holder(LOCK) is not None:
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"process {pid} does not end within {DOWN_PATIENCE_S:.0f} s; end it by force: kill -9 {pid}"
                )
            time.sleep(0.1)
    with only_one(LOCK, "make down"):
        reap(_sayer(console))
    console.print("everything is stopped" if pid else "nothing was running")
    return 0


def _how_to_use(system: joined.System) -> str:
    doors = system.doors
    shown = system.config_file
    return f"""
  front           {doors.front}/predict
  dashboard       {doors.admin}/dashboard
  admin API       {doors.admin}   (keys: .local/keys.json)
  Resource Mgr    {doors.arm}   (identity: {doors.identity})
  settings        {shown}
  logs            .local/logs

  In another terminal:

    . .local/env
    curl -s -d '{{"data": [[5.1, 3.5, 1.4, 0.2]]}}' {doors.front}/predict
    curl -s -H "x-functions-key: $AUTOSCALER_KEY" $AUTOSCALER_URL/api/services
    .venv/bin/python -m scaler status
    .venv/bin/python -m scaler pin iris 2 --for 5m --reason "a look"

  Ctrl-C ends everything.
"""


if __name__ == "__main__":
    sys.exit(main())
