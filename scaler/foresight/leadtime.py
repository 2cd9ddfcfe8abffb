"""How long it takes from asking for a replica to its being ready, learned from the starts seen.

A start that has not ended yet, or was given up, says something too: that it takes longer than this. Leaving those out
would make starts look quick just when they are slow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from scaler.model import Observation

KEPT_FAILED = 8  # newest starts that failed; each one that succeeds takes the oldest of them off
KEPT = 64  # newest starts; older ones say little about today's image and region
SURE = 0.9  # the share of starts that the lead time covers
OVERDUE = 1.25  # times its age, that is how long a start takes that is older than any that was seen to end
DOUBT = 5  # the expected start weighs as much as so many starts seen


class Starts(Struct, frozen=True):
    """Cold starts, in seconds, of the version of the template that replicas are made from, and of the one before it:
    until the first start of a new version has ended, that is what it can be expected to take. ``failed_s`` are the ages
    at which starts of this version failed: they would have taken longer."""

    template: str
    seen_s: tuple[float, ...]
    earlier_s: tuple[float, ...]
    failed_s: tuple[float, ...] = ()

    @property
    def known_s(self) -> tuple[float, ...]:
        return self.seen_s or self.earlier_s


def of_version(before: Starts, seen: Observation) -> Starts:
    """With the starts that ended since; where nobody says of which version one is, it is of this one."""
    seen_s, earlier_s, failed_s, template = before.seen_s, before.earlier_s, before.failed_s, seen.template
    if template and before.template and template != before.template:
        seen_s, earlier_s, failed_s = (), seen_s or earlier_s, ()
    template = template or before.template
    ended = [s for s, of in _ended(seen) if of in ("", template)]
    failed_s = (*failed_s[len(ended) :], *seen.failed_starts_s)[-KEPT_FAILED:]
    return Starts(template, remember(seen_s, ended), earlier_s, failed_s)


def _ended(seen: Observation) -> list[tuple[float, str]]:
    """The starts that ended, each with its version as far as that is said."""
    versions = seen.cold_starts_of or ("",) * len(seen.cold_starts_s)
    return list(zip(seen.cold_starts_s, versions, strict=False))


def remember(starts_s: Sequence[float], finished_s: Sequence[float]) -> tuple[float, ...]:
    """The newest starts, with those that finished since; durations in seconds, oldest first."""
    return (*starts_s, *(s for s in finished_s if s >= 0 and math.isfinite(s)))[-KEPT:]


def lead_time_s(starts_s: Sequence[float], expected_s: float, unended_s: Sequence[float] = ()) -> float:
    """Seconds within which nine of ten starts are ready, by the product-limit estimate (Kaplan and Meier, 1958):
    ``unended_s`` are the ages of starts that have not ended. ``expected_s`` as long as none was seen to end."""
    if not starts_s:
        return expected_s
    ends = sorted([(s, 0) for s in starts_s] + [(s, 1) for s in unended_s])
    left = 1.0
    for i, (seconds, unended) in enumerate(ends):
        if not unended:
            left *= 1.0 - 1.0 / (len(ends) - i)
            if left <= 1.0 - SURE + 1e-9:
                return seconds
    return ends[-1][0]


def mean_start_s(starts_s: Sequence[float], expected_s: float, unended_s: Sequence[float] = ()) -> float:
    """Mean seconds of a start; ``expected_s`` counts as a few starts, so that the first one seen is not believed
    alone. One that is older than the mean and has not ended is reckoned to take as long as those that took longer."""
    mean_s = (math.fsum(starts_s) + DOUBT * expected_s) / (len(starts_s) + DOUBT)
    late = [_end_s(age, starts_s) for age in unended_s if age > mean_s]
    return (mean_s * (len(starts_s) + DOUBT) + math.fsum(late)) / (len(starts_s) + DOUBT + len(late))


def _end_s(age_s: float, starts_s: Sequence[float]) -> float:
    longer = [s for s in starts_s if s > age_s]
    return math.fsum(longer) / len(longer) if longer else age_s * OVERDUE


def asked_after(asked_at: Sequence[float], at: float, finished_s: Sequence[float], starting: int) -> tuple[float, ...]:
    """When each replica that still starts was asked for, oldest first, given the durations of the starts that finished:
    the request whose age fits a finished start best is that start's."""
    left = sorted(asked_at)
    for duration_s in finished_s:
        if left:
            left.remove(min(left, key=lambda asked: abs(at - asked - duration_s)))
    return (*left[:starting], *([at] * (starting - len(left))))
