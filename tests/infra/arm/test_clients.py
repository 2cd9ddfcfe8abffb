"""Microsoft's own clients against the stand-in, over TLS."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.data.tables.aio import TableServiceClient
from azure.identity.aio import ManagedIdentityCredential
from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient
from azure.monitor.query import LogsQueryResult
from azure.monitor.query.aio import LogsQueryClient
from azure.monitor.querymetrics.aio import MetricsClient

from infra.local.arm.arm import RECORDED
from tests.azurite import start_azurite
from tests.infra.arm.standin import StandIn, path_of, serving, until
from tests.infra.arm.world import group

GROUP = "work"
NAMESPACE = "Microsoft.ContainerInstance/containerGroups"


def raw(body: dict[str, Any]) -> Any:
    """Bytes go out as they are; the client's types know only files and models."""
    return json.dumps(body).encode()


@pytest.fixture
def identity(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in standin.identity.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def client(standin: StandIn, identity: None) -> AsyncIterator[ContainerInstanceManagementClient]:
    async with (
        ManagedIdentityCredential() as credential,
        ContainerInstanceManagementClient(
            credential,
            RECORDED,
            base_url=standin.base,
            connection_verify=str(standin.ca),
            retry_total=0,
            polling_interval=0.05,
        ) as made,
    ):
        yield made


async def test_the_management_client_creates_polls_reads_lists_and_deletes(
    standin: StandIn, client: ContainerInstanceManagementClient
) -> None:
    groups = client.container_groups
    poller = await groups.begin_create_or_update(GROUP, "sdk-1", raw(group()))
    made = await poller.result()
    assert made.provisioning_state == "Succeeded"
    got = await groups.get(GROUP, "sdk-1")
    assert got.instance_view is not None
    assert got.instance_view.state == "Running"
    assert got.ip_address is not None
    assert (got.ip_address.ip or "").startswith("127.64.")
    assert [g.name async for g in groups.list_by_resource_group(GROUP)] == ["sdk-1"]
    assert "sdk-1" in [g.name async for g in groups.list()]
    updated = await groups.update(GROUP, "sdk-1", {"tags": {"a": "b"}})
    assert updated.tags == {"a": "b"}
    usage = {u.name.value: u.current_value async for u in client.location.list_usage("westeurope")}
    assert usage["ContainerGroups"] == 1
    logs = await client.containers.list_logs(GROUP, "sdk-1", "main")
    assert logs.content == ""
    await groups.stop(GROUP, "sdk-1")
    await (await groups.begin_start(GROUP, "sdk-1")).result()
    await (await groups.begin_restart(GROUP, "sdk-1")).result()
    deleted = await (await groups.begin_delete(GROUP, "sdk-1")).result()
    assert deleted.name == "sdk-1"
    with pytest.raises(ResourceNotFoundError) as missing:
        await groups.get(GROUP, "sdk-1")
    assert missing.value.error is not None
    assert missing.value.error.code == "ResourceNotFound"


async def test_a_group_in_transition_comes_as_the_clients_conflict(
    standin: StandIn, client: ContainerInstanceManagementClient
) -> None:
    body = raw(group())
    await client.container_groups.begin_create_or_update(GROUP, "sdk-2", body, polling=False)
    with pytest.raises(ResourceExistsError) as refused:
        await client.container_groups.begin_create_or_update(GROUP, "sdk-2", body, polling=False)
    assert refused.value.error is not None
    assert refused.value.error.code == "ContainerGroupTransitioning"
    until(lambda: standin.properties("sdk-2")["provisioningState"] == "Succeeded", "the group to settle")
    standin.call("DELETE", path_of("sdk-2"))


async def test_a_failed_operation_fails_the_clients_poller(
    standin: StandIn, client: ContainerInstanceManagementClient
) -> None:
    standin.call("POST", "/stand-in/faults", {"fault": "no_capacity_async", "name": "sdk-3"})
    poller = await client.container_groups.begin_create_or_update(GROUP, "sdk-3", raw(group()))
    with pytest.raises(HttpResponseError, match="not available in the location 'westeurope'"):
        await poller.result()
    standin.call("DELETE", path_of("sdk-3"))


async def test_a_throttled_client_reads_how_long_to_wait(
    standin: StandIn, client: ContainerInstanceManagementClient
) -> None:
    standin.call("POST", "/stand-in/faults", {"fault": "throttled", "method": "GET", "retry_after_s": 23})
    with pytest.raises(HttpResponseError) as refused:
        await client.container_groups.get(GROUP, "sdk-4")
    assert refused.value.status_code == 429
    response: Any = refused.value.response
    assert response.headers["Retry-After"] == "23"


async def test_a_managed_identity_gets_a_token_once(standin: StandIn, identity: None) -> None:
    async with ManagedIdentityCredential(client_id="11111111-2222-3333-4444-555555555555") as credential:
        token = await credential.get_token("https://management.azure.com/.default")
        assert token.token.count(".") == 2
        assert (await credential.get_token("https://management.azure.com/.default")).token == token.token


async def test_a_wrong_identity_header_is_refused(
    standin: StandIn, identity: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "guessed")
    async with ManagedIdentityCredential() as credential:
        with pytest.raises(ClientAuthenticationError):
            await credential.get_token("https://management.azure.com/.default")


async def test_only_identities_that_exist_get_a_token(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = "11111111-2222-3333-4444-555555555555"
    with serving(tmp_path, tls, "--client-id", known) as standin:
        for name, value in standin.identity.items():
            monkeypatch.setenv(name, value)
        async with ManagedIdentityCredential(client_id=known) as credential:
            await credential.get_token("https://management.azure.com/.default")
        async with ManagedIdentityCredential(client_id=known[::-1]) as credential:
            with pytest.raises(ClientAuthenticationError):
                await credential.get_token("https://management.azure.com/.default")


async def test_azurite_takes_our_tokens(standin: StandIn, identity: None, tmp_path: Path) -> None:
    with start_azurite(tmp_path) as azurite:
        async with (
            ManagedIdentityCredential() as credential,
            TableServiceClient(azurite.table, credential=credential, connection_verify=str(azurite.ca)) as tables,
        ):
            await tables.create_table("tokens")
            assert [t.name async for t in tables.list_tables()] == ["tokens"]


async def test_the_metrics_client_reads_what_a_process_uses(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, tls, "--metric-lag", "0") as standin:
        for name, value in standin.identity.items():
            monkeypatch.setenv(name, value)
        standin.put("busy", "example.azurecr.io/server:1")
        standin.said("busy")
        resource = f"/subscriptions/{RECORDED}/{path_of('busy')}"
        path = f"{resource}/providers/microsoft.insights/metrics"

        def memory() -> bool:
            body = standin.call("GET", path, api="2024-02-01&metricnames=MemoryUsage")[2]
            return bool(body["value"][0]["timeseries"])

        until(memory, "the first sample")
        async with (
            ManagedIdentityCredential() as credential,
            MetricsClient(standin.base, credential, connection_verify=str(standin.ca)) as metrics,
        ):
            (result,) = await metrics.query_resources(
                resource_ids=[resource],
                metric_namespace=NAMESPACE,
                metric_names=["CpuUsage", "MemoryUsage"],
                timespan=timedelta(minutes=5),
                granularity=timedelta(minutes=1),
                aggregations=["average"],
            )
        named = {m.name: m for m in result.metrics}
        assert named["MemoryUsage"].id.startswith(resource)
        points = [p.average for series in named["MemoryUsage"].timeseries for p in series.data]
        assert max(p for p in points if p is not None) > 1e6
        assert None in points  # a minute without a measurement is not zero


async def test_the_logs_client_gets_numbers_and_semantic_errors(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_text('"Jobs | count": 12\n')
    with serving(tmp_path, tls, "--log-answers", str(answers)) as standin:
        for name, value in standin.identity.items():
            monkeypatch.setenv(name, value)
        async with (
            ManagedIdentityCredential() as credential,
            LogsQueryClient(
                credential,
                endpoint=standin.base,
                audience="https://api.loganalytics.io",
                connection_verify=str(standin.ca),
            ) as logs,
        ):
            found = await logs.query_workspace("workspace", "Jobs | count", timespan=timedelta(minutes=5))
            assert isinstance(found, LogsQueryResult)
            assert found.tables[0].rows[0][0] == 12
            with pytest.raises(HttpResponseError) as refused:
                await logs.query_workspace("workspace", "Nothing", timespan=None)
            assert refused.value.status_code == 400
            assert refused.value.error is not None
            assert "SemanticError" in str(refused.value.error.innererror or refused.value.message)
