"""The life of a container group, with the clock in hand."""

from typing import Any

import pytest

from infra.local.arm.addresses import HOSTS, Addresses
from tests.infra.arm.world import START_S, World, container, group_path


def test_a_new_group_is_pending_without_an_address_until_it_starts() -> None:
    world = World()
    answer = world.put("iris-1")
    assert answer.status == 201
    assert answer.body["properties"]["provisioningState"] == "Pending"
    assert answer.body["properties"]["instanceView"] == {"events": [], "state": "Pending"}
    assert "ip" not in answer.body["properties"]["ipAddress"]
    assert "retry-after" not in answer.headers
    world.wait(START_S - 0.1)
    assert world.properties("iris-1")["provisioningState"] == "Pending"
    assert "ip" not in world.properties("iris-1")["ipAddress"]
    assert not world.running
    world.wait(0.1)
    assert world.properties("iris-1")["ipAddress"]["ip"] == "127.64.0.1"
    assert world.properties("iris-1")["provisioningState"] == "Pending"  # it runs before Azure says so
    world.wait(1)
    properties = world.properties("iris-1")
    assert (properties["provisioningState"], properties["instanceView"]["state"]) == ("Succeeded", "Running")
    assert list(world.running.values()) == ["main"]


def test_the_image_is_pulled_before_the_container_starts() -> None:
    world = World()
    world.put("iris-1")
    world.wait(START_S)
    events = world.view("iris-1")["events"]
    assert [event["name"] for event in events] == ["Pulling", "Pulled", "Started"]
    times = [event["firstTimestamp"] for event in events]
    assert times == sorted(times)
    assert "iris@sha256:" in events[0]["message"]


def test_an_operation_goes_from_pending_to_succeeded_and_names_the_group() -> None:
    world = World()
    answer = world.put("iris-1")
    operation = world.operation(answer)
    assert operation["status"] == "Pending"
    assert operation["id"].endswith("/containerGroups/iris-1")
    world.wait(START_S + 1)
    operation = world.operation(answer)
    assert operation["status"] == "Succeeded"
    assert [event["name"] for event in operation["properties"]["events"]] == ["Pulling", "Pulled", "Started"]


def test_a_second_write_while_the_group_starts_is_refused() -> None:
    world = World()
    world.put("iris-1")
    for method, action in (("PUT", ""), ("POST", "stop"), ("POST", "restart"), ("POST", "start")):
        answer = world.call(method, group_path("iris-1", action), {} if action else _same(world))
        assert (answer.status, answer.body["error"]["code"]) == (409, "ContainerGroupTransitioning")


def _same(world: World) -> dict[str, object]:
    body = world.get("iris-1").body
    body["properties"]["containers"][0]["properties"].pop("instanceView", None)
    return {"location": body["location"], "properties": body["properties"]}


def test_an_update_restarts_every_container_at_the_same_address() -> None:
    world = World()
    address = world.started("iris-1")["ipAddress"]["ip"]
    first = set(world.running)
    answer = world.put("iris-1")
    assert answer.status == 200
    assert "azure-asyncoperation" in answer.headers
    assert set(world.ended) == first
    world.wait(START_S)
    assert world.properties("iris-1")["ipAddress"]["ip"] == address
    assert world.properties("iris-1")["provisioningState"] == "Succeeded"
    assert len(world.running) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"restartPolicy": "Never"},
        {"osType": "Windows"},
        {"containers": [container(resources={"requests": {"cpu": 2, "memoryInGB": 1}})]},
    ],
)
def test_an_update_cannot_change_what_needs_another_machine(change: dict[str, Any]) -> None:
    world = World()
    world.started("iris-1")
    answer = world.put("iris-1", **change)
    assert (answer.status, answer.body["error"]["code"]) == (400, "InvalidContainerGroupUpdate")


def test_delete_answers_with_the_last_body_and_ends_the_process() -> None:
    world = World()
    world.started("iris-1")
    answer = world.call("DELETE", group_path("iris-1"))
    assert answer.status == 200
    assert answer.body["properties"]["instanceView"]["state"] == "Running"
    assert "azure-asyncoperation" not in answer.headers
    assert not world.running
    assert world.get("iris-1").body["error"]["code"] == "ResourceNotFound"
    again = world.call("DELETE", group_path("iris-1"))
    assert (again.status, again.body) == (204, None)


def test_deleting_a_group_that_starts_cancels_its_operation_and_nothing_starts() -> None:
    world = World()
    answer = world.put("iris-1")
    assert world.call("DELETE", group_path("iris-1")).status == 200
    world.wait(2 * START_S)
    assert not world.running
    assert world.operation(answer)["status"] == "Canceled"


def test_a_stopped_group_keeps_its_name_and_starts_at_another_address() -> None:
    world = World()
    address = world.started("iris-1")["ipAddress"]["ip"]
    stopped = world.call("POST", group_path("iris-1", "stop"))
    assert (stopped.status, stopped.body) == (204, None)
    assert not world.running
    properties = world.properties("iris-1")
    assert (properties["provisioningState"], properties["instanceView"]["state"]) == ("Succeeded", "Stopped")
    assert "ip" not in properties["ipAddress"]
    assert world.call("POST", group_path("iris-1", "start")).status == 202
    world.wait(START_S + 1)
    properties = world.properties("iris-1")
    assert (properties["provisioningState"], properties["instanceView"]["state"]) == ("Succeeded", "Running")
    assert properties["ipAddress"]["ip"] != address


def test_a_container_that_always_fails_backs_off_while_the_group_is_called_running() -> None:
    world = World()
    world.started("iris-1", restartPolicy="Always")
    world.exit("iris-1", 1)  # the first restart comes at once
    assert world.view("iris-1")["currentState"]["state"] == "Running"
    assert world.view("iris-1")["restartCount"] == 1
    world.exit("iris-1", 3)
    properties, view = world.properties("iris-1"), world.view("iris-1")
    assert view["currentState"] == {
        "state": "Waiting",
        "detailStatus": "CrashLoopBackOff: Back-off restarting failed",
    }
    assert (view["previousState"]["exitCode"], view["previousState"]["detailStatus"]) == (3, "Error")
    assert (properties["provisioningState"], properties["instanceView"]["state"]) == ("Succeeded", "Running")
    world.wait(9.9)
    assert not world.running
    world.wait(0.1)
    assert len(world.running) == 1
    assert world.view("iris-1")["restartCount"] == 2


def test_the_back_off_doubles_and_is_forgotten_after_a_long_run() -> None:
    world = World()
    world.started("iris-1", restartPolicy="Always")
    waits = []
    for _ in range(9):
        world.exit("iris-1", 1)
        at = world.arm.groups.next_at()
        waits.append(0.0 if at is None else at - world.now)
        world.wait(waits[-1])
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 300]
    world.wait(601)
    world.exit("iris-1", 1)
    assert len(world.running) == 1


@pytest.mark.parametrize(
    ("policy", "exit_code", "restarts", "state", "detail"),
    [
        ("Always", 0, True, "Running", ""),
        ("OnFailure", 0, False, "Succeeded", "Completed"),
        ("OnFailure", 1, True, "Running", ""),
        ("Never", 0, False, "Succeeded", "Completed"),
        ("Never", 2, False, "Failed", "Error"),
    ],
)
def test_the_restart_policy_decides_what_follows_an_exit(
    policy: str, exit_code: int, restarts: bool, state: str, detail: str
) -> None:
    world = World()
    world.started("iris-1", restartPolicy=policy)
    world.exit("iris-1", exit_code)
    assert bool(world.running) is restarts
    assert world.properties("iris-1")["instanceView"]["state"] == state
    assert world.properties("iris-1")["provisioningState"] == "Succeeded"
    current = world.view("iris-1")["currentState"]
    assert current["detailStatus"] == detail
    if not restarts:
        assert (current["state"], current["exitCode"]) == ("Terminated", exit_code)


def test_a_group_with_two_containers_runs_while_one_of_them_does() -> None:
    world = World()
    world.started("iris-1", restartPolicy="Never", containers=[container("main"), container("side")])
    assert sorted(world.running.values()) == ["main", "side"]
    world.exit("iris-1", 0)
    assert world.properties("iris-1")["instanceView"]["state"] == "Running"


def test_a_stopped_group_does_not_come_back_out_of_its_back_off() -> None:
    world = World()
    world.started("iris-1", restartPolicy="Always")
    world.exit("iris-1", 1)
    world.exit("iris-1", 1)
    assert world.call("POST", group_path("iris-1", "stop")).status == 204
    world.wait(1000)
    assert not world.running
    assert world.properties("iris-1")["instanceView"]["state"] == "Stopped"


def test_restart_runs_everything_anew() -> None:
    world = World()
    world.started("iris-1")
    answer = world.call("POST", group_path("iris-1", "restart"))
    assert (answer.status, answer.body) == (204, None)
    assert not world.running
    assert world.operation(answer)["status"] == "Pending"
    world.wait(START_S)
    assert world.operation(answer)["status"] == "Succeeded"
    assert len(world.running) == 1


def test_no_address_is_given_twice_while_its_group_lives() -> None:
    world = World()
    for i in range(90):
        world.put(f"iris-{i}")
    world.wait(START_S)
    addresses = [world.properties(f"iris-{i}")["ipAddress"]["ip"] for i in range(90)]
    assert len(set(addresses)) == 90
    world.call("DELETE", group_path("iris-3"))
    world.put("iris-new")
    world.wait(START_S)
    assert world.properties("iris-new")["ipAddress"]["ip"] not in addresses  # not soon again either


def test_addresses_go_round_and_leave_out_what_is_taken() -> None:
    addresses = Addresses(HOSTS - 1, lambda candidate, port: (candidate, port) != ("127.64.0.2", 8000))
    assert addresses.take(set(), 8000) == "127.64.255.254"
    assert addresses.take({"127.64.0.1"}, 8000) == "127.64.0.3"
    assert addresses.take(set(), 9000) == "127.64.0.4"


def test_a_port_that_is_taken_everywhere_does_not_stop_the_search() -> None:
    assert Addresses(0, lambda _address, _port: False).take(set(), 8000).startswith("127.64.")


def test_what_was_kept_goes_on_in_another_world() -> None:
    world = World()
    world.put("iris-1")
    world.wait(START_S / 2)
    other = World(now=world.now)
    other.arm.groups.restore(world.arm.groups.keep())
    other.wait(START_S)
    assert other.properties("iris-1")["instanceView"]["state"] == "Running"
