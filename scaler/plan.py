"""Desired against seen: which rows to write, which replicas to create, drain, take back and delete. Pure.

What may happen to a row here: (no row) → intended, intended → (no row), creating → deleting once its PUT is not on its
way any more, starting → deleting, ready ↔ draining, draining → deleting. A group is asked for only under a row that
says so, and no row is left when its group is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from scaler.allowance import Kind
from scaler.conditions import happened
from scaler.model import Action, Condition, Create, Delete, Drain, Front, Phase, Replica, Stats, Undrain

TURN_S = 45.0  # a tick that saved an intent acts on it within this; after it, another tick may
DELETE_AGAIN_S = 30.0  # a group that is there for so long after it was to go is asked to go again …
DELETE_AGAIN_AGE = 0.25  # … and then after this share of the time that it was to go for, because Azure counts deletes …
DELETE_AGAIN_MOST_S = 120.0  # … but no later than after this
KINDS: Mapping[type, Kind] = {Create: "create", Delete: "delete"}  # what Azure counts
DEADLINE_PASSED = "still busy after the drain deadline"
NOT_DRAINING: Mapping[str, None] = {"drain_version": None, "drain_since": None, "idle_since": None}
ACTIVE = (Phase.INTENDED, Phase.CREATING, Phase.STARTING, Phase.READY)


class Rules(Struct, frozen=True, kw_only=True):
    """What a plan has to keep to.

    ``template`` is the version that should run (None: none is configured). While it is not ``proven``, no more than
    ``surge`` of it are tried beside the old ones, and load is met with ``fallback``, the last good version.
    ``makeable`` are the versions that can be created from now, with the port each listens on.
    """

    max: int
    surge: int
    template: str | None
    makeable: Mapping[str, int]
    region: str | None  # where to create now; None: every region backs off
    drain_deadline_s: float
    idle_s: float
    unhealthy_after_s: float
    proven: bool = True
    fallback: str | None = None
    waiting: frozenset[str] = frozenset()  # regions where nothing is created now
    left: Mapping[
        tuple[Kind, str], int
    ] = {}  # ("create", region): so many more are taken now; absent: no limit is near


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
    rows = {r.name: _leaving(r, version, sight.planned_at) for r in replicas}
    removed = [rows.pop(r.name) for r in replicas if _is_barred(r, sight, rules)]
    rolling = any(_is_old(r, rules) for r in rows.values() if r.phase in ACTIVE)
    still_to_go = 0
    for replica in _surplus(desired, list(rows.values()), sight, rules, rolling=rolling):
        match replica.phase:
            case Phase.INTENDED:
                removed.append(rows.pop(replica.name))
            case Phase.CREATING if sight.planned_at - replica.phase_at < TURN_S:
                still_to_go += 1  # its PUT may be on its way: a DELETE that came first would end the row, not the group
            case Phase.READY | Phase.STARTING if _has_served(replica):
                rows[replica.name] = _to(replica, Phase.DRAINING, sight.planned_at, "scale-in", drain_version=version)
            case _:
                rows[replica.name] = _to(replica, Phase.DELETING, sight.planned_at, "no longer needed")
    wanted = _wanted(desired, list(rows.values()), rules, rolling=rolling)
    for replica in _taken_back(wanted, list(rows.values()), sight):
        rows[replica.name] = _to(replica, Phase.READY, sight.planned_at, "", **NOT_DRAINING)
        wanted.remove(replica.template)
    room = _room(len(rows), rules, rolling=rolling)
    for template in [t for t in wanted if t in rules.makeable][still_to_go:][:room]:
        fresh = _intent(mint(), sight.planned_at, rules, template)
        rows[fresh.name] = fresh
    after = [_drained(r, sight, rules) for r in rows.values()]
    room = _ceiling(rules, rolling=rolling) - sum(r.phase is not Phase.INTENDED for r in after)
    actions = _within_budget([a for r in after for a in _actions(r, sight, rules)], rules, room)
    asked = {a.replica.name for a in actions if isinstance(a, Delete)}
    after = [replace(r, asked_at=sight.planned_at) if r.name in asked else r for r in after]
    return Plan(replicas=tuple(after), removed=tuple(removed), actions=tuple(actions))


def _to(replica: Replica, phase: Phase, at: float, because: str, **changes: object) -> Replica:
    return replace(replica, phase=phase, phase_at=at, because=because, **changes)


def _leaving(replica: Replica, version: int, at: float) -> Replica:
    """A row that was found to drain, rather than told to, leaves the endpoint list with this save."""
    found = replica.phase is Phase.DRAINING and replica.drain_version is None
    return replace(replica, drain_version=version, phase_at=at) if found else replica


def _is_barred(replica: Replica, sight: Sight, rules: Rules) -> bool:
    """An intent that nobody may act on now: another region, or the last good version, takes its place."""
    left_over = sight.at - replica.phase_at >= TURN_S and rules.left.get(("create", replica.region), 1) <= 0
    barred = left_over or replica.region in rules.waiting or replica.template not in rules.makeable
    return replica.phase is Phase.INTENDED and barred


def _has_served(replica: Replica) -> bool:
    """Whether the front may send to it: one that starts again after it was ready may be on its list yet."""
    return replica.phase is Phase.READY or replica.ready_at is not None


def _is_old(replica: Replica, rules: Rules) -> bool:
    return rules.template is not None and replica.template != rules.template


def _beside(desired: int, rules: Rules) -> int:
    """How many may exist beyond the desired ones during a rollout: the surge, or the room that max leaves anyway."""
    return max(rules.surge, min(1, rules.max - desired)) if desired > 0 else 0


def _surplus(desired: int, rows: list[Replica], sight: Sight, rules: Rules, *, rolling: bool) -> list[Replica]:
    """Active replicas that may go now, first to go first.

    In a rollout the old ones go as new ones become ready, and none for that reason before the new version is proven;
    never so many that fewer than ``desired`` are ready, unless there is no room for a new one beside the old.
    """
    active = sorted((r for r in rows if r.phase in ACTIVE), key=lambda r: _usefulness(r, sight, rules))
    over = len(active) - desired
    if not rolling:
        return active[: max(0, over)]
    old, new = [r for r in active if _is_old(r, rules)], [r for r in active if not _is_old(r, rules)]
    ready = sum(r.phase is Phase.READY for r in active)
    beside = _beside(desired, rules)
    if beside == 0 and 0 < desired == len(rows) == ready and (rules.proven or not new):
        return old[:1]
    if rules.proven:
        over = max(over - beside, min(over, ready - desired))
        return _keeping_ready([*old, *new], over, ready - desired)
    # What is beside the desired ones is the room of the new version: old ones must not take it up.
    fewer = old[: max(0, len(old) - desired)]
    over = max(0, len(old) - len(fewer) + len(new) - desired - beside)
    return _keeping_ready([*fewer, *new], len(fewer) + over, ready - desired)


def _keeping_ready(candidates: list[Replica], number: int, spare: int) -> list[Replica]:
    """The first ``number`` of them, but no more than ``spare`` ready ones."""
    taken: list[Replica] = []
    for replica in candidates:
        if len(taken) >= number:
            break
        if replica.phase is Phase.READY:
            if spare <= 0:
                continue
            spare -= 1
        taken.append(replica)
    return taken


def _usefulness(replica: Replica, sight: Sight, rules: Rules) -> tuple[float, ...]:
    """Ascending, first to go first: not asked for yet, not serving, not the last good version, silent ones, the least
    busy, the youngest."""
    stats = sight.stats.get(replica.name)
    return (
        replica.phase is not Phase.INTENDED,
        replica.phase is Phase.READY,
        replica.template == rules.fallback,
        stats is not None,
        stats.in_flight + stats.queued if stats else 0,
        -replica.intended_at,
    )


def _wanted(desired: int, rows: list[Replica], rules: Rules, *, rolling: bool) -> list[str]:
    """The version of each replica that is missing."""
    active = [r for r in rows if r.phase in ACTIVE]
    if rules.template is None:
        return []
    if not rolling:
        return [rules.template] * (desired - len(active))
    old = sum(_is_old(r, rules) for r in active)
    new, beside = len(active) - old, _beside(desired, rules)
    if rules.proven:
        return [rules.template] * min(desired - new, desired + beside - len(active))
    # On trial: as many as may exist beside the desired ones, or the one that was made room for.
    trial = max(0, min(max(beside, 1), desired) - new) if beside or old < desired else 0
    # Where no version is known to be good, what load needs is of the new one too: then it counts with those on trial.
    needed = max(0, min(desired - old - (0 if beside else 1), desired + max(beside, 1) - len(active)))
    return [rules.fallback or rules.template] * needed + [rules.template] * trial


def _taken_back(wanted: Sequence[str], rows: list[Replica], sight: Sight) -> list[Replica]:
    """Draining replicas that can serve again, last drained first: cheaper and quicker than any start."""
    left, taken = list(wanted), []
    for replica in sorted(rows, key=lambda r: -r.phase_at):
        if replica.phase is Phase.DRAINING and replica.name in sight.stats and replica.template in left:
            left.remove(replica.template)
            taken.append(replica)
    return taken


def _ceiling(rules: Rules, *, rolling: bool) -> int:
    return rules.max + (rules.surge if rolling else 0)


def _room(rows: int, rules: Rules, *, rolling: bool) -> int:
    """How many may be created: all that exists or may exist counts against max, what drains and dies included."""
    if rules.region is None:
        return 0
    room = _ceiling(rules, rolling=rolling) - rows
    return max(0, min(room, rules.left.get(("create", rules.region), room)))


def _intent(name: str, at: float, rules: Rules, template: str) -> Replica:
    assert rules.region is not None
    return Replica(
        name=name,
        phase=Phase.INTENDED,
        region=rules.region,
        template=template,
        intended_at=at,
        phase_at=at,
        port=rules.makeable[template],
    )


def _within_budget(actions: list[Action], rules: Rules, room: int) -> list[Action]:
    """Creations and deletions only as far as Azure takes them now, and creations only while there is room for what was
    intended under a higher max; the next ticks do the rest."""
    kept: list[Action] = []
    left = dict(rules.left)
    for action in actions:
        kind = KINDS.get(type(action))
        key = (kind, action.replica.region) if kind else None
        if key is not None and left.get(key, 1) <= 0:
            continue
        if kind == "create":
            room -= 1
            if room < 0:
                continue
        if key is not None and key in left:
            left[key] -= 1
        kept.append(action)
    return kept


def _drained(replica: Replica, sight: Sight, rules: Rules) -> Replica:
    """A draining replica after one more look: idle for how long, and whether it may be deleted.

    The deadline counts from the first tick that *found* it draining: the one that began it may have slept before its
    save, and its row was taken from the endpoint list later than it says.
    """
    if replica.phase is not Phase.DRAINING or replica.phase_at == sight.planned_at:
        return replica
    if replica.drain_since is None:
        replica = replace(replica, drain_since=sight.planned_at)
    since = _drains_since(replica, sight)
    stats = sight.stats.get(replica.name)
    quiet = stats is not None and stats.phase == "draining" and stats.in_flight == 0 and stats.queued == 0
    quiet = quiet and _is_unlisted(replica, sight)  # a front that still has it may send to it at any moment
    if quiet and replica.idle_arrivals != stats.arrivals_total:  # type: ignore[union-attr]
        replica = replace(replica, idle_since=sight.planned_at, idle_arrivals=stats.arrivals_total)  # type: ignore[union-attr]
    elif stats is not None and not quiet:
        replica = replace(replica, idle_since=None, idle_arrivals=None)
    if quiet and replica.idle_since is not None and sight.at - replica.idle_since >= rules.idle_s:
        return _to(replica, Phase.DELETING, sight.planned_at, "drained")
    if sight.at - since >= rules.drain_deadline_s:
        return _to(replica, Phase.DELETING, sight.planned_at, f"{DEADLINE_PASSED} of {rules.drain_deadline_s:.0f} s")
    silent = replica.silent_since
    if silent is not None and sight.at - max(silent, since) >= rules.unhealthy_after_s:
        return _to(replica, Phase.DELETING, sight.planned_at, "silent while draining")
    return replica


def cut_off(planned: Plan, at: float) -> list[Condition]:
    """What an operator should know of replicas that this plan deletes with requests in hand."""
    late = [
        a.replica for a in planned.actions if isinstance(a, Delete) and a.replica.because.startswith(DEADLINE_PASSED)
    ]
    return [happened("cut_off", at, about=replica.name, said=replica.because) for replica in late]


def _drains_since(replica: Replica, sight: Sight) -> float:
    return sight.at if replica.drain_since is None else replica.drain_since


def _actions(replica: Replica, sight: Sight, rules: Rules) -> list[Action]:
    stats = sight.stats.get(replica.name)
    if replica.retry_at is not None and sight.at < replica.retry_at:
        return []
    fresh = replica.phase_at in (sight.at, sight.planned_at)
    match replica.phase:
        case Phase.INTENDED if fresh or sight.at - replica.phase_at >= TURN_S:
            return [Create(replica)]
        case Phase.DRAINING if stats is not None and stats.phase == "ready" and _has_left(replica, sight, rules):
            return [Drain(replica)]
        case Phase.READY if stats is not None and stats.phase == "draining":
            return [Undrain(replica)]
        case Phase.DELETING if fresh or _is_asked_again(replica, sight.at):
            return [Delete(replica)]
    return []


def _is_asked_again(replica: Replica, at: float) -> bool:
    again_s = max(DELETE_AGAIN_S, min(DELETE_AGAIN_AGE * (at - replica.phase_at), DELETE_AGAIN_MOST_S))
    return at - (replica.phase_at if replica.asked_at is None else replica.asked_at) >= again_s


def _has_left(replica: Replica, sight: Sight, rules: Rules) -> bool:
    """Whether the front no longer sends to it. With a front that fell silent, half the drain deadline is waited."""
    return _is_unlisted(replica, sight) or sight.at - _drains_since(replica, sight) >= rules.drain_deadline_s / 2


def _is_unlisted(replica: Replica, sight: Sight) -> bool:
    """Whether the front said that it has the list without it."""
    if sight.front is None or replica.drain_version is None:
        return True
    return sight.front.applied_version >= replica.drain_version
