"""When requests arrive: a rate that changes over the day, or a recorded trace pressed into a few minutes."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from scaler.errors import BadSetting

HEADER = "t_s,requests"
LARGEST_FILE_BYTES = 50_000_000
MOST_REQUESTS_PER_BIN = 1e12
LATEST_S = 1e11


class Stretch(Struct, frozen=True, kw_only=True):
    """A part of a day: its name, its length, and the rate (requests/s) at its two ends, straight in between."""

    name: str
    seconds: float
    rate_from: float
    rate_to: float


class Trace(Struct, frozen=True, kw_only=True):
    """A recording: the start of each bin in seconds, its width, and how many requests came in it."""

    starts_s: tuple[float, ...]
    widths_s: tuple[float, ...]
    requests: tuple[float, ...]

    @property
    def span_s(self) -> float:
        """From the first bin's start to the last bin's end."""
        return self.starts_s[-1] + self.widths_s[-1] - self.starts_s[0]


class Playback(Struct, frozen=True, kw_only=True):
    """A trace as it is played: arrival times from 0, how many times faster, and the share of its requests."""

    arrivals_s: tuple[float, ...]
    factor: float
    share: float


def poisson(stretches: Sequence[Stretch], seed: int) -> list[float]:
    """Arrival times (s from the first stretch's start) of a Poisson stream with that rate, the same for a seed."""
    chance = random.Random(seed)  # noqa: S311 - a load, not a secret
    arrivals, start = [], 0.0
    for stretch in stretches:
        highest = max(stretch.rate_from, stretch.rate_to)
        at = 0.0
        # Thinning: draw at the highest rate of the stretch, keep in proportion to the rate of the moment.
        while highest > 0 and (at := at + chance.expovariate(highest)) < stretch.seconds:
            rate = stretch.rate_from + (stretch.rate_to - stretch.rate_from) * at / stretch.seconds
            if chance.random() * highest < rate:
                arrivals.append(start + at)
        start += stretch.seconds
    return arrivals


def read_trace(file: Path) -> Trace:
    """A recording of lines ``t_s,requests``, times rising. Raises ``BadSetting`` naming file and line."""
    try:
        if file.stat().st_size > LARGEST_FILE_BYTES:
            raise BadSetting(f"{file}: larger than {LARGEST_FILE_BYTES / 1e6:.0f} MB; give a trace with wider bins")
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadSetting(f"{file}: not a text file; expected lines `{HEADER}`") from error
    except OSError as error:
        raise BadSetting(f"{file}: {error.strerror}; TRACE names a file with lines `{HEADER}`") from error
    if not lines or lines[0].strip() != HEADER:
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


def _row(file: Path, number: int, line: str) -> tuple[int, float, float]:
    fields = line.split(",")
    try:
        at, count = (float(field) for field in fields)
    except ValueError:
        raise BadSetting(f"{file}: line {number}: {line[:60]!r}; expected two numbers `{HEADER}`") from None
    if not abs(at) <= LATEST_S or not 0 <= count <= MOST_REQUESTS_PER_BIN:
        raise BadSetting(f"{file}: line {number}: {line[:60]!r}; expected a time in seconds and a count of 0 or more")
    return number, at, count


def compress(trace: Trace, play_s: float, *, peak_rate: float, seed: int) -> Playback:
    """The trace within ``play_s`` seconds, never slower than it was recorded: ``factor`` is at least 1.

    Where the recording would come faster than ``peak_rate`` (requests/s over a second of play), the same share of all
    requests is left out, drawn by chance, so that its shape stays.
    """
    chance = random.Random(seed)  # noqa: S311 - a load, not a secret
    factor = max(trace.span_s / play_s, 1.0)
    seconds: Counter[int] = Counter()
    for start, width, count in zip(trace.starts_s, trace.widths_s, trace.requests, strict=True):
        _spread(seconds, (start - trace.starts_s[0]) / factor, width / factor, count)
    share = min(1.0, peak_rate / max(seconds.values()))
    arrivals = []
    for start, width, count in zip(trace.starts_s, trace.widths_s, trace.requests, strict=True):
        kept = _part(count, share, chance)
        arrivals += [(start - trace.starts_s[0] + width * chance.random()) / factor for _ in range(kept)]
    return Playback(arrivals_s=tuple(sorted(arrivals)), factor=factor, share=share)


def _spread(seconds: Counter[int], start: float, width: float, count: float) -> None:
    """Add a bin's requests to the seconds of play that it covers, in proportion."""
    second = int(start)
    while second < start + width:
        covered = min(second + 1, start + width) - max(second, start)
        seconds[second] += count * covered / width  # type: ignore[assignment] # a Counter adds what it is given
        second += 1


def _part(count: float, share: float, chance: random.Random) -> int:
    """``share`` of ``count`` as a whole number: right on average, and exact where nothing is left out."""
    wanted = count * share
    whole = math.floor(wanted)
    return whole + (chance.random() < wanted - whole)
