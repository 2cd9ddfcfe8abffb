"""The replica as a process: how it starts, what it says, how it leaves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.inference.process import ROOT, Replica, read_answer, until

FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
STATS = {
    "replica", "start_id", "sequence", "at", "phase", "in_flight", "queued", "capacity", "arrivals_total",
    "completed_total", "failed_total", "rejected_total", "busy_seconds_total", "latency_s", "cpu", "memory_bytes",
    "gpu", "load_s",
}  # fmt: skip


def test_it_listens_at_once_and_says_starting_until_the_model_is_warm(
    start: Callable[..., Replica], models: Path
) -> None:
    one = start(MODEL_PATH=str(models / "iris.safetensors")).listening()
    status, said = one.get("/stats")
    assert (status, said["phase"], said["replica"]) == (200, "starting", "r-1")
    assert one.get("/readyz")[0] == 503
    assert one.predict(FLOWERS)[0] == 503
    assert one.get("/healthz")[0] == 200
    until(lambda: one.get("/readyz")[0] == 200, "ready")
    assert one.predict(FLOWERS) == (200, {"predictions": [0, 2]})
    assert one.stop() == 0


def test_stats_hold_every_field_of_the_contract(replica: Replica) -> None:
    status, said = replica.get("/stats")
    assert status == 200
    assert set(said) == STATS
    assert set(said["latency_s"]) == {"p50", "p95", "p99"}
    assert said["arrivals_total"] == (
        said["completed_total"] + said["failed_total"] + said["rejected_total"] + said["in_flight"] + said["queued"]
    )


def test_draining_is_not_ready_but_answers_and_can_be_undone(replica: Replica) -> None:
    for _ in range(2):
        assert replica.ask("POST", "/drain")[2] == b'{"phase":"draining"}'
    assert replica.get("/readyz")[0] == 503
    assert replica.get("/stats")[1]["phase"] == "draining"
    assert replica.predict(FLOWERS)[1] == {"predictions": [0, 2]}
    for _ in range(2):
        assert replica.ask("DELETE", "/drain")[2] == b'{"phase":"ready"}'
    assert replica.get("/readyz")[0] == 200


def test_a_request_in_hand_is_answered_after_sigterm(start: Callable[..., Replica], models: Path) -> None:
    one = start(MODEL_PATH=str(models / "iris.safetensors"), SERVICE_TIME_MS="400").ready()
    with one.connect() as client:
        body = b'{"data":[[5.1,3.5,1.4,0.2]]}'
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        until(lambda: one.get("/stats")[1]["in_flight"] == 1, "in flight")
        one.process.send_signal(signal.SIGTERM)
        status, _, answer = read_answer(client)
        assert (status, answer) == (200, b'{"predictions":[0]}')
    assert one.process.wait(20) == 0


def test_stats_drain_and_metrics_want_the_token(start: Callable[..., Replica], models: Path) -> None:
    one = start(MODEL_PATH=str(models / "iris-sklearn.joblib"), REPLICA_TOKEN="s3cret").listening()
    for method, path in (("GET", "/stats"), ("GET", "/metrics"), ("POST", "/drain"), ("DELETE", "/drain")):
        status, headers, body = one.ask(method, path)
        assert (status, headers["content-type"]) == (401, "application/problem+json")
        assert b"s3cret" not in body
        assert one.ask(method, path, headers={"authorization": "Bearer wrong"})[0] == 401
        assert one.ask(method, path, headers={"authorization": "Bearer s3cret"})[0] == 200
    assert one.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"PORT": "eighty"}, "PORT is 'eighty', but must be a whole number from 0 to 65535"),
        ({"PORT": "70000"}, "PORT is '70000', but must be"),
        ({"MODEL_PATH": "/nowhere/m.pt2"}, "There is no model at /nowhere/m.pt2: set MODEL_PATH."),
        ({"MODEL_PATH": "/etc/hostname"}, "a model file ends in .safetensors, .pt2, .skops, .joblib"),
        ({"MAX_BATCH_SIZE": "0"}, "MAX_BATCH_SIZE is '0', but must be a whole number from 1 to 4096"),
        ({"WORKERS": "many"}, "WORKERS is 'many', but must be"),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_exit_code_2(environment: dict[str, str], sentence: str) -> None:
    code, said = run(environment)
    assert code == 2
    assert sentence in said
    assert "Traceback" not in said


def test_a_port_in_use_is_one_sentence_and_exit_code_2(models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = run({"PORT": str(port), "HOST": "127.0.0.1", "MODEL_PATH": str(models / "iris.pt2")})
    assert code == 2
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use; set HOST and PORT to a free address." in said


def test_a_broken_model_file_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    broken = tmp_path / "broken.joblib"
    broken.write_bytes(b"no pickle")
    code, said = run({"PORT": "0", "HOST": "127.0.0.1", "MODEL_PATH": str(broken)})
    assert code == 2
    assert f"The model {broken} cannot be loaded" in said
    assert "Traceback" not in said


def run(environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "inference"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_replica_of_a_standby_pool_learns_its_name_when_it_is_claimed(
    start: Callable[..., Replica], models: Path, tmp_path: Path
) -> None:
    file = tmp_path / "REPLICA"
    one = start(MODEL_PATH=str(models / "iris.safetensors"), REPLICA_FILE=str(file)).ready()
    assert one.get("/stats")[1]["replica"] == "r-1"
    file.write_text("iris-7f3a\n")
    _, said = one.get("/stats")
    assert said["replica"] == "iris-7f3a"
    assert said["load_s"] > 0
    assert one.stop() == 0


FAULTY_WARM_UP = """
import os
from inference import __main__
from inference.torch_model import TorchModel

right, calls = TorchModel.warm_up, []

def warm_up(self):
    calls.append(self)
    if len(calls) > int(os.environ["RIGHT"]):
        raise {fault}("nobody foresaw this")
    right(self)

TorchModel.warm_up = warm_up
raise SystemExit(__main__.main([]))
"""


@pytest.mark.parametrize(("fault", "workers"), [("ArithmeticError", 1), ("SystemExit", 1), ("ArithmeticError", 2)])
def test_a_start_that_fails_as_nobody_foresaw_ends_with_a_sentence_and_a_code(
    start: Callable[..., Replica], models: Path, fault: str, workers: int
) -> None:
    script = FAULTY_WARM_UP.replace("{fault}", fault)
    file = str(models / "iris.safetensors")
    one = start(sys.executable, "-c", script, MODEL_PATH=file, WORKERS=str(workers), RIGHT="0")
    assert until(lambda: one.process.poll() is not None and one.process.returncode, "it has left") == 2
    until(lambda: any(line.startswith("The models cannot be made ready: ") for line in one.log), "it says why")


def test_a_reload_that_fails_as_nobody_foresaw_leaves_the_old_models(
    start: Callable[..., Replica], models: Path
) -> None:
    script = FAULTY_WARM_UP.replace("{fault}", "ArithmeticError")
    one = start(sys.executable, "-c", script, MODEL_PATH=str(models / "iris.safetensors"), RIGHT="1").ready()
    one.process.send_signal(signal.SIGHUP)
    until(lambda: any('"reload failed' in line for line in one.log), "the log says so")
    assert one.predict(FLOWERS) == (200, {"predictions": [0, 2]})
    assert one.stop() == 0
