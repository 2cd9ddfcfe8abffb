"""Every command that a page tells a reader to run is one: it is run by a test, or needs Azure and says so."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "ARCHITECTURE.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]
PROGRAMS = ("make", "python", "python3", ".venv/bin/python", "az", "azd", "curl")
SHELL = re.compile(rf"^(?:[A-Z_]+=\S+ )*(?:{'|'.join(map(re.escape, PROGRAMS))}) ")
TARGETS = {"demo", "up", "down", "test", "verify", "sim", "cover", "mutate"}  # each is run by a test, or is the tests
RUN_BY = {  # the pages whose indented commands a test runs as they stand
    "README.md": "tests/infra/local/test_whole.py",
    "docs/inference.md": "tests/inference/test_docs.py",
    "docs/replay.md": "tests/cli/test_replay.py",
    "docs/simulation.md": "tests/simulation/test_seeds.py",
    "docs/why.md": "tests/cli/test_why.py",
    **{
        f"docs/{page}": "tests/cli/test_docs_commands.py" for page in ("api.md", "cli.md", "deploy.md", "monitoring.md")
    },
}
SHORT = {  # how each bench is run to its end in a short time; what it prints then is no figure
    "decide": "--ticks 50",
    "front": "",
    "gpu": "",
    "overload": "--models tiny --seconds 1",
    "package": "--seconds-a-tick 1",
    "replay": "--days 1",
    "replica": "--models tiny --rounds 1 --seconds 0.2 --tune-s 1",
    "stalls": "--models tiny --seconds 0.5",
    "tick": "",
    "web": "",
}


def indented() -> list[tuple[str, str]]:
    return [
        (page, line.strip())
        for page in PAGES
        for line in re.findall(r"^ {4}(\S.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        if SHELL.match(line)
    ]


def inline() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
        found += [(page, " ".join(said.split())) for said in re.findall(r"`([^`]+)`", prose) if SHELL.match(said)]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("page", sorted({page for page, _ in indented()}))
def test_a_page_with_commands_has_a_test_that_runs_them(page: str) -> None:
    assert Path(page).name in (ROOT / RUN_BY[page]).read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "line"), [(p, line) for p, line in indented() if line.startswith(("az ", "azd "))])
def test_what_needs_azure_says_so(page: str, line: str) -> None:
    assert re.search(r"# Azure$|needs a subscription$", line), page


@pytest.mark.parametrize(("page", "command"), [c for c in (*indented(), *inline()) if c[1].startswith("make ")])
def test_a_target_of_make_is_one_that_is_tested(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    assert words[1] in TARGETS, page
    dry = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize(("page", "command"), [c for c in inline() if " -m " in c[1]])
def test_a_module_that_is_named_is_there(page: str, command: str) -> None:
    module = command.partition(" -m ")[2].split()[0]
    assert find_spec(module) is not None, page
    assert module in ("scaler", "inference", "tests.simulation") or module.removeprefix("bench.") in SHORT


def test_every_bench_is_known() -> None:
    mains = [path.stem for path in (ROOT / "bench").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")]
    assert sorted(mains) == sorted(SHORT)


@pytest.mark.parametrize("bench", sorted(SHORT))
def test_a_bench_says_what_it_measures(bench: str) -> None:
    told = _bench(bench, "--help")
    assert told.returncode == 0, told.stderr
    assert "usage" in told.stdout


@pytest.mark.verify
@pytest.mark.parametrize("bench", sorted(SHORT))
def test_a_bench_runs_to_its_end(bench: str) -> None:
    told = _bench(bench, *SHORT[bench].split())
    if bench == "gpu" and told.returncode:
        pytest.skip("there is no GPU here")
    assert told.returncode in (0, 1), told.stdout + told.stderr  # 1: a promise of speed was not kept, on this machine
    assert "Traceback" not in told.stderr, told.stderr
    assert told.stdout.strip()


def _bench(bench: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"bench.{bench}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
