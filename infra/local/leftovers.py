"""What an earlier start left behind because it was killed: parts first, then the replicas they had started."""

from __future__ import annotations

import subprocess
import sys

from infra.local.guards import CannotStart
from infra.local.ledger import Ledger
from infra.local.places import LOCAL, ROOT
from infra.local.supervisor import Say

LEDGER = LOCAL / "run" / "ledger"
ARM_DATA = LOCAL / "data" / "arm"
LIMIT_S = 30.0


def reap(say: Say) -> None:
    """End all of it. Raises ``CannotStart`` when it does not go."""
    for entry in Ledger(LEDGER).reap():
        say(f"ended {entry.part} (process {entry.pid}), left behind by an earlier start")
    reap_replicas()


def reap_replicas() -> None:
    """End every process of the stand-in's container groups; it must not run itself. Raises ``CannotStart``."""
    if not ARM_DATA.is_dir():
        return
    command = [sys.executable, "-m", "infra.local.arm", "--reap", "--data", str(ARM_DATA)]
    try:
        reaped = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotStart(f"replicas of an earlier start do not end within {LIMIT_S:.0f} s; see {ARM_DATA}") from None
    if reaped.returncode:
        raise CannotStart(f"replicas of an earlier start could not be ended: {reaped.stderr.strip()[-500:]}")
