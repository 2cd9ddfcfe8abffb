"""Whether the last replica is worth keeping while nothing comes: the gaps of the record against the price of a start.

Giving it up saves rent until the next request, and costs a start then, and that request's lateness. So it is kept for
as long as some wait for the next request costs less than that, counted over the past gaps that lasted as long as this
one has (the break-even rule of the ski rental, with the distribution known).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from scaler.foresight.history import Block, History

LEAST_GAPS = 8  # of at least this length; fewer prove nothing
LONGEST_WAIT_BINS = 40

Gaps = NDArray[np.int_]


class Wait(Struct, frozen=True, kw_only=True):
    """A wait that pays: of ``gaps`` past ones as long as this, ``ended`` within so many more seconds."""

    idle_s: float
    seconds: float
    ended: int
    gaps: int


def worth_keeping(history: History, start_price_s: float) -> Wait | None:
    """The wait for the next request that is cheapest against giving the replica up; None where none pays.
    ``start_price_s`` is what having to start again costs, in replica seconds."""
    past, idle = gaps(history)
    longer = past[past > idle] - idle
    if len(longer) < LEAST_GAPS:
        return None
    waits = np.arange(1, LONGEST_WAIT_BINS + 1)
    ended = (longer[None, :] <= waits[:, None]).sum(axis=1)
    rent_s = np.minimum(longer[None, :], waits[:, None]).mean(axis=1) * history.bin_s
    gain_s = ended / len(longer) * start_price_s - rent_s
    best = int(np.argmax(gain_s))
    if gain_s[best] <= 0:
        return None
    return Wait(
        idle_s=idle * history.bin_s, seconds=(best + 1) * history.bin_s, ended=int(ended[best]), gaps=len(longer)
    )


def gaps(history: History) -> tuple[Gaps, int]:
    """The lengths in bins of all past gaps, and how long nothing has come now. Gaps at whose edge nobody watched do
    not count, nor does one that is not over."""
    past, idle, watched = _gaps_of(history.blocks)
    return _continued(past, idle, watched, np.frombuffer(history.tail, dtype="<f4"))[:2]


@lru_cache(maxsize=32)
def _gaps_of(blocks: tuple[Block, ...]) -> tuple[Gaps, int, bool]:
    rates = np.frombuffer(b"".join(block.rates for block in blocks), dtype="<f4")
    return _continued(np.empty(0, dtype=np.int_), 0, False, rates)


def _continued(past: Gaps, idle: int, watched: bool, rates: NDArray[np.float32]) -> tuple[Gaps, int, bool]:
    """Gaps so far, the one under way and whether its beginning was watched; after some more bins."""
    ends = np.flatnonzero(rates != 0)  # arrivals, or nobody watched
    if not len(ends):
        return past, idle + len(rates), watched
    known = ~np.isnan(rates[ends])
    lengths = np.diff(np.concatenate([[-1], ends])) - 1
    lengths[0] += idle
    begun = np.concatenate([[watched], known[:-1]])
    whole = lengths[known & begun & (lengths > 0)]
    return np.concatenate([past, whole]), len(rates) - 1 - int(ends[-1]), bool(known[-1])
