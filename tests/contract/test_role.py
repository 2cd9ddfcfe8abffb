"""The roles that Azure is given are what the adapters need: with them all works, without any one something fails."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.data.tables.aio import TableServiceClient
from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient
from azure.monitor.query.aio import LogsQueryClient
from azure.monitor.querymetrics.aio import MetricsClient

from scaler.azure.address_records import AddressRecords
from scaler.azure.container_groups import ContainerGroups
from scaler.azure.inspection import Inspection
from scaler.azure.signal_sources import LogNumber, MetricName, MetricNumber
from scaler.errors import Refused, Unavailable
from scaler.template import Template
from tests.azurite import unsigned_token
from tests.contract.conftest import ManagementCredential
from tests.stand_in import GROUP, ROLES, SUBSCRIPTION, StandIn, missing_stand_in, start_stand_in

# Needed by Azure to carry out another one, without a call of ours: from its documentation, not recorded.
IMPLIED = {"Microsoft.OperationalInsights/workspaces/read", "Microsoft.OperationalInsights/workspaces/query/*/read"}
PLACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
IDENTITY = f"{PLACE}/Microsoft.ManagedIdentity/userAssignedIdentities/id-replica"
SUBNET = f"{PLACE}/Microsoft.Network/virtualNetworks/vnet/subnets/groups"
ZONE = f"{PLACE}/Microsoft.Network/privateDnsZones/aci-autoscaler.internal"
METRIC = (
    f"{PLACE}/Microsoft.ContainerInstance/containerGroups/none/Microsoft.ContainerInstance/containerGroups/CpuUsage"
)
TEMPLATE = f"""
properties:
  containers:
  - name: server
    properties:
      image: example.azurecr.io/idle:1
      ports: [{{port: 8000}}]
      resources: {{requests: {{cpu: 1.0, memoryInGB: 1.5}}}}
  imageRegistryCredentials: [{{server: example.azurecr.io, identity: {IDENTITY}}}]
  ipAddress: {{type: Private, ports: [{{port: 8000}}]}}
  subnetIds: [{{id: {SUBNET}}}]
identity: {{type: UserAssigned, userAssignedIdentities: {{{IDENTITY}: {{}}}}}}
"""


class Scoped(ManagementCredential):
    """A token for whatever audience is asked for."""

    async def get_token(self, *scopes: str, **_options: object) -> AccessToken:
        return unsigned_token(scopes[0].removesuffix("/.default"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A stand-in of this file's own, for it counts what was asked for."""
    if missing := missing_stand_in():
        pytest.skip(missing)
    with start_stand_in(tmp_path_factory.mktemp("arm"), *options(ROLES)) as running:
        yield running


def options(roles: Path) -> tuple[str, ...]:
    place = ("--subscription", SUBSCRIPTION, "--resource-group", GROUP)
    return (*place, "--start-delay", "0.1", "--authorization", str(roles))


@asynccontextmanager
async def management(stand_in: StandIn) -> AsyncIterator[ContainerInstanceManagementClient]:
    client = ContainerInstanceManagementClient(
        ManagementCredential(), SUBSCRIPTION, base_url=stand_in.arm, connection_verify=str(stand_in.ca), retry_total=0
    )
    async with client:
        yield client


async def everything(stand_in: StandIn) -> list[str]:
    """Every call that an adapter makes, once; gives what was refused for want of a right."""
    refused = []
    trust: dict[str, Any] = {"connection_verify": str(stand_in.ca), "retry_total": 0}
    table = TableServiceClient("https://127.0.0.1:9/none", credential=Scoped(), retry_total=0)
    async with (
        table,
        management(stand_in) as arm,
        MetricsClient(stand_in.arm, Scoped(), **trust) as batch,
        LogsQueryClient(Scoped(), endpoint=stand_in.arm, audience="https://api.loganalytics.io", **trust) as logs,
    ):
        for call in calls(arm, batch, logs, table):
            try:
                await call()
            except (Unavailable, Refused) as error:
                if "AuthorizationFailed" in str(error):
                    refused.append(str(error))
    return refused


def calls(
    arm: ContainerInstanceManagementClient, batch: MetricsClient, logs: LogsQueryClient, table: TableServiceClient
) -> list[Callable[[], Awaitable[object]]]:
    fleet = ContainerGroups(arm, GROUP)
    records = AddressRecords(arm, ZONE)
    asking = LogNumber(logs, SUBSCRIPTION, "print value = 1")
    inspection = Inspection(arm, table, None, PLACE.removesuffix("/providers"), logs=asking)
    template = Template.read(TEMPLATE, "replica.yaml")
    request = template.request("iris-0001", service="iris", deployment_id="d", region="westeurope")
    metric = MetricName.of(METRIC)
    return [
        lambda: fleet.create(request),
        fleet.list,
        lambda: fleet.show("iris-0001"),
        lambda: fleet.usage("westeurope"),
        lambda: fleet.delete("iris-0001"),
        MetricNumber(metric, arm, None, time.time).read,
        MetricNumber(metric, arm, batch, time.time).read,
        LogNumber(logs, SUBSCRIPTION, "Jobs | count").read,
        lambda: records.keep("front", "10.90.1.4"),
        lambda: inspection.capabilities("westeurope"),
        lambda: inspection.identity(IDENTITY),
        lambda: inspection.subnet(SUBNET),
        lambda: inspection.may_write_groups("westeurope", {"userAssignedIdentities": {IDENTITY: {}}}, [{"id": SUBNET}]),
        inspection.may_delete_groups,
        lambda: inspection.may_write_record(ZONE),
        inspection.may_read_metrics,
        inspection.may_query_logs,
    ]


async def test_with_the_roles_everything_is_allowed_and_no_action_is_there_for_nothing(own: StandIn) -> None:
    assert await everything(own) == []
    granted = {a for role in json.loads(ROLES.read_text(encoding="utf-8")).values() for a in role["actions"]}
    assert own.actions() == granted - IMPLIED


def granted() -> list[tuple[str, str]]:
    roles = json.loads(ROLES.read_text(encoding="utf-8"))
    return [(name, action) for name, role in roles.items() for action in role["actions"] if action not in IMPLIED]


@pytest.mark.verify
@pytest.mark.parametrize(("role", "action"), granted(), ids=lambda v: str(v).rpartition("Microsoft.")[2])
async def test_without_one_action_something_is_refused(role: str, action: str, tmp_path: Path) -> None:
    roles = json.loads(ROLES.read_text(encoding="utf-8"))
    roles[role]["actions"].remove(action)
    (tmp_path / "roles.json").write_text(json.dumps(roles))
    with start_stand_in(tmp_path, *options(tmp_path / "roles.json")) as lacking:
        refused = await everything(lacking)
    assert any(action in r for r in refused), refused


def test_no_command_can_be_run_in_a_replica() -> None:
    assert "exec" not in ROLES.read_text(encoding="utf-8")
