"""The two judges that come with the recordings of the real service, where they lie beside the checkout."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.arm.standin import ROOT, serving

JUDGES = ROOT.parent / "shared" / "arm"

pytestmark = pytest.mark.skipif(not JUDGES.is_dir(), reason="the recordings of Azure are not beside this checkout")


@pytest.mark.parametrize("judge", [["conform.py"], ["replay.py", "--poll", "0.1"]], ids=["conform", "replay"])
def test_nothing_hard_to_object_to(tmp_path: Path, tls: Path, judge: list[str]) -> None:
    # Long enough that a second write meets the first.
    with serving(tmp_path, tls, "--start-delay", "0.6") as standin:
        done = subprocess.run(
            [sys.executable, "-B", *judge, "--base", standin.base, "--ca", str(standin.ca)],
            cwd=JUDGES,
            capture_output=True,
            text=True,
            timeout=55,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert " 0 FAIL" in done.stdout or " 0 hard" in done.stdout
        assert "0 skipped" in done.stdout or "0 skip" in done.stdout
        assert standin.complaints() == ""
