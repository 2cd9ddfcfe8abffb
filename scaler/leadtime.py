"""How long it takes from asking for a replica to its being ready, learned from the starts seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

KEPT = 64  # newest starts; older ones say little about today's image and region
SURE = 0.9  # the share of starts that the lead time covers


def remember(starts_s: Sequence[float], finished_s: Sequence[float]) -> tuple[float, ...]:
    """The newest starts, with those that finished since; durations in seconds, oldest first."""
    return (*starts_s, *(s for s in finished_s if s >= 0 and math.isfinite(s)))[-KEPT:]


def lead_time_s(starts_s: Sequence[float], expected_s: float) -> float:
    """Seconds within which nine of ten starts were ready; ``expected_s`` as long as none was seen."""
    if not starts_s:
        return expected_s
    return sorted(starts_s)[math.ceil(SURE * len(starts_s)) - 1]
