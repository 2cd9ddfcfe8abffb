"""The drain deadline as it is learned from request times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.durations import ENOUGH, HALF_LIFE_S, LEAST_S, MARGIN, STEP_LONGEST_S, Durations, drain_deadline_s, learned
from scaler.model import Latency, Phase
from tests.builders import NOW
from tests.scaler.ticking import SERVICE, Ticking

SECONDS = st.floats(0, 1e6)


def p99(seconds: float | None) -> Latency:
    return Latency(p50=None, p95=None, p99=seconds)


def known(slowest_s: float, answered: float = ENOUGH) -> Durations:
    return Durations(at=0.0, slowest_s=slowest_s, answered=answered)


def test_the_setting_holds_until_enough_is_known() -> None:
    assert drain_deadline_s(None, 120) == 120
    assert drain_deadline_s(known(1.0, ENOUGH - 1), 120) == 120
    assert drain_deadline_s(known(0.0), 120) == 120


def test_the_deadline_is_a_multiple_of_the_slowest_minute_within_its_bounds() -> None:
    assert drain_deadline_s(known(7.0), 120) == 7 * MARGIN
    assert drain_deadline_s(known(0.02), 120) == LEAST_S
    assert drain_deadline_s(known(60.0), 120) == 120
    assert drain_deadline_s(known(0.02), 10) == 10


def test_the_slowest_replica_counts_and_answers_add_up() -> None:
    one = learned(None, [p99(0.5), p99(3.0), p99(None)], 40, now=0.0)
    two = learned(one, [p99(1.0)], 2, now=0.0)
    assert (two.slowest_s, two.answered) == (3.0, 42)


def test_it_is_halved_for_each_day_of_answers_and_not_while_there_are_none() -> None:
    busy = idle = known(8.0)
    for hour in range(1, 25):
        busy = learned(busy, [p99(0.1)], 1, now=hour * 3600.0)
        idle = learned(idle, [p99(None)], None if hour % 2 else 0, now=hour * 3600.0)
    assert HALF_LIFE_S == 24 * 3600
    assert abs(busy.slowest_s - 4.0) < 1e-9
    assert idle.slowest_s == 8.0


def test_a_gap_and_a_clock_set_back_forget_no_more_than_a_step() -> None:
    longest = 8.0 * 0.5 ** (STEP_LONGEST_S / HALF_LIFE_S)
    assert learned(known(8.0), [], 1, now=1e9).slowest_s == longest
    assert learned(known(8.0), [], 1, now=-1e9).slowest_s == 8.0


@given(st.lists(st.tuples(SECONDS, st.floats(0, 1e4), st.floats(0, 1e4)), max_size=20), st.floats(0.1, 1e4))
def test_never_later_than_the_setting_nor_sooner_than_what_was_just_seen(
    ticks: list[tuple[float, float, float]], most_s: float
) -> None:
    now, durations = 0.0, None
    for seconds, answered, gap_s in ticks:
        now += gap_s
        durations = learned(durations, [p99(seconds)], answered, now)
        assert min(most_s, LEAST_S, MARGIN * seconds) <= drain_deadline_s(durations, most_s) <= most_s
        assert drain_deadline_s(durations, most_s) >= min(most_s, MARGIN * seconds)


@given(SECONDS, SECONDS, st.floats(0.1, 1e4))
def test_slower_requests_never_shorten_it(one_s: float, other_s: float, most_s: float) -> None:
    quick, slow = sorted((one_s, other_s))
    if quick > 0:
        assert drain_deadline_s(known(quick), most_s) <= drain_deadline_s(known(slow), most_s)


@pytest.mark.anyio
@pytest.mark.parametrize(("answered", "deadline_s"), [(ENOUGH - 1, 60), (ENOUGH, 40)])
async def test_ticks_learn_it_and_keep_it_in_the_table(answered: float, deadline_s: int) -> None:
    ticking = Ticking()
    await ticking.pin(1)
    await ticking.ticks_until(Phase.READY, 1)
    (name,) = ticking.world.fleet.held
    server = ticking.world.server(name)
    server.latency_s = p99(4.0)
    server.arrive(int(answered))
    server.in_flight = 1  # hangs
    await ticking.tick()
    await ticking.pin(0)
    await ticking.ticks_until(Phase.DRAINING, 1)
    ticking.deploy(f"services:\n  iris:{SERVICE}")  # another instance
    await ticking.tick(5)  # finds it draining
    at = ticking.world.clock()
    while await ticking.phases() == {name: Phase.DRAINING}:
        await ticking.tick(5)
    assert ticking.world.clock() - at == deadline_s
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    (cut,) = (c for c in memory.conditions if c.name == "cut_off")
    assert cut.about == name
    assert f"still busy after the drain deadline of {deadline_s} s" in cut.message


def test_a_clock_that_counts_from_1970_fades_by_what_passed() -> None:
    before = Durations(at=NOW, slowest_s=8.0, answered=1.0)
    assert learned(before, [], 1, now=NOW + 60.0).slowest_s == 8.0 * 0.5 ** (60.0 / HALF_LIFE_S)


def test_answers_of_no_known_duration_are_of_none() -> None:
    assert learned(None, [p99(None)], 5, now=0.0) == Durations(at=0.0, slowest_s=0.0, answered=5.0)
