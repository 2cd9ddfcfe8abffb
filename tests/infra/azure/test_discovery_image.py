"""Discovery's image has all it needs: the program starts where only its requirements can be imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = ROOT / "infra" / "front" / "requirements.txt"
FENCED = """
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import packages_distributions

allowed, owners = set(sys.argv.pop(1).split(",")), packages_distributions()

class Fence(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        owner = owners.get(name) or owners.get(name.partition(".")[0])
        if owner and not {o.lower().replace("_", "-") for o in owner} & allowed:
            raise ModuleNotFoundError(f"{name} is of {owner}, which is not in the image")

sys.meta_path.insert(0, Fence())
from scaler.cli.app import main
main()
"""


def closure(names: set[str]) -> set[str]:
    """The named distributions and all that they need here."""
    found: set[str] = set()
    waiting = [Requirement(n) for n in names]
    while waiting:
        wanted = waiting.pop()
        name = wanted.name.lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        needs = map(Requirement, metadata.requires(name) or ())
        waiting += [
            n for n in needs if n.marker is None or any(n.marker.evaluate({"extra": e}) for e in ("", *wanted.extras))
        ]
    return found


def pinned(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return {m[1].lower(): m[2] for line in lines if (m := re.match(r"([\w.-]+)(?:\[[\w,]+\])?==([^;\s]+)", line))}


def test_discovery_starts_with_its_requirements_alone(tmp_path: Path) -> None:
    (tmp_path / "autoscaler.yaml").write_text('{"services": {"iris": {"hold_limit_s": 30}}}')
    allowed = closure(set(pinned(REQUIREMENTS)))
    env = {
        "PATH": os.environ["PATH"],
        "AUTOSCALER_CONFIG": str(tmp_path / "autoscaler.yaml"),
        "AUTOSCALER_TABLE_ENDPOINT": "https://127.0.0.1:9/none",
        "AUTOSCALER_QUEUE_ENDPOINT": "https://127.0.0.1:9/none",
        "DISCOVERY_PORT": "0",
    }
    command = [sys.executable, "-c", FENCED, ",".join(sorted(allowed)), "discovery"]
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("discovery: http://127.0.0.1:"), line + process.stderr.read()
        finally:
            process.terminate()


def test_its_pins_are_those_of_everything_else() -> None:
    known = pinned(ROOT / "infra" / "local" / "constraints.txt") | pinned(ROOT / "requirements.txt")
    assert {n: v for n, v in pinned(REQUIREMENTS).items() if known.get(n) != v} == {}
