"""Mutation run over the pure core: ``python -m tests.mutate [MODULE …]``. Exit 1 if a survivor is not explained.

Each mutant lives in a process of its own, forked from one that has the libraries loaded and no module of ours; the
tests that judge its module run there until the first of them fails. The tests have to be green without any mutant:
where they are not, everything would look killed. Survivors that change nothing that anybody could see stand, each with
its reason, in ``tests/mutants.txt``.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from tests.core import CORE
from tests.mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[1]
EXPLAINED = Path(__file__).with_name("mutants.txt")
LOADED_ONCE = ("pytest", "hypothesis", "numpy", "msgspec", "yaml", "holidays", "anyio", "pytest_timeout")
SURVIVED, KILLED, HUNG = "survived", "killed", "hung"
SHORTEST_LIMIT_S = 20.0


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutated tree where the module is imported."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name, self.tree = name, tree

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(ROOT / (self.name.replace(".", "/") + ".py"))
        exec(compile(self.tree, module.__file__, "exec"), module.__dict__)


def judged(module: str, tree: ast.Module | None) -> int:
    """Runs in the child: the tests of a module, with its mutant in place; gives pytest's exit code."""
    import pytest  # noqa: PLC0415
    from hypothesis import settings  # noqa: PLC0415

    settings.register_profile("mutants", derandomize=True, database=None, deadline=None, max_examples=30)
    settings.load_profile("mutants")
    if tree is not None:
        sys.meta_path.insert(0, Planted(f"scaler.{module.replace('/', '.')}", tree))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    files = [f"tests/scaler/{name}.py" for name in CORE[module]]
    quick = ("-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not verify")
    return int(pytest.main([*quick, *files]))


def forked(work: Callable[[], int]) -> int:
    """The id of a child that ends with what ``work`` gives."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 3
        try:
            code = work()
        finally:
            os._exit(code)
    return child


def baseline(module: str) -> float:
    """Seconds that the tests of a module take; ends the run where they are not green."""
    began = time.monotonic()
    _, status = os.waitpid(forked(lambda: judged(module, None)), 0)
    if status != 0:
        sys.exit(f"{module}: its tests are red without any mutant: {', '.join(CORE[module])}")
    return time.monotonic() - began


def outcomes(module: str, found: Sequence[Mutant], jobs: int, limit_s: float) -> Iterator[tuple[Mutant, str]]:
    """What became of each mutant, as it is known."""
    waiting, running = list(reversed(found)), dict[int, tuple[Mutant, float]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            child = forked(lambda tree=mutant.tree: judged(module, tree))  # type: ignore[misc]
            running[child] = (mutant, time.monotonic())
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended:
            yield running.pop(ended)[0], SURVIVED if status == 0 else HUNG if os.WIFSIGNALED(status) else KILLED
            continue
        for child, (_, began) in running.items():
            if time.monotonic() - began > limit_s:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.02)


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
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(words)
    for name in LOADED_ONCE:
        importlib.import_module(name)
    table = Table("module", "mutants", KILLED, HUNG, "explained", "unexplained")
    known, unexplained, used = explained(), list[tuple[Mutant, str]](), set[str]()
    for module in given.modules:
        limit_s = max(SHORTEST_LIMIT_S, 5 * baseline(module))
        found = list(mutants(module, (ROOT / "scaler" / f"{module}.py").read_text(encoding="utf-8")))
        counts: Counter[str] = Counter()
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(module, total=len(found))
            for mutant, outcome in outcomes(module, found, given.jobs, limit_s):
                excused = outcome == SURVIVED and mutant.key in known
                counts["explained" if excused else outcome] += 1
                used |= {mutant.key} if excused else set()
                if outcome == SURVIVED and not excused:
                    unexplained.append((mutant, module))
                    progress.console.print(f"survived: {module}.py:{mutant.line}: {mutant.key}", markup=False)
                progress.advance(task)
        row = (len(found), counts[KILLED], counts[HUNG], counts["explained"], counts[SURVIVED])
        table.add_row(module, *map(str, row))
    Console().print(table)
    stale = [key for key in known if key.partition(":")[0].partition(".")[0] in given.modules and key not in used]
    for key in stale:
        print(f"explained, and no longer there or no longer surviving: {key}")
    return 1 if unexplained or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
