"""What a tick writes down: the service's row with all that changes beside it, and the row of the decision. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from scaler import observe, plan
from scaler.decide import State
from scaler.memory import Memory, new_blocks, without_blocks
from scaler.model import Decision, Phase, Replica
from scaler.ports import Changes, DecisionRow, RolloutRow, ServiceRow, Stored
from scaler.rollout import Rollout
from scaler.tick.managed import Managed


class Outcome(Struct, frozen=True, kw_only=True):
    """What a tick came to. ``version`` is the endpoint list's if its set changes with the save."""

    memory: Memory
    fleet: observe.Fleet
    planned: plan.Plan
    version: int
    rolled: Rollout | None  # None: no template is configured
    shadow: Decision | None  # what the second policy would have decided


def to_save(stored: Stored, before: Memory | None, outcome: Outcome, hold_limit_s: float) -> tuple[ServiceRow, Changes]:
    """The service's row, and what is written and removed in the same transaction. ``stored`` and ``before`` are what
    the tick loaded."""
    memory, planned, known = outcome.memory, outcome.planned, {r.name: r for r in stored.replicas}
    decision = memory.decision
    assert decision is not None
    changed = endpoints(stored.replicas) != endpoints(planned.replicas)
    current = stored.row.endpoints_version if stored.row else 0
    row = ServiceRow(
        memory=msgspec.msgpack.encode(replace(memory, state=without_blocks(memory.state))),
        endpoints_version=outcome.version if changed else current,
        off=decision.off,
        opens_at=decision.opens_at,
        wakes=decision.wakes,
        hold_limit_s=hold_limit_s,
        at=memory.at,
        desired=decision.desired,
        because=decision.because,
    )
    rows = planned.replicas if changed else [_never_listed(r, outcome.version, current) for r in planned.replicas]
    changes = Changes(
        written=tuple(r for r in rows if known.get(r.name) != r),
        removed=tuple(known[r.name] for r in (*outcome.fleet.removed, *planned.removed) if r.name in known),
        rollout=_changed(outcome.rolled, stored.rollout),
        blocks=new_blocks(before.state if before else None, memory.state),
    )
    return row, changes


def to_record(
    managed: Managed,
    state: State,
    outcome: Outcome,
    *,
    tick: str,
    cause: str,
    actions: Sequence[str],
    seconds: float,
    calls: Mapping[str, int],
) -> DecisionRow:
    """The decision with all that it depends on; ``state`` is the one before it. ``calls`` are those made so far, by
    kind; the one that writes this row is counted too."""
    memory, decision = outcome.memory, outcome.memory.decision
    assert decision is not None
    counts = {p.value: sum(r.phase is p for r in outcome.planned.replicas) for p in Phase}
    return DecisionRow(
        service=managed.name,
        at=memory.at,
        tick=tick,
        cause=cause,
        desired=decision.desired,
        limited_by=decision.limited_by,
        because=decision.because,
        decision=msgspec.msgpack.encode(decision),
        observation=msgspec.msgpack.encode(memory.observation),
        state_before=msgspec.msgpack.encode(without_blocks(state)),
        policy=msgspec.msgpack.encode(managed.policy),
        shadow=msgspec.msgpack.encode(outcome.shadow) if outcome.shadow else b"",
        actions=json.dumps(list(actions)),
        replicas=json.dumps(counts),
        seconds=seconds,
        calls=json.dumps({**calls, "table": calls.get("table", 0) + 1}),
    )


def endpoints(replicas: Sequence[Replica]) -> set[tuple[str, str, int]]:
    """What the front may send to."""
    return {(r.name, r.address, r.port) for r in replicas if r.phase is Phase.READY and r.address}


def _changed(rolled: Rollout | None, before: RolloutRow | None) -> RolloutRow | None:
    """The rollout's row where it is to be written anew."""
    if rolled is None:
        return None
    data = msgspec.msgpack.encode(rolled)
    if before is not None and before.data == data:
        return None
    return RolloutRow(data=data, etag=before.etag if before else "")


def _never_listed(replica: Replica, version: int, current: int) -> Replica:
    """What became ready and was to leave within one tick was in no list: every list there is does without it."""
    return replace(replica, drain_version=current) if replica.drain_version == version else replica
