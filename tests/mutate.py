"""Mutation run over the pure core: ``python -m tests.mutate [MODULE …]``. Exit 1 if a survivor is not explained.

The tests have to be green without any mutant: where they are not, everything would look killed. Survivors that change
nothing that anybody could see stand, each with its reason, in ``tests/mutants.txt``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.core import CORE
from tests.judging import HUNG, KILLED, ROOT, SURVIVED, judged
from tests.mutants import Mutant, mutants

EXPLAINED = Path(__file__).with_name("mutants.txt")
LOADED_ONCE = ("pytest", "hypothesis", "numpy", "msgspec", "yaml", "holidays", "anyio", "pytest_timeout", "coverage")


def explained() -> dict[str, str]:
    """The survivors that are known to change nothing, and why: a line each, ``key || reason``."""
    lines = EXPLAINED.read_text(encoding="utf-8").splitlines() if EXPLAINED.exists() else []
    pairs = (line.split(" || ") for line in lines if line.strip() and not line.startswith("#"))
    return {key.strip(): reason.strip() for key, reason in pairs}


def main(words: Sequence[str]) -> int:
    """The exit code."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    judgeable = [module for module, tests in CORE.items() if tests]
    parser = argparse.ArgumentParser(prog="python -m tests.mutate")
    parser.add_argument("modules", nargs="*", default=judgeable, choices=[[], *judgeable], metavar="MODULE")
    parser.add_argument("--within", default="", metavar="TEXT", help="only mutants whose key holds it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(words)
    for name in LOADED_ONCE:
        importlib.import_module(name)
    table = Table("module", "mutants", KILLED, HUNG, "explained", "unexplained")
    known, unexplained, used = explained(), list[tuple[Mutant, str]](), set[str]()
    for module in given.modules:
        source = (ROOT / "scaler" / f"{module}.py").read_text(encoding="utf-8")
        found = [mutant for mutant in mutants(module, source) if given.within in mutant.key]
        counts: Counter[str] = Counter()
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(module, total=len(found))
            for mutant, outcome in judged(module, found, given.jobs):
                excused = outcome == SURVIVED and mutant.key in known
                counts["explained" if excused else outcome] += 1
                used |= {mutant.key} if excused else set()
                if outcome == SURVIVED and not excused:
                    unexplained.append((mutant, module))
                    survived = f"survived: {module}.py:{mutant.lines.start}: {mutant.key}"
                    progress.console.print(survived, markup=False, soft_wrap=True)
                progress.advance(task)
        row = (len(found), counts[KILLED], counts[HUNG], counts["explained"], counts[SURVIVED])
        table.add_row(module, *map(str, row))
    Console().print(table)
    run = [key for key in known if given.within in key and key.partition(":")[0].partition(".")[0] in given.modules]
    stale = [key for key in run if key not in used]
    for key in stale:
        print(f"explained, and no longer there or no longer surviving: {key}")
    return 1 if unexplained or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
