"""What keeps the replica's event loop from reading: ``python -m bench.stalls [--json FILE]``; about a minute a model.

While closed loops of 32 and 128 connections keep the replica busy, two things are looked at. Inside, every call of the
model and every run of answers on the loop's thread is timed by that thread's own CPU clock, which other programs
cannot stretch. Outside, `/healthz` is asked 200 times a second on connections of its own: what it waits is what any
request waits for the loop, for all that was to be read before it, and for the core that the model has too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.flood import Seen, pour
from bench.load import Work
from bench.models import write
from bench.overload import requests_of
from bench.served import cores, pinned
from tests.inference.process import Replica

CONNECTIONS = (32, 128)
PROBE = (b"GET /healthz HTTP/1.1\r\nhost: bench\r\n\r\n",)
PROBES_PER_S = 200.0
PARTS = {"_run": "model", "_answer": "answers"}


def serve() -> None:
    """The server with its parts timed; `STALLS` names the file for the times, written on leaving and on SIGHUP."""
    from inference import __main__ as entry  # noqa: PLC0415 - only in the server's process
    from inference import server  # noqa: PLC0415
    from inference.batcher import Batcher  # noqa: PLC0415

    times: dict[str, list[float]] = {part: [] for part in PARTS.values()}

    def timed(call: Callable[..., Any], kept: list[float]) -> Callable[..., Any]:
        @wraps(call)
        def wrapper(*arguments: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return call(*arguments)
            begun_at = time.thread_time()
            try:
                return call(*arguments)
            finally:
                kept.append(time.thread_time() - begun_at)

        return wrapper

    for name, part in PARTS.items():
        setattr(Batcher, name, timed(getattr(Batcher, name), times[part]))
    leave = server.leave

    def write_and_leave(code: int) -> None:
        Path(os.environ["STALLS"]).write_text(json.dumps(times), encoding="utf-8")
        leave(code)

    server.leave = write_and_leave
    entry.main([])


def quantiles_ms(times: list[float]) -> dict[str, float]:
    """p99 and most in ms; the very first calls may still settle something, so "most" leaves out one in ten thousand."""
    ranked = sorted(times) or [0.0]
    return {name: 1e3 * ranked[int(share * (len(ranked) - 1))] for name, share in (("p99", 0.99), ("most", 0.9999))}


def asked(port: int, requests: tuple[bytes, ...], connections: int, seconds: float) -> Seen:
    """What `/healthz` saw while the closed loop went on."""
    ours = cores()[1]
    load = Work(port=port, requests=requests, connections=connections, seconds=seconds + 1, warm_s=1.0, cores=ours)
    probe = Work(port=port, requests=PROBE, connections=64, seconds=seconds, warm_s=1.0, rate=PROBES_PER_S, cores=ours)
    with ThreadPoolExecutor(2) as both:
        loading, probing = both.submit(pour, load), both.submit(pour, probe)
        loading.result()
        return probing.result()


def measure(model: str, connections: int, seconds: float) -> dict[str, Any]:
    """One replica under one load."""
    requests = requests_of(model, 1)
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times.json"
        with pinned(cores()[0]):
            replica = Replica(
                sys.executable, "-c", "from bench.stalls import serve; serve()",
                MODEL_PATH=str(write(model, Path(folder))), TUNE_S="10", STALLS=str(times),
            )  # fmt: skip
        try:
            port = replica.ready().port
            seen = asked(port, requests, connections, seconds)
            replica.stop()
            inside = json.loads(times.read_text(encoding="utf-8"))
        finally:
            replica.end()
    waits = {name: seen.quantile_ms(200, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("most", 1.0))}
    return {part: quantiles_ms(found) for part, found in inside.items()} | {"healthz": waits}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stalls", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument("--models", default="tiny,wide,encoder", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    console = Console(stderr=True)
    cases = [(model, connections) for model in options.models.split(",") for connections in CONNECTIONS]
    found = {case: measure(*case, options.seconds) for case in track(cases, "serving", console=console)}
    made = Table(
        "model", "connections", "model on the loop, ms: p99, most", "answers: p99, most", "/healthz: p50, p99, most"
    )
    for (model, connections), of in found.items():
        cells = [", ".join(f"{value:.2f}" for value in of[part].values()) for part in (*PARTS.values(), "healthz")]
        made.add_row(model, str(connections), *cells)
    Console(width=120).print(made)
    if options.json:
        options.json.write_text(
            json.dumps({f"{m} {c}": of for (m, c), of in found.items()}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
