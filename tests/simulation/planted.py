"""Faults put into the production code on purpose, each small; a history in which one is at work must not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tests.simulation import planted_acting, planted_seeing
from tests.simulation.history import Outcome, run
from tests.simulation.planting import Patch, planted

FAULTS: tuple[Callable[[], Patch], ...] = (*planted_acting.FAULTS, *planted_seeing.FAULTS)
CAUGHT_WITHIN, FEW = 300, 30  # seeds


def caught(fault: Callable[[], Patch], seeds: Iterable[int]) -> Iterator[Outcome]:
    """Those of these histories that do not hold with the fault at work, as they are lived."""
    for seed in seeds:
        with planted(fault):
            outcome = run(seed)
        if outcome.violation:
            yield outcome


def catch(number: int) -> tuple[str, str, str]:
    """Of one of the faults: its name, seeds that catch it (three, or those of the first few, or the first at all), and
    the promise that is seen broken."""
    fault, broken = FAULTS[number], ""
    seeds: list[str] = []
    for seed in range(CAUGHT_WITHIN):
        if seeds and (len(seeds) == 3 or seed >= FEW):
            break
        for outcome in caught(fault, [seed]):
            seeds.append(str(seed))
            broken = broken or outcome.violation
    return fault.__name__, ", ".join(seeds), broken


def row(fault: Callable[[], Patch], seeds: str) -> str:
    """Its line in the table of docs/simulation.md."""
    return f"| `{fault.__name__}` | {(fault.__doc__ or '').rstrip('.')} | {seeds} |"
