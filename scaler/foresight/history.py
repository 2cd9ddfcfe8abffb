"""Arrivals as they were: rates in bins of equal length, packed in blocks that never change once they are full.

Time is the record's own: a clock set back adds nothing, and a gap is a stretch of bins that are not known, at most a
block long. So what lies n bins back was observed n bins ago, whatever the wall clock said. A bin that was not watched
for at least half its length is not known (NaN), which is not zero.

Two weeks are a third of a megabyte, too much to be written with every tick. So a full block is stored once, as a row of
its own, and what is stored of the record with every tick is ``packed``: it only names its blocks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

BLOCK_BINS = 240
MOST_BLOCKS = 336  # two weeks of bins of 15 s
WINDOWS = (1, 4, 20, 120)  # bins that the trailing means run over
MINUTE = WINDOWS[1]
PEAK_BINS = 240  # the largest mean of a minute's bins that ends within so many

Floats = NDArray[np.float64]


class Block(Struct, frozen=True, kw_only=True):
    """One full block: arrivals per second of each bin, as little-endian 32-bit floats. ``number`` counts from the first
    block of the record; ``digest`` is one of this block and all before it."""

    number: int
    bin_s: float
    rates: bytes
    digest: bytes


class Span(Struct, frozen=True, kw_only=True):
    """The blocks of a packed record: the numbers of the first and the last, and the digest of the last."""

    first: int
    last: int
    digest: bytes


class History(Struct, frozen=True, kw_only=True):
    """What is known of past arrivals. ``tail`` holds the full bins of the block that is not full yet; ``open_s`` and
    ``open_arrivals`` are what was watched of the bin that is not full, ``open_age_s`` how much of it has passed."""

    bin_s: float
    at: float | None = None
    blocks: tuple[Block, ...] = ()
    packed: Span | None = None  # where the blocks are not here but known by number
    tail: bytes = b""
    open_age_s: float = 0.0
    open_s: float = 0.0
    open_arrivals: float = 0.0


def record(history: History, at: float, window_s: float, arrivals: float | None) -> History:
    """The history with the arrivals of the last ``window_s`` seconds; None: they are not known."""
    span_s = window_s if history.at is None else at - history.at
    if span_s <= 0 or not math.isfinite(span_s):
        return replace(history, at=at)
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
            blocks = (*blocks, _next(blocks, self.before.bin_s, tail[:size]))[-MOST_BLOCKS:]
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


def _next(blocks: Sequence[Block], bin_s: float, rates: bytes) -> Block:
    before = blocks[-1] if blocks else None
    number = before.number + 1 if before else 0
    return Block(number=number, bin_s=bin_s, rates=rates, digest=_digest(before.digest if before else b"", rates))


def _digest(before: bytes, rates: bytes) -> bytes:
    return hashlib.blake2b(before + rates, digest_size=8).digest()


# -- storing it


def pack(history: History) -> History:
    """The record with its blocks by name only."""
    if not history.blocks:
        return history
    first, last = history.blocks[0], history.blocks[-1]
    return replace(history, blocks=(), packed=Span(first=first.number, last=last.number, digest=last.digest))


def unpack(history: History, stored: Mapping[int, Block]) -> History:
    """The record with its blocks, as many of the newest as are stored and follow on each other. Without the very last
    one the earlier ones are of no use: what lies n bins back must have been observed n bins ago."""
    span = history.packed
    if span is None:
        return history
    blocks: list[Block] = []
    expected = span.digest
    for number in range(span.last, span.first - 1, -1):
        block, earlier = stored.get(number), stored.get(number - 1)
        if block is None or block.digest != expected:
            break
        if earlier and _digest(earlier.digest, block.rates) != expected:
            break
        blocks.append(block)
        expected = earlier.digest if earlier else b""
    return replace(history, blocks=tuple(reversed(blocks)), packed=None)


# -- reading it


def now(history: History) -> Floats:
    """The trailing means and the peak as of this moment, the bin that is not full included. NaN: not known."""
    before = b"".join(block.rates for block in history.blocks[-2:])
    packed = (before + history.tail)[-4 * (PEAK_BINS + MINUTE - 1) :]
    rates = np.frombuffer(packed, dtype="<f4").astype(np.float64)[::-1]  # newest first: sums of nothing are nothing
    watched = ~np.isnan(rates)
    total, known = np.zeros(len(rates) + 1), np.zeros(len(rates) + 1, dtype=np.int_)
    np.cumsum(np.where(watched, rates, 0.0), out=total[1:])
    np.cumsum(watched, out=known[1:])
    found = [_trailing(history, total, known, count) for count in WINDOWS]
    begins = np.minimum(np.arange(len(rates)) + MINUTE, len(rates))
    minutes = ((total[begins] - total[:-1]) / np.maximum(known[begins] - known[:-1], 1))[:PEAK_BINS]
    return np.array([*found, np.fmax(minutes.max(initial=0.0), found[1])], dtype=np.float64)


def _trailing(history: History, total: Floats, known: NDArray[np.int_], count: int) -> float:
    """Arrivals per second over the last ``count`` bins' time, ending now. ``total`` and ``known``: the sum of rates and
    the number of known bins among the newest 0, 1, 2 …"""
    last = len(total) - 1
    whole, part = (
        min(count - 1, last),
        min(count, last),
    )  # the oldest bin counts as far as its time is not the open one's
    share_s = history.bin_s - history.open_age_s
    watched_s = history.open_s + history.bin_s * known[whole] + share_s * (known[part] - known[whole])
    arrivals = history.open_arrivals + history.bin_s * total[whole] + share_s * (total[part] - total[whole])
    return float(arrivals / watched_s) if watched_s > 0 else math.nan


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
    minutes = np.nan_to_num(rows[1], nan=-np.inf)
    minutes[: MINUTE - 1 if before else 0] = -np.inf  # these began earlier than what is at hand
    peak = _largest(minutes, PEAK_BINS)
    rows.append(np.where(np.isfinite(peak), peak, np.nan))
    return np.array([row[len(before) // 4 :] for row in rows], dtype=np.float32)


def _largest(values: Floats, window: int) -> Floats:
    """The largest of each value and the ``window - 1`` before it (van Herk, 1992): a window is the end of one block and
    the beginning of the next, so two running maxima in blocks of its length are enough."""
    count = len(values) // window + 2
    padded = np.full(count * window, -np.inf)
    padded[window - 1 : window - 1 + len(values)] = values
    blocks = padded.reshape(count, window)
    ends = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    begins = np.maximum.accumulate(blocks, axis=1).ravel()
    return np.maximum(ends[: len(values)], begins[window - 1 : window - 1 + len(values)])
