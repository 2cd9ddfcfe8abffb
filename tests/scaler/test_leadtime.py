"""The lead time is learned from the starts that were seen."""

from __future__ import annotations

import math

from scaler.leadtime import KEPT, lead_time_s, remember


def test_before_any_start_the_expected_time_holds() -> None:
    assert lead_time_s((), 90.0) == 90.0


def test_nine_of_ten_starts_are_within_the_lead_time() -> None:
    assert lead_time_s([float(s) for s in range(1, 11)], 90.0) == 9.0
    assert lead_time_s([5.0], 90.0) == 5.0


def test_only_the_newest_starts_are_kept_and_nonsense_is_not() -> None:
    starts = remember(range(KEPT), [math.nan, -1.0, math.inf, 7.0])
    assert len(starts) == KEPT
    assert starts[0] == 1
    assert starts[-1] == 7.0
