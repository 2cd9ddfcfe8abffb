"""Arrows point at the nouns; nothing that decides knows anything that does."""

import ast
import re
from pathlib import Path

import pytest

from tests.core import CORE

ROOT = Path(__file__).resolve().parents[2]
PURE = (
    *CORE,
    "adopt",
    *(f"replay/{p.stem}" for p in (ROOT / "scaler/replay").glob("*.py")),
    *(f"peers/{p.stem}" for p in (ROOT / "scaler/peers").glob("*.py")),
)
IMPURE = {
    "azure",
    "asyncio",
    "time",
    "random",
    "os",
    "aiohttp",
    "starlette",
    "socket",
    "subprocess",
    "secrets",
    "datetime",
}
# A memory is read from what a port gives: the shape of a row, not the store.
ALLOWED = {
    "memory": {"ports"},
    "quota": {"ports"},
    "template": {"ports", "datetime"},
    "schedule": {"datetime"},
    "budget": {"datetime"},
    "recompute": {"ports"},
    "tick/rows": {"ports", "tick"},
    "replay/record": {"ports"},
    "replay/beside": {"ports"},
}


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("module", PURE)
def test_the_core_is_pure(module: str) -> None:
    names = imported(ROOT / "scaler" / f"{module}.py")
    tops = {n.partition(".")[0] for n in names}
    siblings = {n.split(".")[1] for n in names if n.startswith("scaler.")}
    allowed = ALLOWED.get(module, set())
    assert not tops & IMPURE - allowed
    assert siblings <= {*CORE, "foresight", "replay", "peers"} | allowed


@pytest.mark.parametrize(
    ("package", "strangers"), [("scaler", {"inference", "infra"}), ("inference", {"scaler", "infra"})]
)
def test_halves_do_not_import_each_other(package: str, strangers: set[str]) -> None:
    for path in (ROOT / package).rglob("*.py"):
        tops = {n.partition(".")[0] for n in imported(path)}
        assert not tops & strangers, path


def test_every_module_stands_on_the_map() -> None:
    tree = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## The parts, at run time")[0]
    modules = {p.stem for p in (ROOT / "scaler").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    modules |= {p.stem for package in ("foresight", "tick") for p in (ROOT / "scaler" / package).glob("*.py")}
    assert modules - {"__init__"} - set(re.findall(r"\w+", tree)) == set()


def test_a_tick_never_loads_torch_or_scikit_learn() -> None:
    for path in (ROOT / "scaler").rglob("*.py"):
        head = ast.parse(path.read_text(encoding="utf-8")).body
        top_level = {
            alias.name.partition(".")[0]
            for node in head
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
        }
        assert not top_level & {"torch", "sklearn", "scipy"}, path
