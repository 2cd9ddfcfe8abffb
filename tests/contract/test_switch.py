"""TLS is switched on and off again under real replicas: the SDKs, Azurite, the stand-in, and the real server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests import deployment
from tests.azurite import Azurite
from tests.stand_in import GROUP, ROLES, SUBSCRIPTION, StandIn, start_stand_in

pytestmark = [
    pytest.mark.verify,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("torch") is None, reason="the replica's server needs torch; `make setup` installs it"),
]
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 200.0
TEMPLATE = deployment.TEMPLATE.replace("idle:1", "iris:1")
CONFIG = """
services:
  switched:
    template: replica.yaml
    regions: [westeurope]
    replicas: {min: 1, max: 2}
    target: {concurrency: 2}
    rollout: {gate_s: 1}
    scale_in: {drain_deadline_s: 5}
"""
AUTHORITY = {"REPLICA_AUTHORITY": "planted-secret-of-the-authority"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[StandIn]:
    """Replicas of this one are servers, not shells."""
    place = ("--subscription", SUBSCRIPTION, "--resource-group", GROUP, "--authorization", str(ROLES))
    images = ("--images", str(ROOT / "infra" / "local" / "images.yaml"), "--start-delay", "0.2")
    (tmp_path / "arm").mkdir()
    with start_stand_in(tmp_path / "arm", *place, *images) as running:
        yield running


class Deployment:
    """One deployment whose settings change: each ``tick`` is an instance of its own."""

    def __init__(self, folder: Path, azurite: Azurite, stand_in: StandIn) -> None:
        self._environment = deployment.deployed(folder, azurite, stand_in, CONFIG, TEMPLATE)

    def serving(self, settings: dict[str, str]) -> list[bool]:
        """Of the replicas that are ready and answer, whether they serve TLS, after one more tick."""
        ran = subprocess.run(
            [sys.executable, "-m", "tests.contract.ticking", "1"],
            cwd=ROOT, env=self._environment | settings, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert "planted" not in ran.stdout + ran.stderr
        told: dict[str, Any] = json.loads(ran.stdout)
        return [version.endswith("-tls") for version in told["serving"]]

    def until(self, wanted: list[bool], settings: dict[str, str], *, never_none: bool) -> None:
        """Ticks until exactly these serve."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.serving(settings)) != wanted:
            assert found or not never_none, "somebody serves all the time"
            assert time.monotonic() < deadline, f"never {wanted}, at last {found}"


def test_switching_it_on_and_off_is_a_rollout_in_which_somebody_always_serves(
    tmp_path: Path, azurite: Azurite, own: StandIn
) -> None:
    deployment = Deployment(tmp_path, azurite, own)
    deployment.until([False], {}, never_none=False)
    deployment.until([True], AUTHORITY, never_none=True)
    deployment.until([False], AUTHORITY | {"REPLICA_TLS": "false"}, never_none=True)
