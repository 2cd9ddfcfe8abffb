"""A rollout under load on real parts: a good version replaces the old, a bad one is taken back, no request is lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.azurite import needs_azurite
from tests.infra.local.running import Load, Started, brought_up, deploy_file, rollout, settled, within

pytestmark = [
    pytest.mark.verify,
    pytest.mark.timeout(600),
    needs_azurite,
]
CONFIG = """
services:
  iris:
    template: replica.yaml
    regions: [westeurope]
    replicas: {min: 2, max: 2}
    target: {concurrency: 4}
    scale_in: {window_s: 10, idle_s: 2, drain_deadline_s: 60}
    start: {deadline_s: 40, expected_s: 10}
    rollout: {gate_s: 5, min_requests: 10}
"""
LIMIT_S = 200.0


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Started]:
    (tmp_path / "autoscaler.yaml").write_text(CONFIG)
    deploy_file(tmp_path, "iris:1")
    with brought_up(tmp_path, "--config", str(tmp_path / "autoscaler.yaml")) as running:
        yield running


def test_a_good_version_comes_and_a_bad_one_goes_and_no_request_is_lost(up: Started, tmp_path: Path) -> None:
    within(LIMIT_S, lambda: settled("iris:1", 2), "the first version runs")
    with Load(up) as load:
        deploy_file(tmp_path, "iris:2")
        os.kill(up.pid_of("functions"), signal.SIGKILL)  # it comes back and reads the new file
        within(LIMIT_S, lambda: settled("iris:2", 2), "the second version runs")
        deploy_file(tmp_path, "wrong:1")  # an image that only waits: nothing ever answers
        os.kill(up.pid_of("functions"), signal.SIGKILL)
        within(60, lambda: "wrong:1" in json.dumps(rollout().get("versions", [])), "the bad version is tried")
        within(LIMIT_S, lambda: bool(rollout().get("versions")) and bool(rollout()["versions"][0]["ended"]), "it ends")
        within(LIMIT_S, lambda: settled("iris:2", 2), "nothing of it is left")
    print(f"{len(load.requests)} requests, {len(load.lost)} lost")
    assert load.lost == []
    assert len(load.requests) > 100
