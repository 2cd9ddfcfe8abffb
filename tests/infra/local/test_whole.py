"""The whole system as a person runs it: the demo, and every part killed in turn. Long; `make verify` runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from infra.local.guards import AZURITE
from infra.local.ledger import started
from infra.local.places import DEMO, LOCAL, ROOT
from tests.infra.local.trivial import free_port

pytestmark = [
    pytest.mark.verify,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not AZURITE.is_file(), reason="Azurite is not installed; `make setup` installs it"),
]

START_LIMIT_S = 90.0
ANSWER_LIMIT_S = 60.0
PARTS = ("azurite", "arm", "functions", "discovery", "envoy")
BODY = json.dumps({"data": [[5.1, 3.5, 1.4, 0.2]]}).encode()


def eventually(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.1)


class Started:
    """``python -m infra.local …`` in a session of its own, as a terminal has it."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.base = free_port() % 20_000 + 20_000
        self.log = folder / "out.log"
        environment = os.environ | {"PORT_BASE": str(self.base), "CI": "true"}
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.local", *words],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def said(self, words: str) -> bool:
        assert self.process.poll() is None or words in self.log.read_text(), self.log.read_text()
        return words in self.log.read_text()

    def family(self) -> dict[int, int]:
        """Every process below it, replicas too, with the tick it was started at."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return {child.pid: ticks for child in below if (ticks := started(child.pid)) is not None}

    def pid_of(self, part: str) -> int:
        entries = [json.loads(line) for line in (LOCAL / "run" / "ledger").read_text().splitlines()]
        return next(int(entry["pid"]) for entry in reversed(entries) if entry["part"] == part)

    def predict(self) -> object:
        request = urllib.request.Request(f"http://127.0.0.1:{self.base}/predict", data=BODY)
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:
            return json.load(answer)

    def answers(self) -> bool:
        with suppress(urllib.error.URLError, OSError):
            return self.predict() == {"predictions": [0]}
        return False

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        subprocess.run([sys.executable, "-m", "infra.local", "down"], cwd=ROOT, check=True, timeout=60)


def alive(family: dict[int, int]) -> list[int]:
    return [pid for pid, ticks in family.items() if started(pid) == ticks]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Started]:
    running = Started(tmp_path, "up")
    try:
        eventually(lambda: running.said("Ctrl-C ends everything"), START_LIMIT_S, "everything is up")
        yield running
    finally:
        running.end()


def test_the_demo_holds_and_leaves_nothing(tmp_path: Path) -> None:
    began = time.time()
    demo = Started(tmp_path, "demo")
    try:
        eventually(lambda: demo.said("the day begins"), START_LIMIT_S, "the day begins")
        family = demo.family()
        assert demo.process.wait(240) == 0, demo.log.read_text()
    finally:
        demo.end()
    assert time.time() - began < 240
    assert alive(family) == []
    summary = json.loads((DEMO / "summary.json").read_bytes())
    assert summary["failed"] == summary["groups_left"] == 0
    assert summary["ok"] + summary["failed"] + summary["refused_off_hours"] == summary["requests"]
    assert (DEMO / "day.png").stat().st_mtime > began


def test_ctrl_c_ends_everything_at_once(up: Started) -> None:
    assert up.predict() == {"predictions": [0]}
    family = up.family()
    assert len(family) >= len(PARTS) + 1
    pressed = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0
    assert time.monotonic() - pressed < 15
    assert alive(family) == []


def test_each_part_that_is_killed_comes_back_and_requests_are_answered_again(up: Started) -> None:
    assert up.predict() == {"predictions": [0]}
    for number, part in enumerate(PARTS, start=1):
        os.kill(up.pid_of(part), signal.SIGKILL)
        eventually(lambda: up.log.read_text().count("is back after") >= number, 60, f"{part} is back")  # noqa: B023
        eventually(up.answers, ANSWER_LIMIT_S, f"an answer after {part} was killed")


def test_after_the_supervisor_was_killed_the_next_command_ends_what_is_left(up: Started) -> None:
    assert up.predict() == {"predictions": [0]}
    family = up.family()
    parts = {pid: family[pid] for pid in map(up.pid_of, PARTS)}
    up.process.kill()
    up.process.wait(10)
    eventually(lambda: alive(parts) == [], 20, "the parts end with the supervisor")
    assert alive(family), "replicas outlive the stand-in"
    down = [sys.executable, "-m", "infra.local", "down"]
    assert subprocess.run(down, cwd=ROOT, timeout=60, check=False).returncode == 0
    assert alive(family) == []


def test_a_second_start_is_told_who_was_first(up: Started) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "infra.local", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 2
    assert f"process {up.process.pid}" in second.stderr
