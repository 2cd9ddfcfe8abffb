"""Creations and deletions stay within what Azure takes of a subscription in a region."""

from scaler.allowance import KEPT_BACK, LIMITS, MINUTE_S, Allowance, Asked, remembered
from tests.builders import NOW

FIVE_MINUTES, HOUR = (most - KEPT_BACK for _, most in LIMITS)


def test_five_minutes_and_an_hour_each_have_their_limit() -> None:
    allowance = Allowance(NOW)
    assert allowance.left("create", "westeurope") == FIVE_MINUTES
    allowance.know([Asked(NOW - 1000, "westeurope", "create", HOUR - 10)])
    assert allowance.left("create", "westeurope") == 10
    allowance.take("create", "westeurope", 4)
    assert allowance.left("create", "westeurope") == 6
    allowance.take("create", "westeurope", 60)
    assert allowance.left("create", "westeurope") == 0


def test_regions_and_both_ways_are_counted_apart() -> None:
    allowance = Allowance(NOW)
    allowance.take("create", "westeurope", FIVE_MINUTES)
    assert allowance.left("delete", "westeurope") == FIVE_MINUTES
    assert allowance.left("create", "northeurope") == FIVE_MINUTES


def test_what_was_asked_for_long_ago_no_longer_counts() -> None:
    allowance = Allowance(NOW)
    allowance.know([Asked(NOW - 300 - MINUTE_S, "westeurope", "create", 100)])
    assert allowance.left("create", "westeurope") == FIVE_MINUTES
    allowance.know([Asked(NOW - 3600 - MINUTE_S, "westeurope", "create", 1000)])
    assert allowance.left("create", "westeurope") == FIVE_MINUTES


def test_a_service_remembers_an_hour_by_the_minute() -> None:
    kept = remembered((), {("create", "westeurope"): 3}, NOW)
    kept = remembered(kept, {("create", "westeurope"): 2}, NOW + 1)
    assert [(a.region, a.kind, a.count) for a in kept] == [("westeurope", "create", 5)]
    assert remembered(kept, {}, NOW + 3600 + 2 * MINUTE_S) == ()
    assert remembered(kept, {}, NOW + 3600)


def test_what_a_clock_ahead_of_ours_wrote_does_not_count() -> None:
    allowance = Allowance(NOW)
    ahead = Asked(NOW + 36_000, "westeurope", "create", 100)
    allowance.know([ahead])
    assert allowance.left("create", "westeurope") == FIVE_MINUTES
    assert remembered((ahead,), {}, NOW) == ()


def test_azure_takes_so_many() -> None:
    assert LIMITS == ((300.0, 100), (3600.0, 300))


def test_a_minute_counts_as_long_as_any_of_it_may_be_within_the_span() -> None:
    for ago_s, counts in ((300.0 + MINUTE_S - 1, True), (300.0 + MINUTE_S, False), (-MINUTE_S, True), (-61.0, False)):
        allowance = Allowance(NOW)
        allowance.know([Asked(NOW - ago_s, "westeurope", "create", 10)])
        assert (allowance.left("create", "westeurope") == FIVE_MINUTES - 10) is counts, ago_s


def test_what_is_kept_is_what_counts() -> None:
    for ago_s, kept in ((3600.0 + MINUTE_S - 1, True), (3600.0 + MINUTE_S, False), (-MINUTE_S, True), (-61.0, False)):
        one = Asked(NOW - ago_s, "westeurope", "create", 10)
        assert (remembered((one,), {}, NOW) == (one,)) is kept, ago_s
    assert remembered((), {("create", "westeurope"): 0}, NOW) == ()
