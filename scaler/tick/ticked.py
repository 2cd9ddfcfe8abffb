"""What one tick came to, for those who watch and have no say: telemetry, and whoever wants to hear of events."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from scaler.happened import Happened
from scaler.model import Decision, Json, Observation

log = logging.getLogger("scaler.tick")


class Stretch(Struct, frozen=True):
    """One step of a tick: its name, and when it began and ended, in seconds since the tick began."""

    name: str
    began_s: float
    ended_s: float


class Ticked(Struct, frozen=True, kw_only=True):
    """One tick of one service. ``decision`` and ``observation`` are None where it did not get that far. ``calls`` by
    ``<kind> <outcome>``."""

    service: str
    at: float
    cause: str
    outcome: str
    seconds: float
    stretches: tuple[Stretch, ...]
    decision: Decision | None
    observation: Observation | None
    actions: tuple[str, ...]
    calls: dict[str, int]
    conditions: tuple[str, ...] = ()  # names of those that hold, or happened of late


def note(ticked: Ticked) -> None:
    """One record a tick: a warning where nothing could be decided, else a line of the operator's diary. The facts stand
    in the line too, as JSON: the worker of Azure Functions sends the message alone, and the alerts read it."""
    blind = ticked.outcome.startswith("unavailable")
    told = facts(ticked)
    line = msgspec.json.encode(told).decode()
    log.log(logging.WARNING if blind else logging.INFO, "tick %s", line, extra=told)


def facts(ticked: Ticked) -> Json:
    """A tick in plain columns, without what is not known."""
    decision, seen = ticked.decision, ticked.observation
    told: Json = {
        "service": ticked.service,
        "cause": ticked.cause,
        "outcome": ticked.outcome,
        "seconds": ticked.seconds,
        "actions": "; ".join(ticked.actions),
        "conditions": ", ".join(ticked.conditions),
        "calls": sum(ticked.calls.values()),
        "calls_failed": sum(count for key, count in ticked.calls.items() if not key.endswith(" ok")),
    }
    if decision is not None:
        told |= {"desired": decision.desired, "limited_by": decision.limited_by, "because": decision.because}
    if seen is not None:
        told |= {key: getattr(seen, key) for key in SEEN}
    return {key: value for key, value in told.items() if value is not None}


SEEN = ("ready", "starting", "draining", "arrivals", "in_flight", "queued", "utilization", "data")


class Courier(Protocol):
    """Takes events to whoever asked for them."""

    def send(self, service: str, events: Sequence[Happened]) -> None:
        """Begin to send these, in order, and return at once. What is under way already is not begun again."""

    def delivered(self) -> Sequence[str]:
        """Ids of the newest events that were taken."""
