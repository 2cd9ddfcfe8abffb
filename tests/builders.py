"""Quiet defaults for the nouns: a test names only what it is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from scaler.model import Front, Group, GroupDetail, Latency, Phase, Replica, Stats
from scaler.observe import Seen
from scaler.plan import Rules, Sight

NOW = 1_790_000_000.0


def replica(name: str, phase: Phase = Phase.READY, **changes: Any) -> Replica:
    plain = Replica(
        name=name,
        phase=phase,
        region="westeurope",
        template="t1",
        intended_at=NOW - 600,
        phase_at=NOW - 500,
        address="127.64.0.1" if phase not in (Phase.INTENDED, Phase.CREATING) else None,
        ready_at=NOW - 500 if phase in (Phase.READY, Phase.DRAINING) else None,
        etag="e1",
    )
    if phase is Phase.DRAINING:  # a tick found it so already
        plain = replace(plain, drain_version=1, drain_since=changes.get("phase_at", plain.phase_at))
    return replace(plain, **changes)


def stats(name: str, **changes: Any) -> Stats:
    plain = Stats(
        replica=name,
        start_id=f"start-{name}",
        sequence=1,
        at=NOW,
        phase="ready",
        in_flight=0,
        queued=0,
        capacity=8,
        arrivals_total=0,
        completed_total=0,
        failed_total=0,
        rejected_total=0,
        busy_seconds_total=0.0,
        latency_s=Latency(None, None, None),
        cpu=0.1,
        memory_bytes=2**28,
        gpu=[],
    )
    return replace(plain, **changes)


def group(name: str, **changes: Any) -> Group:
    tags = {"aci-autoscaler": "d1", "service": "iris", "template": "t1"}
    plain = Group(
        name=name,
        region="westeurope",
        tags=tags,
        provisioning_state="Succeeded",
        address="127.64.0.1",
        resource_group="rg",
    )
    return replace(plain, **changes)


def detail(name: str, **changes: Any) -> GroupDetail:
    plain = GroupDetail(
        name=name,
        provisioning_state="Succeeded",
        state="Running",
        container_state="Running",
        detail=None,
        exit_code=None,
        restart_count=0,
    )
    return replace(plain, **changes)


def seen(replicas: Iterable[Replica], *, answering: Iterable[Stats] = (), **changes: Any) -> Seen:
    """What a tick saw when Azure lists a group for every row that was asked for; ``answering`` replicas gave stats."""
    rows = tuple(replicas)
    listed = {r.name: group(r.name) for r in rows if r.phase is not Phase.INTENDED}
    plain = Seen(at=NOW, replicas=rows, groups=listed, stats={s.replica: s for s in answering})
    return replace(plain, **changes)


def front(**changes: Any) -> Front:
    return replace(Front(start_id="f1", at=NOW), **changes)


def rules(**changes: Any) -> Rules:
    plain = Rules(
        max=10,
        surge=1,
        template="t1",
        makeable={"t0": 8000, "t1": 8000},
        region="westeurope",
        drain_deadline_s=120.0,
        idle_s=5.0,
        unhealthy_after_s=60.0,
    )
    return replace(plain, **changes)


def sight(*answering: Stats, **changes: Any) -> Sight:
    return replace(Sight(at=NOW, planned_at=NOW, stats={s.replica: s for s in answering}, front=None), **changes)
