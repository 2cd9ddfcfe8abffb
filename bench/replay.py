"""How long a replay takes, and how that grows with its length: ``python -m bench.replay [--days 7] [--json FILE]``.

Each contender plays the same synthetic trace, of 1, 2, 4 … days, alone in this process. Seconds are of this machine's
processor: what others take meanwhile is left out. Microseconds a tick against those of the shortest run say how the
cost grows. About two minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from scaler.config import load
from scaler.decide import policy_of
from scaler.peers import PEERS, Fixed
from scaler.replay.plant import World
from scaler.replay.product import Product
from scaler.replay.run import run
from scaler.replay.sight import Rule, Terms
from scaler.replay.starts import draws

DAY_S, RATE, CONCURRENCY = 86_400, 10.0, 4.0
GOAL_S = 30.0  # for a week at ticks of 15 s
WORLD = World(rate=RATE, request_s=CONCURRENCY / RATE, slo_wait_s=5.0, starts_s=draws((), 75.0, 1))


def arrivals(days: int) -> list[float]:
    """Requests in each second: a day's wave between none and twice the mean of ten replicas, with gusts of minutes."""
    chance = np.random.default_rng(1)
    at = np.arange(days * DAY_S)
    gusts = np.exp(0.3 * np.repeat(chance.standard_normal(math.ceil(len(at) / 300)), 300)[: len(at)])
    rate = 10 * RATE * (1.0 - np.cos(at / DAY_S * 2 * np.pi)) * gusts
    return [float(n) for n in chance.poisson(rate)]


def contenders() -> list[Rule[Any]]:
    """The product without and with its forecast, and every peer."""
    terms = Terms(min=0, max=60, rate=RATE, concurrency=CONCURRENCY)
    peers = [make(terms) for make in PEERS.values()]
    return [_product("reactive", forecast=False), _product("forecast", forecast=True), *peers, Fixed(10)]


def _product(name: str, *, forecast: bool) -> Product:
    target = {"requests_per_second": RATE, "concurrency": CONCURRENCY}
    service = {"replicas": {"min": 0, "max": 60}, "target": target, "forecast": forecast}
    config = load(json.dumps({"services": {"bench": service}}), "bench")
    policy = policy_of(config.services["bench"], "bench", "bench")
    return Product(name=name, policy=policy, begins_at=1.79e9, concurrency=CONCURRENCY)


def measure(days: int) -> list[dict[str, Any]]:
    """Seconds of each contender at each length: 1, 2, 4 … and ``days`` days."""
    lengths = sorted({1 << i for i in range(days.bit_length()) if 1 << i < days} | {days})
    found = []
    jobs = [(rule, length) for rule in contenders() for length in lengths]
    for rule, length in track(jobs, "replaying", console=Console(stderr=True), transient=True):
        load_s = arrivals(length)
        began = time.process_time()
        run(rule, WORLD, load_s, 10)
        took_s = time.process_time() - began
        looks = length * DAY_S / rule.tick_s
        found.append({"rule": rule.name, "days": length, "seconds": took_s, "tick_us": took_s / looks * 1e6})
    return found


def main() -> None:
    """Measure, and show it as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = measure(given.days)
    table = Table(
        "rule", "days", "seconds", "µs a tick", "µs a tick / of one day", title=f"goal: 7 days in {GOAL_S:g} s"
    )
    first = {r["rule"]: r["tick_us"] for r in reversed(rows)}
    for r in rows:
        growth = r["tick_us"] / first[r["rule"]]
        table.add_row(r["rule"], str(r["days"]), f"{r['seconds']:.2f}", f"{r['tick_us']:.1f}", f"{growth:.2f}")
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
