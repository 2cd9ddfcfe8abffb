"""Azure Monitor: CPU and memory of the containers by the minute, and answers to known log queries."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from infra.local.arm.asked import decode
from infra.local.arm.errors import ArmError
from infra.local.arm.http import Answer, Call, Route, route
from infra.local.arm.state import Json, Key

if TYPE_CHECKING:
    from infra.local.arm.arm import Arm

NAMESPACE = "Microsoft.ContainerInstance/containerGroups"
PRINT = re.compile(r"print \w+ *= *(\d+(?:\.\d+)?)")  # needs no table
UNITS = {
    "CpuUsage": "Count",  # millicores
    "MemoryUsage": "Bytes",
    "NetworkBytesReceivedPerSecond": "Bytes",
    "NetworkBytesTransmittedPerSecond": "Bytes",
}
AGGREGATIONS = ("average", "minimum", "maximum", "total", "count")
MINUTE_S = 60
KEPT_MINUTES = 24 * 60
MOST_RESOURCES = 50
RESOURCE = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.ContainerInstance/containerGroups/([^/]+)",
    re.I,
)


class Point(Struct, kw_only=True):
    """One minute of one metric of one container."""

    at: int
    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)


class Series:
    """What was measured, for as long as anybody may ask: one day."""

    def __init__(self) -> None:
        self._points: dict[tuple[Key, str, str], deque[Point]] = {}

    def add(self, key: Key, container: str, metric: str, at: float, value: float) -> None:
        points = self._points.setdefault((key, container, metric), deque(maxlen=KEPT_MINUTES))
        minute = int(at // MINUTE_S) * MINUTE_S
        if not points or points[-1].at != minute:
            points.append(Point(at=minute))
        points[-1].add(value)

    def between(self, key: Key, metric: str, start: float, end: float) -> dict[str, list[Point]]:
        """The points of each container."""
        return {
            container: [p for p in points if start <= p.at < end]
            for (owner, container, name), points in self._points.items()
            if owner == key and name == metric
        }

    def forget(self, living: set[Key]) -> None:
        """Drop what belongs to groups that are gone."""
        for entry in [e for e in self._points if e[0] not in living]:
            del self._points[entry]


class Span(Struct, frozen=True, kw_only=True):
    """What a metrics request asks for."""

    start: float
    end: float
    interval_s: int
    interval: str
    metrics: tuple[str, ...]
    aggregations: tuple[str, ...]
    by_container: bool


def routes(arm: Arm) -> list[Route]:
    """The data plane of the metrics, the metrics of one resource, and log queries."""
    rest = Monitor(arm)
    group = (
        "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.ContainerInstance"
        "/containerGroups/{name}/providers/microsoft.insights"
    )
    read = "Microsoft.Insights/metrics/read"
    return [
        route("POST", "/subscriptions/{subscription}/metrics:getBatch", rest.batch, read),
        route("GET", f"{group}/metrics", rest.one, read),
        route("GET", f"{group}/metricDefinitions", rest.definitions, "Microsoft.Insights/metricDefinitions/read"),
        route(
            "POST",
            "/v1/workspaces/{workspace}/query",
            rest.query,
            "Microsoft.OperationalInsights/workspaces/query/read",
        ),
    ]


class Monitor:
    """The handlers."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    def batch(self, call: Call) -> Answer:
        ids = decode(call.request.body).get("resourceids")
        if not isinstance(ids, list) or not 0 < len(ids) <= MOST_RESOURCES:
            raise ArmError(400, "BadRequest", f"resourceids must name 1 to {MOST_RESOURCES} resources.")
        span = _span(call)
        return Answer(body={"values": [self._values(call, span, str(i)) for i in ids]})

    def one(self, call: Call) -> Answer:
        identifier = call.request.clean_path.rpartition("/providers/")[0]
        group = self._arm.groups.get(_key(identifier), call.names["resource_group"], call.names["name"])
        span = _span(call)
        body = self._values(call, span, group.id)
        timespan = f"{body.pop('starttime')}/{body.pop('endtime')}"
        body.pop("resourceid")
        return Answer(body={"cost": 0, "timespan": timespan, **body, "resourceregion": group.location})

    def definitions(self, call: Call) -> Answer:
        identifier = call.request.clean_path.rpartition("/providers/")[0]
        value = [
            {
                "id": f"{identifier}/providers/microsoft.insights/metricdefinitions/{name}",
                "resourceId": identifier,
                "namespace": NAMESPACE,
                "name": {"value": name, "localizedValue": name},
                "unit": unit,
                "primaryAggregationType": "Average",
                "supportedAggregationTypes": ["Average", "Minimum", "Maximum"],
                "metricAvailabilities": [{"timeGrain": "PT1M", "retention": "P93D"}],
            }
            for name, unit in UNITS.items()
        ]
        return Answer(body={"value": value})

    def query(self, call: Call) -> Answer:
        """What a `print` of a number prints, or the answer that the file of log answers has for this query; else the
        refusal of an unknown table."""
        asked = decode(call.request.body).get("query")
        if not isinstance(asked, str) or not asked.strip():
            raise ArmError(400, "BadArgumentError", "The request had some invalid properties: query is missing.")
        file = self._arm.settings.log_answers
        known = _log_answers(file.read_bytes()) if file is not None and file.exists() else {}
        printed = PRINT.fullmatch(asked.strip())
        value = float(printed[1]) if printed else known.get(_squeezed(asked))
        if value is None:
            error = ArmError(400, "BadArgumentError", "The request had some invalid properties")
            inner = {"code": "SemanticError", "message": "A semantic error occurred. No answer is set for this query."}
            return Answer(status=400, body={"error": {**error.body()["error"], "innererror": inner}})
        columns = [{"name": "value", "type": "real"}]
        return Answer(body={"tables": [{"name": "PrimaryResult", "columns": columns, "rows": [[value]]}]})

    def _values(self, call: Call, span: Span, identifier: str) -> Json:
        group = self._arm.groups.find(_key(identifier))
        seen_until = call.now - self._arm.settings.metric_lag_s
        end = min(span.end, seen_until)
        return {
            "starttime": _text(span.start),
            "endtime": _text(span.end),
            "interval": span.interval,
            "namespace": NAMESPACE,
            "resourceregion": group.location if group else "westeurope",
            "resourceid": identifier,
            "value": [self._metric(identifier, metric, span, end) for metric in span.metrics],
        }

    def _metric(self, identifier: str, metric: str, span: Span, end: float) -> Json:
        series = self._arm.series.between(_key(identifier), metric, span.start, end)
        if not span.by_container:
            merged = [p for points in series.values() for p in points]
            series = {"": merged} if merged else {}
        return {
            "id": f"{identifier}/providers/Microsoft.Insights/metrics/{metric}",
            "type": "Microsoft.Insights/metrics",
            "name": {"value": metric, "localizedValue": metric},
            "displayDescription": metric,
            "unit": UNITS[metric],
            "timeseries": [_timeseries(container, points, span) for container, points in series.items()],
            "errorCode": "Success",
        }


def _timeseries(container: str, points: Sequence[Point], span: Span) -> Json:
    """Every step of the span; a step without a measurement has only its time."""
    metadata = [{"name": {"value": "containername", "localizedValue": "containername"}, "value": container}]
    data = []
    first = int(span.start // span.interval_s) * span.interval_s
    for at in range(first, math.ceil(span.end), span.interval_s):
        inside = [p for p in points if at <= p.at < at + span.interval_s]
        data.append({"timeStamp": _text(at), **_values_of(inside, span.aggregations)})
    return {"metadatavalues": metadata if container else [], "data": data}


def _values_of(points: Sequence[Point], aggregations: Sequence[str]) -> dict[str, float]:
    if not points:
        return {}
    count, total = sum(p.count for p in points), sum(p.total for p in points)
    every = {
        "average": total / count,
        "minimum": min(p.least for p in points),
        "maximum": max(p.most for p in points),
        "total": total,
        "count": float(count),
    }
    return {name: every[name] for name in aggregations}


def _span(call: Call) -> Span:
    query = call.request.query
    names = tuple(n.strip() for n in query.get("metricnames", "CpuUsage").split(",") if n.strip())
    canonical = {name.lower(): name for name in UNITS}
    for name in names:
        if name.lower() not in canonical:
            raise ArmError(
                400,
                "BadRequest",
                f"Failed to find metric configuration for provider: Microsoft.ContainerInstance, resource Type: "
                f"containerGroups, metric: {name}, Valid metrics: {','.join(UNITS)}",
            )
    start, end = _bounds(query.get("timespan"), query.get("starttime"), query.get("endtime"), call.now)
    interval = query.get("interval", "PT1M")
    aggregations = tuple(a.strip().lower() for a in query.get("aggregation", "average").split(",") if a.strip())
    if bad := next((a for a in aggregations if a not in AGGREGATIONS), None):
        raise ArmError(400, "BadRequest", f"Invalid aggregation: {bad}. Valid: {','.join(AGGREGATIONS)}")
    return Span(
        start=start,
        end=end,
        interval_s=_interval_s(interval),
        interval=interval,
        metrics=tuple(canonical[n.lower()] for n in names),
        aggregations=aggregations,
        by_container="containername" in query.get("filter", "").lower(),
    )


def _bounds(timespan: str | None, start: str | None, end: str | None, now: float) -> tuple[float, float]:
    """``az`` encodes a time span twice, hence the second decoding."""
    if timespan:
        start, _, end = unquote(timespan).partition("/")
    last = _time(end) if end else now
    return (_time(start) if start else last - 3600), last


def _time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(unquote(text).replace(" ", "+"))
    except ValueError as error:
        raise ArmError(400, "BadRequest", f"'{text}' is no time; expected one like 2026-01-01T00:00:00Z.") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _interval_s(text: str) -> int:
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?", text.upper())
    days, hours, minutes = (int(g or 0) for g in found.groups()) if found else (0, 0, 0)
    seconds = days * 86_400 + hours * 3600 + minutes * 60
    if not seconds:
        raise ArmError(400, "BadRequest", f"Detected invalid time grain input '{text}'. Valid: PT1M, PT5M, PT1H, P1D.")
    return seconds


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _key(identifier: str) -> Key:
    found = RESOURCE.fullmatch(identifier)
    if found is None:
        raise ArmError(400, "BadRequest", f"'{identifier}' is no container group.")
    return Key.of(found[1], found[2], found[3])


def _log_answers(raw: bytes) -> dict[str, float]:
    answers: dict[str, Any] = msgspec.yaml.decode(raw, type=dict[str, float])
    return {_squeezed(query): float(value) for query, value in answers.items()}


def _squeezed(query: str) -> str:
    return " ".join(query.split())
