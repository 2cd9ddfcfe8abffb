"""What was seen, made of one mind: rows, Azure's list and the replicas' own words become phases and an ``Observation``.

The ways of a replica, as seen (``plan`` adds the ways that we want):

    creating  → starting    Azure lists it
    creating  → deleting    Azure never listed it within the grace, or refused it
    starting  → ready       it says so on /stats
    starting  → deleting    Azure says Failed, its container crashes again and again, or it missed the start deadline
    ready     → starting    it says starting again: the server was restarted
    ready     → deleting    silent, and Azure says that its container does not run, or crashes
    ready     → draining    silent while its neighbours answer us: perhaps it is only we who do not hear it
    any       → (no row)    Azure's list no longer has it (creating: only after the grace), and a GET says so too
    (no row)  → starting    Azure has a group with our tags that no row knows, in the list and by a GET

Where Azure's list failed, nothing is concluded from absence. Where no replica answers, nothing from silence. A list
lags and leaves out: what it says of coming and going holds only when a GET of that group says the same.

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

from scaler.conditions import cause, container_trouble, happened
from scaler.model import Condition, Data, Front, Group, GroupDetail, Observation, Phase, Pin, Replica, Stats

CLOCKS_APART_S = 60.0  # another tick's present may be this far in our future: it began later, or its clock is ahead
RETRY_LONGEST_S = 3600.0  # no Retry-After is believed beyond this
CREATE_GRACE_S = 180.0  # a PUT whose answer was lost shows in the list within this, or is given up
CRASHES_ENOUGH = 3  # restarts after which a container that never stays up is given up
FRONT_SILENT_S = 60.0  # discovery writes its row more often than this


class Limits(Struct, frozen=True, kw_only=True):
    """The spans of a service's settings that decide when a replica is given up."""

    start_deadline_s: float
    unhealthy_after_s: float


class Counter(Struct, frozen=True, kw_only=True):
    """A replica's totals as last seen, by its own clock."""

    start_id: str
    at: float
    arrivals: int
    completed: int
    busy_s: float


class Seen(Struct, frozen=True, kw_only=True):
    """Everything one tick read about one service. ``groups`` is None when the list failed."""

    at: float
    replicas: tuple[Replica, ...]
    groups: Mapping[str, Group] | None
    stats: Mapping[str, Stats]
    details: Mapping[str, GroupDetail | None] = field(default_factory=dict)  # None: Azure says it is not there
    front: Front | None = None
    unasked: frozenset[str] = frozenset()  # replicas whose turn did not come: not seen, which is not silent


class Fleet(Struct, frozen=True, kw_only=True):
    """The rows as they should now read, and what came to pass since the last tick."""

    replicas: tuple[Replica, ...]
    removed: tuple[Replica, ...] = ()
    cold_starts_s: tuple[float, ...] = ()
    failures: tuple[Replica, ...] = ()  # rows that ended with a failure code, reported once
    conditions: tuple[Condition, ...] = ()


def in_time(replica: Replica, now: float) -> Replica:
    """The row as if no clock had ever been ahead of ours: a time to come would hold its deadlines back for as long."""
    row = replica
    optional = (row.ready_at, row.silent_since, row.drain_since, row.idle_since)
    latest = max(row.intended_at, row.phase_at, *(at for at in optional if at is not None))
    if latest > now + CLOCKS_APART_S:
        row = replace(
            row,
            intended_at=min(row.intended_at, now),
            phase_at=min(row.phase_at, now),
            ready_at=None if row.ready_at is None else min(row.ready_at, now),
            silent_since=None if row.silent_since is None else min(row.silent_since, now),
            drain_since=None if row.drain_since is None else min(row.drain_since, now),
            idle_since=None if row.idle_since is None else min(row.idle_since, now),
        )
    if row.retry_at is not None and row.retry_at > now + RETRY_LONGEST_S:
        row = replace(row, retry_at=now + RETRY_LONGEST_S)
    return row


def adopted(group: Group, port: int, now: float) -> Replica:
    """A row for a group with our tags that no row knows: a late effect of a name given up, or the table was lost. Its
    server may serve, so it is a replica like any other: used where one is missing, else it leaves as they all do."""
    return Replica(
        name=group.name,
        phase=Phase.STARTING,
        region=group.region,
        template=group.tags.get("template", ""),
        intended_at=now,
        phase_at=now,
        ready_at=now,  # how long its start took is not known
        address=group.address,
        port=port,
    )


def may_be_gone(replica: Replica, groups: Mapping[str, Group] | None, now: float) -> bool:
    """Whether a list that does not have it is worth a GET. What was never listed may still come: an answer to a PUT
    can be lost."""
    if groups is None or replica.name in groups or replica.phase is Phase.INTENDED:
        return False
    return replica.phase is not Phase.CREATING or now - replica.phase_at >= CREATE_GRACE_S


def look(seen: Seen, limits: Limits) -> Fleet:
    """Each row one step further, by what was seen."""
    kept, removed, cold_starts, failures, conditions = [], [], [], [], []
    for replica in seen.replicas:
        if not replica.etag:
            conditions.append(happened("unknown_group", seen.at, about=replica.name))
        after = _step(replica, seen, limits)
        if after is None:
            removed.append(replica)
            if replica.phase not in (Phase.DELETING, Phase.CREATING):
                conditions.append(_vanished(replica, seen.at))
            continue
        if after.phase is Phase.READY and replica.ready_at is None:
            cold_starts.append(seen.at - replica.intended_at)
        if after.phase is Phase.DRAINING and replica.phase is not Phase.DRAINING:
            conditions.append(happened("silent", seen.at, about=after.name, said=after.because))
        if after.failure and after.phase is Phase.DELETING and replica.phase is not Phase.DELETING:
            failures.append(after)
            conditions.append(_failed(after, seen.at))
        kept.append(after)
    failures += [r for r in removed if r.failure and r.phase is Phase.DELETING]
    return Fleet(
        replicas=tuple(kept),
        removed=tuple(removed),
        cold_starts_s=tuple(cold_starts),
        failures=tuple(failures),
        conditions=tuple(conditions),
    )


def _step(replica: Replica, seen: Seen, limits: Limits) -> Replica | None:
    group = seen.groups.get(replica.name) if seen.groups is not None else None
    if may_be_gone(replica, seen.groups, seen.at):
        if replica.name not in seen.details:
            return replica
        if seen.details[replica.name] is None:
            return None
        if replica.phase is Phase.CREATING:
            replica = replace(replica, phase=Phase.STARTING, phase_at=seen.at)
    if group is not None and replica.phase in (Phase.INTENDED, Phase.CREATING):
        replica = replace(replica, phase=Phase.STARTING, phase_at=seen.at)
    if group is not None and group.address and group.address != replica.address:
        replica = replace(replica, address=group.address)
    unseen = replica.phase in (Phase.INTENDED, Phase.CREATING, Phase.DELETING) or replica.name in seen.unasked
    return replica if unseen else _asked(replica, group, seen, limits)


def _asked(replica: Replica, group: Group | None, seen: Seen, limits: Limits) -> Replica:
    """A replica that was asked for its stats, one step further by what it said, or did not."""
    stats = seen.stats.get(replica.name)
    if stats is None:
        return _unanswered(replica, group, seen, limits)
    replica = replace(replica, silent_since=None)
    return replica if replica.phase is Phase.DRAINING else _answered(replica, stats, seen, limits)


def _answered(replica: Replica, stats: Stats, seen: Seen, limits: Limits) -> Replica:
    if stats.phase == "starting":
        if replica.phase is Phase.READY:
            return replace(replica, phase=Phase.STARTING, phase_at=seen.at)
        return _overdue(replica, seen, limits)
    if replica.phase is Phase.STARTING:
        return replace(replica, phase=Phase.READY, phase_at=seen.at, ready_at=replica.ready_at or seen.at)
    return replica


def _unanswered(replica: Replica, group: Group | None, seen: Seen, limits: Limits) -> Replica:
    detail = seen.details.get(replica.name)
    if replica.phase is Phase.STARTING:
        if group is not None and group.provisioning_state == "Failed":
            return _give_up(replica, seen, *_why_it_failed(detail))
        return _crashing(replica, detail, seen) or _overdue(replica, seen, limits)
    since = seen.at if replica.silent_since is None else replica.silent_since
    replica = replace(replica, silent_since=since)
    if replica.phase is Phase.DRAINING or seen.at - since < limits.unhealthy_after_s:
        return replica
    return _crashing(replica, detail, seen) or _silent(replica, detail, seen, since)


def _silent(replica: Replica, detail: GroupDetail | None, seen: Seen, since: float) -> Replica:
    """Silence is reason enough only where Azure agrees, or where the neighbours show that it is not our own."""
    said = f"silent for {seen.at - since:.0f} s"
    if _is_stopped(detail):
        return _give_up(replica, seen, "Stopped", said)
    if any(name != replica.name for name in seen.stats):
        return replace(replica, phase=Phase.DRAINING, phase_at=seen.at, because=f"{said} while others answer")
    return replica


def _crashing(replica: Replica, detail: GroupDetail | None, seen: Seen) -> Replica | None:
    """The replica given up when its container ended and was started again too often; Azure calls such a group
    Succeeded, and would go on for ever."""
    trouble = container_trouble(detail)
    if trouble is None or detail is None or detail.restart_count < CRASHES_ENOUGH:
        return None
    return _give_up(replica, seen, *trouble)


def _why_it_failed(detail: GroupDetail | None) -> tuple[str, str]:
    """Code and words for a group that Azure calls failed. No capacity comes this way too, long after the PUT."""
    if (trouble := container_trouble(detail)) is not None:
        return trouble
    for event in detail.events if detail else ():
        if event.startswith("InsufficientCapacity"):
            return "InsufficientCapacity", event
    return "StartFailed", "Azure could not start it"


def _overdue(replica: Replica, seen: Seen, limits: Limits) -> Replica:
    if seen.at - max(replica.phase_at, replica.intended_at) < limits.start_deadline_s:
        return replica
    detail = seen.details.get(replica.name)
    said = f"not ready within {limits.start_deadline_s:.0f} s"
    if (trouble := container_trouble(detail)) is not None:
        return _give_up(replica, seen, trouble[0], f"{said}, {trouble[1]}")
    runs = detail is not None and detail.container_state == "Running"
    return _give_up(replica, seen, "NoAnswer" if runs else "StartDeadline", said)


def _give_up(replica: Replica, seen: Seen, code: str, because: str) -> Replica:
    detail = seen.details.get(replica.name)
    told = detail and (detail.detail or detail.container_state)
    because = f"{because} ({told})" if told else because
    return replace(replica, phase=Phase.DELETING, phase_at=seen.at, failure=code, because=because)


def _is_stopped(detail: GroupDetail | None) -> bool:
    return detail is not None and (
        detail.container_state == "Terminated" or detail.state in ("Stopped", "Succeeded", "Failed")
    )


def _vanished(replica: Replica, at: float) -> Condition:
    return happened("vanished", at, about=replica.name, said=f"while it was {replica.phase}")


def _failed(replica: Replica, at: float) -> Condition:
    name = cause(replica.failure or "", replica.because)
    return happened(name, at, about=replica.name, said=replica.because)


# ---------------------------------------------------------------- how much there was to do


MIN_WINDOW_S = 0.5  # a wake right after a timer: two arrivals in 20 ms are no rate


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
) -> Observation:
    """The one value that a decision is made from. ``memory_bytes`` is what one replica may use."""
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
        cold_starts_s=fleet.cold_starts_s,
        data=quality(seen, fleet.replicas),
        pin=pin,
        quota=quota,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
