"""Why not one fewer, why not one more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.alternatives import alternatives
from scaler.config import load
from scaler.decide import decide, initial_state, policy_of
from scaler.model import Observation, Pin

POLICY = policy_of(
    load("services: {iris: {replicas: {min: 1, max: 6}, target: {concurrency: 4}}}", "a.yaml").services["iris"],
    "iris",
    "a.yaml",
)


def seen(in_flight: float | None = 10.0, *, pin: Pin | None = None, ready: int = 2) -> Observation:
    return Observation(
        at=1000.0, window_s=15.0, ready=ready, starting=0, in_flight=in_flight, arrivals=100.0, completed=100.0,
        queued=0.0, pin=pin,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("observation", "fewer", "more"),
    [
        (seen(10.0), (2, "concurrency", "too few"), (4, "concurrency", "more than anything asks for")),
        (seen(100.0), (5, "concurrency", "further from"), (7, "max", "not allowed: replicas.max is 6")),
        (seen(0.0, ready=0), (0, "min", "too few: replicas.min is 1"), (2, "min", "more than anything asks for")),
        (
            seen(0.0, pin=Pin(min=3, max=3, since=0.0, actor="key (anna)", reason="launch")),
            (2, "pin", "pinned by key (anna): launch"),
            (4, "pin", "pinned by key (anna): launch"),
        ),
        (
            seen(100.0, pin=Pin(min=0, max=2, since=0.0)),
            (1, "concurrency", "further from"),
            (3, "pin", "not allowed"),
        ),
    ],
)
def test_each_neighbour_names_what_speaks_against_it(
    observation: Observation, fewer: tuple[int, str, str], more: tuple[int, str, str]
) -> None:
    decision, _ = decide(POLICY, initial_state(POLICY), observation)
    below, above = alternatives(decision)
    for told, (count, step, words) in ((below, fewer), (above, more)):
        assert (told.replicas, told.step) == (count, step)
        assert words in told.because


COUNTS = st.one_of(st.none(), st.floats(0, 60))


@settings(deadline=None)
@given(st.lists(st.tuples(COUNTS, st.integers(0, 8), st.booleans()), min_size=1, max_size=12))
def test_there_is_always_an_answer_about_the_right_counts(ticks: list[tuple[float | None, int, bool]]) -> None:
    state = initial_state(POLICY)
    for i, (in_flight, ready, pinned) in enumerate(ticks):
        pin = Pin(min=ready, max=ready, since=0.0) if pinned else None
        observation = Observation(
            at=15.0 * i, window_s=15.0, ready=ready, starting=0, in_flight=in_flight, queued=0.0, arrivals=1.0, pin=pin
        )
        decision, state = decide(POLICY, state, observation)
        counts = [a.replicas for a in alternatives(decision)]
        assert counts == [n for n in (decision.desired - 1, decision.desired + 1) if n >= 0]
        assert all(a.because.endswith(".") for a in alternatives(decision))
