"""When requests arrive: a rate that changes over the day, or a recorded trace pressed into a few minutes."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from scaler.errors import BadSetting
from scaler.replay.trace import HEADER, LARGEST_FILE_BYTES, Trace, parse


class Stretch(Struct, frozen=True, kw_only=True):
    """A part of a day: its name, its length, and the rate (requests/s) at its two ends, straight in between."""

    name: str
    seconds: float
    rate_from: float
    rate_to: float


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
        with file.open("rb") as opened:
            return parse(opened.read(LARGEST_FILE_BYTES + 1), str(file))
    except OSError as error:
        raise BadSetting(f"{file}: {error.strerror}; TRACE names a file with lines `{HEADER}`") from error


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
