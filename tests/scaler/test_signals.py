"""What each signal asks for, and what it says when it does not know."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scaler.config import SignalText, Target
from scaler.signals import Rates, proposals, signal_name
from tests.scaler.seen import Watch, policy, seen

QUIET = Rates(arrivals_per_s=0.0, service_s=None)


def count(target: Target, rates: Rates = QUIET, **facts: Any) -> int | None:
    (proposal,) = proposals(target, (), seen(**facts), rates)
    return proposal.count


def test_concurrency_counts_what_is_in_work_and_what_waits() -> None:
    assert count(Target(concurrency=4), ready=2, in_flight=8.0, queued=1) == 3


def test_concurrency_takes_what_the_arrivals_will_put_in_work_where_that_is_more() -> None:
    rates = Rates(arrivals_per_s=10.0, service_s=2.0)
    assert count(Target(concurrency=4), rates, ready=2, in_flight=8.0) == 5


def test_a_total_does_not_change_with_the_replicas_that_share_it() -> None:
    assert {count(Target(concurrency=4), ready=n, in_flight=11.0) for n in range(1, 9)} == {3}


def test_requests_in_flight_that_are_not_known_are_not_zero_unless_nothing_is_ready() -> None:
    assert count(Target(concurrency=4), ready=1, in_flight=None) is None
    assert count(Target(concurrency=4), ready=1, queued=None) is None
    assert count(Target(concurrency=4), ready=0, in_flight=None) == 0


def test_requests_per_second() -> None:
    assert count(Target(requests_per_second=10), Rates(arrivals_per_s=31.0, service_s=None)) == 4
    assert count(Target(requests_per_second=10), Rates(arrivals_per_s=None, service_s=None)) is None


@pytest.mark.parametrize("name", ["cpu", "memory", "gpu"])
def test_shares_are_totals_over_the_ready_replicas(name: str) -> None:
    target = Target(**{name: 0.5})
    assert count(target, QUIET, ready=4, **{name: 0.7}) == 6
    assert count(target, QUIET, ready=4, **{name: None}) is None
    assert count(target, QUIET, ready=0, **{name: None}) == 0


def test_rounding_is_not_load() -> None:
    assert count(Target(requests_per_second=0.1), Rates(arrivals_per_s=0.1 * 3, service_s=None)) == 3


def test_an_outside_signal_is_shared_out_and_absent_or_infinite_is_not_zero() -> None:
    def ask(value: float | None) -> int | None:
        (proposal,) = proposals(Target(), [("jobs", 50.0)], seen(signals={"jobs": value}), QUIET)
        return proposal.count

    assert [ask(101.0), ask(0.0), ask(-3.0)] == [3, 0, 0]
    assert [ask(None), ask(math.nan), ask(math.inf)] == [None, None, None]
    assert proposals(Target(), [("jobs", 50.0)], seen(), QUIET)[0].count is None


def test_a_signal_is_called_what_the_operator_calls_it() -> None:
    assert signal_name(SignalText(per_replica=1, storage_queue="jobs", name="work"), 0) == "work"
    assert signal_name(SignalText(per_replica=1, storage_queue="jobs"), 0) == "jobs"
    assert signal_name(SignalText(per_replica=1, log_query="x"), 2) == "signals[2]"


def test_one_replica_is_not_called_replicas() -> None:
    for in_flight, words in ((4.0, "need 1 replica"), (5.0, "need 2 replicas"), (0.0, "need 0 replicas")):
        decision = Watch(policy()).tick(ready=1, in_flight=in_flight)
        assert decision.steps[0].because.endswith(words)
