"""The replica on a GPU against the raw model loop: ``python -m bench.gpu [--json FILE]``; about four minutes.

Raw loop: the same module, type and batch size, its rows already on the GPU, called again and again; nothing can be
faster without changing the model. The replica gets its rows over HTTP from other processes of this machine. What is
compared: rows a second, and the share of time in which the GPU computes (NVML: the mean of its samples in the run; its
power beside it, since that share counts a small kernel as busy too). Kept answers are compared with the raw module's.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from bench.load import Outcome, Players, Work
from bench.models import build, rows_of, write
from bench.served import binary_requests, json_requests
from inference.gpu import Gpus
from tests.inference.process import Replica, until

CASES = 64
READY_S = 240.0
CONCURRENCY = (1, 8, 32, 128, 256)


@dataclass
class Watch:
    """What NVML said while something ran."""

    busy: list[float] = field(default_factory=list)
    power_w: list[float] = field(default_factory=list)
    memory_bytes: int = 0

    def told(self) -> dict[str, Any]:
        return {"busy": _mean(self.busy), "power_w": _mean(self.power_w), "memory_bytes": self.memory_bytes}


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


@contextmanager
def watched(skip_s: float) -> Iterator[Watch]:
    """Reads the first GPU ten times a second, but for the first `skip_s`: NVML looks back up to a second."""
    seen, over = Watch(), threading.Event()
    gpus = Gpus()

    def look() -> None:
        if over.wait(skip_s):
            return
        while not over.wait(0.1):
            for figures in gpus.read()[:1]:
                seen.busy.append(float(figures["utilization"]))
                seen.memory_bytes = int(figures["memory_used_bytes"])
            if (power_w := gpu_power_w()) is not None:
                seen.power_w.append(power_w)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def gpu_power_w() -> float | None:
    """Watts of the first GPU, where there is one and it says."""
    try:
        import pynvml  # noqa: PLC0415 - absent where there is no GPU

        pynvml.nvmlInit()
        return float(pynvml.nvmlDeviceGetPowerUsage(pynvml.nvmlDeviceGetHandleByIndex(0))) / 1e3
    except Exception:  # ImportError, or NVML's own errors
        return None


def raw_loop(name: str, device: str, dtype: torch.dtype, sizes: list[int], seconds: float) -> dict[str, Any]:
    """Rows a second and what NVML says, by batch size; and the answers to the cases."""
    module, _ = build(name)
    module = module.to(device, dtype)
    rows = rows_of(name, CASES)
    settle: Callable[[], None] = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    found: dict[str, Any] = {"batches": {}}
    with torch.inference_mode():
        found["answers"] = module(rows.to(device, dtype)).float().cpu().numpy()
        for size in sizes:
            given = rows.repeat(-(-size // CASES), 1)[:size].to(device, dtype)
            for _ in range(3):
                module(given)
            settle()
            with watched(min(1.0, seconds / 2)) as seen:
                calls, begun_at = 0, time.perf_counter()
                while (passed := time.perf_counter() - begun_at) < seconds:
                    for _ in range(4):
                        module(given)
                    calls += 4
                    settle()
            found["batches"][size] = {"rows_per_s": calls * size / passed, **seen.told()}
            print(f"  raw loop, batch {size:4}: {calls * size / passed:8.0f} rows/s", flush=True)
    del module
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    return found


def answers_of(body: bytes) -> np.ndarray[Any, Any]:
    said = orjson.loads(body)
    return np.array(said["predictions"][0] if "predictions" in said else said["outputs"][0]["data"])


def wrong(outcome: Outcome, wanted: np.ndarray[Any, Any]) -> int:
    """Kept answers that are nearer to another case's answer than to their own, or far from it."""
    count = 0
    for which, body in outcome.kept:
        gaps = np.abs(wanted - answers_of(body)).max(1)
        count += int(gaps.argmin() != which or gaps[which] > 0.05 * max(1.0, np.abs(wanted).max()))
    return count


def measure(replica: Replica, players: Players, requests: tuple[bytes, ...], connections: int, seconds: float) -> Any:
    """One closed loop, NVML beside it, and what the replica itself said about its GPU meanwhile."""
    work = Work(port=replica.port, requests=requests, connections=connections, seconds=seconds, warm_s=1.0)
    with watched(2.0) as seen, ThreadPoolExecutor(1) as beside:
        playing = beside.submit(players.play, work)
        wait([playing], 1.0 + seconds / 2)
        stats = replica.get("/stats")[1]
        outcome = playing.result()
    return outcome, {
        **seen.told(),
        "stats_gpu": stats["gpu"],
        "stats_cpu": stats["cpu"],
        "in_flight": stats["in_flight"],
    }


def forms(replica: Replica) -> list[str]:
    """Lines of /metrics that say which form serves which batch size, and in how many seconds."""
    return [
        line for line in replica.ask("GET", "/metrics")[2].decode().splitlines() if line.startswith("replica_batch_")
    ]


def serve(options: argparse.Namespace, folder: Path) -> Replica:
    inherited = {key: os.environ[key] for key in ("PYTHONPATH", "LD_LIBRARY_PATH") if key in os.environ}
    replica = Replica(
        MODEL_PATH=str(write(options.model, folder)),
        DEVICE=options.device,
        DTYPE=options.dtype,
        MAX_BATCH_SIZE=str(options.batch),
        TUNE_S=str(options.tune_s),
        THREADS="4",
        **inherited,
    ).listening()
    begun_at = time.monotonic()
    until(lambda: replica.process.poll() is not None or replica.get("/readyz")[0] == 200, "ready", READY_S)
    assert replica.process.poll() is None, "".join(replica.log)
    print(f"  ready after {time.monotonic() - begun_at:.1f} s", flush=True)
    return replica


def against_raw(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as one document."""
    seconds, name = options.seconds, options.model
    sizes = sorted({1, 8, options.batch // 2, options.batch})
    raw = raw_loop(name, options.device, getattr(torch, options.dtype), sizes, seconds / 2)
    best = max(batch["rows_per_s"] for batch in raw["batches"].values())
    rows, wanted = rows_of(name, CASES), raw.pop("answers")
    kinds = {"json": json_requests(rows), "binary": binary_requests(name, rows)}
    runs = []
    with tempfile.TemporaryDirectory() as folder, Players(options.players) as players:
        replica = serve(options, Path(folder))
        try:
            used = forms(replica)
            for kind, requests in kinds.items():
                for connections in CONCURRENCY:
                    outcome, seen = measure(replica, players, requests, connections, seconds)
                    run = {
                        "kind": kind,
                        "connections": connections,
                        "rows_per_s": outcome.per_second,
                        "of_raw": outcome.per_second / best,
                        "p50_ms": outcome.quantile_ms(0.5),
                        "p95_ms": outcome.quantile_ms(0.95),
                        "statuses": dict(outcome.statuses),
                        "checked": len(outcome.kept),
                        "wrong": wrong(outcome, wanted),
                        **seen,
                    }
                    runs.append(run)
                    print(row_of(run), flush=True)
            code = replica.stop()
        finally:
            replica.end()
    return {
        "settings": vars(options),
        "raw": raw,
        "raw_best_rows_per_s": best,
        "runs": runs,
        "forms": used,
        "exit": code,
    }


def row_of(run: dict[str, Any]) -> str:
    def shown(value: float | None, form: str) -> str:
        return format(value, form) if value is not None else "-"

    busy, power = shown(run["busy"], ".3f"), shown(run["power_w"], ".0f")
    return (
        f"  {run['kind']:7} {run['connections']:4} {run['rows_per_s']:8.0f} rows/s {run['of_raw']:6.3f} of raw   "
        f"busy {busy:>6}  power {power:>4} W   p50 {run['p50_ms']:7.2f} ms  "
        f"p95 {run['p95_ms']:7.2f} ms   {run['statuses']}  wrong {run['wrong']} of {run['checked']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--model", default="deep")
    parser.add_argument("--batch", type=int, default=64, help="the largest batch (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each run (default: %(default)s)")
    parser.add_argument("--players", type=int, default=4, help="processes that send (default: %(default)s)")
    parser.add_argument("--tune-s", type=float, default=30.0)
    options = parser.parse_args()
    if options.device.startswith("cuda"):
        print(f"{torch.cuda.get_device_name(0)}, PyTorch {torch.__version__}", flush=True)
    found = against_raw(options)
    for line in found["forms"]:
        print(" ", line)
    if options.json:
        options.json.write_text(json.dumps(found, default=str, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
