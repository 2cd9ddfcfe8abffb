import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.foresight.spares import spares
from tests.scaler.seen import Watch, policy


@pytest.mark.parametrize(
    ("busy", "carried", "lateness", "count"), [(0, 4, 10, 0), (4, 4, 10, 2), (100, 4, 10, 7), (4, 1, 10, 3)]
)
def test_more_work_and_fewer_requests_each_need_more_spares(
    busy: float, carried: float, lateness: float, count: int
) -> None:
    assert spares(busy, carried, lateness) == count


@given(st.floats(0.1, 1000), st.floats(1, 100), st.floats(1, 100))
def test_dearer_lateness_never_means_fewer_spares(busy: float, carried: float, lateness: float) -> None:
    assert 0 <= spares(busy, carried, lateness) <= spares(busy, carried, lateness * 2)


def test_lateness_as_cheap_as_rent_is_worth_no_spare() -> None:
    assert spares(4.0, 4, 1) == 0


def test_spares_are_asked_for_only_where_there_is_work_and_they_are_wanted() -> None:
    assert Watch(policy(), ready=4).tick(in_flight=16.0).desired == 4
    told = Watch(policy(spares=True), ready=4).tick(in_flight=16.0)
    assert told.desired == 6
    assert [(s.name, s.before, s.after) for s in told.steps][-1] == ("spares", 4, 6)
    assert Watch(policy(spares=True), ready=0).tick(in_flight=0.0).desired == 0
    assert Watch(policy(spares=True), ready=4).tick(in_flight=None).desired == 4, "what is not known asks for nothing"


def test_little_work_may_need_a_spare_and_nothing_carried_needs_none() -> None:
    assert spares(0.5, 1, 10) == 1
    assert spares(4.0, 0.0, 10) == 0


def test_spares_count_what_waits_and_begin_with_one() -> None:
    assert Watch(policy(spares=True), ready=4).tick(in_flight=4.0, queued=12.0).desired == 6
    assert Watch(policy(spares=True, target={"concurrency": 1}), ready=1).tick(in_flight=0.5).desired == 2


def test_there_are_no_spares_where_nothing_says_what_one_carries_at_once_or_where_the_forecast_speaks() -> None:
    by_rate = policy(spares=True, target={"requests_per_second": 10})
    assert [s.name for s in Watch(by_rate, ready=2).tick(arrivals=300.0).steps] == ["requests_per_second"]
    foresighted = Watch(policy(spares=True, forecast=True), ready=4)
    for _ in range(3):
        told = foresighted.tick(in_flight=16.0, arrivals=240.0, completed=240.0)
    assert "spares" not in [s.name for s in told.steps]
    assert "forecast" in [s.name for s in told.steps]
