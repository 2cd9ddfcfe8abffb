"""What came to pass in one tick that somebody outside may want to hear of. Pure: two memories in, events out.

Events are remembered with the decision they belong to and sent after it was saved; the next tick sends again what had
no answer. So none is lost with the process, and one may come twice: its ``id`` is the same then.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from scaler.model import Condition, Decision, Json, Pin

KEPT = 50  # events that wait for an answer; the oldest go first
KEPT_S = 3600.0  # nobody wants to hear of it any later


class Happened(Struct, frozen=True, kw_only=True):
    """One event: ``type`` is the last part of its CloudEvents type, ``data`` its payload without secrets."""

    id: str
    type: str
    at: float
    data: Json


class Rolled(Struct, frozen=True, kw_only=True):
    """How far a rollout was when it was last told of."""

    phase: str
    target: str
    because: str = ""


class View(Struct, frozen=True, kw_only=True):
    """The part of a memory that events come from."""

    at: float
    decision: Decision | None
    pin: Pin | None
    conditions: tuple[Condition, ...]
    rolled: Rolled | None = None


def events(service: str, before: View | None, after: View, cause: str) -> tuple[Happened, ...]:
    """Scaling, pins, rollouts and conditions: what ``after`` has that ``before`` had not, or the other way round."""
    found = [
        *_scaled(before, after, cause),
        *_pinned(before, after),
        *_rolled(before, after),
        *_conditions(before, after),
    ]
    stamp = f"{service}-{int(after.at * 1000)}"
    return tuple(
        Happened(id=f"{stamp}-{i}", type=kind, at=after.at, data={"service": service} | data)
        for i, (kind, data) in enumerate(found)
    )


def waiting(
    before: Sequence[Happened], new: Sequence[Happened], taken: Sequence[str], now: float
) -> tuple[Happened, ...]:
    """What still has to be sent, oldest first."""
    gone = set(taken)
    left = [e for e in before if e.id not in gone and now - e.at < KEPT_S]
    return tuple([*left, *new][-KEPT:])


def _scaled(before: View | None, after: View, cause: str) -> list[tuple[str, Json]]:
    decision = after.decision
    was = before.decision.desired if before and before.decision else None
    if decision is None or decision.desired == (was or 0):
        return []
    data = {"from": was, "to": decision.desired, "because": decision.because, "limited_by": decision.limited_by}
    return [("scaled", data | {"cause": cause})]


def _pinned(before: View | None, after: View) -> list[tuple[str, Json]]:
    was, now = before.pin if before else None, after.pin
    if was == now:
        return []
    if now is None:
        assert was is not None
        return [("unpinned", {"min": was.min, "max": was.max, "actor": was.actor})]
    data = {"min": now.min, "max": now.max, "until": now.until, "actor": now.actor, "reason": now.reason}
    return [("pinned", data)]


def _rolled(before: View | None, after: View) -> list[tuple[str, Json]]:
    was, now = before.rolled if before else None, after.rolled
    if now is None or (was is not None and (was.phase, was.target) == (now.phase, now.target)):
        return []
    data = {"version": now.target, "before": was.target if was else None, "because": now.because}
    return [(f"rollout.{now.phase}", data)]


def _conditions(before: View | None, after: View) -> list[tuple[str, Json]]:
    was = {(c.name, c.about) for c in before.conditions} if before else set()
    now = {(c.name, c.about): c for c in after.conditions}
    raised = [_condition(c) for key, c in now.items() if key not in was]
    cleared = [{"name": name, "about": about} for name, about in sorted(was - now.keys())]
    return [*(("condition.raised", data) for data in raised), *(("condition.cleared", data) for data in cleared)]


def _condition(c: Condition) -> Json:
    told = {"name": c.name, "about": c.about, "severity": c.severity}
    return told | {"message": c.message, "remedy": c.remedy}
