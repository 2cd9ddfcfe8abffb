"""The live policy and its shadow on the live record: where they differed, and what following each would have come to.

Both saw the same thing at each tick: what the live policy's replicas did. So the counts say exactly what the shadow
would have asked for then. What following them would have cost is played through one plant for both, with the recorded
arrivals; there the shadow is judged by what it asked for in front of the live policy's queue, not of its own. ``replay
--against shadow`` lets it act on its own.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from scaler.errors import BadSetting
from scaler.model import Decision
from scaler.ports import DecisionRow
from scaler.replay.sight import Sight, Wish

STANDS_S = 120.0  # a decision without a tick after it is in force for so long
SHOWN = 5


class Pair(Struct, frozen=True, kw_only=True):
    """What both decided at one tick, and why; ``limits`` name the rule that had the last word, if one had."""

    at: float
    live: int
    shadow: int
    live_because: str
    shadow_because: str
    live_limit: str | None
    shadow_limit: str | None


class Comparison(Struct, frozen=True, kw_only=True):
    """Counts of ticks, replica hours asked for, how often each rule limited whom, and the ticks that differed most: the
    first one of every stretch of the same difference."""

    ticks: int
    same: int
    shadow_more: int
    shadow_fewer: int
    live_hours: float
    shadow_hours: float
    live_limits: dict[str, int]
    shadow_limits: dict[str, int]
    most_apart: tuple[Pair, ...]


def pairs(rows: Sequence[DecisionRow], service: str) -> list[Pair]:
    """Every tick at which both decided, oldest first. Raises ``BadSetting`` where there is none."""
    found = [pair for row in rows if row.shadow and (pair := _pair(row)) is not None]
    if not found:
        raise BadSetting(
            f"the record of {service} holds no decision of a shadow policy in this span; "
            f"give services.{service}.shadow in the configuration, and it decides with every tick from then on"
        )
    return found


def _pair(row: DecisionRow) -> Pair | None:
    try:
        shadow = msgspec.msgpack.decode(row.shadow, type=Decision)
    except msgspec.MsgspecError:
        return None
    return Pair(
        at=row.at,
        live=row.desired,
        shadow=shadow.desired,
        live_because=row.because,
        shadow_because=shadow.because,
        live_limit=row.limited_by,
        shadow_limit=shadow.limited_by,
    )


def compared(found: Sequence[Pair]) -> Comparison:
    """How the two stand to each other."""
    ends = [*(p.at for p in found[1:]), found[-1].at + STANDS_S]
    hours = [min(STANDS_S, max(0.0, end - p.at)) / 3600 for p, end in zip(found, ends, strict=True)]
    begins = [
        p for p, before in zip(found, [None, *found[:-1]], strict=True)
        if p.live != p.shadow and (before is None or before.shadow - before.live != p.shadow - p.live)
    ]  # fmt: skip
    return Comparison(
        ticks=len(found),
        same=sum(p.live == p.shadow for p in found),
        shadow_more=sum(p.shadow > p.live for p in found),
        shadow_fewer=sum(p.shadow < p.live for p in found),
        live_hours=sum(p.live * h for p, h in zip(found, hours, strict=True)),
        shadow_hours=sum(p.shadow * h for p, h in zip(found, hours, strict=True)),
        live_limits=dict(Counter(p.live_limit for p in found if p.live_limit)),
        shadow_limits=dict(Counter(p.shadow_limit for p in found if p.shadow_limit)),
        most_apart=tuple(sorted(begins, key=lambda p: -abs(p.shadow - p.live))[:SHOWN]),
    )


class Followed(Struct, frozen=True, kw_only=True):
    """A rule that asks for what was decided: ``counts`` from ``seconds`` of the replay on, rising; before the first,
    for that one too."""

    name: str
    seconds: tuple[int, ...]
    counts: tuple[int, ...]
    tick_s: int = 5
    wake_s: int | None = None

    @property
    def begins(self) -> int:
        return self.counts[0]

    def initial(self) -> None:
        """It remembers nothing."""

    def decide(self, state: None, seen: Sight) -> tuple[Wish, None]:
        i = bisect.bisect_right(self.seconds, seen.at)
        return Wish(self.counts[max(0, i - 1)]), state


def followed(found: Sequence[Pair], begins_at: float) -> tuple[Followed, Followed]:
    """The live counts and the shadow's as rules, for a replay that begins at ``begins_at`` (epoch seconds)."""
    seconds = tuple(max(0, round(p.at - begins_at)) for p in found)
    return (
        Followed(name="live", seconds=seconds, counts=tuple(p.live for p in found)),
        Followed(name="shadow", seconds=seconds, counts=tuple(p.shadow for p in found)),
    )
