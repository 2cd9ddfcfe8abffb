"""Three times more than a replica can do, for a minute: ``python -m bench.overload [--json FILE]``; about 90 s a model.

Capacity is what the same replica answers in a closed loop just before and just after (the better of the two). Then
requests are due at three times that rate (Poisson, open loop), and the question is what is left of capacity (goodput),
how soon the refused ones are told, and whether memory grows. The replica has one core and the load another, where
there are two. Latencies count from sending to the arrival of the answer at the client's kernel. Goodput is also given
by the replica's own CPU time, answers a CPU second in the flood to those in the closed loop: what other programs take
from the core disturbs that far less than the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.flood import Seen, pour
from bench.load import Work, post
from bench.models import rows_of, write
from bench.served import cores, pinned
from tests.inference.process import Replica

CASES = 64
WARM_S = 3.0
COUNTED = ("arrivals_total", "completed_total", "rejected_total", "failed_total")
SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "most": 1.0}


def requests_of(model: str, rows: int) -> tuple[bytes, ...]:
    """Requests of `rows` rows each."""
    numbers = [[round(x, 4) for x in row] for row in rows_of(model, CASES * rows).tolist()]
    return tuple(post("/predict", orjson.dumps({"data": numbers[at * rows : (at + 1) * rows]})) for at in range(CASES))


def memory_of(pid: int) -> int:
    """Resident bytes of a process."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def watch(pid: int, seconds: float, seen: list[int]) -> None:
    """Resident bytes, twice a second, with a bar."""
    begun_at = time.monotonic()
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("overload", total=seconds)
        while (passed := time.monotonic() - begun_at) < seconds:
            seen.append(memory_of(pid))
            bar.update(task, completed=passed, description=f"overload, {seen[-1] / 2**20:.0f} MiB")
            time.sleep(0.5)
        bar.update(task, completed=seconds)


def account(replica: Replica) -> tuple[float, dict[str, int]]:
    """CPU seconds of the replica so far, and its counters."""
    used = Path(f"/proc/{replica.process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    said = replica.get("/stats")[1]
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK"), {key: said[key] for key in COUNTED}


def measure(options: argparse.Namespace, model: str, replica: Replica) -> dict[str, Any]:
    """Capacity, the flood, capacity again."""
    requests, pid, load_cores = requests_of(model, options.rows), replica.process.pid, cores()[1]
    calm = Work(
        port=replica.port, requests=requests, connections=options.connections, seconds=6.0, warm_s=2.0, cores=load_cores
    )
    accounts = [account(replica)]
    before_s = pour(calm).per_second
    accounts.append(account(replica))
    before = memory_of(pid)
    memory: list[int] = []
    watching = threading.Thread(target=watch, args=(pid, options.seconds + WARM_S, memory))
    watching.start()
    flood = Work(
        port=replica.port,
        requests=requests,
        connections=options.max_queue + options.spare,
        seconds=options.seconds,
        warm_s=WARM_S,
        rate=options.times * before_s,
        cores=load_cores,
    )
    seen = pour(flood)
    watching.join()
    accounts.append(account(replica))
    after_s = pour(calm).per_second
    found = judge(seen, max(before_s, after_s))
    found["capacity_after_of_before"] = after_s / before_s
    found["memory_growth_mib"] = {
        "from_calm": (max(memory) - before) / 2**20,
        "second_half": growth(memory) / 2**20,
    }
    calm_cpu, flood_cpu = (
        (late["completed_total"] - early["completed_total"]) / (late_s - early_s)
        for (early_s, early), (late_s, late) in pairwise(accounts)
    )
    found["goodput_of_capacity_by_cpu"] = flood_cpu / calm_cpu
    return found | {"counted": {key: accounts[2][1][key] - accounts[1][1][key] for key in COUNTED}}


def judge(seen: Seen, capacity: float) -> dict[str, Any]:
    """The flood as ratios to capacity."""
    return {
        "capacity_per_s": capacity,
        "due_of_capacity": seen.due / seen.seconds / capacity,
        "sent_of_capacity": seen.sent / seen.seconds / capacity,
        "goodput_of_capacity": seen.per_second / capacity,
        "not_sent": seen.not_sent,
        "answers": {status: len(times) for status, times in seen.waited_s.items()},
        "refused_ms": {name: seen.quantile_ms(503, share) for name, share in SHARES.items()},
        "answered_ms": {name: seen.quantile_ms(200, share) for name, share in SHARES.items()},
    }


def growth(memory: list[int]) -> int:
    """Bytes between the most of the second quarter and the most of the last: what a leak would add."""
    quarter = len(memory) // 4
    return max(memory[-quarter:]) - max(memory[quarter : 2 * quarter])


def served(options: argparse.Namespace, model: str) -> dict[str, Any]:
    """One model's replica from start to end."""
    with tempfile.TemporaryDirectory() as folder:
        with pinned(cores()[0]):
            file = write(model, Path(folder))
            replica = Replica(MODEL_PATH=str(file), MAX_QUEUE=str(options.max_queue), TUNE_S="10")
        try:
            found = measure(options, model, replica.ready())
            return found | {"exit_code": replica.stop()}
        finally:
            replica.end()


def table(found: dict[str, dict[str, Any]]) -> Table:
    """What the goals ask for, one line a model."""
    made = Table(
        "model",
        "sent / capacity",
        "goodput / capacity",
        "by CPU",
        "refused",
        "refused ms: p50, p99, p99.9, most",
        "MiB more",
    )
    for model, of in found.items():
        answers = of["answers"]
        times = ", ".join(f"{of['refused_ms'][name]:.1f}" for name in SHARES)
        share = answers.get(503, 0) / max(1, sum(answers.values()))
        sent, good = f"{of['sent_of_capacity']:.2f}", f"{of['goodput_of_capacity']:.2f}"
        by_cpu = f"{of['goodput_of_capacity_by_cpu']:.2f}"
        made.add_row(model, sent, good, by_cpu, f"{share:.0%}", times, f"{of['memory_growth_mib']['second_half']:.1f}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument("--models", default="tiny,wide", help="of tiny, wide, encoder (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1, help="in a request (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=128, help="of the closed loop that finds the capacity")
    parser.add_argument("--max-queue", type=int, default=256)
    parser.add_argument("--spare", type=int, default=1024, help="connections of the flood beyond the queue")
    options = parser.parse_args()
    found = {model: served(options, model) for model in options.models.split(",")}
    Console(width=120).print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    else:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
