"""The verbs that ask nobody: decide, validate, the calendar of a file."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import ANY

import httpx
import pytest

from scaler.config import load
from scaler.decide import decide, initial_state, policy_of
from scaler.model import Observation
from tests.cli.conftest import Run
from tests.web.doors import CONFIG

ROOT = Path(__file__).resolve().parents[2]
LINE = {
    "at": 0.0,
    "window_s": 15,
    "arrivals": 120,
    "completed": 118,
    "in_flight": 8.0,
    "queued": 4,
    "ready": 3,
    "starting": 1,
    "draining": 0,
    "utilization": 0.71,
    "cold_starts_s": [72.3],
    "data": "fresh",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "autoscaler.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def test_decide_answers_each_line_as_the_core_does(run: Run, file: Path) -> None:
    lines = [LINE | {"at": 15.0 * i, "in_flight": 4.0 + i} for i in range(20)]
    text = "\n".join(json.dumps(line) for line in lines)
    shown = run("decide", "--config", str(file), "--service", "iris", text=text)
    assert shown.exit_code == 0, shown.stderr
    policy = policy_of(load(CONFIG, "x").services["iris"], "iris", "x")
    state = initial_state(policy)
    for line, out in zip(lines, shown.stdout.splitlines(), strict=True):
        decision, state = decide(policy, state, Observation(**line | {"cold_starts_s": (72.3,)}))  # type: ignore[arg-type]
        told = json.loads(out)
        assert told["desired"] == decision.desired
        assert told["limited_by"] == decision.limited_by
        assert told["because"] == decision.because
        assert [s["name"] for s in told["steps"]] == [s.name for s in decision.steps]


def test_decide_answers_a_line_before_the_next_is_sent(file: Path) -> None:
    command = [sys.executable, "-m", "scaler", "decide", "--config", str(file), "--service", "iris"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for i in range(3):
            process.stdin.write(json.dumps(LINE | {"at": float(i)}).encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["desired"] >= 1
        process.stdin.close()
        assert process.wait(10) == 0


def test_decide_as_a_program_ends_with_2_on_bad_input(file: Path) -> None:
    def run_it(*words: str, text: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "scaler", "decide", *words]
        shown = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=False)
        return shown.returncode, shown.stderr

    assert run_it("--config", str(file), "--service", "iris", text="{")[0] == 2
    assert run_it("--config", str(file), "--service", "nope", text="") == (2, ANY)
    assert "--service" in run_it("--config", str(file), text="")[1]


def test_decide_imports_no_sdk_no_web_and_no_framework() -> None:
    heavy = ("azure", "aiohttp", "starlette", "rich", "typer", "urllib.request", "asyncio")
    code = f"import sys, scaler.__main__, scaler.cli.deciding; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("{", "truncated"),
        ('{"at": 1}', "window_s"),
        (json.dumps(LINE | {"at": "x"}), "line 1: at: expected"),
        (json.dumps(LINE | {"ready": -1}), "ready: -1"),
        (json.dumps(LINE | {"data": "good"}), "line 1: data"),
        (json.dumps(LINE | {"in_flight": float("nan")}), "line 1"),
        (json.dumps(LINE) + "\n" + json.dumps(LINE | {"at": -5.0}), "line 2: at"),
        ("\x00", "line 1"),
    ],
)
def test_a_line_that_is_no_observation_is_told_by_its_number(run: Run, file: Path, line: str, word: str) -> None:
    shown = run("decide", "--config", str(file), "--service", "iris", text=line)
    assert shown.exit_code == 2
    assert word in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_null_is_not_known_and_blank_lines_are_nothing(run: Run, file: Path) -> None:
    text = "\n" + json.dumps(LINE | {"arrivals": None, "in_flight": None, "data": "partial"}) + "\n\n"
    shown = run("decide", "--config", str(file), "--service", "iris", text=text)
    assert shown.exit_code == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 1


def test_a_file_or_service_that_is_not_there_is_bad_input(run: Run, file: Path) -> None:
    missing = run("decide", "--config", "nowhere.yaml", "--service", "iris", text="")
    assert (missing.exit_code, "nowhere.yaml" in missing.stderr) == (2, True)
    unknown = run("decide", "--config", str(file), "--service", "nope", text="")
    assert (unknown.exit_code, "iris" in unknown.stderr) == (2, True)


def test_validate_tells_each_service_or_the_place_that_is_wrong(run: Run, file: Path) -> None:
    good = run("validate", str(file))
    assert good.exit_code == 0, good.stderr
    assert "Europe/Berlin" in good.stdout
    told = json.loads(run("validate", str(file), "--json").stdout)
    assert [s["service"] for s in told["services"]] == ["iris", "digits"]
    file.write_text(CONFIG.replace("max: 6", "max: 0"), encoding="utf-8")
    bad = run("validate", str(file))
    assert bad.exit_code == 2
    assert "services.iris.replicas" in bad.stderr
    file.write_text(CONFIG.replace("Europe/Berlin", "Europe/Bärlin"), encoding="utf-8")
    assert "time zone" in run("validate", str(file)).stderr


def test_the_calendar_of_a_file_needs_nobody(run: Run, file: Path) -> None:
    told = json.loads(run("schedule", "iris", "--config", str(file), "--days", "8", "--json").stdout)
    assert any(p["off"] for p in told["periods"])
    assert run("schedule", "nope", "--config", str(file)).exit_code == 2


def test_a_reader_that_has_enough_ends_decide_quietly(file: Path) -> None:
    command = [sys.executable, "-m", "scaler", "decide", "--config", str(file), "--service", "iris"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write((json.dumps(LINE) + "\n").encode())
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 0


def test_the_bootstrap_of_envoy_is_printed_for_a_file(run: Run, file: Path) -> None:
    shown = run("envoy", "--config", str(file), "--listen", "127.0.0.1:9999")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["static_resources"]["listeners"]
    bad = run("envoy", "--config", str(file), "--listen", "here")
    assert (bad.exit_code, "--listen" in bad.stderr) == (2, True)


def test_discovery_serves_without_a_table_and_ends_when_it_is_told_to(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        table = f"https://127.0.0.1:{gone.getsockname()[1]}/devstoreaccount1"
    env = {
        **os.environ,
        "AUTOSCALER_CONFIG": str(file),
        "AUTOSCALER_TABLE_ENDPOINT": table,
        "DISCOVERY_PORT": "0",
        "IDENTITY_ENDPOINT": table,
        "IDENTITY_HEADER": "x",
    }
    command = [sys.executable, "-m", "scaler", "discovery"]
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            words = process.stderr.readline().split()
            assert words[:1] == ["discovery:"], words
            assert httpx.get(f"{words[1]}/healthz", timeout=10).status_code in (200, 503)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_discovery_says_what_it_lacks(run: Run, file: Path) -> None:
    shown = run("discovery", env={"AUTOSCALER_CONFIG": str(file)})
    assert (shown.exit_code, "AUTOSCALER_TABLE_ENDPOINT" in shown.stderr) == (2, True)


def test_help_names_every_verb(run: Run) -> None:
    shown = run("--help").stdout
    for verb in ("validate", "doctor", "status", "pin", "unpin", "explain", "schedule", "replay", "decide", "watch"):
        assert verb in shown
