"""Arrivals as they were: rates in bins of equal length, packed in blocks that never change once they are full.

Time is the record's own: a clock set back adds nothing, and a gap is a stretch of bins that are not known, at most a
block long. So what lies n bins back was observed n bins ago, whatever the wall clock said. A bin that was not watched
for at least half its length is not known (NaN), which is not zero.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

BLOCK_BINS = 240
MOST_BLOCKS = 336  # two weeks of bins of 15 s
WINDOWS = (1, 4, 20, 120)  # bins that the trailing means run over
PEAK_BINS = 240  # the largest mean of four bins within so many
FEATURES = len(WINDOWS) + 1

Floats = NDArray[np.float64]


class Block(Struct, frozen=True, kw_only=True):
    """One full block: arrivals per second of each bin, as little-endian 32-bit floats. ``number`` counts from the first
    block of the record."""

    number: int
    bin_s: float
    rates: bytes


class History(Struct, frozen=True, kw_only=True):
    """What is known of past arrivals. ``tail`` holds the full bins of the block that is not full yet; ``open_s`` and
    ``open_arrivals`` are what was watched of the bin that is not full, ``open_age_s`` how much of it has passed."""

    bin_s: float
    at: float | None = None
    blocks: tuple[Block, ...] = ()
    tail: bytes = b""
    open_age_s: float = 0.0
    open_s: float = 0.0
    open_arrivals: float = 0.0


def record(history: History, at: float, window_s: float, arrivals: float | None) -> History:
    """The history with the arrivals of the last ``window_s`` seconds; None: they are not known."""
    span_s = window_s if history.at is None else at - history.at
    if span_s <= 0 or not math.isfinite(span_s):
        return _with(history, at=at)
    span_s = min(span_s, BLOCK_BINS * history.bin_s)
    known_s = 0.0 if arrivals is None or window_s <= 0 else min(window_s, span_s)
    filling = _Filling(history)
    filling.pass_by(span_s - known_s, None)
    if known_s and arrivals is not None:
        filling.pass_by(known_s, max(0.0, arrivals) / window_s)
    return filling.history(at)


class _Filling:
    """A history while a span of time is added to it."""

    def __init__(self, history: History) -> None:
        self.before = history
        self.age_s, self.watched_s, self.arrivals = history.open_age_s, history.open_s, history.open_arrivals
        self.full: list[float] = []

    def pass_by(self, span_s: float, rate: float | None) -> None:
        bin_s = self.before.bin_s
        while span_s > 1e-9:
            step_s = min(span_s, bin_s - self.age_s)
            self.age_s += step_s
            span_s -= step_s
            if rate is not None:
                self.watched_s += step_s
                self.arrivals += rate * step_s
            if self.age_s >= bin_s - 1e-9:
                self.full.append(self.arrivals / self.watched_s if self.watched_s >= bin_s / 2 else math.nan)
                self.age_s = self.watched_s = self.arrivals = 0.0

    def history(self, at: float) -> History:
        tail = self.before.tail + np.asarray(self.full, dtype="<f4").tobytes()
        blocks = self.before.blocks
        size = BLOCK_BINS * 4
        while len(tail) >= size:
            number = blocks[-1].number + 1 if blocks else 0
            blocks = (*blocks, Block(number=number, bin_s=self.before.bin_s, rates=tail[:size]))[-MOST_BLOCKS:]
            tail = tail[size:]
        return History(
            bin_s=self.before.bin_s,
            at=at,
            blocks=blocks,
            tail=tail,
            open_age_s=self.age_s,
            open_s=self.watched_s,
            open_arrivals=self.arrivals,
        )


def _with(history: History, *, at: float) -> History:
    return History(
        bin_s=history.bin_s,
        at=at,
        blocks=history.blocks,
        tail=history.tail,
        open_age_s=history.open_age_s,
        open_s=history.open_s,
        open_arrivals=history.open_arrivals,
    )


# -- reading it


def now(history: History) -> Floats:
    """The trailing means and the peak as of this moment, the bin that is not full included. NaN: not known."""
    before = b"".join(block.rates for block in history.blocks[-2:])
    rates = np.frombuffer((before + history.tail)[-4 * PEAK_BINS :], dtype="<f4")
    found = [_trailing(history, rates[-count - 1 :].tolist(), count) for count in WINDOWS]
    watched = ~np.isnan(rates)
    total = np.concatenate([[0.0], np.cumsum(np.where(watched, rates, 0.0), dtype=np.float64)])
    known = np.concatenate([[0], np.cumsum(watched)])
    ends = np.arange(1, len(rates) + 1)
    begins = np.maximum(ends - WINDOWS[1], 0)
    minutes = (total[ends] - total[begins]) / np.maximum(known[ends] - known[begins], 1)
    return np.array([*found, np.fmax(minutes.max(initial=0.0), found[1])], dtype=np.float64)


def _trailing(history: History, bins: list[float], count: int) -> float:
    """Arrivals per second over the last ``count`` bins' time, ending now."""
    left_s = count * history.bin_s - history.open_age_s
    watched_s, arrivals = history.open_s, history.open_arrivals
    for rate in reversed(bins):
        if left_s <= 1e-9:
            break
        step_s = min(history.bin_s, left_s)
        left_s -= step_s
        if not math.isnan(rate):
            watched_s += step_s
            arrivals += rate * step_s
    return arrivals / watched_s if watched_s > 0 else math.nan


def features(before: bytes, these: bytes) -> NDArray[np.float32]:
    """The trailing means and the peak at the end of each of ``these`` bins, which follow on those ``before``: one row
    each. NaN: not known."""
    rates = np.frombuffer(before + these, dtype="<f4").astype(np.float64)
    watched = ~np.isnan(rates)
    total = np.concatenate([[0.0], np.cumsum(np.where(watched, rates, 0.0))])
    known = np.concatenate([[0], np.cumsum(watched)])
    ends = np.arange(1, len(rates) + 1)
    rows = []
    for window in WINDOWS:
        begins = np.maximum(ends - window, 0)
        seen = known[ends] - known[begins]
        rows.append(np.where(seen > 0, (total[ends] - total[begins]) / np.maximum(seen, 1), np.nan))
    padded = np.concatenate([np.full(PEAK_BINS - 1, -np.inf), np.nan_to_num(rows[1], nan=-np.inf)])
    peak = np.lib.stride_tricks.sliding_window_view(padded, PEAK_BINS).max(axis=1)
    rows.append(np.where(np.isfinite(peak), peak, np.nan))
    return np.array([row[len(before) // 4 :] for row in rows], dtype=np.float32)
