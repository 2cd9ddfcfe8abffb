"""What a service remembers from tick to tick: the decision's state, totals, back-off, conditions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from scaler import measure, observe, quota
from scaler.allowance import Asked
from scaler.conditions import SHOWN_S, blames_template, cause, condition, container_trouble, happened
from scaler.decide import State
from scaler.durations import Durations
from scaler.foresight.history import Block, History, Span, pack, unpack
from scaler.happened import Happened, Rolled, View, events, waiting
from scaler.model import Condition, Decision, Group, Observation, Phase, Replica
from scaler.plan import ACTIVE
from scaler.ports import Stored
from scaler.quota import Quota
from scaler.starts import Start
from scaler.tally import Tally

POOL_FAILURE, POOL = "StandbyPool", "standby pool"  # a code, and what waits then
NO_ROOM = frozenset({"quota", "no_capacity"})  # causes that say how many Azure lets us have
BACKOFF_FIRST_S = 15.0
BACKOFF_LONGEST_S = 600.0
LATE_S = 120.0  # longer than Azure takes to list what it was asked for, or to let go
MOST_SHOWN = 20  # things that happened; what holds is always shown

log = logging.getLogger("scaler.memory")


class Backoff(Struct, frozen=True, kw_only=True):
    """No creation before ``until``; each failure in a row doubles the wait."""

    until: float
    failures: int
    because: str
    code: str = ""  # of the last failure
    retry_at: float = 0.0  # what Azure asked to be waited for: no start that succeeds meanwhile ends that


class Memory(Struct, frozen=True, kw_only=True):
    """What a service remembers from tick to tick, kept in its row."""

    at: float
    state: State
    totals: measure.Totals
    observation: Observation | None = None
    decision: Decision | None = None
    conditions: tuple[Condition, ...] = ()
    backoff: dict[str, Backoff] = field(default_factory=dict)  # by region, or by template hash
    tally: Tally | None = None
    starts: tuple[Start, ...] = ()
    durations: Durations | None = None  # how long requests take at most
    list_at: float = 0.0  # no list before then, as Azure asked
    show_at: float = 0.0  # no look at a single group before then, as Azure asked
    asked: tuple[Asked, ...] = ()
    quotas: tuple[Quota, ...] = ()  # of the regions, as last read
    outbox: tuple[Happened, ...] = ()  # events that nobody has taken yet
    rolled: Rolled | None = None  # how far the rollout was, for the events about it
    shadow: State | None = None  # of the shadow policy


def told_of(
    service: str, before: Memory | None, after: Memory, cause: str, taken: Sequence[str]
) -> tuple[Happened, ...]:
    """The events that still have to be sent, those of this tick included; ``taken`` are the ids of those that were."""
    new = events(service, _view(before) if before else None, _view(after), cause)
    return waiting(before.outbox if before else (), new, taken, after.at)


def _view(memory: Memory) -> View:
    """What of a memory events come from."""
    pin = memory.observation.pin if memory.observation else None
    in_force = pin if pin and (pin.until is None or memory.at < pin.until) else None
    return View(
        at=memory.at, decision=memory.decision, pin=in_force, conditions=memory.conditions, rolled=memory.rolled
    )


def recall(stored: Stored) -> Memory | None:
    """The memory in a service's row. One that this version cannot read (an upgrade, a damaged row) is as none: the
    fleet is in the replica rows, and what is lost is history, not replicas."""
    if stored.row is None or not stored.row.memory:
        return None
    try:
        return msgspec.msgpack.decode(stored.row.memory, type=Memory)
    except msgspec.MsgspecError as error:
        told = {"service": stored.service, "error": str(error)}
        log.warning("a service's memory is not readable and starts anew", extra=told)
        return None


def span(state: State) -> Span | None:
    """The blocks of the record of arrivals that this state knows by number only."""
    return state.ahead.history.packed if state.ahead else None


def with_history(state: State, blocks: Mapping[int, Block]) -> State:
    """A stored state with its record of arrivals whole again."""
    return _with_history(state, partial(unpack, stored=blocks))


def without_blocks(state: State) -> State:
    """A state as it is stored: the full blocks of its record of arrivals have rows of their own."""
    return _with_history(state, pack)


def new_blocks(before: State | None, after: State) -> tuple[Block, ...]:
    """The blocks that became full between two states."""
    known = {b.digest for b in before.ahead.history.blocks[-1:]} if before and before.ahead else set()
    blocks = after.ahead.history.blocks if after.ahead else ()
    newest = takewhile(lambda block: block.digest not in known, reversed(blocks))
    return tuple(reversed(list(newest)))


def _with_history(state: State, change: Callable[[History], History]) -> State:
    if state.ahead is None:
        return state
    return replace(state, ahead=replace(state.ahead, history=change(state.ahead.history)))


def next_backoff(before: Mapping[str, Backoff], fleet: observe.Fleet, now: float) -> dict[str, Backoff]:
    """Which regions and templates wait. A failure to start blames the template, one to find room blames the region."""
    after = {k: b for k, b in before.items() if now - BACKOFF_LONGEST_S < b.until <= observe.latest_retry_at(now)}
    for key in {key for r in fleet.started for key in (r.region, r.template)} & after.keys():
        asked = after.pop(key)
        if asked.retry_at > now:
            after[key] = replace(asked, until=asked.retry_at, failures=0)
    for replica in fleet.replicas:
        if replica.phase is Phase.CREATING and replica.retry_at is not None and now < replica.retry_at:
            after[replica.region] = _asked_for(after.get(replica.region), replica.retry_at, replica.because)
    for key, replica in _failed(fleet).items():
        failures = after[key].failures + 1 if key in after else 1
        wait = min(BACKOFF_LONGEST_S, BACKOFF_FIRST_S * 2 ** (failures - 1))
        retry_at = max(replica.retry_at or 0.0, after[key].retry_at if key in after else 0.0)
        after[key] = Backoff(
            until=max(now + wait, retry_at),
            failures=failures,
            because=replica.because,
            code=replica.failure or "",
            retry_at=retry_at,
        )
    return after


def _asked_for(before: Backoff | None, until: float, because: str) -> Backoff:
    """The wait for a region that asked for one, whatever becomes of the replica: nobody knows whether it will be."""
    wait = before or Backoff(until=until, failures=0, because=because, code="InternalServerError")
    return replace(wait, until=max(wait.until, until), retry_at=max(wait.retry_at, until))


def _failed(fleet: observe.Fleet) -> dict[str, Replica]:
    """What is to blame for the failures of one look, each with the replica that Azure asks to wait longest for: those
    that were asked for together and failed together are one failure. Who served once blames neither."""
    blamed: dict[str, Replica] = {}
    for replica in sorted(fleet.failures, key=lambda r: r.retry_at or 0.0):
        if replica.ready_at is None:
            blamed[_blamed(replica)] = replica
    return blamed


def _blamed(replica: Replica) -> str:
    if replica.failure == POOL_FAILURE:
        return POOL
    return replica.template if blames_template(replica.failure or "") else replica.region


def waits(backoff: Mapping[str, Backoff], key: str, now: float) -> bool:
    """Whether nothing may be created in this region, or from this template, now."""
    return key in backoff and now < backoff[key].until


def room(
    backoff: Mapping[str, Backoff],
    quotas: Sequence[Quota],
    regions: Sequence[str],
    replicas: Sequence[Replica],
    now: float,
) -> int | None:
    """The most replicas that Azure lets us have now: those there are, while every region said that it has no room for
    more; else as many as the quotas take; None where nobody said so."""
    full = regions and all(waits(backoff, r, now) and cause(backoff[r].code) in NO_ROOM for r in regions)
    there = sum(r.phase in ACTIVE for r in replicas)
    return there if full else quota.ceiling(quotas, regions, replicas)


def conditions(
    before: Sequence[Condition],
    fleet: observe.Fleet,
    backoff: Mapping[str, Backoff],
    seen: observe.Seen,
    regions: Sequence[str],
    decision: Decision | None = None,
    quotas: Sequence[Quota] = (),
) -> tuple[Condition, ...]:
    """What an operator should know now: what happened of late, and what holds."""
    now = seen.at
    past = [c for c in before if c.until is not None and now < c.until <= now + SHOWN_S]
    over = {(c.name, c.about): c for c in (*past, *fleet.conditions, *_refused(fleet, now))}
    since = {(c.name, c.about): c.since for c in before}
    money = decision.cost.warning if decision and decision.cost else None
    nearly_spent = [condition("budget", now, about="the budget", said=money)] if money else []
    known = (*_not_known(fleet, seen), *_troubled(fleet, seen), *nearly_spent)
    used_up = quota.conditions(quotas, regions, decision.limited_by if decision else None, now)
    holding = {(c.name, c.about): c for c in (*used_up, *known, *_waiting(backoff, regions, now))}
    held = [replace(c, since=since.get(key, c.since)) for key, c in holding.items()]
    return (*list(over.values())[-MOST_SHOWN:], *held)


def _refused(fleet: observe.Fleet, now: float) -> Iterator[Condition]:
    """Groups that were never made, by what kept Azure from making them."""
    for replica in fleet.removed:
        if replica.failure:
            about = f"version {replica.template}" if blames_template(replica.failure) else replica.region
            yield happened(cause(replica.failure, replica.because), now, about=about, said=replica.because)


def _waiting(backoff: Mapping[str, Backoff], regions: Sequence[str], now: float) -> Iterator[Condition]:
    """Regions and templates that nothing is created in or from for a while."""
    for key, wait in backoff.items():
        if waits(backoff, key, now):
            about = key if key in regions or key == POOL else f"version {key}"
            said = f"{wait.because}; the next try is in {wait.until - now:.0f} s"
            yield condition(cause(wait.code, wait.because), now, about=about, said=said)
    if regions and all(waits(backoff, region, now) for region in regions):
        yield condition("nowhere", now, about=", ".join(regions))


def _not_known(fleet: observe.Fleet, seen: observe.Seen) -> Iterator[Condition]:
    if seen.groups is None:
        yield condition("blind", seen.at, about="Azure")
    if seen.at < seen.list_at:
        yield _throttled("the list of container groups", seen.list_at, seen.at)
    if seen.at < seen.show_at:
        yield _throttled("looks at single container groups", seen.show_at, seen.at)
    serving = [r for r in fleet.replicas if r.phase is Phase.READY]
    if serving and not any(r.name in seen.stats for r in serving):
        yield condition("unanswered", seen.at, about=f"{len(serving)} replicas")
    if seen.front is not None and seen.at - seen.front.at > measure.FRONT_SILENT_S:
        yield condition("front_silent", seen.at, about="front", said=f"for {seen.at - seen.front.at:.0f} s")


def _throttled(about: str, until: float, now: float) -> Condition:
    return condition("throttled", now, about=about, said=f"the next try is in {until - now:.0f} s")


def _troubled(fleet: observe.Fleet, seen: observe.Seen) -> Iterator[Condition]:
    """Replicas that are not given up yet, with what Azure says is wrong with them."""
    for replica in fleet.replicas:
        group, detail = (seen.groups or {}).get(replica.name), seen.details.get(replica.name)
        yield from _held_up(replica, group, seen)
        if replica.phase is Phase.DELETING:
            continue
        if group is not None and group.provisioning_state == "Repairing":
            yield condition("repairing", seen.at, about=replica.name)
        elif (trouble := container_trouble(detail)) is not None:
            yield condition(cause(*trouble), seen.at, about=replica.name, said=trouble[1])


def _held_up(replica: Replica, group: Group | None, seen: observe.Seen) -> Iterator[Condition]:
    """A creation or a deletion that Azure puts off, or does not carry out: the fault may be any (409, 500, 503, 504, no
    answer), and whether it matters is seen in the list."""
    since_s = seen.at - replica.phase_at
    if group is not None and replica.retry_at is not None and seen.at < replica.retry_at:
        yield _throttled(replica.name, replica.retry_at, seen.at)
    elif since_s < LATE_S or seen.groups is None:
        return
    elif replica.phase is Phase.CREATING and group is None:
        yield condition(
            "azure_fails", seen.at, about=replica.name, said=f"asked for {since_s:.0f} s ago, and not listed"
        )
    elif replica.phase is Phase.DELETING and group is not None:
        yield condition(
            "azure_fails", seen.at, about=replica.name, said=f"it was to go {since_s:.0f} s ago, and is listed"
        )
