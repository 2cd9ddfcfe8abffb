"""How each rule would have done on this service's own record: all of them decide on paper, and the cheapest speaks.

A rule is who asks (the forecast, or the signals alone) and how long what was asked is held. Every rule has a fleet on
paper: it is charged the rent of what it asks for and the price of the requests that would have been late, by the same
prices as the live decision. Costs fade with a half-life of a day. Another rule takes over when it was clearly cheaper.

On paper a replica serves one mean start after it was asked for, so a rule has as many as the least that it asked for
within the last start; what they do not serve waits.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from scaler.foresight.history import Floats

HOLD_STARTS = 1 / 3  # how long what was asked is held at first, in expected starts, at a price of lateness of 10 …
HOLD_POWER = 0.3  # … and longer, by this power, at a higher one
LONGER_STARTS = (4 / 3, 10 / 3)  # the holds that are tried besides
HOLDS = 1 + len(LONGER_STARTS)
RULES = 2 * HOLDS  # of the forecast, then of the signals
STEPS_A_START = 6.0
MOST_STEPS = 128
GAP_STARTS = 10.0
HALF_LIFE_S = 86_400.0
PROOF_STARTS = 240.0  # so long nothing is concluded
CLEARLY = 0.12  # cheaper by this share
GIVEN_UP_S = 60.0  # who waits longer is lost, and counts as three late ones
LOST = 3.0


class Trials(Struct, frozen=True, kw_only=True):
    """The fleets on paper at the steps of the last while: ``times`` of the steps, ``wanted`` and ``asked`` (a row of
    32-bit integers for each step, a column for each rule), what waits, the cost so far; which rule speaks."""

    speaks: int = 0
    watched_s: float = 0.0
    times: tuple[float, ...] = ()
    wanted: bytes = b""
    asked: bytes = b""
    queues: tuple[float, ...] = (0.0,) * RULES
    costs: tuple[float, ...] = (0.0,) * RULES


class Case(Struct, frozen=True, kw_only=True):
    """What a step is judged by: arrivals since the step before; the count that the forecast wants and the least that
    any rule must ask for; the level of arrivals per second; and the terms of the service."""

    arrivals: float
    wanted: int
    least: int
    level: float
    rate: float
    concurrency: float | None
    slo_wait_s: float
    lateness_price: float
    start_s: float
    expected_start_s: float
    most: int


def is_due(trials: Trials, at: float, expected_start_s: float) -> bool:
    """Whether it is time for a step: several in a start, not each tick of a quick timer."""
    return not trials.times or not 0 <= at - trials.times[-1] < 0.99 * expected_start_s / STEPS_A_START


def holds_s(lateness_price: float, expected_start_s: float) -> tuple[float, ...]:
    """The holds that are tried, shortest first."""
    first = HOLD_STARTS * (lateness_price / 10.0) ** HOLD_POWER
    return tuple(max(first, hold) * expected_start_s for hold in (first, *LONGER_STARTS))


def forecast_speaks(trials: Trials) -> bool:
    """Whether the rule that speaks is one of the forecast's."""
    return trials.speaks < HOLDS


def loss(trials: Trials) -> float:
    """By how much the best rule of the forecast is dearer than the best of the signals, as a share."""
    ours, theirs = min(trials.costs[:HOLDS]), min(trials.costs[HOLDS:])
    return ours / theirs - 1.0 if theirs > 0 else 0.0


def step(trials: Trials, at: float, case: Case) -> Trials:
    """The trials after the time since the last step, and what each rule asks for now."""
    span_s = at - trials.times[-1] if trials.times else 0.0
    if not 0 < span_s <= GAP_STARTS * case.expected_start_s:
        return _begun(trials, at, case)
    times = np.array(trials.times)
    shape = (len(times), RULES)
    wanted, asked = (np.frombuffer(rows, dtype="<i4").reshape(shape) for rows in (trials.wanted, trials.asked))
    first = int(np.searchsorted(times, times[-1] - case.start_s - span_s / 2))
    ready = asked[first:].min(axis=0).astype(np.float64)
    queues, late = _served(np.array(trials.queues), ready * case.rate, span_s, case)
    fading = 0.5 ** (span_s / HALF_LIFE_S)
    costs = np.array(trials.costs) * fading + asked[-1] * span_s + case.lateness_price * late / case.rate
    times, wanted = np.append(times, at), np.vstack([wanted, _wants(queues, ready, case)])
    holds = np.array(2 * holds_s(case.lateness_price, case.expected_start_s))
    held = times[:, None] > at - holds + 1e-6
    asking = np.where(held, wanted, 0).max(axis=0)
    oldest = at - max(float(holds.max()), 2 * case.start_s)
    begin = max(0, int(np.searchsorted(times, oldest, side="right")) - 1, len(times) - MOST_STEPS)
    watched_s = trials.watched_s + span_s
    return Trials(
        speaks=_cheapest(trials.speaks, costs) if watched_s > PROOF_STARTS * case.expected_start_s else trials.speaks,
        watched_s=watched_s,
        times=tuple(times[begin:].tolist()),
        wanted=_rows(wanted[begin:]),
        asked=_rows(np.vstack([asked[begin:], asking])),
        queues=tuple(queues.tolist()),
        costs=tuple(costs.tolist()),
    )


def _begun(trials: Trials, at: float, case: Case) -> Trials:
    """Nothing was watched before, or not for too long: what counts is now."""
    row = _rows(np.full((1, RULES), min(max(case.least, case.wanted), case.most)))
    return Trials(
        speaks=trials.speaks,
        watched_s=trials.watched_s,
        times=(at,),
        wanted=row,
        asked=row,
        costs=trials.costs,
    )


def _served(before: Floats, served: Floats, span_s: float, case: Case) -> tuple[Floats, Floats]:
    """What still waits after the span, and how many were late in it: those who came while the line was too long. Those
    lost count three times."""
    queues = before + case.arrivals
    queues -= np.minimum(queues, served * span_s)
    longest, shortest = np.maximum(before, queues), np.minimum(before, queues)
    share = (longest - case.slo_wait_s * served) / np.maximum(longest - shortest, 1e-9)
    lost = np.maximum(queues - (GIVEN_UP_S * np.maximum(served, case.level) + case.arrivals), 0.0)
    return queues - lost, case.arrivals * np.minimum(np.maximum(share, 0.0), 1.0) + LOST * lost


def _wants(queues: Floats, ready: Floats, case: Case) -> NDArray[np.int_]:
    """The count that each rule wants now: the forecast's and a way out of its own jam, or what the signals ask for."""
    carried = case.level / case.rate
    signals = np.ceil(carried + queues / (case.concurrency or math.inf) - 1e-9)
    forecast = np.maximum(float(case.wanted), clearing(queues, ready, case))
    wants = np.concatenate([forecast[:HOLDS], signals[HOLDS:]])
    wants = np.maximum(wants, (queues > 0) & (ready == 0))
    counts: NDArray[np.int_] = np.minimum(np.maximum(wants, case.least), case.most).astype(np.int_)
    return counts


def clearing(queues: Floats, ready: Floats, case: Case) -> Floats:
    """The count that clears a backlog at the least cost; 0 where nobody waits for long. While B replicas' seconds of
    work wait, everybody is late: m more replicas cost m starts and shorten that to B/m, so the least of
    ``m x start + price x level x B / m`` is a square root. More than one for each that waits is of no use."""
    served = ready * case.rate
    backlog = queues + np.maximum(0.0, case.level - served) * case.start_s * 0.7
    backlog = np.minimum(backlog, GIVEN_UP_S * case.level + queues)
    carried = math.ceil(case.level / case.rate - 1e-9)
    more = np.sqrt(case.lateness_price * max(1, carried) * backlog / case.rate / case.start_s)
    useful = np.maximum(carried, np.ceil(queues - 1e-9) + ready)
    count = np.minimum(np.floor(carried + more + 0.5), useful)
    counts: Floats = np.where(queues > case.slo_wait_s / 2 * served, count, 0.0)
    return counts


def _cheapest(speaks: int, costs: Floats) -> int:
    """The rule that speaks from now on: the first one, unless another is clearly cheaper than it; one that speaks
    already stays as long as half of that is left and none is clearly cheaper."""
    best = int(np.argmin(costs))
    stays = costs[speaks] < (1.0 - CLEARLY / 2) * costs[0]
    against = costs[speaks] if stays else costs[0]
    if costs[best] < (1.0 - CLEARLY) * against:
        return best
    return speaks if stays else 0


def _rows(counts: NDArray[np.int_]) -> bytes:
    return counts.astype("<i4").tobytes()
