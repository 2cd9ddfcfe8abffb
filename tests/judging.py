"""Which tests see a mutant: processes that are forked, one for each, and end with the first test that fails.

Most mutants are in a function. For these the tests of the module are collected once; each fork gives the function its
mutated code, and runs only the tests that reach the mutated lines, the quickest first. What is in no function, and what
survived this way though its lines run while tests are collected, is judged by a process that imports the mutated module
before all else.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import importlib.abc
import importlib.machinery
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from msgspec import Struct

from tests.core import CORE
from tests.mutants import Mutant

ROOT = Path(__file__).resolve().parents[1]
SURVIVED, KILLED, HUNG = "survived", "killed", "hung"
SHORTEST_LIMIT_S = 10.0
UNREAD = 3  # the exit code of a child that fell over itself


def judged(module: str, found: Sequence[Mutant], jobs: int) -> Iterator[tuple[Mutant, str]]:
    """What became of each mutant, as it is known. Ends the run where the tests are not green without any."""
    slow = [mutant for mutant in found if mutant.function is None]
    for mutant, outcome, at_once in _collected(module, [m for m in found if m.function is not None], jobs):
        if outcome == SURVIVED and at_once:
            slow.append(mutant)
        else:
            yield mutant, outcome
    if slow:
        limit_s = max(SHORTEST_LIMIT_S, 5 * _baseline(module))
        works = [(lambda tree=mutant.tree: _imported(module, tree)) for mutant in slow]
        for index, outcome in _outcomes(works, jobs, limit_s):
            yield slow[index], outcome


# -- one fork for each mutant


def _forked(work: Callable[[], int]) -> int:
    """The id of a child that ends with what ``work`` gives."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = UNREAD
        try:
            code = work()
        finally:
            os._exit(code)
    return child


def _outcomes(works: Sequence[Callable[[], int]], jobs: int, limit_s: float) -> Iterator[tuple[int, str]]:
    """How each ended, by its place in the sequence."""
    waiting, running = list(reversed(range(len(works)))), dict[int, tuple[int, float]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            index = waiting.pop()
            running[_forked(works[index])] = (index, time.monotonic())
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended:
            yield running.pop(ended)[0], SURVIVED if status == 0 else HUNG if os.WIFSIGNALED(status) else KILLED
            continue
        for child, (_, began) in running.items():
            if time.monotonic() - began > limit_s:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.005)


def _quietly() -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)


def _pytest(module: str, *plugins: object) -> int:
    """Runs in a child: pytest over the tests of a module."""
    import pytest  # noqa: PLC0415
    from hypothesis import HealthCheck, Phase, settings  # noqa: PLC0415

    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=30,
        phases=(Phase.explicit, Phase.generate),  # a fault that was found need not be made small
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
    files = [f"tests/scaler/{name}.py" for name in CORE[module]]
    quick = ("-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not verify")
    return int(pytest.main([*quick, *files], plugins=list(plugins)))


# -- the module imported with its mutant


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutated tree where the module is imported."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name, self.tree = name, tree

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(ROOT / (self.name.replace(".", "/") + ".py"))
        exec(compile(self.tree, module.__file__, "exec"), module.__dict__)


def _imported(module: str, tree: ast.Module | None) -> int:
    if tree is not None:
        sys.meta_path.insert(0, Planted(f"scaler.{module.replace('/', '.')}", tree))
    _quietly()
    return _pytest(module)


def _baseline(module: str) -> float:
    """Seconds that the tests of a module take; ends the run where they are not green."""
    began = time.monotonic()
    _, status = os.waitpid(_forked(lambda: _imported(module, None)), 0)
    if status != 0:
        sys.exit(f"{module}: its tests are red without any mutant: {', '.join(CORE[module])}")
    return time.monotonic() - began


# -- the tests collected once, and the code of one function exchanged


class Reached(Struct, frozen=True):
    """Which tests reach a line of the module, how long each takes, and the lines that run while they are collected."""

    by_line: Mapping[int, Collection[str]]
    seconds: Mapping[str, float]
    at_once: Collection[int]

    def of(self, lines: Iterable[int]) -> list[str]:
        """The tests that reach any of these lines, the quickest first."""
        names = {name for line in lines for name in self.by_line.get(line, ())}
        return sorted(names, key=lambda name: self.seconds.get(name, 0.0))


def _collected(module: str, found: Sequence[Mutant], jobs: int) -> Iterator[tuple[Mutant, str, bool]]:
    """In a child, which tells each outcome as it knows it; and whether the mutated lines run during collection."""
    if not found:
        return
    reading, writing = os.pipe()

    def work() -> int:
        os.close(reading)
        _quietly()
        loop = _Loop(module, found, jobs, writing)
        loop.measuring.start()
        return _pytest(module, loop)

    child = _forked(work)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        while True:
            try:
                index, outcome, at_once = pickle.load(told)
            except EOFError:
                break
            yield found[index], outcome, at_once
    _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit(f"{module}: its tests are red without any mutant: {', '.join(CORE[module])}")


class _Loop:
    """In place of pytest's own run of the tests that it collected."""

    def __init__(self, module: str, found: Sequence[Mutant], jobs: int, told: int) -> None:
        from coverage import Coverage  # noqa: PLC0415

        self._file = str(ROOT / "scaler" / f"{module}.py")
        self.measuring = Coverage(data_file=None, include=[self._file], config_file=False)
        self._found, self._jobs, self._told = found, jobs, told
        self._failed = False

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._failed = self._failed or report.failed

    def pytest_runtestloop(self, session: Any) -> bool:
        items = {item.nodeid: item for item in session.items}
        reached = self._reached(items)
        functions = _functions(self._file)
        works = [(lambda mutant=mutant: self._judged(mutant, functions, items, reached)) for mutant in self._found]
        limit_s = max(SHORTEST_LIMIT_S, 5 * sum(reached.seconds.values()))
        for index, outcome in _outcomes(works, self._jobs, limit_s):
            at_once = any(line in reached.at_once for line in self._found[index].lines)
            os.write(self._told, pickle.dumps((index, outcome, at_once)))
        return True

    def _reached(self, items: Mapping[str, Any]) -> Reached:
        """Measured in a child of its own, so that the one that every mutant begins with has run nothing."""
        self.measuring.stop()
        at_once = set(self.measuring.get_data().lines(self._file) or ())
        reading, writing = os.pipe()

        def work() -> int:
            with os.fdopen(writing, "wb") as told:
                pickle.dump(self._measured(items), told)
            return int(self._failed)

        child = _forked(work)
        os.close(writing)
        with os.fdopen(reading, "rb") as told, contextlib.suppress(EOFError):
            by_line, seconds = pickle.load(told)
        _, status = os.waitpid(child, 0)
        if status != 0:
            os._exit(1)
        return Reached(by_line, seconds, at_once)

    def _measured(self, items: Mapping[str, Any]) -> tuple[dict[int, set[str]], dict[str, float]]:
        measuring = type(self.measuring)(data_file=None, include=[self._file], config_file=False)
        by_line, seconds = dict[int, set[str]](), dict[str, float]()
        caches = _caches(self._file)
        measuring.start()
        for name, item in items.items():
            for cached in caches:  # or only the first test of all would reach what they keep
                cached.cache_clear()
            measuring.switch_context(name)
            began = time.monotonic()
            _run([item])
            seconds[name] = time.monotonic() - began
        measuring.stop()
        for line, names in measuring.get_data().contexts_by_lineno(self._file).items():
            by_line[line] = set(names) - {""}
        return by_line, seconds

    def _judged(
        self,
        mutant: Mutant,
        functions: Mapping[str, Sequence[FunctionType]],
        items: Mapping[str, Any],
        reached: Reached,
    ) -> int:
        assert mutant.function is not None
        code = _code(compile(mutant.tree, self._file, "exec"), mutant.function)
        for function in functions[mutant.function]:
            function.__code__ = code
        for cached in _caches(self._file):
            cached.cache_clear()
        for item in _in_turn(items, reached.of(mutant.lines)):
            _run([item])
            if self._failed:
                return 1
        return 0


def _in_turn(items: Mapping[str, Any], names: Iterable[str]) -> Iterator[Any]:
    return (items[name] for name in names)


def _run(items: Sequence[Any]) -> None:
    for item in items:
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)


def _functions(file: str) -> dict[str, list[FunctionType]]:
    """Every function of a file that is alive, by its qualified name: decorators keep what they wrap."""
    found: dict[str, list[FunctionType]] = {}
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename == file:
            found.setdefault(one.__code__.co_qualname, []).append(one)
    return found


def _caches(file: str) -> list[Any]:
    """What a file's functions keep of their results."""
    found = [one for one in gc.get_objects() if isinstance(one, functools._lru_cache_wrapper)]
    return [one for one in found if isinstance(one.__wrapped__, FunctionType) and _is_of(one.__wrapped__, file)]


def _is_of(function: FunctionType, file: str) -> bool:
    return function.__code__.co_filename == file


def _code(module: CodeType, name: str) -> CodeType:
    """The code of a function, by its qualified name, in that of its module."""
    waiting = [module]
    while waiting:
        code = waiting.pop()
        if code.co_qualname == name:
            return code
        waiting += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    raise KeyError(name)
