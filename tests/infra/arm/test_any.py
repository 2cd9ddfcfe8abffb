"""Whatever comes in, in whatever order: the stand-in answers as Azure would and keeps its promises."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from infra.local.arm.images import launch
from infra.local.arm.limits import Limits
from tests.infra.arm.world import World, container, group, group_path

NAMES = st.sampled_from(["a", "b", "c"])
JUNK = st.sampled_from(
    [None, 0, -1, 1.5, 1e300, "", "x", "Ü/..", True, [], {}, [1], {"a": 1}, [None], [{"name": 1}], "9" * 400]
)
STATES = {"Pending", "Running", "Succeeded", "Failed", "Stopped", "Unknown"}

FULL = group(
    containers=[
        container(
            command=["/bin/true"],
            environmentVariables=[{"name": "A", "value": "b"}, {"name": "S", "secureValue": "hidden"}],
            volumeMounts=[{"name": "v", "mountPath": "/v"}],
            livenessProbe={"httpGet": {"path": "/healthz", "port": 8000}},
        )
    ],
    initContainers=[],
    imageRegistryCredentials=[{"server": "s", "username": "u", "password": "hidden"}],
    volumes=[{"name": "v", "secret": {"f": "hidden"}}],
    subnetIds=[{"id": "/subscriptions/x"}],
    diagnostics={"logAnalytics": {"workspaceId": "w", "workspaceKey": "hidden"}},
    ipAddress={"type": "Public", "ports": [{"port": 8000, "protocol": "TCP"}], "dnsNameLabel": "l"},
    priority="Regular",
) | {"zones": ["1"], "identity": {"type": "UserAssigned", "userAssignedIdentities": {"/subscriptions/i": {}}}}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every node."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


PLACES = [path for path in places(FULL) if path]


@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_body_breaks_it(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    body = copy.deepcopy(FULL)
    for path, junk in changes:
        node: Any = body
        try:
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = junk
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    world = World()
    answer = world.put("a", body)
    assert answer.status in (201, 400, 409), answer.body
    if answer.status != 201:
        assert set(answer.body["error"]) == {"code", "message"}
        return
    world.wait(20)
    for read in (world.get("a"), world.get("a", api="2025-09-01"), world.call("GET", group_path("")[:-1])):
        assert read.status == 200
        assert "hidden" not in json.dumps(read.body)
    (kept,) = world.arm.groups.every()
    for run, name in world.running.items():
        made = launch({}, kept, name, run)
        assert all(isinstance(value, str) for value in (*made.environment.values(), *made.command))
    assert world.call("DELETE", group_path("a")).status == 200


class Life(RuleBasedStateMachine):
    """Any order of requests, exits, faults and waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(limits=Limits(groups=3, cores=2.5, changes_per_hour=10_000, changes_per_5_minutes=10_000))

    @rule(name=NAMES, policy=st.sampled_from(["Always", "OnFailure", "Never"]))
    def put(self, name: str, policy: str) -> None:
        assert self.world.put(name, restartPolicy=policy).status in (200, 201, 400, 409, 503)

    @rule(name=NAMES, action=st.sampled_from(["stop", "start", "restart"]))
    def act(self, name: str, action: str) -> None:
        answer = self.world.call("POST", group_path(name, action))
        assert answer.status in (202, 204, 400, 404, 409, 500, 503), answer.body

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        assert self.world.call("DELETE", group_path(name)).status in (200, 204, 503)

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 11.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(exit_code=st.sampled_from([0, 1]))
    def exit(self, exit_code: int) -> None:
        for kept in self.world.arm.groups.every():
            if kept.containers[0].run is not None:
                self.world.exit(kept.name, exit_code)
                return

    @rule(fault=st.sampled_from(["no_capacity_async", "failed", "unavailable"]))
    def inflict(self, fault: str) -> None:
        self.world.arm.faults.add(json.dumps({"fault": fault}).encode())

    @rule(name=NAMES)
    def repair(self, name: str) -> None:
        for kept in list(self.world.arm.groups.every()):
            if kept.name == name and kept.is_started:
                self.world.arm.groups.repair(kept, self.world.now, 5)
                self.world.wait(0)

    @rule()
    def keep_and_restore(self) -> None:
        self.world.arm.groups.restore(self.world.arm.groups.keep())

    @invariant()
    def every_process_belongs_to_one_container(self) -> None:
        runs = [c.run for g in self.world.arm.groups.every() for c in g.containers if c.run is not None]
        assert sorted(runs) == sorted(self.world.running)

    @invariant()
    def no_address_is_shared(self) -> None:
        held = [g.address for g in self.world.arm.groups.every() if g.address is not None]
        assert len(held) == len(set(held))
        running = [g for g in self.world.arm.groups.every() if any(c.run for c in g.containers)]
        assert all(g.address for g in running)

    @invariant()
    def every_group_can_be_read_and_has_a_state(self) -> None:
        self.world.arm.faults.queued = [f for f in self.world.arm.faults.queued if f.fault != "unavailable"]
        for kept in self.world.arm.groups.every():
            assert self.world.properties(kept.name)["instanceView"]["state"] in STATES

    @invariant()
    def quotas_hold(self) -> None:
        usage = self.world.arm.groups.usage("00000000-0000-0000-0000-000000000000", "westeurope")
        assert all(used <= limit for used, limit in usage.values())

    @invariant()
    def operations_under_way_belong_to_a_group(self) -> None:
        owners = {g.operation for g in self.world.arm.groups.every()}
        pending = {o.id for o in self.world.arm.groups.operations.values() if o.status == "Pending"}
        assert pending <= owners


Life.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
test_any_order_keeps_the_promises = pytest.mark.timeout(60)(Life.TestCase)
