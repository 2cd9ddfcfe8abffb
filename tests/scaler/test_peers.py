"""The rules of other autoscalers, each worked by hand from its published source.

The toy of these tests: one replica has 8 requests in work at most and serves 8 a second, a rule aims at all of it, and
a replica is ready 180 s after it was asked for. The load is given, and does not depend on who serves it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from scaler.peers import PEERS, Fixed
from scaler.peers.hpa import of_total, of_utilization
from scaler.replay.sight import Rule, Sight, Terms

READY_AFTER_S = 180
TOY = Terms(min=0, max=40, rate=8.0, concurrency=8.0, share=1.0)


def asked(
    rule: Rule[Any], load: Callable[[int], float], seconds: int, *, ready: int = 0, start_s: int = READY_AFTER_S
) -> list[int]:
    """What is asked for at each second. ``load`` is requests in work at a second, and requests in it."""
    seen, state, due = Sight(ready), rule.initial(), list[int]()
    counts = []
    for at in range(seconds):
        if at and at % rule.tick_s == 0:
            wish, state = rule.decide(state, seen)
            have = seen.ready + len(due)
            due += [at + start_s] * (wish.count - have)
            drop = max(0, have - wish.count)
            given_up = min(drop, len(due))
            del due[len(due) - given_up :]
            seen.ready -= drop - given_up
        seen.ready += sum(d <= at for d in due)
        due = [d for d in due if d > at]
        seen.starting = len(due)
        counts.append(seen.asked)
        working = min(load(at), 8.0 * seen.ready)
        seen.passed(load(at), load(at), load(at), working, load(at) - working)
        seen.at = at + 1
    return counts


def first(counts: list[int], holds: Callable[[int], bool]) -> int | None:
    return next((at for at, count in enumerate(counts) if holds(count)), None)


def jump(at: int) -> float:
    return 8.0 if at < 1000 else 80.0


def stop(at: int) -> float:
    return 80.0 if at < 1000 else 0.0


@pytest.mark.parametrize(
    ("name", "within_s"), [("keda", 76), ("keda-load", 60), ("kpa", 8), ("ray", 61), ("skyserve", 340)]
)
def test_ten_times_the_load_is_asked_for_with_each_ones_own_delay(name: str, within_s: int) -> None:
    counts = asked(PEERS[name](TOY), jump, 1500, ready=1)
    at = first(counts, lambda count: count >= 10)
    assert at is not None
    assert at - 1000 <= within_s
    assert counts[999] == 1


@pytest.mark.parametrize(
    ("name", "one_s", "none_s"),
    [
        ("keda", None, (300, 391)),  # a poll every 30 s, 300 s after the last that saw the minute's rate
        ("keda-load", None, (300, 361)),
        ("kpa", (30, 62), (60, 95)),  # the stable window empties, then 30 s of grace
        ("ray", (600, 635), (1200, 1240)),  # once to one, once more from there to zero
        ("skyserve", (1180, 1245), (1180, 1245)),  # sixty looks in a row
    ],
)
def test_without_load_each_goes_down_and_to_zero_with_its_own_delay(
    name: str, one_s: tuple[int, int] | None, none_s: tuple[int, int]
) -> None:
    counts = asked(PEERS[name](TOY), stop, 3000, ready=10)
    none = first(counts, lambda count: count == 0)
    assert none is not None
    assert none_s[0] <= none - 1000 <= none_s[1]
    one = first(counts, lambda count: count <= 1)
    if one_s is not None:
        assert one is not None
        assert one_s[0] <= one - 1000 <= one_s[1]


@pytest.mark.parametrize("name", [n for n in PEERS if n != "hpa"])
def test_at_zero_a_load_brings_the_first_replica_within_a_poll(name: str) -> None:
    counts = asked(PEERS[name](TOY), lambda at: 0.0 if at < 500 else 4.0, 700)
    at = first(counts, lambda count: count > 0)
    assert at is not None
    assert 500 < at <= 535
    assert counts[499] == 0


@pytest.mark.parametrize("name", list(PEERS))
def test_bounds_hold_whatever_the_load(name: str) -> None:
    bounded = Terms(min=2, max=5, rate=8.0, concurrency=8.0)
    high = asked(PEERS[name](bounded), lambda at: 500.0, 1500, ready=2)
    low = asked(PEERS[name](bounded), lambda at: 0.0, 3000, ready=5)
    assert (max(high), high[-1]) == (5, 5)
    assert (min(low), low[-1]) == (2, 2)


@pytest.mark.parametrize("name", list(PEERS))
def test_a_load_that_stays_the_same_is_left_alone(name: str) -> None:
    terms = Terms(min=0, max=40, rate=8.0, concurrency=8.0, share=0.5)
    counts = asked(PEERS[name](terms), lambda at: 38.0, 4000, ready=10)
    assert set(counts) == {10}


# -- HPA


@pytest.mark.parametrize(
    ("ratio", "ready", "starting", "count"),
    [
        (1.09, 10, 0, 10),  # within the tolerance
        (0.91, 10, 0, 10),
        (1.2, 10, 0, 12),
        (0.5, 10, 0, 5),
        (0.5, 9, 0, 5),  # rounded up
        (0.5, 8, 4, 4),  # downwards those not ready do not count
        (1.5, 10, 5, 15),  # counted as idle they bring the ratio to 1.0: as it is
        (2.0, 10, 2, 20),  # 2.0 x 10 / 12 = 1.67 of 12
        (1.2, 10, 5, 15),  # with them the ratio would turn: as it is
        (3.0, 0, 4, 4),  # nobody gives a sample
    ],
)
def test_hpa_on_utilization(ratio: float, ready: int, starting: int, count: int) -> None:
    assert of_utilization(ratio, ready, starting) == count


@pytest.mark.parametrize(
    ("total", "pods", "count"), [(80.0, 1, 10), (8.7, 1, 1), (8.9, 1, 2), (72.1, 10, 10), (71.0, 10, 9), (0.0, 3, 0)]
)
def test_hpa_on_a_total(total: float, pods: int, count: int) -> None:
    assert of_total(total, 8.0, pods) == count


def test_hpa_at_most_doubles_or_goes_to_four_a_sync() -> None:
    counts = asked(PEERS["keda"](TOY), lambda at: 300.0, 200, ready=1, start_s=1)
    seen = [1, *(counts[at] for at in range(15, 200, 15))]
    assert seen[:6] == [1, 4, 8, 16, 32, 38]


def test_hpa_goes_down_to_the_largest_recommendation_of_five_minutes() -> None:
    def load(at: int) -> float:
        return 80.0 if at < 600 else 40.0 if at < 700 else 16.0

    counts = asked(PEERS["keda"](TOY), load, 1300, ready=10)
    assert first(counts, lambda count: count < 10) is not None
    assert 300 <= (first(counts, lambda count: count < 10) or 0) - 600 <= 360
    assert counts[1000] > 2  # the recommendations of the step in between are still in the window
    assert counts[-1] == 2


def test_hpa_never_goes_to_zero_and_does_not_act_there() -> None:
    hpa = PEERS["hpa"](TOY)
    assert asked(hpa, stop, 3000, ready=10)[-1] == 1
    assert hpa.decide(hpa.initial(), Sight(0))[0].count == 1  # its least is 1, which is set at once


# -- Knative


def test_knative_does_not_go_down_while_it_panics() -> None:
    def burst(at: int) -> float:
        return 200.0 if 100 <= at < 110 else 8.0

    counts = asked(PEERS["kpa"](TOY), burst, 400, ready=1)
    most = max(counts)
    assert most >= 17  # the mean of six seconds saw it, the mean of sixty by far not
    fell = first(counts[120:], lambda count: count < most)
    assert fell is not None
    assert fell + 120 >= 110 + 60


def test_knative_goes_down_by_at_most_half_of_what_is_ready() -> None:
    counts = asked(PEERS["kpa"](TOY), lambda at: 160.0 if at < 200 else 8.0, 400, ready=20)
    falls = [(a, b) for a, b in pairwise(counts) if b < a]
    assert all(b >= a // 2 for a, b in falls)
    assert counts[-1] == 1


# -- Ray Serve


@pytest.mark.parametrize(("length_s", "most"), [(1, 2), (15, 6)])
def test_ray_forgets_a_peak_that_its_mean_forgets_within_the_delay(length_s: int, most: int) -> None:
    def peak(at: int) -> float:
        return 80.0 if 100 <= at < 100 + length_s else 16.0

    assert max(asked(PEERS["ray"](TOY), peak, 400, ready=2)) == most  # (15 x 80 + 15 x 16) / 30 / 8 = 6, never 10


def test_ray_goes_to_zero_only_from_one() -> None:
    counts = asked(PEERS["ray"](TOY), stop, 3000, ready=10)
    falls = [(a, b) for a, b in pairwise(counts) if b < a]
    assert falls == [(10, 1), (1, 0)]


# -- SkyServe


def test_skyserve_counts_looks_in_a_row_and_one_that_differs_starts_anew() -> None:
    def dips(at: int) -> float:
        return 16.0 if at % 280 < 200 else 8.0

    assert max(asked(PEERS["skyserve"](TOY), dips, 3000, ready=1)) == 1
    assert max(asked(PEERS["skyserve"](TOY), lambda at: 16.0, 600, ready=1)) == 2


def test_a_fixed_count_is_fixed() -> None:
    fixed = Fixed(7)
    assert (fixed.name, fixed.begins) == ("fixed:7", 7)
    assert set(asked(fixed, jump, 4000, ready=7)) == {7}
