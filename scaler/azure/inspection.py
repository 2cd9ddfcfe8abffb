"""What ``doctor`` asks Azure and no tick does: rights without using them, regions, neighbours, the clock.

A right to write is tried without writing: Azure looks at rights before it looks at what is asked, so a request that can
never be carried out is refused with 403 where the right is missing, and otherwise with what is wrong about it.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from azure.core.exceptions import AzureError
from azure.core.rest import AsyncHttpResponse, HttpRequest
from msgspec import Struct

from scaler.azure.failures import unavailable
from scaler.azure.signal_sources import METRICS_API_VERSION, Source
from scaler.errors import Unavailable

if TYPE_CHECKING:
    from azure.data.tables.aio import TableServiceClient
    from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient
    from azure.storage.queue.aio import QueueClient

CALL_LIMIT_S = 15.0
GROUPS_API, NETWORK_API, DNS_API, IDENTITY_API = "2023-05-01", "2024-05-01", "2024-06-01", "2023-01-31"
PROBE = "aci-autoscaler-doctor"  # of a group that is never made
MISSING = re.compile(r"action(?:\(s\))? '([^']+)'")  # in Azure's words; the last one is what lacks
DELEGATION = "microsoft.containerinstance/containergroups"


class Capability(Struct, frozen=True, kw_only=True):
    """What a region offers one container group. ``gpu``: the SKU, None where there is none."""

    cpu: float
    memory_gb: float
    gpu: str | None


class Inspection:
    """The questions. Each raises ``Unavailable`` with what is missing, or gives what was found."""

    def __init__(
        self,
        arm: ContainerInstanceManagementClient,
        tables: TableServiceClient,
        queue: QueueClient | None,
        scope: str,
        clock: Callable[[], float] = time.time,
        logs: Source | None = None,
    ) -> None:
        """``scope`` is the resource id of the resource group; ``logs`` asks the workspace something trivial."""
        self._logs = logs
        self._arm, self._tables, self._queue, self._scope, self._clock = arm, tables, queue, scope, clock

    async def may_write_groups(self, region: str, identity: object, subnets: Sequence[object]) -> str:
        """Whether groups could be made with this identity in these subnets: a body without containers is none."""
        body: dict[str, Any] = {"location": region, "properties": {"osType": "Linux", "containers": []}}
        if identity:
            body["identity"] = identity
        if subnets:
            body["properties"]["subnetIds"] = list(subnets)
        return await self._refused_for_its_content("PUT", self._group(), body)

    async def may_delete_groups(self) -> str:
        response = await self._send("DELETE", self._group())
        _raise_unless(response, "deleting a container group", {200, 202, 204, 404})
        return "allowed"

    async def may_write_record(self, zone: str) -> str:
        headers = {"If-Match": "aci-autoscaler-doctor"}
        body = {"properties": {"ttl": 10, "aRecords": [{"ipv4Address": "127.0.0.1"}]}}
        url = f"{zone}/A/{PROBE}?api-version={DNS_API}"
        response = await self._send("PUT", url, body, headers)
        _raise_unless(response, f"writing a record in {_last(zone)}", {400, 412})
        response = await self._send("GET", url)
        _raise_unless(response, f"reading a record in {_last(zone)}", {200, 404})
        return "allowed"

    async def may_read_metrics(self) -> str:
        path, _, _ = self._group().partition("?")
        url = f"{path}/providers/microsoft.insights/metrics?api-version={METRICS_API_VERSION}&metricnames=CpuUsage"
        response = await self._send("GET", url)
        _raise_unless(response, "reading metrics", {200, 400, 404})
        return "allowed"

    async def may_query_logs(self) -> str:
        if self._logs is None:
            raise Unavailable("AUTOSCALER_LOGS_WORKSPACE is not set")
        await self._logs.read()
        return "allowed"

    async def subnet(self, resource: str) -> str:
        response = await self._send("GET", f"{resource}?api-version={NETWORK_API}")
        _raise_unless(response, f"subnet {_last(resource)}", {200})
        found = response.json().get("properties", {})
        services = [d.get("properties", {}).get("serviceName", "").lower() for d in found.get("delegations", [])]
        if DELEGATION not in services:
            raise Unavailable(
                f"subnet {_last(resource)} is not delegated to Microsoft.ContainerInstance/containerGroups"
            )
        return f"{_last(resource)}, {found.get('addressPrefix', '')}, delegated to container groups"

    async def identity(self, resource: str) -> str:
        response = await self._send("GET", f"{resource}?api-version={IDENTITY_API}")
        _raise_unless(response, f"identity {_last(resource)}", {200})
        return _last(resource)

    async def group(self, name: str) -> bytes:
        """A container group as Azure tells of it."""
        response = await self._send("GET", self._group(name))
        _raise_unless(response, f"container group {name}", {200})
        return json.dumps(response.json()).encode()

    async def capabilities(self, region: str) -> list[Capability]:
        """Of Linux groups; the largest of each address type."""
        pages = self._arm.location.list_capabilities(region)

        async def read() -> list[Any]:
            return [line async for line in pages]

        lines = await _asked(f"what {region} offers", read)
        return [
            Capability(
                cpu=float(line.capabilities.max_cpu or 0),
                memory_gb=float(line.capabilities.max_memory_in_gb or 0),
                gpu=line.gpu if line.gpu and line.gpu.lower() != "none" else None,
            )
            for line in lines
            if line.capabilities is not None and (line.os_type or "").lower() in ("linux", "notapplicable", "")
        ]

    async def clock_off_s(self) -> float:
        """How far this machine's clock is ahead of Azure's, seconds. Azure's is whole seconds."""
        response = await self._send("GET", f"{self._group()}")
        at = self._clock()
        if not (date := response.headers.get("Date")):
            raise Unavailable("Azure's answer had no date")
        return at - parsedate_to_datetime(date).timestamp()

    async def write_row(self) -> str:
        """Write and remove a row where no service has any: its partition is no service's name."""
        row = {"PartitionKey": "_doctor", "RowKey": "probe"}
        table = self._tables.get_table_client("state")

        async def write() -> None:
            await table.upsert_entity(row)
            await table.delete_entity(row)

        await _asked("writing a row of the state table", write, "Storage Table Data Contributor")
        return "a row was written and removed"

    async def queue(self) -> str:
        if self._queue is None:
            raise Unavailable("AUTOSCALER_QUEUE_ENDPOINT is not set")
        client = self._queue

        async def read() -> int:
            return (await client.get_queue_properties()).approximate_message_count or 0

        count = await _asked("the queue of wakes", read, "Storage Queue Data Contributor")
        return f"{count} messages wait"

    def _group(self, name: str = PROBE) -> str:
        provider = "providers/Microsoft.ContainerInstance/containerGroups"
        return f"{self._scope}/{provider}/{quote(name, safe='')}?api-version={GROUPS_API}"

    async def _refused_for_its_content(self, method: str, url: str, body: dict[str, Any]) -> str:
        response = await self._send(method, url, body)
        _raise_unless(response, "making a container group", {400})
        return "allowed"

    async def _send(
        self, method: str, url: str, body: object = None, headers: dict[str, str] | None = None
    ) -> AsyncHttpResponse:
        request = HttpRequest(method, url, json=body, headers=headers or {})

        async def send() -> AsyncHttpResponse:
            response: AsyncHttpResponse = await self._arm._send_request(request)  # its docstring offers it for this
            return response

        answer: AsyncHttpResponse = await _asked(f"{method} {url.partition('?')[0]}", send)
        return answer


async def _asked(what: str, send: Callable[[], Awaitable[Any]], role: str = "of the deployment") -> Any:
    try:
        async with asyncio.timeout(CALL_LIMIT_S):
            return await send()
    except TimeoutError as error:
        raise Unavailable(f"{what}: no answer within {CALL_LIMIT_S:.0f} s") from error
    except AzureError as error:
        raise unavailable(what, error, role=role) from error


def _raise_unless(response: AsyncHttpResponse, what: str, fine: set[int]) -> None:
    if response.status_code in fine:
        return
    try:
        told = json.loads(response.text()).get("error", {})
    except (ValueError, AttributeError):
        told = {}
    code, message = told.get("code", f"HTTP {response.status_code}"), str(told.get("message", ""))
    if "AuthorizationFailed" in code and (actions := MISSING.findall(message)):
        raise Unavailable(f"{what}: {code}: the right {actions[-1]} is missing")
    raise Unavailable(f"{what}: {code}: {message}"[:400].rstrip(": "))


def _last(resource: str) -> str:
    return resource.rstrip("/").rpartition("/")[2]
