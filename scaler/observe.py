"""What was seen, made of one mind: rows, Azure's list and the replicas' own words become phases.

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
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from scaler.conditions import cause, container_trouble, happened
from scaler.model import Condition, Front, Group, GroupDetail, Phase, Replica, Stats

CLOCKS_APART_S = 60.0  # another tick's present may be this far in our future: it began later, or its clock is ahead
RETRY_LONGEST_S = 3600.0  # no Retry-After is kept beyond this, so that a later time is a wrong clock's
CREATE_GRACE_S = 180.0  # a PUT whose answer was lost shows in the list within this, or is given up
CRASHES_ENOUGH = 3  # restarts after which a container that never stays up is given up


class Limits(Struct, frozen=True, kw_only=True):
    """The spans of a service's settings that decide when a replica is given up."""

    start_deadline_s: float
    unhealthy_after_s: float


class Seen(Struct, frozen=True, kw_only=True):
    """Everything one tick read about one service. ``groups`` is None when the list failed."""

    at: float
    replicas: tuple[Replica, ...]
    groups: Mapping[str, Group] | None
    stats: Mapping[str, Stats]
    details: Mapping[str, GroupDetail | None] = field(default_factory=dict)  # None: Azure says it is not there
    front: Front | None = None
    unasked: frozenset[str] = frozenset()  # replicas whose turn did not come: not seen, which is not silent
    list_at: float = 0.0  # no list before then, as Azure asked
    show_at: float = 0.0  # nor a look at a single group before then


class Fleet(Struct, frozen=True, kw_only=True):
    """The rows as they should now read, and what came to pass since the last tick."""

    replicas: tuple[Replica, ...]
    removed: tuple[Replica, ...] = ()
    started: tuple[Replica, ...] = ()  # ready for the first time; what was taken over started before
    failures: tuple[Replica, ...] = ()  # rows that ended with a failure code, reported once
    conditions: tuple[Condition, ...] = ()


def retry_at(now: float, wait_s: float) -> float:
    """When a wait that Azure asked for ends."""
    return now + min(wait_s, RETRY_LONGEST_S)


def latest_retry_at(now: float) -> float:
    """A wait beyond this was reckoned by a clock that was ahead."""
    return now + RETRY_LONGEST_S + CLOCKS_APART_S


def in_time(replica: Replica, now: float) -> Replica:
    """The row as if no clock had ever been ahead of ours: a time to come would hold its deadlines back for as long."""
    row = replica
    optional = (row.ready_at, row.silent_since, row.drain_since, row.idle_since, row.asked_at)
    latest = max(row.intended_at, row.phase_at, *(at for at in optional if at is not None))
    is_ahead = latest > now + CLOCKS_APART_S
    if is_ahead:
        row = replace(
            row,
            intended_at=min(row.intended_at, now),
            phase_at=min(row.phase_at, now),
            ready_at=None if row.ready_at is None else min(row.ready_at, now),
            silent_since=None if row.silent_since is None else min(row.silent_since, now),
            drain_since=None if row.drain_since is None else min(row.drain_since, now),
            idle_since=None if row.idle_since is None else min(row.idle_since, now),
            asked_at=None if row.asked_at is None else min(row.asked_at, now),
        )
    if row.retry_at is not None and (is_ahead or row.retry_at > latest_retry_at(now)):
        row = replace(row, retry_at=None)  # reckoned by that clock: better asked once too often than an hour too late
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
    asked = replica.phase is Phase.CREATING and not _was_refused(replica)
    return not asked or now - replica.phase_at >= CREATE_GRACE_S


def _was_refused(replica: Replica) -> bool:
    """Whether Azure said of it that it will not be, and nobody gave it up yet."""
    return replica.phase is Phase.CREATING and replica.failure is not None


def look(seen: Seen, limits: Limits) -> Fleet:
    """Each row one step further, by what was seen."""
    kept, removed, started, failures, conditions = [], [], [], [], []
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
            started.append(after)
        if after.phase is Phase.DRAINING and replica.phase is not Phase.DRAINING:
            conditions.append(happened("silent", seen.at, about=after.name, said=after.because))
        if after.failure and after.phase is Phase.DELETING and replica.phase is not Phase.DELETING:
            failures.append(after)
            conditions.append(_failed(after, seen.at))
        kept.append(after)
    failures += [r for r in removed if _was_refused(r)]
    return Fleet(
        replicas=tuple(kept),
        removed=tuple(removed),
        started=tuple(started),
        failures=tuple(failures),
        conditions=tuple(conditions),
    )


def _step(replica: Replica, seen: Seen, limits: Limits) -> Replica | None:
    group = seen.groups.get(replica.name) if seen.groups is not None else None
    if _was_refused(replica):
        replica = replace(replica, phase=Phase.DELETING, phase_at=seen.at)
    if may_be_gone(replica, seen.groups, seen.at):
        if replica.name not in seen.details:  # Azure did not say; what it says itself counts
            return _asked(replica, group, seen, limits) if replica.name in seen.stats else replica
        if seen.details[replica.name] is None:
            return None
        if replica.phase is Phase.CREATING:
            replica = _exists(replica, seen.at)
    if group is not None and replica.phase in (Phase.INTENDED, Phase.CREATING):
        replica = _exists(replica, seen.at)
    if group is not None and group.address and group.address != replica.address:
        replica = replace(replica, address=group.address)
    unseen = replica.phase in (Phase.INTENDED, Phase.CREATING, Phase.DELETING) or replica.name in seen.unasked
    return replica if unseen else _asked(replica, group, seen, limits)


def _exists(replica: Replica, at: float) -> Replica:
    """What Azure asked to be waited for was about its creation."""
    return replace(replica, phase=Phase.STARTING, phase_at=at, because="", retry_at=None)


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
