"""Totals since a service's first tick, for counters that only grow however many instances of the app come and go."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from scaler.model import Decision, Observation

START_BOUNDS_S = (5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0)
NOTHING_IN = (0,) * (len(START_BOUNDS_S) + 1)
DEMAND = "demand"  # the reason of a decision that nothing limited


class Tally(Struct, frozen=True, kw_only=True):
    """``decisions`` counts by what limited them, ``calls`` by ``<kind> <outcome>``, ``starts`` by duration
    (``START_BOUNDS_S``, each bound belonging to its bucket, and one bucket above); ``raised`` and ``lowered`` are
    decisions that changed the count. ``late`` is an estimate: see ``lateness``."""

    since: float
    ticks: int = 0
    decisions: dict[str, int] = field(default_factory=dict)
    raised: int = 0
    lowered: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    starts: tuple[int, ...] = NOTHING_IN
    starts_s: float = 0.0
    arrivals: float = 0.0
    late: float = 0.0
    replica_s: float = 0.0  # replicas that are billed (ready, starting, draining), over time


class Ended(Struct, frozen=True, kw_only=True):
    """What one tick adds: its decision, the count before it, what it saw, and how its calls ended."""

    decision: Decision
    desired_before: int | None
    seen: Observation
    calls: Mapping[str, int]
    slo_wait_s: float


def added(tally: Tally | None, ended: Ended) -> Tally:
    """The totals with one more tick."""
    seen, decision = ended.seen, ended.decision
    before = tally or Tally(since=seen.at)
    starts = list(before.starts)
    for seconds in seen.cold_starts_s:
        starts[bisect_left(START_BOUNDS_S, seconds)] += 1
    change = decision.desired - (decision.desired if ended.desired_before is None else ended.desired_before)
    billed = seen.ready + seen.starting + seen.draining
    return replace(
        before,
        ticks=before.ticks + 1,
        decisions=_more(before.decisions, {decision.limited_by or DEMAND: 1}),
        raised=before.raised + (change > 0),
        lowered=before.lowered + (change < 0),
        calls=_more(before.calls, ended.calls),
        starts=tuple(starts),
        starts_s=before.starts_s + sum(seen.cold_starts_s),
        arrivals=before.arrivals + (seen.arrivals or 0.0),
        late=before.late + lateness(seen, ended.slo_wait_s),
        replica_s=before.replica_s + billed * max(0.0, seen.window_s),
    )


def lateness(seen: Observation, slo_wait_s: float) -> float:
    """How many of the window's arrivals are late, as far as a tick can tell: all of them while the queue, at the rate
    that requests were completed at, takes longer than the objective to work off; else none."""
    if not seen.arrivals or not seen.queued or seen.window_s <= 0 or seen.completed is None:
        return 0.0
    wait_s = seen.queued * seen.window_s / seen.completed if seen.completed > 0 else float("inf")
    return seen.arrivals if wait_s > slo_wait_s else 0.0


def _more(before: Mapping[str, int], by: Mapping[str, int]) -> dict[str, int]:
    return {key: before.get(key, 0) + by.get(key, 0) for key in sorted(before.keys() | by.keys())}
