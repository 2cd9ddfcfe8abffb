"""The simulator finds what is wrong: each fault that is planted breaks a history, by the promise it breaks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.planted import CAUGHT_WITHIN, FAULTS, caught, row
from tests.simulation.planted_acting import delete_before_drain, no_fence, starting_is_absent
from tests.simulation.planting import Patch

PAGE = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
AGAIN = "`python -m tests.simulation --planted` writes the table anew"
FEW = 12


@pytest.mark.parametrize(
    ("fault", "promises"),
    [
        (no_fence, ("nothing is created twice", "never above max", "no scale-in while blind")),
        (delete_before_drain, ("no request is dropped", "out of the list before it drains")),
        (starting_is_absent, ("no more is asked for than desired", "never above max")),
    ],
)
def test_a_planted_fault_is_caught_within_a_few_seeds(fault: Callable[[], Patch], promises: tuple[str, ...]) -> None:
    outcome = next(caught(fault, range(FEW)), None)
    assert outcome is not None
    assert outcome.violation.startswith(promises)


@pytest.mark.verify
@pytest.mark.parametrize("fault", FAULTS)
def test_the_seeds_of_the_page_catch_every_planted_fault(fault: Callable[[], Patch]) -> None:
    seeds = seeds_of(fault)
    assert [o.seed for o in caught(fault, seeds)] == seeds, AGAIN


@pytest.mark.parametrize("fault", FAULTS)
def test_the_page_lists_every_planted_fault_with_seeds(fault: Callable[[], Patch]) -> None:
    seeds = seeds_of(fault)
    assert seeds, AGAIN
    assert max(seeds) < CAUGHT_WITHIN
    assert row(fault, ", ".join(map(str, seeds))) in PAGE, AGAIN


def test_the_page_lists_no_other_fault() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert listed == [f.__name__ for f in FAULTS], AGAIN


def seeds_of(fault: Callable[[], Patch]) -> list[int]:
    """The seeds that the page names for it."""
    found = re.search(rf"^\| `{fault.__name__}` \|.*\| ([\d, ]+) \|$", PAGE, flags=re.MULTILINE)
    return [int(seed) for seed in found[1].split(", ")] if found else []
