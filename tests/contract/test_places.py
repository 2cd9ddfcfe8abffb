"""Replicas in several subscriptions, through the real SDK and the stand-in."""

from __future__ import annotations

import msgspec
import pytest
from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient

from infra.local.arm.arm import RECORDED
from scaler.azure.container_groups import ContainerGroups
from scaler.azure.places import Places
from scaler.errors import BadSetting, Unavailable
from scaler.ports import Calls
from scaler.settings import Place, Settings
from scaler.template import Template
from tests.contract.conftest import ManagementCredential
from tests.scaler.ticking import TEMPLATE
from tests.stand_in import GROUP, StandIn


async def test_groups_are_made_listed_shown_and_deleted_where_they_belong(
    stand_in: StandIn, management: ContainerInstanceManagementClient
) -> None:
    other = ContainerInstanceManagementClient(
        ManagementCredential(), RECORDED, base_url=stand_in.arm, connection_verify=str(stand_in.ca), retry_total=0
    )
    async with other:
        places = Places({"": ContainerGroups(management, GROUP), "second": ContainerGroups(other, "rg-second")})
        template = Template.read(TEMPLATE, "replica.yaml")
        for name, region in (("placed-a", "westeurope"), ("placed-b", "westeurope@second")):
            await places.create(template.request(name, service="placed", deployment_id="places", region=region))
        calls = Calls()
        with calls.counting():
            listed = {g.name: g.region for g in await places.list() if g.tags.get("aci-autoscaler") == "places"}
        assert set(calls.counts()) == {"list"}
        assert listed == {"placed-a": "westeurope", "placed-b": "westeurope@second"}
        shown = await places.show("placed-b")
        assert shown is not None
        assert await Places({"": ContainerGroups(management, GROUP)}).show("placed-b") is None
        assert {line.name for line in await places.usage("westeurope@second")} >= {"ContainerGroups"}
        # An instance that has listed nothing yet looks everywhere.
        fresh = Places({"": ContainerGroups(management, GROUP), "second": ContainerGroups(other, "rg-second")})
        assert await fresh.show("placed-b") is not None
        await fresh.delete("placed-b")
        await places.delete("placed-a")
        assert not [g for g in await places.list() if g.tags.get("aci-autoscaler") == "places"]


async def test_one_list_that_fails_is_no_list_at_all(
    stand_in: StandIn, management: ContainerInstanceManagementClient
) -> None:
    places = Places({"": ContainerGroups(management, GROUP), "gone": ContainerGroups(management, "no-such-group")})
    with pytest.raises(Unavailable):
        await places.list()


def test_places_are_read_from_the_environment_or_refused_in_a_sentence() -> None:
    known = {"AUTOSCALER_PLACES": f"second={RECORDED}/rg-2, third={RECORDED}/rg-3"}
    settings = Settings.read(known, "cli")
    assert settings.places == {"second": Place(RECORDED, "rg-2"), "third": Place(RECORDED, "rg-3")}
    with pytest.raises(BadSetting, match="AUTOSCALER_PLACES: 'second=x' is no place; write it like"):
        Settings.read({"AUTOSCALER_PLACES": "second=x"}, "cli")


def test_a_request_carries_its_place_and_azure_sees_the_region_alone() -> None:
    template = Template.read(TEMPLATE, "replica.yaml")
    request = template.request("a", service="s", deployment_id="d", region="westeurope@second")
    assert request.place == "second"
    assert msgspec.json.decode(request.body)["location"] == "westeurope"
