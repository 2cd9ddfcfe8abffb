"""Why not one fewer, why not one more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.alternatives import alternatives
from scaler.config import load
from scaler.decide import decide, initial_state, policy_of
from scaler.model import Decision, Observation, Pin, Step

POLICY = policy_of(
    load(
        "services: {iris: {forecast: false, replicas: {min: 1, max: 6}, target: {concurrency: 4}}}", "a.yaml"
    ).services["iris"],
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


def step(name: str, before: int, after: int, because: str) -> Step:
    return Step(name=name, before=before, after=after, because=because)


SCALES = (
    "cheapest for the next 120 s, in replica seconds: 1 would cost 60 of rent and 90 of lateness; "
    "2 would cost 120 of rent and 10 of lateness; 3 would cost 180 of rent and 0 of lateness"
)


def test_counts_that_were_weighed_are_told_by_the_scales() -> None:
    decision = Decision(desired=2, limited_by=None, because="2 replicas.", steps=(step("forecast", 1, 2, SCALES),))
    fewer, more = alternatives(decision)
    assert (
        fewer.because
        == "would save 60 of rent and cost 80 more of lateness, in replica seconds over the next lead time."
    )
    assert (
        more.because
        == "would save 10 of lateness and cost 60 more of rent, in replica seconds over the next lead time."
    )


def test_counts_that_nothing_speaks_about_are_said_to_be_so() -> None:
    kept = Decision(desired=2, limited_by=None, because="2 replicas: nothing.", steps=(step("blind", 2, 2, "held"),))
    fewer, more = alternatives(kept)
    assert (fewer.step, fewer.because) == (None, "is below what ran before: 2 replicas: nothing.")
    assert more.step == "blind"
    alone = alternatives(Decision(desired=0, limited_by=None, because="No replica."))
    assert [(a.replicas, a.step, a.because) for a in alone] == [(1, None, "is more than anything asks for.")]


def decided(desired: int, *steps: Step) -> Decision:
    return Decision(desired=desired, limited_by=None, because=f"{desired} replicas.", steps=steps)


def test_the_first_signal_speaks_against_one_fewer_though_it_asked_for_less_than_ran_before() -> None:
    fewer, _ = alternatives(decided(3, step("concurrency", 5, 3, "12 requests at once")))
    assert (fewer.step, fewer.because) == ("concurrency", "is too few: 12 requests at once.")
    fewer, _ = alternatives(decided(3, step("concurrency", 5, 3, "12 at once"), step("cpu", 3, 3, "1 is enough")))
    assert fewer.step == "concurrency"


def test_a_ceiling_one_below_what_is_asked_for_is_what_forbids_one_more() -> None:
    _, more = alternatives(decided(3, step("concurrency", 0, 4, "16 at once"), step("max", 4, 3, "3 at most")))
    assert (more.step, more.because) == ("max", "is not allowed: 3 at most.")


def test_a_count_beyond_those_that_were_weighed_is_told_without_the_scales() -> None:
    _, more = alternatives(decided(3, step("forecast", 1, 3, SCALES)))
    assert more.because == f"is more than anything asks for; the most is 3: {SCALES}."
