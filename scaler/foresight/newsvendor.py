"""How many replicas are worth their rent: rent against the price of lateness, over every path that may come.

For each count n the queue is played forward on each path, with the replicas that are ready, those that start (each as
far along as it is) and those that would have to be started now; a request that would wait longer than the objective is
late. The count wanted is the one with the least

    rent of n  +  lateness_price x expected late requests x replica time of a request  +  work left over at the end.

Paths end one lead time and a little after now: later, another decision can still mend things. For the same reason not
all of the lateness on a path counts. What is late before a replica asked for now could serve is ours alone to prevent,
by not giving up what is there; what comes after that, the decisions of the next ticks can still prevent in part.

Who would wait for a minute is lost, and counts three times where lateness is dear; at a price of 10 once, as any late
one, and by the logarithm of the price in between: there, replicas for the few paths on which anybody is lost cost more.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from scaler.foresight.forecast import Paths
from scaler.foresight.history import Floats
from scaler.foresight.trials import GIVEN_UP_S, LOST

NEAR = 4  # counts above and below the present one are looked at first
CHOICES = 16  # counts that are looked at one by one
LATER = 0.3  # of the lateness after a start is counted at a price of 10, and less, by a power, at a higher one
LATER_POWER = 0.3
SOONER = 3.0  # times as much of the lateness before that
LEFT = 1.5  # price of work left over: above 1, or serving some of more than can be served would not be worth its rent


class Supply(Struct, frozen=True, kw_only=True):
    """What can serve: ``ready`` now, ``starting_s`` the seconds until each starting one is ready (longest-waiting
    first), ``lead_s`` the seconds that one asked for now needs, and ``rate`` requests per second of each."""

    ready: int
    starting_s: tuple[float, ...]
    lead_s: float
    rate: float


class Price(Struct, frozen=True, kw_only=True):
    """``slo_wait_s``: a longer wait is late. ``lateness`` in replica time per replica time of a late request.
    ``rent_bins``: how many bins of rent a choice is charged."""

    slo_wait_s: float
    lateness: float
    rent_bins: int


class Choice(Struct, frozen=True, kw_only=True):
    """The count with the least cost, and what each count near it would cost: (count, rent, lateness) in replica
    seconds."""

    count: int
    costs: tuple[tuple[int, float, float], ...]


def choose(paths: Paths, supply: Supply, price: Price, queued: float, bin_s: float, most: int) -> Choice:
    """The cheapest count from 0 to ``most``. Costs fall towards it and rise from it, so it is looked for around the
    count that there is; only where the cheapest there is at the edge, everywhere, a few counts first."""

    def among(counts: NDArray[np.int_]) -> tuple[int, Floats, Floats]:
        rent, lateness = costs(paths, supply, price, queued, bin_s, counts)
        return int(np.argmin(rent + lateness)), rent, lateness

    have = supply.ready + len(supply.starting_s)
    peak = float(paths.rates.max(initial=0.0)) / supply.rate
    top = min(most, max(have, math.ceil(min(peak, most))) + 1)
    low, high = max(0, min(have, top) - NEAR), min(top, have + NEAR)
    counts = np.arange(low, high + 1)
    best, rent, lateness = among(counts)
    if (best == 0 and low > 0) or (best == high - low and high < top):
        low, high = (0, low + 1) if best == 0 else (high - 1, top)
        while high - low > CHOICES:
            counts = np.unique(np.linspace(low, high, CHOICES // 2).round().astype(int))
            best = among(counts)[0]
            low, high = int(counts[max(best - 1, 0)]), int(counts[min(best + 1, len(counts) - 1)])
        counts = np.arange(low, high + 1)
        best, rent, lateness = among(counts)
    near = range(max(0, best - 1), min(len(counts), best + 2))
    return Choice(
        count=int(counts[best]), costs=tuple((int(counts[i]), float(rent[i]), float(lateness[i])) for i in near)
    )


def costs(
    paths: Paths, supply: Supply, price: Price, queued: float, bin_s: float, counts: NDArray[np.int_]
) -> tuple[Floats, Floats]:
    """Rent and price of lateness of each count, in replica seconds."""
    bins = paths.rates.shape[1]
    served = _capacity(supply, bins, bin_s, counts)
    share = LATER * (price.lateness / 10.0) ** -LATER_POWER
    sooner = int(supply.lead_s / bin_s)
    limits = price.slo_wait_s * served[:, :, None]
    counted = np.where(np.arange(bins) < sooner, SOONER * share, share)
    came = paths.rates.T * bin_s
    weighed = came * paths.weights * counted[:, None]
    more = came - served[:, :, None] * bin_s  # by count, bin and path: the last is the longest, and so the quickest
    queue = np.full((len(counts), len(paths.weights)), float(queued))
    late, lost = np.empty((2, *more.shape), dtype=np.bool_)
    beyond = _beyond(price.lateness)
    for i in range(bins):
        queue += more[:, i]
        np.maximum(queue, 0.0, out=queue)
        np.greater(queue, limits[:, i], out=late[:, i])
        if beyond:
            np.greater(queue, GIVEN_UP_S * served[:, i, None], out=lost[:, i])
    counts_as = late + beyond * lost if beyond else late.astype(np.float64)
    lateness = counts_as.reshape(len(counts), weighed.size) @ weighed.ravel()
    worth: Floats = (price.lateness * lateness + LEFT * (queue @ paths.weights)) / supply.rate
    return counts.astype(np.float64) * (price.rent_bins * bin_s), worth


def _beyond(lateness: float) -> float:
    """How many late requests a lost one counts for besides the one that it is."""
    return (LOST - 1.0) * min(1.0, max(0.0, math.log10(lateness / 10.0)))


def _capacity(supply: Supply, bins: int, bin_s: float, counts: NDArray[np.int_]) -> Floats:
    """Requests per second that each count (a row each) serves in each bin: those ready, and those that become so."""
    starting = len(supply.starting_s)
    # The share of each bin in which a replica serves that is ready in so many seconds; the last is one asked for now.
    ready_s = np.array([*supply.starting_s, supply.lead_s])[:, None]
    shares = np.minimum(np.maximum(np.arange(1.0, bins + 1.0) - ready_s / bin_s, 0.0), 1.0)
    reached = np.zeros((starting + 1, bins))
    np.cumsum(shares[:-1], axis=0, out=reached[1:])
    kept = np.minimum(np.maximum(counts - supply.ready, 0), starting)
    new = np.maximum(counts - supply.ready - starting, 0)
    ready = np.minimum(counts, supply.ready)
    serving: Floats = ready[:, None] + reached[kept] + np.outer(new, shares[-1])
    return serving * supply.rate
