"""A contender against the plant, from the first second of a trace to its last."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Any

from scaler.replay.plant import Course, Plant, World
from scaler.replay.sight import Rule

TOLD_EVERY_S = 3600


def run(
    rule: Rule[Any],
    world: World,
    arrivals: Sequence[float],
    ready: int,
    *,
    told: Callable[[int], None] = lambda _: None,
) -> Course:
    """What becomes of ``arrivals`` (requests in each second) under a rule, beginning with so many ``ready`` replicas.
    ``told`` hears now and then how many seconds are over."""
    plant, state = Plant(world, arrivals, ready), rule.initial()
    busy = [at for at, count in enumerate(arrivals) if count > 0] if rule.wake_s is not None else []
    tick_at, told_at = rule.tick_s, 0
    while True:
        plant.serve(min(_wake_at(rule, plant, busy, tick_at), tick_at, len(arrivals)))
        at = plant.sight.at
        if at >= len(arrivals):
            return plant.course()
        wish, state = rule.decide(state, plant.sight)
        plant.ask(wish.count)
        plant.off = wish.off
        if at >= tick_at:
            tick_at += rule.tick_s
        if at >= told_at:
            told(at)
            told_at += TOLD_EVERY_S


def _wake_at(rule: Rule[Any], plant: Plant, busy: Sequence[int], tick_at: int) -> int:
    """When somebody who finds no replica makes the rule look; never before the next second."""
    seen = plant.sight
    if rule.wake_s is None or seen.asked or plant.off:
        return tick_at
    if seen.queued > 0:
        return seen.at + rule.wake_s
    i = bisect.bisect_left(busy, seen.at)
    return busy[i] + rule.wake_s if i < len(busy) else tick_at
