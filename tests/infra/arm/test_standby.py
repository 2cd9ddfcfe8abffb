"""Standby pools as far as they are documented: claims, the config map, an empty pool, a refill."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from infra.local.arm.arm import RECORDED
from infra.local.arm.groups import Kept
from infra.local.arm.http import Answer
from scaler.config import StandbyPool
from scaler.template import Template
from tests.infra.arm.world import START_S, World, container, group_path
from tests.scaler.ticking import TEMPLATE

API = "2025-09-01"
BELOW = f"/subscriptions/{RECORDED}/resourceGroups/work/providers"
POOL = f"{BELOW}/Microsoft.StandbyPool/standbyContainerGroupPools/warm"
PROFILE = f"{BELOW}/Microsoft.ContainerInstance/containerGroupProfiles/iris"


def made(most: int = 1) -> World:
    """A pool of so many groups that run."""
    world = World()
    profile = {
        "location": "westeurope",
        "properties": {
            "osType": "Linux",
            "containers": [container("model")],
            "ipAddress": {"type": "Public", "ports": [{"port": 8000}]},
        },
    }
    assert world.call("PUT", PROFILE, profile, api=API).status == 200
    assert world.call("PUT", POOL, pool(most), api="2025-10-01").status == 201
    world.wait(START_S + 1)
    return world


def pool(most: int) -> dict[str, Any]:
    return {
        "location": "westeurope",
        "properties": {
            "elasticityProfile": {"maxReadyCapacity": most, "refillPolicy": "always"},
            "containerGroupProperties": {"containerGroupProfile": {"id": PROFILE, "revision": 1}},
        },
    }


def claim(world: World, name: str, **changes: Any) -> Answer:
    """What the autoscaler sends, or that with changes of its properties."""
    template = Template.read(TEMPLATE, "replica.yaml")
    asked = template.claim(
        name, StandbyPool(pool=POOL, profile=PROFILE), service="iris", deployment_id="d1", region="westeurope"
    )
    body = msgspec.json.decode(asked.body)
    body["properties"] |= changes
    return world.call("PUT", group_path(name), body, api=asked.api_version)


def test_a_claim_runs_at_once_and_says_that_it_came_from_the_pool() -> None:
    world = made()
    answer = claim(world, "iris-1")
    assert answer.status == 201
    assert answer.body["properties"]["isCreatedFromStandbyPool"] is True
    world.wait(2.0)
    shown = world.get("iris-1", api=API).body
    assert shown["properties"]["instanceView"]["state"] == "Running"
    assert shown["tags"]["service"] == "iris"
    first = shown["properties"]["containers"][0]["properties"]
    assert first["configMap"] == {"keyValuePairs": {"REPLICA": "iris-1"}}
    assert first["image"] == "example.azurecr.io/iris:1"


def test_an_empty_pool_means_an_ordinary_start_and_it_refills_itself() -> None:
    world = made()
    claim(world, "iris-1")
    slow = claim(world, "iris-2")
    assert slow.status == 201
    assert slow.body["properties"]["isCreatedFromStandbyPool"] is False
    world.wait(START_S + 1)
    assert claim(world, "iris-3").body["properties"]["isCreatedFromStandbyPool"] is True


def test_an_empty_pool_refuses_where_the_claim_says_so() -> None:
    world = made(0)
    use = {"id": POOL, "failContainerGroupCreateOnReuseFailure": True}
    assert claim(world, "iris-1", standbyPoolProfile=use).status == 409
    assert world.get("iris-1").status == 404


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"standbyPoolProfile": {"id": f"{POOL}-none"}}, "StandbyPoolNotFound"),
        ({"containerGroupProfile": {"id": f"{PROFILE}-none"}}, "ContainerGroupProfileNotFound"),
        ({"containerGroupProfile": 7}, "InvalidRequestContent"),
        ({"containers": [{"name": "model", "properties": {"image": "x"}}]}, "ContainerGroupProfileMismatch"),
    ],
)
def test_a_claim_that_cannot_be_is_refused(changes: dict[str, Any], code: str) -> None:
    world = made()
    answer = claim(world, "iris-1", **changes)
    assert (answer.status, answer.body["error"]["code"]) == (400, code)


def test_pools_and_profiles_are_shown_and_outlive_the_program() -> None:
    world = made()
    assert world.call("GET", POOL, api="2025-10-01").body["name"] == "warm"
    assert world.call("GET", PROFILE, api=API).body["type"] == "Microsoft.ContainerInstance/containerGroupProfiles"
    kept = msgspec.json.decode(msgspec.json.encode(world.arm.groups.keep()), type=Kept)
    world.arm.groups.restore(kept)
    assert claim(world, "iris-1").body["properties"]["isCreatedFromStandbyPool"] is True
    assert world.call("DELETE", POOL, api="2025-10-01").status == 204
    assert world.call("GET", POOL, api="2025-10-01").status == 404


def test_a_pool_needs_its_profile_and_a_size() -> None:
    world = World()
    assert world.call("PUT", POOL, pool(1), api="2025-10-01").status == 400
    assert world.call("PUT", POOL, {"properties": {}}, api="2025-10-01").status == 400
