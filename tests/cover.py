"""Branch coverage of the pure core by its own tests: ``python -m tests.cover``. Exit 1 below 100 %."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.core import CORE

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """The exit code."""
    tests = sorted({f"tests/scaler/{name}.py" for names in CORE.values() for name in names})
    include = ",".join(f"scaler/{module}.py" for module in CORE)
    data = ROOT / ".coverage"
    coverage = (sys.executable, "-m", "coverage")
    run = [*coverage, "run", "--branch", f"--data-file={data}", f"--include={include}", "-m", "pytest", "-q", *tests]
    tested = subprocess.run(run, cwd=ROOT, check=False)
    if tested.returncode:
        return tested.returncode
    report = [*coverage, "report", f"--data-file={data}", "--show-missing", "--skip-covered", "--fail-under=100"]
    return subprocess.run(report, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
