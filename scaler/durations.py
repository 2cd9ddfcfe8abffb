"""How long requests take at most, learned from what replicas report, and so how long a draining one is worth waiting
for: a hung request must not keep a billed replica for as long as the setting would allow. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from scaler.model import Latency

ENOUGH = 1000.0  # answers before the p99 of a minute is believed
MARGIN = 10.0  # a request in a hundred takes longer than the p99: cut off is only what takes ten times as long
LEAST_S = 30.0  # the front's refresh, two ticks, and a pause of the replica fit in
HALF_LIFE_S = 86_400.0  # of the slowest minute; time in which nothing is answered does not count
STEP_LONGEST_S = 3600.0  # a longer gap between two ticks tells no more than this


class Durations(Struct, frozen=True, kw_only=True):
    """What a service's requests took: ``slowest_s`` is the largest p99 that a replica reported for about a minute, in
    seconds, halved for each day of answers since; ``answered`` requests stand behind it; ``at`` is epoch seconds."""

    at: float
    slowest_s: float = 0.0
    answered: float = 0.0


def learned(before: Durations | None, latencies: Iterable[Latency], answered: float | None, now: float) -> Durations:
    """One tick more. ``answered`` is how many requests were since the last one; None: nobody knows."""
    before = before or Durations(at=now)
    reported = [latency.p99 for latency in latencies if latency.p99 is not None]
    elapsed_s = min(max(0.0, now - before.at), STEP_LONGEST_S) if answered else 0.0
    faded_s = before.slowest_s * 0.5 ** (elapsed_s / HALF_LIFE_S)
    return Durations(at=now, slowest_s=max((faded_s, *reported)), answered=before.answered + (answered or 0.0))


def drain_deadline_s(durations: Durations | None, most_s: float) -> float:
    """After how many seconds a draining replica is deleted with requests in hand: never later than ``most_s``, the
    setting, which holds until enough is known."""
    if durations is None or durations.answered < ENOUGH or not durations.slowest_s:
        return most_s
    return min(most_s, max(LEAST_S, MARGIN * durations.slowest_s))
