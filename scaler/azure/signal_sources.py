"""Numbers from elsewhere: the depth of a storage queue, an Azure Monitor metric, the answer to a log query.

What is not there is None, never zero: a metric comes minutes late, and its newest points are often empty or wrongly 0.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.rest import HttpRequest
from msgspec import Struct

from scaler.azure.failures import unavailable
from scaler.errors import BadSetting, Unavailable
from scaler.ports import outgoing

if TYPE_CHECKING:
    from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient
    from azure.monitor.query.aio import LogsQueryClient
    from azure.monitor.querymetrics.aio import MetricsClient
    from azure.storage.queue.aio import QueueClient

CALL_LIMIT_S = 10.0
METRICS_API_VERSION = "2023-10-01"
LOOKED_BACK = timedelta(minutes=10)
NOT_YET = timedelta(minutes=1)  # younger points are not complete
LOG_SPAN = timedelta(days=1)
T = TypeVar("T")

log = logging.getLogger("scaler.signals")


class Source(Protocol):
    """One number, now."""

    async def read(self) -> float | None:
        """None when there is no data. Raises ``Unavailable`` when nothing was learned."""


async def read_all(sources: Mapping[str, Source]) -> dict[str, float | None]:
    """Every signal at once; one that gives no answer is None, and said in the log."""

    async def one(name: str, source: Source) -> float | None:
        try:
            return await source.read()
        except Unavailable as error:
            log.warning("a signal could not be read", extra={"signal": name, "error": str(error)})
            return None

    values = await asyncio.gather(*(one(name, source) for name, source in sources.items()))
    return dict(zip(sources, values, strict=True))


class QueueDepth:
    """Messages in a storage queue, those that are being worked on included."""

    def __init__(self, queue: QueueClient) -> None:
        self._queue = queue

    async def read(self) -> float | None:
        name = self._queue.queue_name
        properties = await _asked(self._queue.get_queue_properties, f"queue {name}", "Storage Queue Data Reader")
        count = properties.approximate_message_count
        return None if count is None else float(count)


class LogNumber:
    """The number in the first row of a query's answer: the column ``value`` if there is one, else the first number."""

    def __init__(self, client: LogsQueryClient, workspace: str, query: str) -> None:
        self._client, self._workspace, self._query = client, workspace, query

    async def read(self) -> float | None:
        from azure.monitor.query import LogsQueryStatus  # noqa: PLC0415

        result: Any = await _asked(
            lambda: self._client.query_workspace(
                self._workspace, self._query, timespan=LOG_SPAN, server_timeout=int(CALL_LIMIT_S)
            ),
            "a log query",
            "Log Analytics Reader",
        )
        if result.status != LogsQueryStatus.SUCCESS:
            raise Unavailable("a log query: only a part of the data was read")
        table = result.tables[0] if result.tables else None
        if table is None or not table.rows:
            return None
        row = table.rows[0]
        cells = [row["value"]] if "value" in table.columns else list(row)
        return next((number for cell in cells if (number := _number(cell)) is not None), None)


class MetricName(Struct, frozen=True):
    """``<resource id>/<namespace>/<name>``, taken apart."""

    resource: str
    namespace: str
    name: str

    @classmethod
    def of(cls, text: str) -> MetricName:
        """A resource id goes on in pairs of type and name; the namespace begins where a type would have a dot in it, or
        else is the last word but one. Raises ``BadSetting``."""
        parts = text.strip("/").split("/")
        lower = [part.lower() for part in parts]
        if lower[:1] != ["subscriptions"] or "providers" not in lower or not all(parts):
            raise BadSetting(f"metric {text!r}: expected /subscriptions/…/providers/…/<namespace>/<name>")
        first = lower.index("providers") + 2  # the first type
        rest = parts[first:]
        cut = next((i for i in range(0, len(rest), 2) if "." in rest[i]), len(rest) - 2)
        if cut < 2 or cut % 2 or len(rest) - cut < 2:
            raise BadSetting(f"metric {text!r}: after the resource id, expected a namespace and the name of a metric")
        resource = "/" + "/".join(parts[: first + cut])
        return cls(resource, "/".join(rest[cut:-1]), rest[-1])


class MetricNumber:
    """The newest complete point of a metric. A ``batch`` client is asked first if there is one, the resource if that is
    refused: the batch needs a role on the whole subscription."""

    def __init__(
        self,
        metric: MetricName,
        arm: ContainerInstanceManagementClient,
        batch: MetricsClient | None,
        clock: Callable[[], float],
    ) -> None:
        self._metric, self._arm, self._batch, self._clock = metric, arm, batch, clock

    async def read(self) -> float | None:
        end = datetime.fromtimestamp(self._clock(), UTC) - NOT_YET
        span = (end - LOOKED_BACK, end)
        if self._batch is not None:
            try:
                return await self._from_batch(self._batch, span)
            except _NotAllowed:
                log.info("the metrics batch is not allowed, the resource is asked", extra={"metric": self._metric.name})
        return await self._from_resource(span)

    async def _from_batch(self, client: MetricsClient, span: tuple[datetime, datetime]) -> float | None:
        metric = self._metric
        results: Any = await _asked(
            lambda: client.query_resources(
                resource_ids=[metric.resource],
                metric_namespace=metric.namespace,
                metric_names=[metric.name],
                timespan=span,
                granularity=timedelta(minutes=1),
                aggregations=["average", "total"],
            ),
            f"metric {metric.name}",
            "Monitoring Reader",
        )
        series = [s.data for result in results for found in result.metrics for s in found.timeseries]
        return _newest([[(p.timestamp, p.average, p.total) for p in points] for points in series])

    async def _from_resource(self, span: tuple[datetime, datetime]) -> float | None:
        metric = self._metric
        query = {
            "api-version": METRICS_API_VERSION,
            "metricnamespace": metric.namespace,
            "metricnames": metric.name,
            "timespan": "/".join(f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in span),
            "interval": "PT1M",
            "aggregation": "average,total",
        }
        url = f"{quote(metric.resource)}/providers/microsoft.insights/metrics?{urlencode(query)}"

        async def send() -> float | None:
            response = await self._arm._send_request(HttpRequest("GET", url))  # its docstring offers it for this
            response.raise_for_status()
            return _newest(
                [
                    [(_time(p["timeStamp"]), p.get("average"), p.get("total")) for p in series["data"]]
                    for value in response.json()["value"]
                    for series in value["timeseries"]
                ]
            )

        return await _asked(send, f"metric {metric.name}", "Monitoring Reader")


Point = tuple[datetime, float | None, float | None]  # when, average, total


def _newest(series: Sequence[Sequence[Point]]) -> float | None:
    """The newest point that has a value, of all series together: those of one metric are parts of a whole."""
    values: dict[datetime, list[float]] = {}
    for points in series:
        for at, average, total in points:
            if (value := _number(total if average is None else average)) is not None:
                values.setdefault(at, []).append(value)
    return sum(values[max(values)]) if values else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _number(cell: object) -> float | None:
    """A cell as a finite number, text with a number in it too; else None."""
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class _NotAllowed(Unavailable):
    """The identity lacks a role for it."""


async def _asked(send: Callable[[], Awaitable[T]], what: str, role: str) -> T:
    try:
        with outgoing("signal"):
            async with asyncio.timeout(CALL_LIMIT_S):
                return await send()
    except TimeoutError as error:
        raise Unavailable(f"{what}: no answer within {CALL_LIMIT_S:.0f} s") from error
    except AzureError as error:
        failure = unavailable(what, error, role=role)
        if isinstance(error, HttpResponseError) and error.status_code in (401, 403):
            raise _NotAllowed(str(failure)) from error
        raise failure from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # The SDKs' way to say that the body is not what they expect.
        raise Unavailable(f"{what}: the answer could not be read ({type(error).__name__})") from error
