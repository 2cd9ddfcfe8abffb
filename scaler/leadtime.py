"""How long it takes from asking for a replica to its being ready, learned from the starts seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

KEPT = 64  # newest starts; older ones say little about today's image and region
SURE = 0.9  # the share of starts that the lead time covers
DOUBT = 5  # the expected start weighs as much as so many starts seen


def remember(starts_s: Sequence[float], finished_s: Sequence[float]) -> tuple[float, ...]:
    """The newest starts, with those that finished since; durations in seconds, oldest first."""
    return (*starts_s, *(s for s in finished_s if s >= 0 and math.isfinite(s)))[-KEPT:]


def lead_time_s(starts_s: Sequence[float], expected_s: float) -> float:
    """Seconds within which nine of ten starts were ready; ``expected_s`` as long as none was seen."""
    if not starts_s:
        return expected_s
    return sorted(starts_s)[math.ceil(SURE * len(starts_s)) - 1]


def mean_start_s(starts_s: Sequence[float], expected_s: float) -> float:
    """Mean seconds of a start; ``expected_s`` counts as a few starts, so that the first one seen is not believed
    alone."""
    return (math.fsum(starts_s) + DOUBT * expected_s) / (len(starts_s) + DOUBT)


def asked_after(asked_at: Sequence[float], at: float, finished_s: Sequence[float], starting: int) -> tuple[float, ...]:
    """When each replica that still starts was asked for, oldest first, given the durations of the starts that finished:
    the request whose age fits a finished start best is that start's."""
    left = sorted(asked_at)
    for duration_s in finished_s:
        if left:
            left.remove(min(left, key=lambda asked: abs(at - asked - duration_s)))
    return (*left[:starting], *([at] * (starting - len(left))))
