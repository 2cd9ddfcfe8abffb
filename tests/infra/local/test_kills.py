"""Real parts killed in turn under load, then a rollout and twenty scale-ins: are requests lost, and is all mended?

`make verify` runs it, and `-s` shows the table.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.azurite import needs_azurite
from tests.infra.local.running import (
    Load,
    Request,
    Started,
    admin,
    brought_up,
    deploy_file,
    eventually,
    groups,
    settled,
    within,
)

pytestmark = [
    pytest.mark.verify,
    pytest.mark.timeout(900),
    needs_azurite,
]
CONFIG = """
services:
  iris:
    template: replica.yaml
    regions: [westeurope]
    replicas: {min: 2, max: 5}
    target: {concurrency: 4}
    scale_in: {window_s: 10, idle_s: 2, drain_deadline_s: 60}
    start: {deadline_s: 90, expected_s: 10}
    rollout: {gate_s: 5, min_requests: 10}
"""
LIMIT_S = 200.0
AFTER = 60  # requests that are watched after all is settled again
MOST, LEAST, TIMES = 5, 1, 5  # (5 - 1) * 5 = 20 replicas leave


class Kill(NamedTuple):
    """A part that is killed; whatever takes its place within ``for_s`` is killed as well."""

    part: str
    for_s: float = 0.0
    serves: bool = False  # requests pass through it


KILLS = (
    Kill("functions"),
    Kill("azurite"),
    Kill("envoy", serves=True),
    Kill("a replica", serves=True),
    Kill("arm", for_s=60.0),
)


class Toll(NamedTuple):
    """What a kill cost. Times are seconds since the kill."""

    kill: Kill
    down_s: float
    settled_s: float
    requests: list[Request]
    lost_down: list[Request]  # sent or served while the part was down
    lost_else: list[Request]
    groups: int

    def __str__(self) -> str:
        return (
            f"{self.kill.part:<10} {self.down_s:7.1f} s {len(self.requests):8} {len(self.lost_down):9} "
            f"{len(self.lost_else):14} {self.groups:6} {self.settled_s:9.1f} s"
        )


TITLE = "part       down for  requests lost down lost otherwise groups settled after"


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Started]:
    (tmp_path / "autoscaler.yaml").write_text(CONFIG)
    deploy_file(tmp_path, "iris:1")
    with brought_up(tmp_path, "--config", str(tmp_path / "autoscaler.yaml")) as running:
        within(LIMIT_S, lambda: settled("iris:1", 2), "the first version runs")
        yield running


def test_requests_fail_only_while_the_part_that_serves_them_is_down(up: Started) -> None:
    with Load(up) as load:
        tolls = [_played(up, load, kill) for kill in KILLS]
    print("", TITLE, *tolls, sep="\n")
    assert [t.lost_else for t in tolls] == [[] for _ in tolls]
    assert [t.lost_down for t in tolls if not t.kill.serves] == [[] for t in tolls if not t.kill.serves]
    assert [t.groups for t in tolls] == [2 for _ in tolls]
    addresses = (groups() or {}).values()
    assert all(map(_listening, addresses))
    pin(0)
    within(LIMIT_S, lambda: groups() == {}, "no group is left")
    eventually(lambda: not any(map(_listening, addresses)), 30, "no replica's process is left")


def test_a_rollout_and_twenty_scale_ins_lose_no_request(up: Started, tmp_path: Path) -> None:
    left: set[str] = set()
    with Load(up) as load:
        deploy_file(tmp_path, "iris:2")
        os.kill(up.pid_of("functions"), signal.SIGKILL)  # it comes back and reads the new file
        within(LIMIT_S, lambda: settled("iris:2", 2), "the second version runs")
        for _ in range(TIMES):
            pin(MOST)
            within(LIMIT_S, lambda: settled("iris:2", MOST), f"{MOST} replicas are ready")
            before = set(groups() or {})
            pin(LEAST)
            within(LIMIT_S, lambda: settled("iris:2", LEAST), f"{LEAST} is left")
            left |= before - set(groups() or {})
    print(f"{len(load.requests)} requests, {len(left)} scale-ins, {len(load.lost)} lost")
    assert len(left) == (MOST - LEAST) * TIMES
    assert load.lost == []
    assert len(load.requests) > 500


def pin(replicas: int) -> None:
    said = admin("services/iris/pin", {"replicas": replicas, "for": "1h", "reason": "a test"})
    assert said, "the pin was refused"


def _played(up: Started, load: Load, kill: Kill) -> Toll:
    """The kill, and what became of requests from then until everything is settled again."""
    first, killed_at = len(load.requests), time.time()
    down_s = _replica_killed(killed_at) if kill.part == "a replica" else _part_killed(up, kill, killed_at)
    within(LIMIT_S, lambda: settled("iris:1", 2), f"all is well after {kill.part} was killed")
    settled_s, sent = time.time() - killed_at, len(load.requests)
    eventually(lambda: len(load.requests) - sent > AFTER, 60, "requests go on after that")
    requests = load.requests[first:]
    lost = [r for r in requests if r.error]
    down = [r for r in lost if r.sent_at <= killed_at + down_s and r.ended_at >= killed_at]
    return Toll(kill, down_s, settled_s, requests, down, [r for r in lost if r not in down], len(groups() or {}))


def _part_killed(up: Started, kill: Kill, killed_at: float) -> float:
    """How long it was down, in seconds: until the supervisor found it ready."""
    backs = up.log.read_text().count("is back after")
    pid = up.pid_of(kill.part)
    os.kill(pid, signal.SIGKILL)
    while time.time() - killed_at < kill.for_s:  # a fresh one is ended long before it can open its door
        if (fresh := up.pid_of(kill.part)) != pid:
            pid = fresh
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    eventually(lambda: up.log.read_text().count("is back after") > backs, 60, f"{kill.part} is back")
    return time.time() - killed_at


def _replica_killed(killed_at: float) -> float:
    """How long it was down, in seconds: until there are two again that listen."""
    listed = groups() or {}
    (pid,) = _listening(min(listed.values()))
    os.kill(pid, signal.SIGKILL)

    def two_listen() -> bool:
        listening = [_listening(address) for address in (groups() or listed).values()]
        return len(listening) == len(listed) and all(listening) and [pid] not in listening

    eventually(two_listen, 90, "two replicas listen again")
    return time.time() - killed_at


def _listening(address: str) -> list[int]:
    """The processes that listen at a replica's address."""
    found = psutil.net_connections(kind="tcp4")
    return sorted({c.pid for c in found if c.pid and c.status == psutil.CONN_LISTEN and c.laddr.ip == address})
