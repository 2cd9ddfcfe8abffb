"""The whole system as a person runs it: the demo, and every part killed in turn. Long; `make verify` runs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.ledger import started
from infra.local.places import DEMO, ROOT
from tests.azurite import needs_azurite
from tests.infra.local.running import ANSWER_LIMIT_S, START_LIMIT_S, Started, brought_up, eventually

pytestmark = [
    pytest.mark.verify,
    pytest.mark.timeout(600),
    needs_azurite,
]

PARTS = ("azurite", "arm", "functions", "discovery", "envoy")


def alive(family: dict[int, int]) -> list[int]:
    return [pid for pid, ticks in family.items() if started(pid) == ticks]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Started]:
    with brought_up(tmp_path) as running:
        yield running


def test_with_tls_nothing_goes_to_a_replica_in_plain_text(tmp_path: Path) -> None:
    with brought_up(tmp_path, "--tls") as running:
        assert running.predict() == {"predictions": [0]}
        clusters = running.envoy("/clusters?format=json")["cluster_statuses"]
        (hosts,) = [c["host_statuses"] for c in clusters if c["name"].endswith("/replicas")]
        where = hosts[0]["address"]["socket_address"]
        with socket.create_connection((where["address"], where["port_value"]), timeout=10) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert not plain.recv(100).startswith(b"HTTP"), "it serves TLS alone"


def test_the_commands_of_the_readme_work_and_doctor_finds_nothing_wrong(up: Started) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    block = page.partition("In another terminal:\n\n")[2].partition("\n\n")[0]
    here = block.replace("http://127.0.0.1:8080", "$FRONT_URL")  # other ports than a person's own
    assert here.count("-m scaler") >= 4
    doctor = ".venv/bin/python -m scaler doctor"
    script = "\n".join(["set -e", *(line.strip() for line in here.splitlines()), doctor])
    told = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert '{"predictions":[0]}' in told.stdout


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
