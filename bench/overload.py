"""Three times more than a replica can do, for a minute: ``python -m bench.overload [--json FILE]``; about 90 s.

Capacity is what the same replica answers in a closed loop just before. Then requests are due at three times that rate
(Poisson, open loop), and the question is what is left of capacity (goodput), how soon the refused ones are told, and
whether memory grows. The replica has one core and the load another, where there are two.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.load import Outcome, Players, Work
from bench.models import rows_of, write
from bench.served import cores, json_requests, pinned, progress
from tests.inference.process import Replica

CASES = 64


def memory_of(pid: int) -> int:
    """Resident bytes of a process."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def watch(replica: Replica, seconds: float, seen: list[tuple[float, int]]) -> None:
    """Seconds and resident bytes, twice a second, with a bar."""
    begun_at = time.monotonic()
    while (passed := time.monotonic() - begun_at) < seconds:
        seen.append((passed, memory_of(replica.process.pid)))
        progress(passed / seconds, f"overload, {seen[-1][1] / 2**20:.0f} MiB")
        time.sleep(0.5)
    progress(1.0, "overload")


def measure(
    options: argparse.Namespace, replica: Replica, players: Players, requests: tuple[bytes, ...]
) -> dict[str, Any]:
    """Capacity, then the flood."""
    calm = Work(port=replica.port, requests=requests, connections=options.connections, seconds=6.0, warm_s=2.0)
    capacity = players.play(calm).per_second
    before, totals = memory_of(replica.process.pid), replica.get("/stats")[1]
    seen: list[tuple[float, int]] = []
    watching = threading.Thread(target=watch, args=(replica, options.seconds, seen))
    watching.start()
    flood = Work(
        port=replica.port,
        requests=requests,
        connections=options.max_queue + 1024,
        seconds=options.seconds - 3.0,
        warm_s=3.0,
        rate=options.times * capacity,
    )
    outcome = players.play(flood)
    watching.join()
    after = players.play(calm).per_second
    last = replica.get("/stats")[1]
    return {
        "capacity_per_s": capacity,
        "offered_per_s": outcome.offered / outcome.seconds,
        "goodput_per_s": outcome.per_second,
        "goodput_of_capacity": outcome.per_second / capacity,
        "statuses": dict(outcome.statuses),
        "unanswered": outcome.unanswered,
        "refused_ms": told(outcome, 503),
        "answered_ms": told(outcome, 200),
        "capacity_after_of_before": after / capacity,
        "memory_before_mib": before / 2**20,
        "memory_most_mib": max(memory for _, memory in seen) / 2**20,
        "memory_last_mib": memory_of(replica.process.pid) / 2**20,
        "memory_second_half_growth_mib": growth(seen) / 2**20,
        "counted": {
            key: last[key] - totals[key]
            for key in ("arrivals_total", "completed_total", "rejected_total", "failed_total")
        },
    }


def told(outcome: Outcome, status: int) -> dict[str, float]:
    return {
        name: outcome.quantile_ms(share, status)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0))
    }


def growth(seen: list[tuple[float, int]]) -> float:
    """Bytes between the most of the second quarter and the most of the last: what a leak would add."""
    quarter = len(seen) // 4
    return max(memory for _, memory in seen[-quarter:]) - max(memory for _, memory in seen[quarter : 2 * quarter])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument("--model", default="wide", help="tiny, wide or encoder (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=64, help="of the closed loop that finds the capacity")
    parser.add_argument("--max-queue", type=int, default=256)
    options = parser.parse_args()
    server_cores, load_cores = cores()
    requests = json_requests(rows_of(options.model, CASES))
    with tempfile.TemporaryDirectory() as folder, Players(1, load_cores) as players:
        with pinned(server_cores):
            replica = Replica(
                MODEL_PATH=str(write(options.model, Path(folder))),
                MAX_QUEUE=str(options.max_queue),
                TUNE_S="10",
            )
        try:
            found = measure(options, replica.ready(), players, requests)
            found["exit_code"] = replica.stop()
        finally:
            replica.end()
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
