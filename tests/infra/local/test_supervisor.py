"""Parts start in order, come back when they die, and end together."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.local import supervisor as supervisors
from infra.local.ledger import Ledger, started
from infra.local.supervisor import NotStarted, Supervisor
from tests.infra.local.trivial import SERVE, free_port, part


async def eventually(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        await asyncio.sleep(0.02)


def say_nothing(_: str) -> None:
    pass


async def test_a_level_starts_when_the_one_below_is_ready(tmp_path: Path) -> None:
    port = free_port()
    # The upper one refuses to live unless the lower one answers already.
    upper = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/', timeout=5)\n{SERVE}"
    system = Supervisor(tmp_path, say_nothing)
    await system.start([part("upper", free_port(), level=1, program=upper), part("lower", port)])
    pids = [system.pid("upper"), system.pid("lower")]
    await system.stop()
    assert all(pid is not None and started(pid) is None for pid in pids)


async def test_a_part_that_is_killed_comes_back_and_it_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    system = Supervisor(tmp_path, said.append)
    await system.start([part("one", free_port()), part("two", free_port())])
    try:
        before, other = system.pid("one"), system.pid("two")
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: any("is back" in line for line in said))
        assert system.pid("one") not in (None, before)
        assert system.pid("two") == other
        assert system.restarts == {"one": 1, "two": 0}
        assert said[0].startswith("part one ended with signal SIGKILL; it is started again in ")
    finally:
        await system.stop()


async def test_a_part_that_keeps_dying_is_started_later_each_time(tmp_path: Path) -> None:
    said: list[str] = []
    once = tmp_path / "once"
    # It serves the first time and dies at once from then on.
    program = (
        f"import os, sys\nif os.path.exists({str(once)!r}): sys.exit(3)\nopen({str(once)!r}, 'w').close()\n{SERVE}"
    )
    system = Supervisor(tmp_path, said.append)
    await system.start([part("one", free_port(), program=program)])
    try:
        pid = system.pid("one")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: len(said) >= 3)
        pauses = [float(line.rpartition("again in ")[2].removesuffix(" s")) for line in said[:3]]
        assert pauses == sorted(pauses)
        assert pauses[0] < pauses[2] <= supervisors.PAUSE_LONGEST_S
        assert "ended with code 3" in said[1]
    finally:
        await system.stop()


async def test_a_part_that_does_not_start_ends_the_others_and_says_its_last_words(tmp_path: Path) -> None:
    system = Supervisor(tmp_path, say_nothing)
    broken = part("broken", free_port(), level=1, program="import sys; sys.exit('no disk left')")
    with pytest.raises(NotStarted, match="part broken ended with code 1; it said: no disk left"):
        await system.start([part("fine", free_port()), broken])
    assert Ledger(tmp_path / "run" / "ledger").left() == []
    assert system.pid("fine") is None


async def test_a_part_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    system = Supervisor(tmp_path, say_nothing)
    silent = part("silent", free_port(), program="import time; print('hm', flush=True); time.sleep(600)")
    with pytest.raises(NotStarted, match="part silent was not ready within 1 s; it said: hm"):
        await system.start([silent], limit_s=1.0)
    assert Ledger(tmp_path / "run" / "ledger").left() == []


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    system = Supervisor(tmp_path, say_nothing)
    missing = part("missing", free_port())
    missing = type(missing)(
        key="missing",
        name="part missing",
        command=("/nowhere/program",),
        environment={},
        ready_url=missing.ready_url,
    )
    with pytest.raises(NotStarted, match="part missing cannot be started: /nowhere/program: No such file"):
        await system.start([missing])


async def test_what_does_not_end_by_itself_is_ended_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisors, "STOP_PATIENCE_S", 0.2)
    said: list[str] = []
    system = Supervisor(tmp_path, said.append)
    await system.start([part("one", free_port(), "stubborn")])
    pid = system.pid("one")
    assert pid is not None
    await system.stop()
    assert started(pid) is None
    assert "ended by force" in said[0]


async def test_parts_do_not_hear_ctrl_c_themselves(tmp_path: Path) -> None:
    system = Supervisor(tmp_path, say_nothing)
    await system.start([part("one", free_port())])
    pid = system.pid("one")
    assert pid is not None
    assert os.getpgid(pid) == pid != os.getpgrp()
    await system.stop()


async def test_parts_can_be_ended_alone_and_started_again(tmp_path: Path) -> None:
    system = Supervisor(tmp_path, say_nothing)
    stays, goes = part("stays", free_port()), part("goes", free_port(), level=1)
    await system.start([stays, goes])
    before = system.pid("stays")
    await system.end(["goes"])
    assert system.pid("goes") is None
    await system.start([goes])
    assert system.pid("goes") is not None
    assert system.pid("stays") == before
    await system.stop()
