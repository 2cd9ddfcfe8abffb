"""The front kept by the real adapters: made, found by its name, made again when somebody deletes it."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import pytest
from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient
from azure.storage.queue.aio import QueueClient

from scaler.azure.address_records import AddressRecords
from scaler.azure.container_groups import ContainerGroups
from scaler.azure.wake_queue import WakeQueue
from scaler.errors import Unavailable
from scaler.front.group import front_request
from scaler.front.keep import Keeper
from scaler.model import Group
from scaler.settings import FrontSettings, Settings
from tests.azurite import Azurite
from tests.stand_in import GROUP, ROOT, SUBSCRIPTION

PLACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
SETTINGS = Settings(
    deployment_id="aci-contract",
    table_endpoint="https://a.table.core.windows.net",
    front=FrontSettings(
        envoy_image="cr.azurecr.io/envoy:1",
        discovery_image="cr.azurecr.io/discovery:abc",
        region="westeurope",
        identity=f"{PLACE}/Microsoft.ManagedIdentity/userAssignedIdentities/id-front",
        subnet=f"{PLACE}/Microsoft.Network/virtualNetworks/vnet/subnets/groups",
        zone=f"{PLACE}/Microsoft.Network/privateDnsZones/aci-autoscaler.internal",
    ),
)
PATIENCE_S = 20.0


async def test_the_front_is_made_named_and_made_again(management: ContainerInstanceManagementClient) -> None:
    fleet, records = ContainerGroups(management, GROUP), AddressRecords(management, SETTINGS.front.zone)
    request = front_request(SETTINGS, {"iris": 300.0})
    keeper, now = Keeper(fleet, request, records), 0.0

    async def ticked() -> Group | None:
        nonlocal now
        now += 3600.0
        groups = [g for g in await fleet.list() if g.tags.get("aci-autoscaler") == "aci-contract"]
        await keeper.keep(groups, now)
        return next(iter(groups), None)

    async def until_it_has_an_address() -> Group:
        deadline = time.monotonic() + PATIENCE_S
        while (front := await ticked()) is None or not front.address or front.provisioning_state != "Succeeded":
            assert time.monotonic() < deadline, "the front never came to be"
            await asyncio.sleep(0.05)
        return front

    front = await until_it_has_an_address()
    assert (front.name, front.tags["role"]) == ("aci-contract-front", "front")
    assert front.address is not None
    assert await records.keep("front", front.address) is False, "the name leads there already"
    await fleet.delete(front.name)
    again = await until_it_has_an_address()
    assert again.name == front.name
    await fleet.delete(front.name)


async def test_a_wake_by_queue_is_the_message_that_the_function_reads(azurite: Azurite) -> None:
    queue = QueueClient(
        azurite.queue,
        "aci-autoscaler-wake",
        credential=azurite.credential,
        connection_verify=str(azurite.ca),
        retry_total=0,
    )
    async with queue:
        with pytest.raises(Unavailable, match="wake iris: "):
            await WakeQueue(queue)("iris")
        await queue.create_queue()
        await WakeQueue(queue)("iris")
        message = await queue.receive_message()
    assert message is not None
    assert json.loads(base64.b64decode(message.content)) == {"service": "iris"}
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    assert host["extensions"]["queues"]["messageEncoding"] == "base64"
