"""The simulator finds what is wrong: each fault that is planted breaks a history, by the promise it breaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.planted import FAULTS, Patch, caught, delete_before_drain, no_fence, starting_is_absent

DOC = Path(__file__).parents[2] / "docs" / "simulation.md"
SEEDS = 150
FEW = 12


@pytest.mark.parametrize(
    ("fault", "promises"),
    [
        (no_fence, ("nothing is created twice", "never above max")),
        (delete_before_drain, ("no request is dropped",)),
        (starting_is_absent, ("no more is asked for than desired", "never above max")),
    ],
)
def test_a_planted_fault_is_caught_within_a_few_seeds(fault: Callable[[], Patch], promises: tuple[str, ...]) -> None:
    outcome = caught(fault, range(FEW))
    assert outcome is not None
    assert outcome.violation.startswith(promises)


@pytest.mark.verify
@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_is_caught(fault: Callable[[], Patch]) -> None:
    assert caught(fault, range(SEEDS)) is not None


def test_the_page_lists_every_planted_fault() -> None:
    page = DOC.read_text()
    assert [f.__name__ for f in FAULTS if f"`{f.__name__}`" not in page] == []
