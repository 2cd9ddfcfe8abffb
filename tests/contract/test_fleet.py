"""What every fleet keeps: the same sentences for the one in memory and for Azure's management SDK over the stand-in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient

from scaler.azure import container_groups
from scaler.azure.container_groups import ContainerGroups
from scaler.errors import OutOfCapacity, Refused, Unavailable
from scaler.model import Group
from scaler.ports import Calls, Fleet, GroupRequest
from scaler.template import Template
from tests.contract.answers import answering
from tests.contract.conftest import ManagementCredential
from tests.stand_in import GROUP, SUBSCRIPTION, StandIn, missing_stand_in
from tests.world import Clock, MemoryFleet

TEMPLATE = Template.read(
    """
properties:
  containers:
  - name: server
    properties:
      image: example.azurecr.io/idle:1
      ports: [{port: 8000}]
      resources: {requests: {cpu: 1.0, memoryInGB: 1.5}}
  ipAddress: {type: Public, ports: [{port: 8000}]}
  osType: Linux
tags: {team: ml}
""",
    "replica.yaml",
)
NAMES = (f"iris-{i:04d}" for i in count(1))
PATIENCE_S = 20.0


class Door:
    """A fleet and how time passes there."""

    def __init__(self, fleet: Fleet, clock: Clock | None = None) -> None:
        self.fleet = fleet
        self._clock = clock

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not await condition():
            assert time.monotonic() < deadline, "it never came to pass"
            if self._clock is not None:
                self._clock.advance(1.0)
            else:
                await asyncio.sleep(0.05)

    async def listed(self, name: str) -> Group | None:
        return next((group for group in await self.fleet.list() if group.name == name), None)


AWAY = missing_stand_in()
AZURE = pytest.param("azure", marks=pytest.mark.skipif(AWAY is not None, reason=str(AWAY)))


@pytest.fixture(params=["memory", AZURE])
def door(request: pytest.FixtureRequest) -> Door:
    if request.param == "memory":
        clock = Clock()
        return Door(MemoryFleet(clock), clock)
    return Door(ContainerGroups(request.getfixturevalue("management"), GROUP))


@pytest.fixture
def groups(management: ContainerInstanceManagementClient) -> ContainerGroups:
    return ContainerGroups(management, GROUP)


@pytest.fixture
def name() -> str:
    return next(NAMES)


def request_for(name: str, region: str = "westeurope") -> GroupRequest:
    return TEMPLATE.request(name, service="iris", deployment_id="d1", region=region, token="secret-token")


async def test_a_group_that_was_never_made_is_not_there_and_may_be_deleted(door: Door, name: str) -> None:
    assert await door.listed(name) is None
    assert await door.fleet.show(name) is None
    await door.fleet.delete(name)


async def test_a_new_group_is_listed_at_once_and_has_its_address_when_it_runs(door: Door, name: str) -> None:
    await door.fleet.create(request_for(name, "northeurope"))
    group = await door.listed(name)
    assert group is not None
    assert group.region == "northeurope"
    assert group.tags == {"team": "ml", "aci-autoscaler": "d1", "service": "iris", "template": TEMPLATE.hash}
    assert group.provisioning_state in ("Pending", "Creating")
    assert group.address is None
    detail = await door.fleet.show(name)
    assert detail is not None
    assert detail.state == "Pending"

    async def is_settled() -> bool:
        group = await door.listed(name)
        return group is not None and group.provisioning_state == "Succeeded"

    await door.until(is_settled)
    group, detail = await door.listed(name), await door.fleet.show(name)
    assert group is not None
    assert group.address is not None
    assert detail is not None
    assert (detail.provisioning_state, detail.state, detail.container_state) == ("Succeeded", "Running", "Running")
    assert (detail.exit_code, detail.restart_count) == (None, 0)


async def test_a_deleted_group_goes_and_deleting_it_again_is_a_success(door: Door, name: str) -> None:
    await door.fleet.create(request_for(name))
    await door.fleet.delete(name)

    async def is_gone() -> bool:
        return await door.listed(name) is None

    await door.until(is_gone)
    assert await door.fleet.show(name) is None
    await door.fleet.delete(name)


async def test_every_group_is_listed_however_many_pages_there_are(door: Door) -> None:
    names = {next(NAMES) for _ in range(7)}
    for each in names:
        await door.fleet.create(request_for(each))
    assert names <= {group.name for group in await door.fleet.list()}


async def test_the_quota_of_a_region_is_told_with_what_is_used(door: Door, name: str) -> None:
    before = {line.name: line for line in await door.fleet.usage("swedencentral")}
    await door.fleet.create(request_for(name, "swedencentral"))
    after = {line.name: line for line in await door.fleet.usage("swedencentral")}
    assert after["ContainerGroups"].used == before["ContainerGroups"].used + 1
    assert after["ContainerGroups"].limit == before["ContainerGroups"].limit > 0


async def test_calls_are_counted_by_kind(door: Door, name: str) -> None:
    calls = Calls()
    with calls.counting():
        await door.fleet.create(request_for(name))
        await door.fleet.show(name)
        await door.fleet.delete(name)
        await door.fleet.usage("westeurope")
        await door.fleet.list()
    counts = calls.counts()
    assert counts.pop("list") >= 1
    assert counts == {"create": 1, "show": 1, "delete": 1, "usage": 1}


# ---------------------------------------------------------------- what Azure's answers mean


@pytest.mark.parametrize(
    ("fault", "code"), [("quota", "ContainerGroupQuotaReached"), ("no_capacity", "ServiceUnavailable")]
)
async def test_no_room_is_out_of_capacity(
    groups: ContainerGroups, stand_in: StandIn, name: str, fault: str, code: str
) -> None:
    stand_in.fault(fault)
    with pytest.raises(OutOfCapacity) as raised:
        await groups.create(request_for(name))
    assert raised.value.code == code
    assert await groups.show(name) is None


@pytest.mark.parametrize("fault", ["throttled", "provider_throttled"])
async def test_a_throttled_creation_is_out_of_capacity_for_as_long_as_azure_says(
    groups: ContainerGroups, stand_in: StandIn, name: str, fault: str
) -> None:
    stand_in.fault(fault, retry_after_s=600)  # longer than a test may take: an SDK that slept for it would be seen
    with pytest.raises(OutOfCapacity) as raised:
        await groups.create(request_for(name))
    assert raised.value.retry_after_s == 600


@pytest.mark.parametrize(
    ("fault", "code"), [("inaccessible_image", "InaccessibleImage"), ("registry_error", "RegistryErrorResponse")]
)
async def test_an_image_that_cannot_be_had_is_refused(
    groups: ContainerGroups, stand_in: StandIn, name: str, fault: str, code: str
) -> None:
    stand_in.fault(fault)
    with pytest.raises(Refused) as raised:
        await groups.create(request_for(name))
    assert raised.value.code == code
    assert "secret-token" not in str(raised.value)


@pytest.mark.parametrize("fault", ["transitioning", "internal_error", "unavailable", "gateway_timeout"])
async def test_what_may_pass_leaves_it_open_whether_the_group_will_be(
    groups: ContainerGroups, stand_in: StandIn, name: str, fault: str
) -> None:
    stand_in.fault(fault)
    with pytest.raises(Unavailable) as raised:
        await groups.create(request_for(name))
    assert not isinstance(raised.value, OutOfCapacity)


@pytest.mark.parametrize("fault", ["throttled", "internal_error", "unavailable"])
async def test_no_read_and_no_delete_concludes_anything_from_a_bad_day(
    groups: ContainerGroups, stand_in: StandIn, name: str, fault: str
) -> None:
    calls = (groups.list, lambda: groups.show(name), lambda: groups.delete(name), lambda: groups.usage("x"))
    for call in calls:
        stand_in.fault(fault, retry_after_s=9)
        with pytest.raises(Unavailable) as raised:
            await call()
        assert raised.value.retry_after_s == (9 if fault == "throttled" else None)


async def test_half_a_list_is_no_list(groups: ContainerGroups, stand_in: StandIn) -> None:
    for _ in range(4):
        await groups.create(request_for(next(NAMES)))
    calls = Calls()
    with calls.counting():
        await groups.list()
    pages = calls.counts()["list"]
    assert pages >= 2
    answers: list[BaseException | None] = []
    for _ in range(3):
        stand_in.fault("internal_error", method="GET")
        listing = asyncio.gather(groups.list(), groups.list(), return_exceptions=True)
        answers += [a if isinstance(a, BaseException) else None for a in await listing]
    assert sum(isinstance(a, Unavailable) for a in answers) == 3


async def test_a_resource_group_that_is_not_there_hides_no_groups(
    management: ContainerInstanceManagementClient, name: str
) -> None:
    elsewhere = ContainerGroups(management, "rg-missing")
    with pytest.raises(Unavailable, match="ResourceGroupNotFound"):
        await elsewhere.list()
    with pytest.raises(Unavailable, match="ResourceGroupNotFound"):
        await elsewhere.show(name)
    with pytest.raises(Unavailable, match="ResourceGroupNotFound"):
        await elsewhere.delete(name)
    with pytest.raises(Refused, match="ResourceGroupNotFound"):
        await elsewhere.create(request_for(name))


async def test_a_template_that_azure_does_not_take_is_refused(groups: ContainerGroups, name: str) -> None:
    with pytest.raises(Refused):
        await groups.create(GroupRequest(name=name, body=b'{"location": "westeurope", "properties": {}}'))


async def test_an_answer_that_never_comes_is_given_up(
    groups: ContainerGroups, stand_in: StandIn, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_groups, "CALL_LIMIT_S", 0.5)
    stand_in.fault("hang", seconds=30.0)
    with pytest.raises(Unavailable, match="no answer within"):
        await groups.create(request_for(name))
    assert await groups.show(name) is not None, "the answer was lost, the group was made"


async def test_a_crash_loop_shows_in_the_detail(groups: ContainerGroups, stand_in: StandIn, name: str) -> None:
    stand_in.fault("crash_loop")
    await groups.create(request_for(name))

    async def is_crashing() -> bool:
        detail = await groups.show(name)
        return detail is not None and "CrashLoop" in (detail.detail or "") and detail.provisioning_state != "Pending"

    await Door(groups).until(is_crashing)
    detail = await groups.show(name)
    assert detail is not None
    assert detail.provisioning_state == "Succeeded"
    assert detail.container_state == "Waiting"
    assert detail.exit_code not in (None, 0)
    assert detail.restart_count > 0


async def test_without_a_token_nothing_was_learned(stand_in: StandIn, name: str) -> None:
    class Nobody(ManagementCredential):
        async def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
            raise ClientAuthenticationError("no identity here")

    client = ContainerInstanceManagementClient(
        Nobody(), SUBSCRIPTION, base_url=stand_in.arm, connection_verify=str(stand_in.ca), retry_total=0
    )
    async with client:
        groups = ContainerGroups(client, GROUP)
        with pytest.raises(Unavailable, match="AZURE_CLIENT_ID"):
            await groups.list()
        with pytest.raises(Unavailable):
            await groups.create(request_for(name))


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b'"value"', b'{"value": null}', b'{"value": 3}', b'{"value": [{', b"<html></html>", b""],
)
async def test_an_unreadable_list_is_not_an_empty_one(stand_in: StandIn, body: bytes) -> None:
    async with answering(stand_in.folder, body) as url:
        client = ContainerInstanceManagementClient(
            ManagementCredential(), SUBSCRIPTION, base_url=url, connection_verify=str(stand_in.ca), retry_total=0
        )
        async with client:
            with pytest.raises(Unavailable):
                await ContainerGroups(client, GROUP).list()


async def test_azure_that_is_away_is_unavailable_at_once(stand_in: StandIn, name: str) -> None:
    async with answering(stand_in.folder, b"") as url:
        pass  # the port is free again
    client = ContainerInstanceManagementClient(
        ManagementCredential(), SUBSCRIPTION, base_url=url, connection_verify=str(stand_in.ca), retry_total=0
    )
    async with client:
        with pytest.raises(Unavailable):
            await ContainerGroups(client, GROUP).create(request_for(name))
