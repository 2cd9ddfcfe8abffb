"""What the API shows of a service, a pin and a decision: pure functions from rows to JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from scaler import rollout, starts
from scaler.alternatives import alternatives
from scaler.config import Service
from scaler.foresight.band import Foresight
from scaler.foresight.history import Block
from scaler.measure import replica_data
from scaler.model import Condition, Decision, Observation, Phase, Pin, Replica
from scaler.ports import DecisionRow, Stored
from scaler.recompute import is_reproduced
from scaler.schedule import Period
from scaler.starts import Start
from scaler.tally import Tally
from scaler.web.bodies import iso
from scaler.web.pins import in_force

Json = dict[str, Any]


class Remembered(Struct, frozen=True, kw_only=True):
    """The part of a service's memory that is shown; the rest of it is the tick's own business."""

    at: float = 0.0
    observation: Observation | None = None
    decision: Decision | None = None
    conditions: tuple[Condition, ...] = ()
    tally: Tally | None = None
    starts: tuple[Start, ...] = ()


def remembered(stored: Stored) -> Remembered:
    """What the last tick left behind; empty before the first, and where another version wrote it."""
    if stored.row is None or not stored.row.memory:
        return Remembered()
    try:
        return msgspec.msgpack.decode(stored.row.memory, type=Remembered)
    except msgspec.MsgspecError:
        return Remembered()


def service_view(name: str, service: Service, stored: Stored, now: float) -> Json:
    """What is and why, of one service."""
    memory = remembered(stored)
    row, decision = stored.row, memory.decision
    pin = in_force(stored.pin, now)
    return {
        "service": name,
        "at": iso(row.at) if row else None,
        "desired": row.desired if row else None,
        "limited_by": decision.limited_by if decision else None,
        "because": row.because if row else "There was no tick yet.",
        "steps": msgspec.to_builtins(decision.steps) if decision else [],
        "alternatives": alternatives_view(decision),
        "bounds": {"min": service.replicas.min, "max": service.replicas.max},
        "replicas": counts(stored.replicas),
        "fleet": [
            replica_view(r, service, row.at if row else now)
            for r in sorted(stored.replicas, key=lambda r: (r.intended_at, r.name))
        ],
        "pin": pin_view(pin) if pin else None,
        "off": row.off if row else False,
        "opens_at": iso(row.opens_at) if row else None,
        "data": memory.observation.data if memory.observation else None,
        "observation": msgspec.to_builtins(memory.observation) if memory.observation else None,
        "front": msgspec.to_builtins(stored.front) if stored.front else None,
        "starts": starts_view(memory.starts),
        "conditions": [condition_view(c) for c in memory.conditions],
        "beside": msgspec.to_builtins(decision.beside) if decision else [],
        "cost": msgspec.to_builtins(decision.cost) if decision else None,
        "schedule": {"timezone": service.schedule.timezone, "rules": len(service.schedule.rules)},
    }


def starts_view(known: tuple[Start, ...]) -> Json:
    """Where the time of the last starts went: the median of each phase in seconds, and each start, newest first."""
    phases = [f"{name}_s" for name in (*starts.PHASES, "total")]
    return {
        "count": len(known),
        "median": {f"{name}_s": value for name, value in starts.medians(known).items()},
        "last": [
            {"replica": s.name, "region": s.region, "template": s.template, "at": iso(s.at), "pooled": s.pooled}
            | {name: getattr(s, name) for name in phases}
            for s in reversed(known)
        ],
    }


def alternatives_view(decision: Decision | None) -> list[Json]:
    """Why not one fewer, and why not one more."""
    found = alternatives(decision) if decision else ()
    return [{"replicas": a.replicas, "step": a.step, "because": f"{a.replicas} {a.because}"} for a in found]


def summary_view(name: str, service: Service, stored: Stored, now: float) -> Json:
    """One line of the list of services."""
    whole = service_view(name, service, stored, now)
    kept = ("service", "at", "desired", "limited_by", "because", "bounds", "replicas", "pin", "off", "opens_at", "data")
    return {key: whole[key] for key in kept} | {"conditions": len(whole["conditions"])}


def counts(replicas: tuple[Replica, ...]) -> dict[str, int]:
    """How many replicas are ready, starting (asked for and not ready yet), draining (deleting included)."""
    return folded(Counter(r.phase.value for r in replicas))


def folded(phases: Mapping[str, int]) -> dict[str, int]:
    """The six phases as the three that people speak of."""
    return {
        "ready": phases.get(Phase.READY, 0),
        "starting": sum(phases.get(p, 0) for p in (Phase.INTENDED, Phase.CREATING, Phase.STARTING)),
        "draining": sum(phases.get(p, 0) for p in (Phase.DRAINING, Phase.DELETING)),
    }


def replica_view(replica: Replica, service: Service, at: float) -> Json:
    """One replica of the fleet, as the tick at ``at`` saw it."""
    return {
        "name": replica.name,
        "phase": replica.phase.value,
        "region": replica.region,
        "address": f"{replica.address}:{replica.port}" if replica.address else None,
        "template": replica.template,
        "intended_at": iso(replica.intended_at),
        "phase_at": iso(replica.phase_at),
        "ready_at": iso(replica.ready_at),
        "silent_since": iso(replica.silent_since),
        "data": replica_data(replica, at, service.unhealthy_after_s),
        "because": replica.because,
    }


def rollout_view(name: str, stored: Stored) -> Json:
    """Which version runs, which should, and the versions there were, newest first."""
    now = rollout.read(stored.rollout.data if stored.rollout else None)
    count = Counter(r.template for r in stored.replicas)
    ready = Counter(r.template for r in stored.replicas if r.phase is Phase.READY)
    return {
        "service": name,
        "phase": now.phase if now else "steady",
        "since": iso(now.since) if now else None,
        "configured": now.configured if now else None,
        "target": now.target if now else None,
        "good": (now.good or None) if now else None,
        "proven": now.proven if now else False,
        "because": now.because if now else "",
        "progress": rollout.progress(now, stored.replicas) if now else "There was no tick yet",
        "versions": [
            {
                "version": v.hash,
                "image": v.image,
                "at": iso(v.at),
                "good_at": iso(v.good_at),
                "ended": v.ended,
                "replicas": count[v.hash],
                "ready": ready[v.hash],
            }
            for v in reversed(now.versions if now else ())
        ],
    }


def pin_view(pin: Pin) -> Json:
    """A pin in force."""
    return {
        "min": pin.min,
        "max": pin.max,
        "since": iso(pin.since),
        "until": iso(pin.until),
        "actor": pin.actor,
        "reason": pin.reason,
    }


def condition_view(condition: Condition) -> Json:
    """Something an operator should know, and what to do about it."""
    return {
        "name": condition.name,
        "severity": condition.severity,
        "about": condition.about,
        "message": condition.message,
        "remedy": condition.remedy,
        "since": iso(condition.since),
    }


def forecast_view(name: str, found: Foresight) -> Json:
    """The arrivals expected, as a band in equally wide bins."""
    return {
        "service": name,
        "at": iso(found.at),
        "bin_s": found.bin_s,
        "low": [b.low for b in found.bins],
        "mid": [b.mid for b in found.bins],
        "high": [b.high for b in found.bins],
    }


def period_view(period: Period, zone: ZoneInfo) -> Json:
    """A span of the calendar, in the wall-clock time that its rules are meant in."""
    return {
        "from": datetime.fromtimestamp(period.start, zone).isoformat(timespec="seconds"),
        "to": datetime.fromtimestamp(period.end, zone).isoformat(timespec="seconds"),
        "min": period.min,
        "max": period.max,
        "off": period.off,
        "wakes": period.wakes,
        "rule": period.rule,
    }


def effect_view(outcome: str, decision: Decision | None) -> Json:
    """What a tick that somebody asked for led to."""
    return {
        "outcome": outcome,
        "desired": decision.desired if decision else None,
        "limited_by": decision.limited_by if decision else None,
        "because": decision.because if decision else None,
        "steps": msgspec.to_builtins(decision.steps) if decision else [],
    }


def decision_view(row: DecisionRow) -> Json:
    """One recorded tick, in short."""
    return {
        "at": iso(row.at),
        "tick": row.tick,
        "cause": row.cause,
        "desired": row.desired,
        "limited_by": row.limited_by,
        "because": row.because,
        "replicas": folded(loads(row.replicas, {})),
        "actions": loads(row.actions, []),
        "seconds": row.seconds,
        "calls": loads(row.calls, {}),
    }


def explained_view(row: DecisionRow, blocks: Mapping[int, Block]) -> Json:
    """One recorded tick with every step and what was observed. A part that cannot be read is None."""
    decision = decoded(row.decision, Decision)
    observation = decoded(row.observation, Observation)
    shadow = decoded(row.shadow, Decision) if row.shadow else None
    return decision_view(row) | {
        "steps": msgspec.to_builtins(decision.steps) if decision else [],
        "alternatives": alternatives_view(decision),
        "off": decision.off if decision else None,
        "opens_at": iso(decision.opens_at) if decision else None,
        "observation": msgspec.to_builtins(observation) if observation else None,
        "conditions": loads(row.conditions, []),
        "beside": msgspec.to_builtins(decision.beside) if decision else [],
        "cost": msgspec.to_builtins(decision.cost) if decision else None,
        "shadow": shadow_view(shadow) if shadow else None,
        "reproduced": is_reproduced(row, blocks),
    }


def shadow_view(decision: Decision) -> Json:
    """What the shadow policy would have had."""
    return {"desired": decision.desired, "limited_by": decision.limited_by, "because": decision.because}


def decoded(data: bytes, kind: type[Any]) -> Any:
    """msgpack as ``kind``; None where it cannot be read."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.MsgspecError:
        return None


def loads(text: str, default: Any) -> Any:
    """A JSON column; ``default`` where it cannot be read."""
    try:
        return json.loads(text)
    except ValueError:
        return default
