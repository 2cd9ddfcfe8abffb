"""GPUs: which of them count; and, where there is one, the same answers as on the CPU and figures in /stats."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.gpu import visible
from tests.inference.process import Replica

torch = pytest.importorskip("torch", reason="torch is not installed")
IDS = ["GPU-aa11", "GPU-bb22", "GPU-cc33"]


@pytest.mark.parametrize(
    ("allowed", "wanted"),
    [(None, [0, 1, 2]), ("", []), ("1", [1]), ("2,0", [2, 0]), ("GPU-bb", [1]), ("0,-1,2", [0]), ("7", [])],
)
def test_only_the_gpus_that_cuda_may_see_are_told(allowed: str | None, wanted: list[int]) -> None:
    assert visible(IDS, allowed) == wanted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("file", ["scores.safetensors", "iris.pt2"])
def test_a_gpu_answers_as_the_cpu_does(start: Callable[..., Replica], models: Path, file: str) -> None:
    here = start(MODEL_PATH=str(models / file), DEVICE="cuda:0", MAX_BATCH_SIZE="8").ready()
    there = start(MODEL_PATH=str(models / file), DEVICE="cpu").ready()
    rows = [[[n / 7, 3.5, n / 9, 0.2]] for n in range(40)]
    wanted = [there.predict(row)[1]["predictions"][0] for row in rows]
    got: dict[int, object] = {}

    def ask(first: int) -> None:
        for n in range(first, len(rows), 4):
            got[n] = here.predict(rows[n])[1]["predictions"][0]

    asking = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    for n, row in enumerate(wanted):
        assert got[n] == pytest.approx(row, rel=1e-3, abs=1e-4)
    (gpu, *_) = here.get("/stats")[1]["gpu"]
    assert 0 <= gpu["utilization"] <= 1
    assert 0 < gpu["memory_used_bytes"] < gpu["memory_total_bytes"]
    assert "replica_gpu_memory_used_bytes" in here.ask("GET", "/metrics")[2].decode()
