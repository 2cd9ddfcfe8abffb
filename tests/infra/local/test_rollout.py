"""A rollout under load on real parts: a good version replaces the old, a bad one is taken back, no request is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.guards import AZURITE
from infra.local.places import LOCAL
from tests.infra.local.running import START_LIMIT_S, Started, eventually

pytestmark = [
    pytest.mark.verify,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not AZURITE.is_file(), reason="Azurite is not installed; `make setup` installs it"),
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
TEMPLATE = """
properties:
  osType: Linux
  containers:
    - name: model
      properties:
        image: example.azurecr.io/IMAGE
        ports: [{port: 8000}]
        resources: {requests: {cpu: 1.0, memoryInGB: 1.0}}
  ipAddress: {type: Public, ports: [{port: 8000}]}
"""
EVERY_S, SENDERS = 0.1, 3
LIMIT_S = 200.0


class Load:
    """A steady load from several senders; every request that is not answered with 200 is kept."""

    def __init__(self, running: Started) -> None:
        self.answered, self.lost = 0, list[str]()
        self._running, self._over = running, threading.Event()
        self._senders = [threading.Thread(target=self._send, daemon=True) for _ in range(SENDERS)]

    def __enter__(self) -> Load:
        for sender in self._senders:
            sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for sender in self._senders:
            sender.join(90)

    def _send(self) -> None:
        while not self._over.wait(EVERY_S):
            try:
                assert self._running.predict() == {"predictions": [0]}
                self.answered += 1
            except (urllib.error.URLError, OSError, AssertionError) as error:
                self.lost.append(repr(error))


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Started]:
    (tmp_path / "autoscaler.yaml").write_text(CONFIG)
    deploy_file(tmp_path, "iris:1")
    running = Started(tmp_path, "up", "--config", str(tmp_path / "autoscaler.yaml"))
    try:
        eventually(lambda: running.said("Ctrl-C ends everything"), START_LIMIT_S, "everything is up")
        yield running
    finally:
        running.end()


def deploy_file(folder: Path, image: str) -> None:
    (folder / "replica.yaml").write_text(TEMPLATE.replace("IMAGE", image))


def rollout() -> dict[str, Any]:
    """What the admin API says; empty while it does not answer."""
    said = dict(re.findall(r"export (\w+)='(.*)'", (LOCAL / "env").read_text()))
    request = urllib.request.Request(f"{said['AUTOSCALER_URL']}/api/services/iris/rollout")
    request.add_header("x-functions-key", said["AUTOSCALER_KEY"])
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (urllib.error.URLError, OSError):
        return {}


def within(limit_s: float, condition: Callable[[], bool], what: str) -> None:
    """Looks once a second: more often would be a load of its own, and the API limits who asks too often."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}; {rollout()}"
        time.sleep(1.0)


def settled(image: str) -> bool:
    """Two ready replicas of this version, nothing of another, and no rollout under way."""
    found = rollout()
    versions = {v["image"].rpartition("/")[2]: (v["replicas"], v["ready"]) for v in found.get("versions", [])}
    own = versions.pop(image, None)
    return own == (2, 2) and not any(count for count, _ in versions.values()) and found["phase"] == "steady"


def test_a_good_version_comes_and_a_bad_one_goes_and_no_request_is_lost(up: Started, tmp_path: Path) -> None:
    within(LIMIT_S, lambda: settled("iris:1"), "the first version runs")
    with Load(up) as load:
        deploy_file(tmp_path, "iris:2")
        os.kill(up.pid_of("functions"), signal.SIGKILL)  # it comes back and reads the new file
        within(LIMIT_S, lambda: settled("iris:2"), "the second version runs")
        deploy_file(tmp_path, "wrong:1")  # an image that only waits: nothing ever answers
        os.kill(up.pid_of("functions"), signal.SIGKILL)
        within(60, lambda: "wrong:1" in json.dumps(rollout().get("versions", [])), "the bad version is tried")
        within(LIMIT_S, lambda: bool(rollout().get("versions")) and bool(rollout()["versions"][0]["ended"]), "it ends")
        within(LIMIT_S, lambda: settled("iris:2"), "nothing of it is left")
    print(f"{load.answered} requests answered, {len(load.lost)} lost")
    assert load.lost == []
    assert load.answered > 100
