"""Several workers are one replica; a reload loses nothing; the OpenAPI document is true."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.ledger import Ledger
from inference.meter import Meter
from tests.inference.process import Replica, until

FLOWER = [[5.1, 3.5, 1.4, 0.2]]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_workers_share_counts_and_phase_and_a_dead_one_is_replaced(start: Callable[..., Replica], models: Path) -> None:
    one = start(MODEL_PATH=str(models / "iris-sklearn.joblib"), WORKERS="2").ready()
    pids = until(lambda: len(found := children(one.process.pid)) == 2 and found, "two workers")
    for _ in range(10):
        assert one.predict(FLOWER)[0] == 200
    until(lambda: one.get("/stats")[1]["completed_total"] == 10, "all are counted")
    start_id = one.get("/stats")[1]["start_id"]
    one.ask("POST", "/drain")
    until(lambda: all(one.get("/readyz")[0] == 503 for _ in range(8)), "both drain")
    one.ask("DELETE", "/drain")
    os.kill(pids[1], signal.SIGKILL)
    until(lambda: set(children(one.process.pid)) - set(pids), "a new worker")
    until(lambda: one.predict(FLOWER)[0] == 200, "it goes on")
    said = one.get("/stats")[1]
    assert said["completed_total"] >= 10
    assert said["start_id"] == start_id
    assert one.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_reload_swaps_the_model_without_losing_a_request(
    start: Callable[..., Replica], models: Path, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    shutil.copy(models / "iris.safetensors", file)
    one = start(MODEL_PATH=str(file)).ready()
    answers: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers.append(one.predict(FLOWER)[0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        file.write_bytes(b"broken")
        one.process.send_signal(signal.SIGHUP)
        until(lambda: any('"reload failed' in line for line in one.log), "the broken one is refused")
        assert one.predict(FLOWER)[1] == {"predictions": [0]}
        shutil.copy(models / "scores.safetensors", file)
        one.process.send_signal(signal.SIGHUP)
        until(lambda: isinstance(one.predict(FLOWER)[1]["predictions"][0], list), "the new one answers")
    finally:
        over.set()
        asking.join()
    assert set(answers) == {200}


def test_the_openapi_document_names_every_route(replica: Replica) -> None:
    status, said = replica.get("/openapi.json")
    assert status == 200
    for path in ("/predict", "/models/scores/predict", "/v2/models/iris/infer", "/stats", "/drain", "/readyz"):
        assert path in said["paths"]
    schema = said["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["data"]["items"]["minItems"] == 4


def test_problems_are_problem_documents_everywhere(replica: Replica) -> None:
    for method, path, wanted in (("GET", "/nix", 404), ("GET", "/predict", 405), ("PUT", "/drain", 405)):
        status, headers, body = replica.ask(method, path)
        assert (status, headers["content-type"]) == (wanted, "application/problem+json")
        assert json.loads(body)["status"] == wanted


def test_metrics_say_the_same_as_stats(replica: Replica) -> None:
    replica.predict(FLOWER)
    text = replica.ask("GET", "/metrics")[2].decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    said = replica.get("/stats")[1]
    assert float(lines["replica_completed_total"]) == said["completed_total"]
    assert lines['replica_phase{phase="ready"}'] == "1.0"
    assert float(lines["replica_latency_seconds_count"]) == said["completed_total"]


def test_a_ledger_adds_up_and_is_taken_over() -> None:
    ledger = Ledger(2)
    figures = dict.fromkeys(
        ("arrivals", "completed", "failed", "rejected", "in_flight", "queued", "busy_s", "latency_sum_s", "cpu"), 1.0
    )
    bins = [1] * len(Meter().counts)
    for slot in (0, 1):
        ledger.write(slot, figures | {"memory_bytes": 5.0}, bins, bins)
    total, counts, recent = ledger.total()
    assert (total["arrivals"], total["memory_bytes"], counts[0], recent[-1]) == (2, 10, 2, 2)
    meter = Meter()
    ledger.resume(1, meter)
    assert (meter.arrivals, meter.failed, meter.counts) == (1, 3, bins)
    assert meter.busy_s() == pytest.approx(1.0)


def test_told_to_stop_while_workers_are_replaced_it_always_stops(start: Callable[..., Replica], models: Path) -> None:
    one = start(MODEL_PATH=str(models / "iris-sklearn.joblib"), WORKERS="3").ready()
    pids = until(lambda: len(found := children(one.process.pid)) == 3 and found, "three workers")
    for pid in pids[1:]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: set(children(one.process.pid)) - set(pids), "a new worker")
    assert one.stop() == 0
