"""What a killed start leaves behind is found and ended, and nothing else is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra.local.ledger import Ledger, started
from tests.infra.local.trivial import free_port

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def eventually(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def sleeper() -> subprocess.Popen[str]:
    child = subprocess.Popen(SLEEP, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    return child


def test_a_process_left_behind_is_ended(tmp_path: Path) -> None:
    child = sleeper()
    Ledger(tmp_path / "ledger").note("azurite", child.pid)
    ended = Ledger(tmp_path / "ledger").reap()
    assert [(entry.part, entry.pid) for entry in ended] == [("azurite", child.pid)]
    assert child.wait(10) == -signal.SIGTERM
    assert Ledger(tmp_path / "ledger").reap() == []


def test_a_process_id_that_was_used_again_is_not_touched(tmp_path: Path) -> None:
    child = sleeper()
    ledger = Ledger(tmp_path / "ledger")
    ledger.note("azurite", child.pid)
    line = (tmp_path / "ledger").read_text()
    ticks = started(child.pid)
    (tmp_path / "ledger").write_text(line.replace(f'"started":{ticks}', f'"started":{(ticks or 0) - 100}'))
    assert ledger.reap() == []
    assert child.poll() is None
    child.kill()
    child.wait()


def test_a_process_of_another_boot_is_not_touched(tmp_path: Path) -> None:
    child = sleeper()
    ledger = Ledger(tmp_path / "ledger")
    ledger.note("azurite", child.pid)
    text = (tmp_path / "ledger").read_text()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (tmp_path / "ledger").write_text(text.replace(boot, "another-boot"))
    assert ledger.reap() == []
    child.kill()
    child.wait()


def test_half_a_line_of_a_killed_writer_does_no_harm(tmp_path: Path) -> None:
    child = sleeper()
    ledger = Ledger(tmp_path / "ledger")
    ledger.note("azurite", child.pid)
    with (tmp_path / "ledger").open("a") as file:
        file.write('{"part": "arm", "pi')
    assert [entry.part for entry in ledger.reap()] == ["azurite"]
    child.wait(10)


def test_a_zombie_counts_as_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    eventually(lambda: started(child.pid) is None)
    child.wait()


def test_parts_end_with_a_supervisor_that_is_killed_and_the_stubborn_with_the_next_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.infra.local.trivial", str(tmp_path), str(free_port()), str(free_port())]
    supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    willing, stubborn = map(int, supervisor.stdout.readline().split())
    try:
        supervisor.kill()
        supervisor.wait(10)
        supervisor.stdout.close()
        eventually(lambda: started(willing) is None)
        assert started(stubborn) is not None
        ended = Ledger(tmp_path / "run" / "ledger").reap(patience_s=0.2)
        assert [entry.pid for entry in ended] == [stubborn]
        assert started(stubborn) is None
    finally:
        for pid in (willing, stubborn):
            if started(pid) is not None:
                os.kill(pid, signal.SIGKILL)
