"""The phases of a replica as one table: starting → ready ⇄ draining → stopped.

    phase            LOADED    DRAIN            UNDRAIN    STOP
    starting         ready     early draining   -          stopped
    early draining   draining  -                starting   stopped
    ready            -         draining         -          stopped
    draining         -         -                ready      stopped
    stopped          -         -                -          -

"-" leaves the phase as it is, so every event may come twice. A drain that arrives while the model loads is kept
("early draining", spoken of as draining): the order must not be lost, and undoing it must not claim readiness.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    STARTING = "starting"
    EARLY_DRAINING = "early draining"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"

    @property
    def spoken(self) -> str:
        """The word in `/stats`, where only starting, ready and draining exist."""
        return "draining" if self in {Phase.EARLY_DRAINING, Phase.STOPPED} else self.value


class Event(Enum):
    LOADED = "loaded"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    STOP = "stop"


TABLE: dict[tuple[Phase, Event], Phase] = {
    (Phase.STARTING, Event.LOADED): Phase.READY,
    (Phase.STARTING, Event.DRAIN): Phase.EARLY_DRAINING,
    (Phase.STARTING, Event.STOP): Phase.STOPPED,
    (Phase.EARLY_DRAINING, Event.LOADED): Phase.DRAINING,
    (Phase.EARLY_DRAINING, Event.UNDRAIN): Phase.STARTING,
    (Phase.EARLY_DRAINING, Event.STOP): Phase.STOPPED,
    (Phase.READY, Event.DRAIN): Phase.DRAINING,
    (Phase.READY, Event.STOP): Phase.STOPPED,
    (Phase.DRAINING, Event.UNDRAIN): Phase.READY,
    (Phase.DRAINING, Event.STOP): Phase.STOPPED,
}


class Lifecycle:
    """The phase this process is in; only `on` moves it."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING

    def on(self, event: Event) -> Phase:
        """The phase after `event`; an event without a row changes nothing."""
        self.phase = TABLE.get((self.phase, event), self.phase)
        return self.phase
