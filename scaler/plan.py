"""Desired against seen: which rows to write, which replicas to create, drain, take back and delete. Pure.

What may happen to a row here: (no row) → intended, intended → (no row), starting → deleting, ready ↔ draining,
draining → deleting. A group is asked for only under a row that says so, and no row is left when its group is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from scaler.model import Action, Create, Delete, Drain, Front, Phase, Replica, Stats, Undrain

TURN_S = 45.0  # a tick that saved an intent acts on it within this; after it, another tick may
ACTIVE = (Phase.INTENDED, Phase.CREATING, Phase.STARTING, Phase.READY)


class Rules(Struct, frozen=True, kw_only=True):
    """What a plan has to keep to. ``template`` is the hash that new replicas are made from; None: none can be made."""

    max: int
    surge: int
    template: str | None
    port: int
    region: str | None  # where to create now; None: every region backs off
    drain_deadline_s: float
    idle_s: float
    unhealthy_after_s: float


class Plan(Struct, frozen=True, kw_only=True):
    """Rows as they should be after the save, rows to remove with it, and what to do once it is saved."""

    replicas: tuple[Replica, ...]
    removed: tuple[Replica, ...] = ()
    actions: tuple[Action, ...] = ()


class Sight(Struct, frozen=True, kw_only=True):
    """What a plan looks at besides the rows."""

    at: float  # when the tick began: what was seen is no older
    planned_at: float  # now: what is planned begins no earlier
    stats: Mapping[str, Stats]
    front: Front | None


def plan(
    desired: int, replicas: Sequence[Replica], sight: Sight, rules: Rules, *, version: int, mint: Callable[[], str]
) -> Plan:
    """The steps from what is to what should be. ``version`` is the endpoint list's if its set changes with this save;
    ``mint`` gives a new name each time it is called. Planning again on the outcome gives nothing new to create."""
    rows = {r.name: _leaving(r, version) for r in replicas}
    removed: list[Replica] = []
    rolling = any(_is_old(r, rules) for r in rows.values() if r.phase in ACTIVE)
    for replica in _surplus(desired, list(rows.values()), sight, rules, rolling=rolling):
        match replica.phase:
            case Phase.INTENDED:
                removed.append(rows.pop(replica.name))
            case Phase.READY:
                rows[replica.name] = _to(replica, Phase.DRAINING, sight.planned_at, "scale-in", drain_version=version)
            case _:
                rows[replica.name] = _to(replica, Phase.DELETING, sight.at, "no longer needed")
    missing = _missing(desired, list(rows.values()), rules, rolling=rolling)
    for replica in _takeable(list(rows.values()), sight, rules)[:missing]:
        rows[replica.name] = _to(replica, Phase.READY, sight.at, "", drain_version=None, idle_since=None)
        missing -= 1
    for _ in range(_room(missing, list(rows.values()), rules, rolling=rolling)):
        fresh = _intent(mint(), sight.at, rules)
        rows[fresh.name] = fresh
    after = [_drained(r, sight, rules) for r in rows.values()]
    actions = tuple(a for r in after for a in _actions(r, sight, rules))
    return Plan(replicas=tuple(after), removed=tuple(removed), actions=actions)


def _to(replica: Replica, phase: Phase, at: float, because: str, **changes: object) -> Replica:
    return replace(replica, phase=phase, phase_at=at, because=because, **changes)


def _leaving(replica: Replica, version: int) -> Replica:
    """A row that was found to drain, rather than told to, leaves the endpoint list with this save."""
    found = replica.phase is Phase.DRAINING and replica.drain_version is None
    return replace(replica, drain_version=version) if found else replica


def _is_old(replica: Replica, rules: Rules) -> bool:
    return rules.template is not None and replica.template != rules.template


def _surplus(desired: int, rows: list[Replica], sight: Sight, rules: Rules, *, rolling: bool) -> list[Replica]:
    """Active replicas that may go now, first to go first.

    In a rollout the old ones go as new ones become ready: never so many that fewer than ``desired`` are ready.
    """
    active = [r for r in rows if r.phase in ACTIVE]
    over = len(active) - desired
    if rolling:
        ready = sum(r.phase is Phase.READY for r in active)
        over = max(over - rules.surge, min(over, ready - desired))
        if rules.surge == 0 and len(rows) == ready == desired:
            over = 1  # no room for a new one beside the old: one old makes room
    if over <= 0:
        return []
    return sorted(active, key=lambda r: _usefulness(r, sight, rules))[:over]


def _usefulness(replica: Replica, sight: Sight, rules: Rules) -> tuple[float, ...]:
    """Ascending, first to go first: not serving, then old versions, then silent ones, then the least busy."""
    stats = sight.stats.get(replica.name)
    serving = replica.phase is Phase.READY
    return (
        serving,
        not _is_old(replica, rules),
        stats is not None if serving else 0,
        stats.in_flight + stats.queued if stats else 0,
        -replica.intended_at,
    )


def _missing(desired: int, rows: list[Replica], rules: Rules, *, rolling: bool) -> int:
    active = [r for r in rows if r.phase in ACTIVE]
    if not rolling:
        return max(0, desired - len(active))
    fresh = sum(not _is_old(r, rules) for r in active)
    return max(0, min(desired - fresh, desired + rules.surge - len(active)))


def _takeable(rows: list[Replica], sight: Sight, rules: Rules) -> list[Replica]:
    """Draining replicas that can serve again, last drained first: cheaper and quicker than any start."""
    return sorted(
        (r for r in rows if r.phase is Phase.DRAINING and not _is_old(r, rules) and r.name in sight.stats),
        key=lambda r: -r.phase_at,
    )


def _room(missing: int, rows: list[Replica], rules: Rules, *, rolling: bool) -> int:
    """How many may be created: all that exists or may exist counts against max, what drains and dies included."""
    if rules.template is None or rules.region is None:
        return 0
    ceiling = rules.max + (rules.surge if rolling else 0)
    return max(0, min(missing, ceiling - len(rows)))


def _intent(name: str, at: float, rules: Rules) -> Replica:
    assert rules.template is not None
    assert rules.region is not None
    return Replica(
        name=name,
        phase=Phase.INTENDED,
        region=rules.region,
        template=rules.template,
        intended_at=at,
        phase_at=at,
        port=rules.port,
    )


def _drained(replica: Replica, sight: Sight, rules: Rules) -> Replica:
    """A draining replica after one more look: idle for how long, and whether it may be deleted."""
    if replica.phase is not Phase.DRAINING:
        return replica
    stats = sight.stats.get(replica.name)
    quiet = stats is not None and stats.phase == "draining" and stats.in_flight == 0 and stats.queued == 0
    if quiet and replica.idle_arrivals != stats.arrivals_total:  # type: ignore[union-attr]
        replica = replace(replica, idle_since=sight.planned_at, idle_arrivals=stats.arrivals_total)  # type: ignore[union-attr]
    elif stats is not None and not quiet:
        replica = replace(replica, idle_since=None, idle_arrivals=None)
    if replica.idle_since is not None and sight.at - replica.idle_since >= rules.idle_s:
        return _to(replica, Phase.DELETING, sight.at, "drained")
    if sight.at - replica.phase_at >= rules.drain_deadline_s:
        return _to(replica, Phase.DELETING, sight.at, "drain deadline passed")
    silent = replica.silent_since
    if silent is not None and sight.at - max(silent, replica.phase_at) >= rules.unhealthy_after_s:
        return _to(replica, Phase.DELETING, sight.at, "silent while draining")
    return replica


def _actions(replica: Replica, sight: Sight, rules: Rules) -> list[Action]:
    stats = sight.stats.get(replica.name)
    if replica.retry_at is not None and sight.at < replica.retry_at:
        return []
    match replica.phase:
        case Phase.INTENDED if replica.phase_at == sight.at or sight.at - replica.phase_at >= TURN_S:
            return [Create(replica)]
        case Phase.DRAINING if stats is not None and stats.phase == "ready" and _has_left(replica, sight, rules):
            return [Drain(replica)]
        case Phase.READY if stats is not None and stats.phase == "draining":
            return [Undrain(replica)]
        case Phase.DELETING:
            return [Delete(replica)]
    return []


def _has_left(replica: Replica, sight: Sight, rules: Rules) -> bool:
    """Whether the front no longer sends to it. With a front that fell silent, half the drain deadline is waited."""
    if sight.front is None or replica.drain_version is None:
        return True
    return (
        sight.front.applied_version >= replica.drain_version
        or sight.at - replica.phase_at >= rules.drain_deadline_s / 2
    )
