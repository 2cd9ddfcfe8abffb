"""Numbers from elsewhere, by the real SDKs: what is not there is None, what was not learned is ``Unavailable``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient
from azure.monitor.query.aio import LogsQueryClient
from azure.monitor.querymetrics.aio import MetricsClient
from azure.storage.queue.aio import QueueClient

from scaler.azure.signal_sources import LogNumber, MetricName, MetricNumber, QueueDepth, Source, read_all
from scaler.errors import BadSetting, Unavailable
from scaler.ports import Calls
from tests.azurite import Azurite
from tests.contract.answers import answering
from tests.contract.conftest import ManagementCredential
from tests.stand_in import SUBSCRIPTION, StandIn

AT = 1_790_000_000.0
RESOURCE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.ServiceBus/namespaces/bus"
METRIC = MetricName(RESOURCE, "Microsoft.ServiceBus/namespaces", "ActiveMessages")


# ---------------------------------------------------------------- storage queue


async def test_the_depth_of_a_queue_is_its_messages_and_a_missing_queue_is_not_empty(azurite: Azurite) -> None:
    queue = QueueClient(
        azurite.queue, "jobs", credential=azurite.credential, connection_verify=str(azurite.ca), retry_total=0
    )
    async with queue:
        with pytest.raises(Unavailable, match="queue jobs: "):
            await QueueDepth(queue).read()
        await queue.create_queue()
        assert await QueueDepth(queue).read() == 0.0
        for i in range(3):
            await queue.send_message(f"{i}")
        calls = Calls()
        with calls.counting():
            assert await QueueDepth(queue).read() == 3.0
        assert calls.counts() == {"signal": 1}


# ---------------------------------------------------------------- metrics


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        (f"{RESOURCE}/Microsoft.ServiceBus/namespaces/ActiveMessages", METRIC),
        (f"{RESOURCE}/custom/Depth", MetricName(RESOURCE, "custom", "Depth")),
        (
            f"{RESOURCE}/queues/a.b/Microsoft.ServiceBus/namespaces/queues/Size",
            MetricName(f"{RESOURCE}/queues/a.b", "Microsoft.ServiceBus/namespaces/queues", "Size"),
        ),
        (
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a/queueServices/default"
            "/Microsoft.Storage/storageAccounts/queueServices/QueueMessageCount",
            MetricName(
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a/queueServices/default",
                "Microsoft.Storage/storageAccounts/queueServices",
                "QueueMessageCount",
            ),
        ),
    ],
)
def test_a_metric_is_taken_apart(text: str, metric: MetricName) -> None:
    assert MetricName.of(text) == metric


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CpuUsage",
        "/subscriptions/s/resourceGroups/g",
        RESOURCE,
        f"{RESOURCE}/OnlyAName",
        f"{RESOURCE}//ns/name",
        "/subscriptions/s/providers/Microsoft.X",
        "/subscriptions/s/providers/Microsoft.X/a.b/c/d",
    ],
)
def test_what_is_no_metric_is_said(text: str) -> None:
    with pytest.raises(BadSetting, match=r"^metric '.*': "):
        MetricName.of(text)


def point(minutes_ago: float, **values: float | None) -> dict[str, Any]:
    at = datetime.fromtimestamp(AT, UTC) - timedelta(minutes=minutes_ago)
    return {"timeStamp": f"{at:%Y-%m-%dT%H:%M:%SZ}"} | values


def metric_answer(*series: list[dict[str, Any]]) -> dict[str, Any]:
    timeseries = [{"metadatavalues": [], "data": data} for data in series]
    value = {"id": f"{RESOURCE}/providers/m", "type": "t", "name": {"value": "ActiveMessages"}, "unit": "Count"}
    return {"cost": 0, "timespan": "a/b", "interval": "PT1M", "value": [value | {"timeseries": timeseries}]}


@asynccontextmanager
async def arm(
    stand_in: StandIn, answer: object, status: str = "200 OK"
) -> AsyncIterator[ContainerInstanceManagementClient]:
    """Resource Manager, which gives this answer to everything."""
    async with answering(stand_in.folder, json.dumps(answer).encode(), status=status) as url:
        client = ContainerInstanceManagementClient(
            ManagementCredential(), SUBSCRIPTION, base_url=url, connection_verify=str(stand_in.ca), retry_total=0
        )
        async with client:
            yield client


@pytest.mark.parametrize(
    ("series", "value"),
    [
        ([], None),
        ([[]], None),
        ([[point(3), point(2)]], None),
        ([[point(4, average=7.0), point(3, average=9.5), point(2)]], 9.5),
        ([[point(3, total=4.0)]], 4.0),
        ([[point(3, average=0.0)]], 0.0),
        ([[point(3, average=1.0)], [point(3, average=2.0)], [point(4, average=50.0)]], 3.0),
    ],
)
async def test_the_newest_point_with_a_value_counts_and_none_is_not_zero(
    stand_in: StandIn, series: list[list[dict[str, Any]]], value: float | None
) -> None:
    async with arm(stand_in, metric_answer(*series)) as resource:
        assert await number(resource).read() == value
    batch = {"values": [metric_answer(*series) | {"resourceid": RESOURCE}]}
    async with (
        arm(stand_in, {}) as resource,
        answering(stand_in.folder, json.dumps(batch).encode()) as url,
        metrics_client(url, stand_in) as client,
    ):
        assert await number(resource, client).read() == value


def number(arm: ContainerInstanceManagementClient, batch: MetricsClient | None = None) -> MetricNumber:
    return MetricNumber(METRIC, arm, batch, lambda: AT)


@asynccontextmanager
async def metrics_client(url: str, stand_in: StandIn) -> AsyncIterator[MetricsClient]:
    client = MetricsClient(url, ManagementCredential(), connection_verify=str(stand_in.ca), retry_total=0)
    async with client:
        yield client


async def test_where_the_batch_is_not_allowed_the_resource_is_asked(stand_in: StandIn) -> None:
    refusal = json.dumps({"error": {"code": "AuthorizationFailed", "message": "no"}}).encode()
    async with (
        arm(stand_in, metric_answer([point(2, average=5.0)])) as resource,
        answering(stand_in.folder, refusal, status="403 Forbidden") as url,
        metrics_client(url, stand_in) as client,
    ):
        calls = Calls()
        with calls.counting():
            assert await number(resource, client).read() == 5.0
        assert calls.counts() == {"signal": 2}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"error": {"code": "AuthorizationFailed", "message": "no"}}, "403 Forbidden"),
        ({"error": {"code": "X", "message": "busy"}}, "503 Service Unavailable"),
        ({}, "200 OK"),
        ([], "200 OK"),
        ({"value": [{"timeseries": [{"data": [{"average": 1}]}]}]}, "200 OK"),
        ({"value": [{"timeseries": [{"data": [{"timeStamp": "noon", "average": 1}]}]}]}, "200 OK"),
    ],
)
async def test_a_metric_that_could_not_be_read_is_unavailable(stand_in: StandIn, answer: object, status: str) -> None:
    async with arm(stand_in, answer, status) as resource:
        with pytest.raises(Unavailable, match=r"^metric ActiveMessages: "):
            await number(resource).read()
    async with (
        arm(stand_in, answer, status) as resource,
        answering(stand_in.folder, json.dumps(answer).encode(), status=status) as url,
        metrics_client(url, stand_in) as client,
    ):
        with pytest.raises(Unavailable, match=r"^metric ActiveMessages: "):
            await number(resource, client).read()


# ---------------------------------------------------------------- log queries


def table(columns: Mapping[str, str], *rows: list[Any]) -> dict[str, Any]:
    described = [{"name": name, "type": kind} for name, kind in columns.items()]
    return {"tables": [{"name": "PrimaryResult", "columns": described, "rows": list(rows)}]}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (table({"depth": "long"}, [42], [7]), 42.0),
        (table({"name": "string", "depth": "real"}, ["jobs", 4.5]), 4.5),
        (table({"other": "long", "value": "long"}, [1, 2]), 2.0),
        (table({"depth": "dynamic"}, ["17"]), 17.0),
        (table({"depth": "long"}), None),
        (table({"depth": "long"}, [None]), None),
        (table({"depth": "real"}, ["NaN"]), None),
        (table({"is": "bool"}, [True]), None),
        ({"tables": []}, None),
    ],
)
async def test_the_first_number_of_a_log_query_counts(
    stand_in: StandIn, answer: dict[str, Any], value: float | None
) -> None:
    async with logs(stand_in, answer) as source:
        assert await source.read() == value


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"error": {"code": "BadArgumentError", "message": "syntax"}}, "400 Bad Request"),
        (table({"depth": "long"}, [1]) | {"error": {"code": "PartialError", "message": "timed out"}}, "200 OK"),
        ({"tables": [{"name": "x", "columns": 3}]}, "200 OK"),
        ([], "200 OK"),
    ],
)
async def test_a_log_query_that_could_not_be_answered_in_full_is_unavailable(
    stand_in: StandIn, answer: object, status: str
) -> None:
    async with logs(stand_in, answer, status) as source:
        with pytest.raises(Unavailable, match=r"^a log query: "):
            await source.read()


@asynccontextmanager
async def logs(stand_in: StandIn, answer: object, status: str = "200 OK") -> AsyncIterator[LogNumber]:
    async with answering(stand_in.folder, json.dumps(answer).encode(), status=status) as url:
        client = LogsQueryClient(
            ManagementCredential(),
            endpoint=url,
            audience="https://api.loganalytics.io",
            connection_verify=str(stand_in.ca),
            retry_total=0,
        )
        async with client:
            yield LogNumber(client, "00000000-0000-4000-8000-000000000002", "Jobs | count")


# ---------------------------------------------------------------- all together


async def test_a_signal_without_an_answer_is_none_and_keeps_no_other_from_being_read() -> None:
    class Fixed:
        async def read(self) -> float | None:
            return 4.0

    class Broken:
        async def read(self) -> float | None:
            raise Unavailable("no answer")

    sources: dict[str, Source] = {"jobs": Fixed(), "log": Broken()}
    assert await read_all(sources) == {"jobs": 4.0, "log": None}
    assert await read_all({}) == {}
