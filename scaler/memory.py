"""What a service remembers from tick to tick: the decision's state, totals, back-off, conditions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from scaler import observe
from scaler.decide import State
from scaler.model import Condition, Decision, Observation
from scaler.ports import Stored

TEMPLATE_FAILURES = frozenset({"StartDeadline", "StartFailed", "InaccessibleImage", "RegistryErrorResponse"})
BACKOFF_FIRST_S = 15.0
BACKOFF_LONGEST_S = 600.0
CONDITION_SHOWN_S = 900.0

log = logging.getLogger("scaler.memory")


class Backoff(Struct, frozen=True, kw_only=True):
    """No creation before ``until``; each failure in a row doubles the wait."""

    until: float
    failures: int
    because: str


class Memory(Struct, frozen=True, kw_only=True):
    """What a service remembers from tick to tick, kept in its row."""

    at: float
    state: State
    totals: observe.Totals
    observation: Observation | None = None
    decision: Decision | None = None
    conditions: tuple[Condition, ...] = ()
    backoff: dict[str, Backoff] = field(default_factory=dict)  # by region, or by template hash


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


def next_backoff(before: Mapping[str, Backoff], fleet: observe.Fleet, now: float) -> dict[str, Backoff]:
    """Which regions and templates wait. A failure to start blames the template, one to find room blames the region."""
    after = {key: b for key, b in before.items() if now < b.until + BACKOFF_LONGEST_S}
    if fleet.cold_starts_s:
        after = {}
    for replica in fleet.failures:
        key = replica.template if replica.failure in TEMPLATE_FAILURES else replica.region
        failures = after[key].failures + 1 if key in after else 1
        wait = min(BACKOFF_LONGEST_S, BACKOFF_FIRST_S * 2 ** (failures - 1))
        until = max(now + wait, replica.retry_at or 0.0)
        after[key] = Backoff(until=until, failures=failures, because=replica.because)
    return after


def waits(backoff: Mapping[str, Backoff], key: str, now: float) -> bool:
    """Whether nothing may be created in this region, or from this template, now."""
    return key in backoff and now < backoff[key].until


def conditions(
    before: Sequence[Condition], fleet: observe.Fleet, backoff: Mapping[str, Backoff], seen: observe.Seen, now: float
) -> tuple[Condition, ...]:
    """What an operator should know now: what happened of late, and what holds."""
    past = (c for c in before if c.name in ("vanished", "replica_failed") and now - c.since < CONDITION_SHOWN_S)
    recent = {c.message: c for c in past}
    recent |= {c.message: c for c in fleet.conditions}
    holding = []
    for key, wait in backoff.items():
        if waits(backoff, key, now):
            holding.append(
                Condition(
                    name="backing_off",
                    message=f"no replica is created in or from {key} for {wait.until - now:.0f} s: {wait.because}",
                    remedy="Mend what the message names; the next try comes by itself.",
                    since=now,
                )
            )
    if seen.groups is None:
        holding.append(
            Condition(
                name="blind",
                message="Azure does not list the container groups: nothing is created or deleted on that account",
                remedy="`python -m scaler doctor` shows which permission or endpoint fails.",
                since=now,
            )
        )
    since = {(c.name): c.since for c in before}
    held = [replace(c, since=since.get(c.name, c.since)) for c in holding]
    return (*list(recent.values())[-20:], *held)
