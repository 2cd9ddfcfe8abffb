"""The replica against what limits it, as ratios in one run: ``python -m bench.replica [--json FILE] [--plot FILE]``.

Two limits are measured in every round beside the replica: the model alone in its plain form, in batches of as many rows
as there are connections, and HTTP alone, a bare uvicorn application that reads the body and answers a constant. The
smaller of the two is the limit of a server that only joins the two; the replica can pass it, for it picks faster forms
of the model and answers from the parser's callbacks. Ratios are formed inside a round and then the median is taken, so
a machine whose speed drifts favours nobody. One core serves, the others load. About six minutes for all models.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from bench.load import Outcome, Players, Work
from bench.models import build, rows_of, write
from bench.served import binary_requests, cores, json_requests, pinned, progress, v2_requests
from tests.inference.process import ROOT, Replica, until

CASES = 64
CONNECTIONS = (1, 32, 128)
OPEN_SHARE = 0.8
OPEN_CONNECTIONS = 256


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """HTTP alone: the application that uvicorn serves as the limit."""
    while (await receive()).get("more_body"):
        pass
    head = [(b"content-type", b"application/json"), (b"content-length", b"25")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": b'{"predictions":[[0.5,1]]}'})


@contextmanager
def bare_server() -> Iterator[int]:
    """The port of a bare uvicorn."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    words = "uvicorn bench.replica:bare --lifespan off --no-access-log --log-level error --loop uvloop --http httptools"
    process = subprocess.Popen(
        [sys.executable, "-m", *words.split(), "--host", "127.0.0.1", "--port", str(port)], cwd=ROOT
    )
    try:
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "a bare uvicorn")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def model_alone(name: str, batch: int, seconds: float, core: int) -> float:
    """Rows a second of the plain module in a loop; runs in a process of its own."""
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    module, _ = build(name)
    given = rows_of(name, batch)
    with torch.inference_mode():
        for _ in range(3):
            module(given)
        calls, begun_at = 0, time.perf_counter()
        while (passed := time.perf_counter() - begun_at) < seconds or calls < 3:
            module(given)
            calls += 1
    return calls * batch / passed


class Round:
    """One model's servers, asked in turn."""

    def __init__(self, name: str, replica: Replica, bare_port: int, players: Players, seconds: float) -> None:
        rows = rows_of(name, CASES)
        with torch.inference_mode():
            self._wanted = build(name)[0](rows).numpy()
        self._name, self._players, self._seconds = name, players, seconds
        self._core = cores()[0][0]
        self._alone = get_context("spawn").Pool(1)
        plain = json_requests(rows)
        self._served = {
            "http": (bare_port, plain),
            "replica": (replica.port, plain),
            "v2 json": (replica.port, v2_requests(name, rows)),
            "v2 binary": (replica.port, binary_requests(name, rows)),
        }

    def close(self) -> None:
        self._alone.terminate()

    def closed(self, connections: int) -> dict[str, float]:
        """Answers a second of each server; of the limits; wrong answers."""
        alone = (self._name, connections, self._seconds / 2, self._core)
        found: dict[str, float] = {"model": self._alone.apply(model_alone, alone), "wrong": 0}
        for server, (port, requests) in self._served.items():
            work = Work(port=port, requests=requests, connections=connections, seconds=self._seconds)
            outcome = self._players.play(work)
            assert set(outcome.statuses) == {200}, outcome.statuses
            found[server] = outcome.per_second
            found["wrong"] += 0 if server == "http" else self._wrong(outcome)
            if server == "replica":
                found |= {"p50_ms": outcome.quantile_ms(0.5), "p99_ms": outcome.quantile_ms(0.99)}
        found["limit"] = min(found["model"], found["http"])
        return found

    def open(self, rate: float) -> dict[str, float]:
        """The replica when requests come at `rate`, whatever it does."""
        port, requests = self._served["replica"]
        work = Work(port=port, requests=requests, connections=OPEN_CONNECTIONS, seconds=2 * self._seconds, rate=rate)
        outcome = self._players.play(work)
        p50, p95, p99 = (outcome.quantile_ms(share) for share in (0.5, 0.95, 0.99))
        offered = outcome.offered / outcome.seconds
        return {"offered": offered, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "backlog": outcome.unanswered}

    def _wrong(self, outcome: Outcome) -> int:
        return sum(not np.allclose(_answer(body), self._wanted[which], 1e-3, 1e-4) for which, body in outcome.kept)


def _answer(body: bytes) -> Any:
    said = orjson.loads(body)
    return said["predictions"][0] if "predictions" in said else said["outputs"][0]["data"]


def measure(name: str, options: argparse.Namespace, players: Players) -> dict[str, Any]:
    """All rounds of one model."""
    rounds: list[dict[str, Any]] = []
    with ExitStack() as ending:
        folder = ending.enter_context(tempfile.TemporaryDirectory())
        with pinned(cores()[0]):
            replica = Replica(MODEL_PATH=str(write(name, Path(folder))), TUNE_S=str(options.tune_s))
            port = ending.enter_context(bare_server())
        ending.callback(replica.end)
        one = Round(name, replica.ready(), port, players, options.seconds)
        ending.callback(one.close)
        for number in range(options.rounds):
            closed = {}
            for i, connections in enumerate(CONNECTIONS):
                progress((number + i / (len(CONNECTIONS) + 1)) / options.rounds, f"{name}, round {number + 1}")
                closed[connections] = one.closed(connections)
            rounds.append({"closed": closed, "open": one.open(OPEN_SHARE * closed[32]["limit"])})
        progress(1.0, name)
        return {"rounds": rounds, "memory_bytes": replica.get("/stats")[1]["memory_bytes"]}


def spread(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def table(found: dict[str, Any]) -> str:
    """Markdown: shares of the limit, median and spread over the rounds."""
    lines = ["| model | connections | replica / limit | v2 JSON / limit | v2 binary / limit | p50, p99 ms | wrong |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, of in found.items():
        for connections in CONNECTIONS:
            seen = [one["closed"][connections] for one in of["rounds"]]
            shares = [spread([s[kind] / s["limit"] for s in seen]) for kind in ("replica", "v2 json", "v2 binary")]
            times = ", ".join(f"{statistics.median(s[key] for s in seen):.2f}" for key in ("p50_ms", "p99_ms"))
            lines.append(
                f"| {name} | {connections} | {' | '.join(shares)} | {times} | {sum(s['wrong'] for s in seen)} |"
            )
    lines += ["", f"Open loop at {OPEN_SHARE:.0%} of the limit at 32 connections:", ""]
    lines += ["| model | p50 ms | p95 ms | p99 ms | unanswered at the end |", "|---|---|---|---|---|"]
    for name, of in found.items():
        seen = [one["open"] for one in of["rounds"]]
        cells = [spread([s[key] for s in seen]) for key in ("p50_ms", "p95_ms", "p99_ms", "backlog")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(found: dict[str, Any], file: Path) -> None:
    """Share of the limit over the connections, one line a model."""
    import matplotlib as mpl  # noqa: PLC0415 - only for the picture

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(6, 4))
    for name, of in found.items():
        shares = [
            [one["closed"][c]["replica"] / one["closed"][c]["limit"] for one in of["rounds"]] for c in CONNECTIONS
        ]
        middle = [statistics.median(s) for s in shares]
        below = [m - min(s) for m, s in zip(middle, shares, strict=True)]
        above = [max(s) - m for m, s in zip(middle, shares, strict=True)]
        axes.errorbar(CONNECTIONS, middle, yerr=[below, above], marker="o", capsize=3, label=name)
    axes.axhline(1.0, color="grey", linewidth=1)
    axes.set(xscale="log", xlabel="connections", ylabel="share of the limit")
    axes.set_xticks(CONNECTIONS, [str(c) for c in CONNECTIONS])
    axes.legend()
    figure.savefig(file, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.replica", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to keep every figure")
    parser.add_argument("--plot", type=Path, help="where to draw the shares of the limit")
    parser.add_argument("--models", default="tiny,wide,encoder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run (default: %(default)s)")
    parser.add_argument("--tune-s", type=float, default=15.0)
    options = parser.parse_args()
    with Players(1, cores()[1]) as players:
        found = {name: measure(name, options, players) for name in options.models.split(",")}
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
