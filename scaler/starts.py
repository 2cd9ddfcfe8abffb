"""Where the time of a start goes: asked → scheduled → pulled → process → model loaded → ready. Pure.

    scheduled   from the request until Azure begins to pull the image
    pulled      the pull
    process     from the pulled image until the container's process runs
    loaded      from there until the server has its model, by its own account
    ready       from there until a tick saw it ready

Azure's events come with the group when it is ready for the first time; they are not always all there, and a phase that
cannot be told is None and counts for nothing. The sum of a start is always known: it is what decisions learn from.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct

from scaler.conditions import condition
from scaler.model import Condition, GroupDetail, Replica, Stats

KEPT = 32
PHASES = ("scheduled", "pulled", "process", "loaded", "ready")
ENOUGH = 3  # starts whose pull is known, before anything is said about it
LARGE_PULL_S = 20.0


class Start(Struct, frozen=True, kw_only=True):
    """One start that ended well. ``at`` is when it was ready; durations in seconds."""

    name: str
    region: str
    template: str
    at: float
    total_s: float
    scheduled_s: float | None = None
    pulled_s: float | None = None
    process_s: float | None = None
    loaded_s: float | None = None
    ready_s: float | None = None
    pooled: bool = False  # it ran before it was asked for: claimed from a standby pool


def start_of(replica: Replica, detail: GroupDetail | None, stats: Stats | None) -> Start:
    """The start of a replica that became ready just now. Azure's clock and ours may differ: no phase is below zero."""
    assert replica.ready_at is not None
    pulling, pulled, runs = (detail.pulling_at, detail.pulled_at, detail.started_at) if detail else (None, None, None)
    load_s = stats.load_s if stats else None
    loaded = runs + load_s if runs is not None and load_s is not None else None
    return Start(
        name=replica.name,
        region=replica.region,
        template=replica.template,
        at=replica.ready_at,
        total_s=replica.ready_at - replica.intended_at,
        scheduled_s=_between(replica.intended_at, pulling),
        pulled_s=_between(pulling, pulled),
        process_s=_between(pulled, runs),
        loaded_s=load_s,
        ready_s=_between(loaded, replica.ready_at),
        pooled=runs is not None and runs < replica.intended_at,
    )


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else max(0.0, end - start)


def remembered(before: Sequence[Start], finished: Iterable[Start]) -> tuple[Start, ...]:
    """The newest starts, oldest first."""
    return (*before, *finished)[-KEPT:]


def medians(starts: Sequence[Start]) -> dict[str, float | None]:
    """The median of each phase and of the whole, in seconds, over the starts that know it."""
    names = (*PHASES, "total")
    known = {n: [s for start in starts if (s := getattr(start, f"{n}_s")) is not None] for n in names}
    return {name: statistics.median(values) if values else None for name, values in known.items()}


def advice(starts: Sequence[Start], at: float) -> list[Condition]:
    """What would make starts shorter, where that is plain from their phases."""
    newest = [s for s in starts if s.template == starts[-1].template and not s.pooled]
    pulls = [(s.pulled_s, s.total_s) for s in newest if s.pulled_s is not None]
    if len(pulls) < ENOUGH:
        return []
    pull_s, total_s = (statistics.median(column) for column in zip(*pulls, strict=True))
    if pull_s < LARGE_PULL_S or pull_s < total_s / 2:
        return []
    said = f"{pull_s:.0f} of {total_s:.0f} s, over the last {len(pulls)} starts"
    return [condition("pull_dominates", at, about=f"version {starts[-1].template}", said=said)]
