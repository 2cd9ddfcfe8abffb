"""Arrivals as a file or a record has them, and the single requests they stand for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from scaler.errors import BadSetting

HEADER = "t_s,requests"
LARGEST_FILE_BYTES = 50_000_000
MOST_REQUESTS_PER_BIN = 1e12
LATEST_S = 1e11
LONGEST_S = 62 * 86_400


class Trace(Struct, frozen=True, kw_only=True):
    """A recording: the start of each bin in seconds, its width, and how many requests came in it."""

    starts_s: tuple[float, ...]
    widths_s: tuple[float, ...]
    requests: tuple[float, ...]

    @property
    def span_s(self) -> float:
        """From the first bin's start to the last bin's end."""
        return self.starts_s[-1] + self.widths_s[-1] - self.starts_s[0]


def parse(data: bytes, file: str) -> Trace:
    """A recording of lines ``t_s,requests``, times rising. Raises ``BadSetting`` naming file and line."""
    if len(data) > LARGEST_FILE_BYTES:
        raise BadSetting(f"{file}: larger than {LARGEST_FILE_BYTES / 1e6:.0f} MB; give a trace with wider bins")
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadSetting(f"{file}: not a text file; expected lines `{HEADER}`") from error
    if not lines or [word.strip() for word in lines[0].split(",")] != HEADER.split(","):
        raise BadSetting(f"{file}: line 1: expected the header `{HEADER}`")
    rows = [_row(file, number, line) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if len(rows) < 2:
        raise BadSetting(f"{file}: expected at least two lines after the header, found {len(rows)}")
    for (_, before, _), (number, after, _) in pairwise(rows):
        if after <= before:
            raise BadSetting(f"{file}: line {number}: t_s is {after:g} after {before:g}; times must rise")
    if sum(count for _, _, count in rows) < 1:
        raise BadSetting(f"{file}: no request in it; there is nothing to play")
    starts = [at for _, at, _ in rows]
    widths = [after - before for before, after in pairwise(starts)]
    widths.append(widths[-1])
    return Trace(starts_s=tuple(starts), widths_s=tuple(widths), requests=tuple(count for _, _, count in rows))


def _row(file: str, number: int, line: str) -> tuple[int, float, float]:
    try:
        at, count = (float(cell) for cell in line.replace("_", "?").split(","))  # 1_000 is Python, not a number
    except ValueError:
        raise BadSetting(f"{file}: line {number}: {line[:60]!r}; expected two numbers `{HEADER}`") from None
    if not abs(at) <= LATEST_S or not 0 <= count <= MOST_REQUESTS_PER_BIN:
        raise BadSetting(f"{file}: line {number}: {line[:60]!r}; expected a time in seconds and a count of 0 or more")
    return number, at, count


def first_days(trace: Trace, days: float) -> Trace:
    """The bins that begin within the first ``days``."""
    kept = sum(start - trace.starts_s[0] < days * 86_400 for start in trace.starts_s)
    return Trace(starts_s=trace.starts_s[:kept], widths_s=trace.widths_s[:kept], requests=trace.requests[:kept])


def per_second(trace: Trace, seed: int) -> NDArray[np.float64]:
    """Whole requests in each second from the first bin's start; those of a bin fall anywhere in it, drawn by chance, as
    those of a Poisson stream of which the count is known. All of them are there, but for the last part of one."""
    chance = np.random.default_rng(seed)
    whole = np.diff(np.floor(np.cumsum([0.0, *trace.requests]) + 1e-6)).astype(np.int64)
    made = np.zeros(max(1, round(trace.span_s)))
    for start, width, count in zip(trace.starts_s, trace.widths_s, whole, strict=True):
        since, until = start - trace.starts_s[0], start - trace.starts_s[0] + width
        seconds = np.arange(int(since), min(len(made), max(int(since) + 1, int(np.ceil(until - 1e-9)))))
        if count and len(seconds):
            covered = np.minimum(seconds + 1, until) - np.maximum(seconds, since)
            made[seconds] += chance.multinomial(count, covered / covered.sum())
        elif count:
            made[-1] += count
    return made
