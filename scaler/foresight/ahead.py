"""What foresight alone would ask for: the count that is worth its rent over the next lead time, and a way out of a jam.

It speaks where arrivals are known and it is known what one replica carries; it then takes the place of the signals that
only reckon with this moment's requests. It stands back where the signals alone would have been cheaper on the service's
own record (``trials.py``), and listens on.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from scaler.foresight import trials
from scaler.foresight.forecast import PRIOR_BINS, Paths, analogs_at, paths
from scaler.foresight.history import History, record
from scaler.foresight.idle import worth_keeping
from scaler.foresight.leadtime import Starts, asked_after, mean_start_s
from scaler.foresight.newsvendor import Choice, Price, Supply, choose
from scaler.foresight.trials import Case, Trials
from scaler.model import Observation
from scaler.signals import Proposal

BINS_A_START = 6.0  # a bin of the record is a sixth of a start, 15 s for 90 s
LONGEST_BIN_S = 15.0
SHORTEST_BIN_S = 1.0
BINS_AFTER = 4  # the paths end so many bins after a replica asked for now is ready
START_MARGIN = 1.1
MISTRUST_STARTS = 6.7  # for so many starts after the first tick nothing is given up: too little was seen
FLOOR_REPLICAS = 0.5  # arrivals that keep less of one replica busy are noise
MORE = 1.01  # arrivals beyond the most that was expected before by this factor are more than before
LONG_REQUEST_S = 2.0  # requests at least as long count one by one: the floor is a whole replica


class Ahead(Struct, frozen=True, kw_only=True):
    """What foresight remembers: past arrivals, when the starting replicas were asked for, the first tick, the most that
    ran at it or was found worth its rent soon after, the most arrivals per second that were expected then, and how each
    rule has done; ``arrivals`` are those since the last step of the trials."""

    history: History
    asked_at: tuple[float, ...] = ()
    first_at: float | None = None
    first_count: int = 0
    first_rate: float = 0.0
    trials: Trials = Trials()
    arrivals: float = 0.0


class Outlook(Struct, frozen=True, kw_only=True):
    """What foresight asks for (nothing, where it stands back), how long that is held, and what it remembers now."""

    proposals: tuple[Proposal, ...]
    speaks: bool
    hold_s: float
    ahead: Ahead


class Terms(Struct, frozen=True, kw_only=True):
    """What one replica carries and what it costs to be late: requests per second, requests at once (None: no signal
    counts them), seconds of work in a request, the longest wait in time, and the price of lateness."""

    rate: float
    concurrency: float | None
    service_s: float | None
    slo_wait_s: float
    lateness_price: float
    expected_start_s: float
    most: int


def initial(expected_start_s: float) -> Ahead:
    """Nothing remembered yet; bins fit the length of a start."""
    bin_s = min(LONGEST_BIN_S, max(SHORTEST_BIN_S, float(round(expected_start_s / BINS_A_START))))
    return Ahead(history=History(bin_s=bin_s))


def learn(ahead: Ahead, seen: Observation) -> Ahead:
    """What is remembered after this observation; data that are not fresh teach nothing about arrivals."""
    arrivals = seen.arrivals if seen.data == "fresh" else None
    return replace(
        ahead,
        history=record(ahead.history, seen.at, seen.window_s, arrivals),
        asked_at=asked_after(ahead.asked_at, seen.at, seen.cold_starts_s, seen.starting),
        first_at=seen.at if ahead.first_at is None else min(ahead.first_at, seen.at),
        first_count=seen.ready + seen.starting if ahead.first_at is None else ahead.first_count,
        arrivals=ahead.arrivals + max(0.0, arrivals or 0.0),
    )


def ages_s(ahead: Ahead, at: float) -> tuple[float, ...]:
    """How long ago each replica that still starts was asked for."""
    return tuple(max(0.0, at - asked_at) for asked_at in ahead.asked_at)


def asked(ahead: Ahead, seen: Observation, desired: int) -> Ahead:
    """What is remembered once ``desired`` was decided: replicas asked for now, or starting ones given up."""
    more = desired - seen.ready - seen.starting
    kept = ahead.asked_at[: max(0, len(ahead.asked_at) + more)]
    return replace(ahead, asked_at=(*kept, *([seen.at] * max(0, more))))


def look(ahead: Ahead, seen: Observation, terms: Terms, starts: Starts) -> Outlook | None:
    """What foresight asks for; None where it is not known what comes."""
    unended_s = (*ages_s(ahead, seen.at), *starts.failed_s)
    start_s = mean_start_s(starts.known_s, terms.expected_start_s, unended_s)
    bins = math.ceil(start_s * START_MARGIN / ahead.history.bin_s) + BINS_AFTER
    whole = terms.service_s is not None and terms.service_s >= LONG_REQUEST_S
    floor = terms.rate * (1.0 if whole else FLOOR_REPLICAS)
    coming = paths(ahead.history, bins, floor, analogs_at(terms.lateness_price))
    if coming is None:
        return None
    choice = _choice(ahead, seen, terms, coming, start_s)
    because = _words(choice, bins * ahead.history.bin_s)
    wanted = choice.count
    if _learns(ahead, seen, terms):
        expected = float(coming.weights @ coming.rates[:, 0])
        wanted = _as_found_before(ahead, seen, terms, choice.count, expected)
        ahead = _first_found(ahead, wanted, expected)
        if wanted < choice.count:
            because = f"{wanted} were enough for as many arrivals before; only guesses say more: {because}"
    case = _case(ahead, seen, terms, wanted, coming.level, start_s)
    found = [Proposal(signal="forecast", count=wanted, because=because)]
    if (jam := _jam(seen, case)) is not None:
        found.append(jam)
    if case.least:
        because = f"{case.least} ran or were worth it in the first minutes; too little was seen to undercut that"
        found.append(Proposal(signal="first_look", count=case.least, because=because))
    if wanted == 0 and (kept := _last(ahead, seen, terms, start_s)) is not None:
        found.append(kept)
    if trials.is_due(ahead.trials, seen.at, terms.expected_start_s):
        ahead = replace(ahead, trials=trials.step(ahead.trials, seen.at, case), arrivals=0.0)
    holds_s = trials.holds_s(terms.lateness_price, terms.expected_start_s)
    hold_s = holds_s[ahead.trials.speaks % trials.HOLDS]
    if trials.forecast_speaks(ahead.trials):
        return Outlook(proposals=tuple(found), speaks=True, hold_s=hold_s, ahead=ahead)
    because = f"it stands back: on this service's own record the signals alone cost {_less(ahead.trials)} less"
    silent = (Proposal(signal="forecast", count=0, because=because),)
    return Outlook(proposals=silent, speaks=False, hold_s=hold_s, ahead=ahead)


def _choice(ahead: Ahead, seen: Observation, terms: Terms, coming: Paths, start_s: float) -> Choice:
    bin_s = ahead.history.bin_s
    supply = Supply(
        ready=seen.ready,
        starting_s=tuple(max(start_s - (seen.at - at), bin_s / 2) for at in ahead.asked_at),
        lead_s=start_s * START_MARGIN,
        rate=terms.rate,
    )
    price = Price(slo_wait_s=terms.slo_wait_s, lateness=terms.lateness_price, rent_bins=BINS_AFTER)
    return choose(coming, supply, price, seen.queued or 0.0, bin_s, terms.most)


def _learns(ahead: Ahead, seen: Observation, terms: Terms) -> bool:
    """Whether the first look is too near to give anything up: until nothing is guessed any more, at the least."""
    since_s = seen.at - (seen.at if ahead.first_at is None else ahead.first_at)
    return since_s < max(MISTRUST_STARTS * terms.expected_start_s, (PRIOR_BINS + 1) * ahead.history.bin_s)


def _as_found_before(ahead: Ahead, seen: Observation, terms: Terms, wanted: int, expected: float) -> int:
    """No more than was found worth its rent before, where no more is expected and nobody waits: it is the guesses that
    weigh another count differently once more replicas are there, and they are soon gone."""
    if seen.queued or expected > ahead.first_rate * MORE:
        return wanted
    return min(wanted, max(ahead.first_count, math.ceil(expected / terms.rate)))


def _first_found(ahead: Ahead, wanted: int, expected: float) -> Ahead:
    """What is wanted while guesses fade stays until they are gone: their fading is no fall of demand."""
    return replace(ahead, first_count=max(ahead.first_count, wanted), first_rate=max(ahead.first_rate, expected))


def _case(ahead: Ahead, seen: Observation, terms: Terms, wanted: int, level: float, start_s: float) -> Case:
    return Case(
        arrivals=ahead.arrivals,
        wanted=wanted,
        least=min(ahead.first_count, terms.most) if _learns(ahead, seen, terms) else 0,
        level=level,
        rate=terms.rate,
        concurrency=terms.concurrency,
        slo_wait_s=terms.slo_wait_s,
        lateness_price=terms.lateness_price,
        start_s=start_s,
        expected_start_s=terms.expected_start_s,
        most=terms.most,
    )


def _jam(seen: Observation, case: Case) -> Proposal | None:
    queued = seen.queued or 0.0
    count = int(trials.clearing(np.array([queued]), np.array([float(seen.ready)]), case)[0])
    if not count:
        return None
    return Proposal(signal="backlog", count=count, because=f"{queued:.4g} wait, {count} clear them at the least cost")


def _last(ahead: Ahead, seen: Observation, terms: Terms, start_s: float) -> Proposal | None:
    """The last replica, where it is there and past gaps say that waiting for the next request is cheaper than starting
    again, which is late by then."""
    if seen.ready + seen.starting == 0:
        return None
    wait = worth_keeping(ahead.history, start_s + terms.lateness_price / terms.rate)
    if wait is None:
        return None
    because = (
        f"nothing came for {wait.idle_s:.0f} s, and of {wait.gaps} such gaps {wait.ended} ended within another "
        f"{wait.seconds:.0f} s: waiting costs less than another start"
    )
    return Proposal(signal="last_replica", count=1, because=because)


def _less(record: Trials) -> str:
    return f"{100 * trials.loss(record) / (1 + trials.loss(record)):.0f} %"


def _words(choice: Choice, horizon_s: float) -> str:
    parts = [f"{count} would cost {rent:.0f} of rent and {late:.0f} of lateness" for count, rent, late in choice.costs]
    return f"cheapest for the next {horizon_s:.0f} s, in replica seconds: {'; '.join(parts)}"
