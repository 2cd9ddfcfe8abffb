"""A hundred days, and that a day is the same each time it is lived."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.history import run

SEEDS = 100
AT_ONCE = 10
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "simulation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_whatever_befalls_it_nothing_leaks_exceeds_or_is_dropped_and_all_is_right_in_the_end(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        outcome = run(seed)
        trace = "\n".join(outcome.trace[-60:])
        assert not outcome.violation, f"{trace}\n\n`make sim SEED={seed}` replays this: {outcome.violation}"


def test_a_seed_is_one_history_in_whatever_process() -> None:
    told = []
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "tests.simulation", "--seed", "7"]
        told.append(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True).stdout)
    assert b"digest" in told[0]
    assert told[0] == told[1]


@pytest.mark.parametrize("line", re.findall(r"^ {4}(make .*)$", PAGE, re.MULTILINE))
def test_the_commands_of_the_page_run(line: str) -> None:
    """Each with two histories, where it would live many."""
    words = [word for word in shlex.split(line, comments=True) if not word.startswith("SEEDS=")]
    command = words if "SEED=" in line else [*words, "SEEDS=2"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "held" in told.stdout.splitlines()[-1]
