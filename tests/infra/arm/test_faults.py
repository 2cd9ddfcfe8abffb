"""Faults on request: each one does what Azure does, once, and to the requests it is meant for."""

import json
from typing import Any

import pytest

from infra.local.arm.faults import Fault
from tests.infra.arm.world import START_S, World, group_path


def inflict(world: World, **fault: Any) -> Fault:
    return world.arm.faults.add(json.dumps(fault).encode())


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("quota", 400, "ContainerGroupQuotaReached"),
        ("no_capacity", 409, "ServiceUnavailable"),
        ("inaccessible_image", 400, "InaccessibleImage"),
        ("registry_error", 409, "RegistryErrorResponse"),
        ("throttled", 429, "SubscriptionRequestsThrottled"),
        ("provider_throttled", 429, "TooManyRequests"),
        ("transitioning", 409, "ContainerGroupTransitioning"),
        ("internal_error", 500, "InternalServerError"),
        ("unavailable", 503, "ServerUnavailable"),
    ],
)
def test_a_refusal_has_no_effect_and_is_used_up(fault: str, status: int, code: str) -> None:
    world = World()
    inflict(world, fault=fault, retry_after_s=17)
    answer = world.put("iris-1")
    assert (answer.status, answer.body["error"]["code"]) == (status, code)
    assert answer.headers.get("retry-after") == ("17" if status == 429 else None)
    assert world.get("iris-1").status == 404
    assert world.put("iris-1").status == 201


def test_a_fault_meets_only_its_method_and_name() -> None:
    world = World()
    inflict(world, fault="unavailable", method="DELETE", name="iris-*", times=2)
    world.put("iris-1")
    world.put("mnist-1")
    assert world.call("DELETE", group_path("mnist-1")).status == 200
    assert [world.call("DELETE", group_path("iris-1")).status for _ in range(3)] == [503, 503, 200]


def test_capacity_can_be_lacking_after_the_request_was_accepted() -> None:
    world = World()
    inflict(world, fault="no_capacity_async")
    answer = world.put("iris-1")
    assert answer.status == 201
    world.wait(START_S)
    operation = world.operation(answer)
    assert operation["status"] == "Failed"
    assert set(operation["error"]) == {"message"}
    assert operation["properties"]["events"][0]["name"] == "InsufficientCapacity."
    assert world.properties("iris-1")["provisioningState"] == "Failed"
    assert not world.running


def test_provisioning_can_fail() -> None:
    world = World()
    inflict(world, fault="failed")
    world.put("iris-1")
    world.wait(START_S)
    properties = world.properties("iris-1")
    assert (properties["provisioningState"], properties["instanceView"]["state"]) == ("Failed", "Failed")
    assert world.put("iris-1").status == 200  # a second try is an update and works
    world.wait(START_S)
    assert world.properties("iris-1")["instanceView"]["state"] == "Running"


def test_the_gateway_can_give_up_after_the_effect() -> None:
    world = World()
    inflict(world, fault="gateway_timeout", method="PUT")
    answer = world.put("iris-1")
    assert (answer.status, answer.body["error"]["code"]) == (504, "GatewayTimeout")
    assert answer.headers["x-ms-failure-cause"] == "service"
    assert world.get("iris-1").status == 200


def test_an_answer_can_be_left_out_after_the_effect() -> None:
    world = World()
    inflict(world, fault="hang", method="DELETE", seconds=3)
    world.put("iris-1")
    assert world.call("DELETE", group_path("iris-1")).hang_s == 3
    assert world.get("iris-1").status == 404


def test_a_deleted_group_can_be_unknown_to_the_provider_only() -> None:
    world = World()
    inflict(world, fault="gone", method="GET")
    answer = world.get("iris-1")
    assert (answer.status, answer.body["error"]["code"]) == (404, "ContainerGroupNotFound")
    assert "x-ms-failure-cause" not in answer.headers
    assert world.get("iris-1").headers["x-ms-failure-cause"] == "gateway"


def test_a_list_can_lack_a_group() -> None:
    world = World()
    world.put("iris-1")
    world.put("iris-2")
    inflict(world, fault="unlisted", name="iris-1")
    path = group_path("")[:-1]
    assert [g["name"] for g in world.call("GET", path).body["value"]] == ["iris-2"]
    assert len(world.call("GET", path).body["value"]) == 2


def test_a_repair_takes_the_containers_away_for_a_while() -> None:
    world = World()
    world.started("iris-1")
    key = next(iter(world.arm.groups.every()))
    world.arm.groups.repair(key, world.now, 30)
    world.wait(0)
    properties = world.properties("iris-1")
    assert (properties["provisioningState"], properties["instanceView"]["state"]) == ("Repairing", "Unknown")
    current = world.view("iris-1")["currentState"]
    assert (current["state"], current["detailStatus"]) == ("Terminated", "Infrastructure Error")
    world.wait(30)
    properties = world.properties("iris-1")
    assert (properties["provisioningState"], properties["instanceView"]["state"]) == ("Succeeded", "Running")
    statuses = [world.call("POST", group_path("iris-1", "restart")).status for _ in range(3)]
    assert statuses == [500, 500, 204]
