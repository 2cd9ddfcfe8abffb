"""A service's own record as a trace: its arrivals, cold starts and signals, from the rows of its ticks.

A stretch that nobody watched (a missing row, a tick that did not know the arrivals) is no stretch without arrivals: it
is filled with the mean rate of what is known on either side, and how much was filled is told.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct, field

from scaler.errors import BadSetting
from scaler.ports import DecisionRow
from scaler.replay.product import Signals
from scaler.replay.trace import Trace

SHORTEST_GAP_S = 0.5  # two ticks' windows meet no better than that


class Recorded(Struct, frozen=True, kw_only=True):
    """What a record teaches: ``trace`` in epoch seconds, durations of cold starts, mean seconds of work in a request
    (None: never seen), numbers of outside signals, and how many seconds of the trace were filled."""

    trace: Trace
    starts_s: tuple[float, ...]
    request_s: float | None
    signals: Signals
    filled_s: float
    ready_first: int


class Watched(Struct, frozen=True, kw_only=True):
    """What one tick's row says of the span before it."""

    at: float = 0.0
    window_s: float = 0.0
    ready: int = 0
    starting: int = 0
    arrivals: float | None = None
    completed: float | None = None
    in_flight: float | None = None
    signals: dict[str, float | None] = field(default_factory=dict)
    cold_starts_s: tuple[float, ...] = ()


def watched(row: DecisionRow) -> Watched | None:
    """None where the row cannot be read."""
    try:
        return msgspec.msgpack.decode(row.observation, type=Watched)
    except msgspec.MsgspecError:
        return None


def recorded(ticks: Iterable[Watched], service: str) -> Recorded:
    """The record of ticks, oldest first. Raises ``BadSetting`` where they hold no arrivals."""
    seen = sorted(ticks, key=lambda t: t.at)
    spans = _spans(seen)
    known = [s for s in spans if s[2] is not None]
    if not known or sum(s[2] or 0.0 for s in known) < 1:
        raise BadSetting(f"the record of {service} holds no arrivals in this span; give a longer one with --days")
    spans = spans[spans.index(known[0]) : spans.index(known[-1]) + 1]
    worked = [(t.in_flight * t.window_s, t.completed) for t in seen if t.in_flight and t.completed and t.window_s > 0]
    done = sum(completed for _, completed in worked)
    return Recorded(
        trace=_filled(spans),
        starts_s=tuple(s for t in seen for s in t.cold_starts_s),
        request_s=sum(work for work, _ in worked) / done if done else None,
        signals=tuple((t.at, t.signals) for t in seen if t.signals),
        filled_s=sum(width for _, width, count in spans if count is None),
        ready_first=next(t.ready + t.starting for t in seen if t.at > known[0][0]),
    )


Span = tuple[float, float, float | None]  # start, width, arrivals (None: not known)


def _spans(seen: list[Watched]) -> list[Span]:
    """Stretches without a hole between them. What a window reaches back beyond the tick before is that tick's."""
    spans: list[Span] = []
    for tick in seen:
        if tick.window_s <= 0:
            continue
        end = spans[-1][0] + spans[-1][1] if spans else tick.at - tick.window_s
        start = tick.at - tick.window_s
        if start - end > SHORTEST_GAP_S:
            spans.append((end, start - end, None))
        begins = start if start - end > SHORTEST_GAP_S else end
        if tick.at - begins > 0:
            spans.append((begins, tick.at - begins, tick.arrivals))
    return spans


def _filled(spans: list[Span]) -> Trace:
    rates = [None if count is None else count / width for _, width, count in spans]
    ahead: list[float] = []
    nearest = 0.0
    for rate in reversed(rates):
        nearest = nearest if rate is None else rate
        ahead.append(nearest)
    counts, behind = [], 0.0
    for (_, width, _), rate, coming in zip(spans, rates, reversed(ahead), strict=True):
        behind = behind if rate is None else rate
        counts.append((rate if rate is not None else (behind + coming) / 2) * width)
    return Trace(starts_s=tuple(s for s, _, _ in spans), widths_s=tuple(w for _, w, _ in spans), requests=tuple(counts))
