"""How much there was to do since totals were last read, and how far it is known: the ``Observation`` to decide from.

How far each of them, and the service, is known (zero is a value; absence never is):

    a replica   fresh    it answered now, so its counts are as they are
                stale    silent, for less than it takes to be given up: it still serves, as far as we know
                blind    silent for longer: nothing is known of it; it drains if its neighbours answer
                (none)   it is not to serve yet, or no more: nothing is asked of it, and it hides nothing
    the service fresh    every ready or draining replica answered, and the front is not silent
                partial  some answered: what they say may raise the count, and never lowers it
                stale    all answered and the front is silent: what waits at zero is not known; nor does it lower it
                blind    none answered, or there is neither a list nor an answer: the count stays

Whatever the state, floors, caps, off periods, pins, budget, quota and max hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from scaler.model import Data, Front, Observation, Phase, Pin, Replica
from scaler.observe import Fleet, Seen

MIN_WINDOW_S = 0.5  # a wake right after a timer: two arrivals in 20 ms are no rate
FRONT_SILENT_S = 60.0  # discovery writes its row more often than this


class Counter(Struct, frozen=True, kw_only=True):
    """A replica's totals as last seen, by its own clock."""

    start_id: str
    at: float
    arrivals: int
    completed: int
    busy_s: float


class Totals(Struct, frozen=True, kw_only=True):
    """All totals as last read, at ``at`` by our clock."""

    at: float
    counters: dict[str, Counter] = field(default_factory=dict)
    front: Front | None = None


class Measures(Struct, frozen=True, kw_only=True):
    """Sums over all replicas that answered, over ``window_s``. None: nobody could say. ``totals`` is what the next
    window is measured from."""

    window_s: float
    arrivals: float | None
    completed: float | None
    in_flight: float | None
    queued: float | None
    totals: Totals


def measure(before: Totals | None, seen: Seen, known: Iterable[str]) -> Measures:
    """Counts since the totals were last read. ``known`` are the rows that remain.

    A replica not met before counts from its start, except one that was adopted, and where there are no totals yet
    (None) or the clock was set back: nobody knows then how long ago that was. A window too short to tell a rate is
    left to the next measure.
    """
    first = before is None or seen.at < before.at
    if before is None or seen.at < before.at:
        before = Totals(at=seen.at)
    window_s = seen.at - before.at
    measures = _since(before, seen, set(known), first=first)
    if not first and window_s < MIN_WINDOW_S:
        return replace(measures, arrivals=None, completed=None, in_flight=None, totals=before)
    return measures


def _since(before: Totals, seen: Seen, known: set[str], *, first: bool) -> Measures:
    counters = {name: c for name, c in before.counters.items() if name in known}
    adopted = {r.name for r in seen.replicas if not r.etag}
    arrivals = completed = in_flight = queued = 0.0
    for name, stats in seen.stats.items():
        now = Counter(
            start_id=stats.start_id,
            at=stats.at,
            arrivals=stats.arrivals_total,
            completed=stats.completed_total + stats.failed_total,
            busy_s=stats.busy_seconds_total,
        )
        last = counters.get(name)
        if last is None or last.start_id != now.start_id:
            unmet = first or name in adopted
            last = now if unmet else Counter(start_id=now.start_id, at=now.at, arrivals=0, completed=0, busy_s=0.0)
        arrivals += max(0, now.arrivals - last.arrivals)
        completed += max(0, now.completed - last.completed)
        span = now.at - last.at
        in_flight += max(0.0, now.busy_s - last.busy_s) / span if span > 0 else stats.in_flight
        queued += stats.queued
        counters[name] = now
    held, waiting = _held(before.front, seen.front)
    spoke = bool(seen.stats) or seen.front is not None or not seen.replicas
    return Measures(
        window_s=seen.at - before.at,
        arrivals=None if first or not spoke else max(0.0, arrivals + held),
        completed=None if first or not spoke else completed,
        in_flight=in_flight if seen.stats else None,
        queued=queued + waiting if spoke else None,
        totals=Totals(at=seen.at, counters=counters, front=seen.front),
    )


def _held(before: Front | None, now: Front | None) -> tuple[float, int]:
    """Arrivals that only the front saw, and how many wait there now.

    A request that was held and released arrives at a replica later and is counted there: so only what still waits, or
    gave up waiting, is added, and what waited before and was released is taken off again.
    """
    if now is None:
        return 0.0, 0
    if before is None or before.start_id != now.start_id:
        before = Front(start_id=now.start_id, at=now.at)
    return (now.expired_total - before.expired_total) + (now.waiting - before.waiting), now.waiting


def replica_data(replica: Replica, at: float, unhealthy_after_s: float) -> Data | None:
    """How far one replica is known, by its row as ``look`` left it at ``at``; None where nothing is asked of it."""
    if replica.phase not in (Phase.READY, Phase.DRAINING):
        return None
    if replica.silent_since is None:
        return "fresh"
    return "stale" if at - replica.silent_since < unhealthy_after_s else "blind"


def quality(seen: Seen, replicas: Sequence[Replica]) -> Data:
    """How far the service is known: see the table above."""
    serving = [r for r in replicas if r.phase in (Phase.READY, Phase.DRAINING)]
    answered = sum(r.name in seen.stats for r in serving)
    if not answered and (serving or seen.groups is None):
        return "blind"
    if answered < len(serving):
        return "partial"
    if seen.front is not None and seen.at - seen.front.at > FRONT_SILENT_S:
        return "stale"
    return "fresh"


def observation(
    seen: Seen,
    fleet: Fleet,
    measures: Measures,
    *,
    memory_bytes: float | None,
    signals: Mapping[str, float | None],
    pin: Pin | None,
    quota: int | None,
    template: str = "",
) -> Observation:
    """The one value that a decision is made from. ``memory_bytes`` is what one replica may use, ``template`` names the
    version that new replicas are made from."""
    count = {phase: sum(r.phase is phase for r in fleet.replicas) for phase in Phase}
    ready = [seen.stats[r.name] for r in fleet.replicas if r.phase is Phase.READY and r.name in seen.stats]
    capacity = sum(s.capacity for s in ready)
    gpus = [g.utilization for s in ready for g in s.gpu]
    return Observation(
        at=seen.at,
        window_s=measures.window_s,
        ready=count[Phase.READY],
        starting=count[Phase.INTENDED] + count[Phase.CREATING] + count[Phase.STARTING],
        draining=count[Phase.DRAINING],
        deleting=count[Phase.DELETING],
        arrivals=measures.arrivals,
        completed=measures.completed,
        in_flight=measures.in_flight,
        queued=measures.queued,
        utilization=None if measures.in_flight is None or not capacity else measures.in_flight / capacity,
        cpu=_mean([s.cpu for s in ready if s.cpu is not None]),
        memory=_mean([s.memory_bytes / memory_bytes for s in ready]) if memory_bytes else None,
        gpu=_mean(gpus),
        signals=dict(signals),
        cold_starts_s=tuple(seen.at - r.intended_at for r in fleet.started),
        cold_starts_of=tuple(r.template for r in fleet.started),
        failed_starts_s=tuple(
            seen.at - r.intended_at for r in fleet.failures if r.ready_at is None and r.template == template
        ),
        template=template,
        data=quality(seen, fleet.replicas),
        pin=pin,
        quota=quota,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
