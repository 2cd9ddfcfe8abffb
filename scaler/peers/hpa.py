"""Kubernetes HorizontalPodAutoscaler (autoscaling/v2), on the utilization of the pods or on a total.

    ratio = metric / target;  within 10 % of 1: as it is;  else ceil(ratio x pods)
    then the largest recommendation of the last 300 s, and at most max(2 x pods, 4)

That is the controller with no ``behavior`` given. Pods that are not ready count as idle where the ratio asks for more,
and the count moves only if the ratio still asks for it then. From zero it does not act at all, so its minimum is 1.
Source: pkg/controller/podautoscaler, ``horizontal.go`` and ``replica_calculator.go``.
"""

from __future__ import annotations

import math

from msgspec import Struct

from scaler.replay.sight import Sight, Terms, Wish

TOLERANCE = 0.1
DOWN_WINDOW_S = 300
METRIC_WINDOW_S = 30  # what the metrics server averages over

Recommendations = tuple[tuple[int, int], ...]  # (at, count), counts falling with time


class Hpa(Struct, frozen=True):
    """On the share of what a pod can do that is in use; the target is the knob."""

    terms: Terms
    tick_s: int = 15
    wake_s: int | None = None
    begins: int | None = None

    @property
    def name(self) -> str:
        return f"hpa:{self.terms.share:g}"

    def initial(self) -> Recommendations:
        return ()

    def decide(self, state: Recommendations, seen: Sight) -> tuple[Wish, Recommendations]:
        least = max(1, self.terms.min)
        if seen.asked < least:
            return Wish(least), state
        used = seen.busy_share(METRIC_WINDOW_S, self.terms.concurrency)
        proposed = seen.asked if used is None else of_utilization(used / self.terms.share, seen.ready, seen.starting)
        return normalized(proposed, seen, state, least, self.terms.max)


def of_utilization(ratio: float, ready: int, starting: int) -> int:
    """The pods that a mean utilization of the ready ones, as a ratio to its target, proposes."""
    pods = ready + starting
    if ready == 0:
        return pods  # no pod gives a sample
    if not starting or ratio <= 1:
        return pods if abs(ratio - 1) <= TOLERANCE else _up(ratio * ready)
    cautious = ratio * ready / pods
    if abs(cautious - 1) <= TOLERANCE or cautious < 1:
        return pods
    return max(pods, _up(cautious * pods))


def of_total(total: float, target: float, pods: int) -> int:
    """The pods that a total over all of them proposes, ``target`` for each (an external metric's AverageValue)."""
    return pods if abs(total / (target * pods) - 1) <= TOLERANCE else _up(total / target)


def normalized(
    proposed: int, seen: Sight, state: Recommendations, least: int, most: int
) -> tuple[Wish, Recommendations]:
    """The proposal after the window and the limits, and the window with it."""
    kept = tuple((at, count) for at, count in state if seen.at - at < DOWN_WINDOW_S and count > proposed)
    window = (*kept, (seen.at, proposed))
    allowed = max(2 * seen.asked, 4)
    return Wish(min(most, max(least, min(window[0][1], allowed)))), window


def _up(count: float) -> int:
    return math.ceil(count - 1e-9)
