"""How long a container group takes to start: fixed, even between two bounds, or spread like Azure's."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from scaler.errors import BadSetting

# Share of the starts that took at most so many seconds, from the request to the first container running.
PUBLIC = ((0.0, 10.0), (0.1, 13.0), (0.25, 16.0), (0.5, 19.0), (0.75, 24.0), (0.9, 40.0), (0.97, 95.0), (1.0, 225.0))
SUBNET = ((0.0, 40.0), (0.1, 47.0), (0.3, 52.0), (0.5, 99.0), (0.9, 104.0), (1.0, 120.0))
# Scheduling takes about this long before the pull, and the step from pulled to running about that long after it.
SCHEDULING_S = 5.0
UNPACKING_S = 9.0
CACHED = 0.4  # a restart finds the layers there


class StartDelay(Struct, frozen=True):
    """Seconds after the request."""

    pulling_s: float
    pulled_s: float
    started_s: float


Draw = Callable[[dict[str, Any]], StartDelay]


def stages(started_s: float) -> StartDelay:
    """The stages of a start of this length: never a pull before scheduling or a container before its image."""
    pulling = min(SCHEDULING_S, started_s * 0.25)
    pulled = max(pulling, started_s - min(UNPACKING_S, started_s * 0.5))
    return StartDelay(pulling, pulled, started_s)


def quantile(table: tuple[tuple[float, float], ...], share: float) -> float:
    """The value below which ``share`` of a table of (share, value) lies, linear between its points."""
    i = min(bisect_right(table, (share, float("inf"))), len(table) - 1)
    (low, a), (high, b) = table[i - 1], table[i]
    return a + (b - a) * (share - low) / (high - low)


def parse(text: str, seed: int | None = None) -> Draw:
    """``quantiles``, seconds, or ``MIN-MAX`` in seconds. Raises ``BadSetting``."""
    chance = random.Random(seed)  # noqa: S311 - a die, not a secret
    if text == "quantiles":
        return lambda group: stages(quantile(SUBNET if group.get("subnetIds") else PUBLIC, chance.random()))
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?", text):
        low, high = float(found[1]), float(found[2] or found[1])
        if low <= high:
            return lambda _group: stages(chance.uniform(low, high))
    raise BadSetting(
        f"--start-delay {text}: expected `quantiles`, seconds like `2.5`, or a span like `1-4`, lower bound first"
    )
