"""Where the time of a start goes, and what would make it shorter."""

from typing import Any

from msgspec.structs import replace

from scaler.starts import KEPT, LARGE_PULL_S, Start, advice, medians, remembered, start_of
from tests.builders import NOW, detail, replica, stats

ROW = replica("a", intended_at=NOW - 100, ready_at=NOW)
EVENTS = detail("a", pulling_at=NOW - 95, pulled_at=NOW - 35, started_at=NOW - 30)


def start(**changes: Any) -> Start:
    plain = Start(name="a", region="westeurope", template="t1", at=NOW, total_s=100.0, pulled_s=60.0)
    return replace(plain, **changes)


def test_the_phases_of_a_start_add_up_to_the_whole() -> None:
    told = start_of(ROW, EVENTS, stats("a", load_s=20.0))
    assert (told.scheduled_s, told.pulled_s, told.process_s, told.loaded_s, told.ready_s) == (5, 60, 5, 20, 10)
    assert told.total_s == 100


def test_a_phase_that_azure_does_not_tell_is_not_known_and_the_whole_still_is() -> None:
    told = start_of(ROW, detail("a", started_at=NOW - 30), None)
    assert (told.scheduled_s, told.pulled_s, told.process_s, told.loaded_s, told.ready_s) == (None,) * 5
    assert start_of(ROW, None, None).total_s == 100


def test_clocks_that_differ_make_no_phase_shorter_than_nothing() -> None:
    assert start_of(ROW, replace(EVENTS, pulling_at=NOW - 110), None).scheduled_s == 0


def test_the_medians_are_over_the_starts_that_know_a_phase() -> None:
    told = medians([start(), start(pulled_s=None, total_s=50.0), start(pulled_s=20.0, total_s=30.0)])
    assert (told["pulled"], told["total"], told["loaded"]) == (40.0, 50.0, None)


def test_only_the_newest_starts_are_kept() -> None:
    kept = remembered([start(total_s=float(i)) for i in range(KEPT)], [start(total_s=999.0)])
    assert (len(kept), kept[0].total_s, kept[-1].total_s) == (KEPT, 1.0, 999.0)


def test_a_pull_that_takes_most_of_a_start_is_said() -> None:
    (told,) = advice([start()] * 3, NOW)
    assert told.name == "pull_dominates"
    assert "60 of 100 s, over the last 3 starts" in told.message


def test_no_advice_without_enough_starts_or_where_the_pull_is_short() -> None:
    assert advice([], NOW) == []
    assert advice([start()] * 2, NOW) == []
    assert advice([start(pulled_s=49.0)] * 3, NOW) == []
    assert advice([start(pulled_s=19.0, total_s=20.0)] * 3, NOW) == []
    assert advice([start(pooled=True)] * 3, NOW) == []
    assert advice([*[start()] * 3, start(template="t2")], NOW) == [], "an older version's pulls say nothing"


def test_a_pull_of_half_the_start_is_most_of_it_and_starts_of_unknown_pulls_do_not_count() -> None:
    assert advice([start(pulled_s=50.0)] * 3, NOW) != []
    assert advice([start(pulled_s=LARGE_PULL_S, total_s=30.0)] * 3, NOW) != []
    assert advice([*[start()] * 3, start(pulled_s=None)], NOW) != []


def test_who_ran_when_it_was_asked_for_came_from_no_pool() -> None:
    assert not start_of(ROW, replace(EVENTS, started_at=ROW.intended_at), None).pooled
    assert start_of(ROW, replace(EVENTS, started_at=ROW.intended_at - 1), None).pooled
