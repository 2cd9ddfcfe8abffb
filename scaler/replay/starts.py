"""How long cold starts take in a replay: those a record has seen, or a guess of the same shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

DRAWN = 4096
ENOUGH = 20  # starts seen, from which on they are drawn from as they are
SPREAD = 0.35  # of the logarithm of a start, where it was not learned


def draws(seen_s: Sequence[float], expected_s: float, seed: int, *, spread: float = SPREAD) -> tuple[float, ...]:
    """Durations of cold starts in seconds. With ``ENOUGH`` seen they are drawn from those; with fewer, from a lognormal
    distribution whose median is that of those seen, or else ``expected_s``."""
    chance = np.random.default_rng(seed)
    seen = sorted(s for s in seen_s if s > 0 and math.isfinite(s))
    if len(seen) >= ENOUGH:
        return tuple(chance.choice(seen, DRAWN).tolist())
    median = float(np.median(seen)) if seen else expected_s
    return tuple((median * np.exp(spread * chance.standard_normal(DRAWN))).tolist())
