"""What foresight alone would ask for: the count that is worth its rent over the next lead time, and a way out of a jam.

It speaks where arrivals are known and it is known what one replica carries; it then takes the place of the signals that
only reckon with this moment's requests.
"""

from __future__ import annotations

import math

from msgspec import Struct

from scaler.forecast import paths
from scaler.history import History, record
from scaler.leadtime import asked_after, mean_start_s
from scaler.model import Observation
from scaler.newsvendor import Choice, Price, Supply, choose
from scaler.signals import Proposal

BINS_A_START = 6.0  # a bin of the record is a sixth of a start, 15 s for 90 s
LONGEST_BIN_S = 15.0
SHORTEST_BIN_S = 1.0
BINS_AFTER = 4  # the paths end so many bins after a replica asked for now is ready
START_MARGIN = 1.1
MISTRUST_STARTS = 6.7  # for so many starts after the first tick the count found then is not undercut
FLOOR_REPLICAS = 0.5  # arrivals that keep less of one replica busy are noise
LONG_REQUEST_S = 2.0  # requests at least as long count one by one: the floor is a whole replica


class Ahead(Struct, frozen=True, kw_only=True):
    """What foresight remembers: past arrivals, when the starting replicas were asked for, and the first tick."""

    history: History
    asked_at: tuple[float, ...] = ()
    first_at: float | None = None
    first_count: int = 0


class Terms(Struct, frozen=True, kw_only=True):
    """What one replica carries and what it costs to be late: requests per second, seconds of work in a request, the
    longest wait in time, and the price of lateness."""

    rate: float
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
    first = ahead.first_at is None
    return Ahead(
        history=record(ahead.history, seen.at, seen.window_s, arrivals),
        asked_at=asked_after(ahead.asked_at, seen.at, seen.cold_starts_s, seen.starting),
        first_at=seen.at if ahead.first_at is None else min(ahead.first_at, seen.at),
        first_count=seen.ready + seen.starting if first else ahead.first_count,
    )


def asked(ahead: Ahead, seen: Observation, desired: int) -> Ahead:
    """What is remembered once ``desired`` was decided: replicas asked for now, or starting ones given up."""
    more = desired - seen.ready - seen.starting
    kept = ahead.asked_at[: max(0, len(ahead.asked_at) + min(0, more))]
    return Ahead(
        history=ahead.history,
        asked_at=(*kept, *([seen.at] * max(0, more))),
        first_at=ahead.first_at,
        first_count=ahead.first_count,
    )


def proposals(ahead: Ahead, seen: Observation, terms: Terms, starts_s: tuple[float, ...]) -> tuple[Proposal, ...]:
    """What foresight asks for; empty where arrivals are not known."""
    history = ahead.history
    start_s = mean_start_s(starts_s, terms.expected_start_s)
    lead_s = start_s * START_MARGIN
    bins = math.ceil(lead_s / history.bin_s) + BINS_AFTER
    whole = terms.service_s is not None and terms.service_s >= LONG_REQUEST_S
    floor = terms.rate * (1.0 if whole else FLOOR_REPLICAS)
    coming = paths(history, bins, floor)
    if coming is None:
        return ()
    supply = Supply(
        ready=seen.ready,
        starting_s=tuple(max(start_s - (seen.at - at), history.bin_s / 2) for at in ahead.asked_at),
        lead_s=lead_s,
        rate=terms.rate,
    )
    price = Price(slo_wait_s=terms.slo_wait_s, lateness=terms.lateness_price, rent_bins=BINS_AFTER)
    queued = seen.queued or 0.0
    choice = choose(coming, supply, price, queued, history.bin_s, terms.most)
    found = [Proposal(signal="forecast", count=choice.count, because=_words(choice, bins * history.bin_s))]
    if (jam := _jam(seen, coming.level, start_s, terms)) is not None:
        found.append(jam)
    if ahead.first_at is not None and seen.at - ahead.first_at < MISTRUST_STARTS * terms.expected_start_s:
        because = f"{ahead.first_count} ran when the first look was taken, too little was seen to undercut that"
        found.append(Proposal(signal="first_look", count=min(ahead.first_count, terms.most), because=because))
    return tuple(found)


def _jam(seen: Observation, level: float, start_s: float, terms: Terms) -> Proposal | None:
    """Replicas beyond the level that clear a backlog. While B replicas' seconds of work wait, everybody is late: m more
    cost m starts and shorten that to B/m, so the least of ``m x start + price x level x B / m`` is a square root."""
    queued = seen.queued or 0.0
    wait_s = queued / (seen.ready * terms.rate) if seen.ready else math.inf if queued > 0 else 0.0
    if wait_s <= terms.slo_wait_s / 2:
        return None
    backlog = queued + max(0.0, level - seen.ready * terms.rate) * start_s * 0.7
    backlog = min(backlog, 60.0 * level + queued)
    carried = max(1, math.ceil(level / terms.rate - 1e-9))
    more = math.sqrt(terms.lateness_price * carried * backlog / terms.rate / start_s)
    count = math.ceil(math.ceil(level / terms.rate - 1e-9) + more)
    because = f"{queued:.4g} wait, {count} replicas clear them at the least cost"
    return Proposal(signal="backlog", count=count, because=because)


def _words(choice: Choice, horizon_s: float) -> str:
    parts = [f"{count} would cost {rent:.0f} of rent and {late:.0f} of lateness" for count, rent, late in choice.costs]
    return f"cheapest for the next {horizon_s:.0f} s, in replica seconds: {'; '.join(parts)}"
