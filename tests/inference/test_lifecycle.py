"""Every pair of phase and event."""

from __future__ import annotations

from itertools import product

import pytest

from inference.lifecycle import TABLE, Event, Lifecycle, Phase


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_an_event_moves_as_the_table_says_and_twice_is_once(phase: Phase, event: Event) -> None:
    life = Lifecycle()
    life.phase = phase
    once = life.on(event)
    assert once is TABLE.get((phase, event), phase)
    assert life.on(event) is once


def test_nothing_leaves_stopped() -> None:
    assert not [row for row in TABLE if row[0] is Phase.STOPPED]


def test_a_drain_before_the_model_is_loaded_is_kept() -> None:
    life = Lifecycle()
    assert life.on(Event.DRAIN).spoken == "draining"
    assert life.on(Event.LOADED) is Phase.DRAINING
    assert life.on(Event.UNDRAIN) is Phase.READY


def test_undoing_an_early_drain_does_not_claim_readiness() -> None:
    life = Lifecycle()
    life.on(Event.DRAIN)
    assert life.on(Event.UNDRAIN) is Phase.STARTING
