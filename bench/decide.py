"""How long a decision takes with two weeks of record, and how much a tick stores: ``python -m bench.decide``.

Milliseconds are of this machine and this moment; the ratio to a decision without forecast travels better. It takes
about ten seconds. Options: ``--ticks N`` (2000), ``--json FILE``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from scaler.config import load
from scaler.decide import Policy, State, decide, initial_state, policy_of
from scaler.foresight.history import BLOCK_BINS, MOST_BLOCKS, Block, History, pack
from scaler.memory import without_blocks
from scaler.model import Observation

SERVICE = "{replicas: {max: 60}, target: {requests_per_second: 10, concurrency: 4}, forecast: %s}"
TICK_S = 15.0
GOAL_MS = {"median": 5.0, "p99": 15.0}
GOAL_BYTES = 65_536


def policy(forecast: bool) -> Policy:
    """A service of up to 60 replicas."""
    text = f"services: {{iris: {SERVICE % str(forecast).lower()}}}"
    return policy_of(load(text, "bench").services["iris"], "iris", "bench")


def rates(bins: int) -> np.ndarray:
    """Days with a rise and a fall, noise, and a burst now and then; arrivals per second of each bin."""
    rng = np.random.default_rng(7)
    t = np.arange(bins)
    wave = 60 + 50 * np.sin(2 * math.pi * t * TICK_S / 86400)
    bursts = np.convolve(rng.random(bins) < 0.001, np.exp(-np.arange(40) / 10), mode="full")[:bins]
    return np.asarray(rng.poisson((wave * (1 + 2 * bursts)) * TICK_S) / TICK_S)


def full(bins: np.ndarray) -> History:
    """A record of exactly two weeks."""
    rows = bins.astype("<f4").reshape(MOST_BLOCKS, BLOCK_BINS)
    blocks = tuple(Block(number=i, bin_s=TICK_S, rates=row.tobytes(), digest=b"%8d" % i) for i, row in enumerate(rows))
    return History(bin_s=TICK_S, at=0.0, blocks=blocks)


def ticks(coming: np.ndarray) -> Iterator[Observation]:
    """What is seen tick after tick, everything served by as many replicas as it takes."""
    for i, rate in enumerate(coming):
        count = float(rate * TICK_S)
        yield Observation(
            at=TICK_S * (i + 1),
            window_s=TICK_S,
            ready=max(1, math.ceil(rate / 10)),
            starting=i % 3,
            arrivals=count,
            completed=count,
            in_flight=float(rate * 0.4),
            queued=float(i % 50 == 0) * 40.0,
        )


def measured(rules: Policy, state: State, coming: np.ndarray) -> tuple[list[float], State]:
    """Milliseconds of each decision after the first, which reckons what later ones keep; and the last state."""
    took = []
    for seen in ticks(coming):
        began = time.perf_counter()
        _, state = decide(rules, state, seen)
        took.append((time.perf_counter() - began) * 1000)
    return took, state


def quantile(took: list[float], share: float) -> float:
    return statistics.quantiles(took, n=1000)[round(share * 1000) - 1]


def report(count: int) -> dict[str, float]:
    """All figures by name."""
    bins = rates(MOST_BLOCKS * BLOCK_BINS + count + 1)
    record, coming = full(bins[: MOST_BLOCKS * BLOCK_BINS]), bins[MOST_BLOCKS * BLOCK_BINS :]
    begin = initial_state(policy(True))
    assert begin.ahead is not None
    begin = replace(begin, ahead=replace(begin.ahead, history=record))
    first, *took = measured(policy(True), begin, coming)[0]
    plain = measured(policy(False), begin, coming)[0][1:]
    state = measured(policy(True), begin, coming[: BLOCK_BINS - 1])[1]
    return {
        "first_ms": first,
        "median_ms": quantile(took, 0.5),
        "p99_ms": quantile(took, 0.99),
        "longest_ms": max(took),
        "without_forecast_median_ms": quantile(plain, 0.5),
        "ratio": quantile(took, 0.5) / quantile(plain, 0.5),
        "state_bytes": len(msgspec.msgpack.encode(without_blocks(state))),
        "block_bytes": len(msgspec.msgpack.encode(record.blocks[0])),
        "packed_bytes": len(msgspec.msgpack.encode(pack(record))),
    }


def main() -> None:
    """Print the figures, and whether they keep what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = report(options.ticks)
    print(f"decisions with {MOST_BLOCKS * BLOCK_BINS * TICK_S / 86400:.0f} days of record: {options.ticks}")
    for name, value in found.items():
        print(f"  {name:28s} {value:10.3f}" if name.endswith(("_ms", "ratio")) else f"  {name:28s} {value:6.0f}")
    kept = found["median_ms"] < GOAL_MS["median"] and found["p99_ms"] < GOAL_MS["p99"]
    print(f"promised: median under 5 ms, 99 of 100 under 15 ms: {'kept' if kept else 'NOT kept'}")
    print(f"promised: under 64 KiB a tick: {'kept' if found['state_bytes'] < GOAL_BYTES else 'NOT kept'}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
