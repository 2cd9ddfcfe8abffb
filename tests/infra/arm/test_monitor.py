"""Monitor: metrics by the minute, late as Azure's are, and answers to known log queries."""

from pathlib import Path
from typing import Any

import pytest

from infra.local.arm.arm import RECORDED, Settings
from infra.local.arm.state import Key
from tests.infra.arm.world import World, group_path

BATCH = f"/subscriptions/{RECORDED}/metrics:getBatch"
METRICS_API = "2024-02-01"


def measured(lag_s: float = 120.0) -> tuple[World, str]:
    """A world at a full minute, whose group used 100, 200, … millicores in its last ten minutes."""
    world = World(settings=Settings(metric_lag_s=lag_s), now=1_790_000_040.0)
    world.put("iris-1")
    key = Key.of(RECORDED, "work", "iris-1")
    for minute in range(10):
        for offset, extra in ((10, -50), (40, 50)):
            at = world.now + minute * 60 + offset
            world.arm.series.add(key, "main", "CpuUsage", at, 100 * (minute + 1) + extra)
            world.arm.series.add(key, "main", "MemoryUsage", at, 1e6)
    world.now += 600
    return world, f"/subscriptions/{RECORDED}/{group_path('iris-1')}"


def batch(world: World, resources: list[str], **query: str) -> Any:
    asked = {"metricnames": "CpuUsage", "interval": "PT1M", "aggregation": "average", "timespan": ""} | query
    return world.call("POST", BATCH, {"resourceids": resources}, query=asked, api=METRICS_API)


def test_millicores_come_as_averages_of_a_minute_and_late() -> None:
    world, resource = measured()
    value = batch(world, [resource]).body["values"][0]
    assert (value["resourceid"], value["namespace"]) == (resource, "Microsoft.ContainerInstance/containerGroups")
    metric = value["value"][0]
    assert (metric["name"]["value"], metric["unit"]) == ("CpuUsage", "Count")
    points = metric["timeseries"][0]["data"]
    assert [p.get("average") for p in points[-10:]] == [100, 200, 300, 400, 500, 600, 700, 800, None, None]
    assert points[-1]["timeStamp"].endswith("Z")


def test_without_measurements_there_is_no_series_at_all() -> None:
    world, resource = measured()
    other = resource.replace("iris-1", "iris-2")
    values = batch(world, [resource, other]).body["values"]
    assert [bool(v["value"][0]["timeseries"]) for v in values] == [True, False]


def test_longer_steps_and_other_aggregations_are_computed() -> None:
    world, resource = measured(lag_s=0)
    body = batch(world, [resource], interval="PT5M", aggregation="minimum,maximum,count", metricnames="cpuusage").body
    points = [p for p in body["values"][0]["value"][0]["timeseries"][0]["data"] if "count" in p]
    assert (points[0]["minimum"], sum(p["count"] for p in points)) == (50, 20)
    assert max(p["maximum"] for p in points) == 1050


def test_a_filter_splits_by_container() -> None:
    world, resource = measured()
    body = batch(world, [resource], filter="containerName eq '*'").body
    assert body["values"][0]["value"][0]["timeseries"][0]["metadatavalues"][0]["value"] == "main"


@pytest.mark.parametrize(
    ("resources", "query"),
    [
        ([], {}),
        (["/x"] * 51, {}),
        (["/subscriptions/x"], {}),
        (None, {"metricnames": "GpuUsage"}),
        (None, {"interval": "PT1S"}),
        (None, {"aggregation": "median"}),
        (None, {"timespan": "yesterday/today"}),
    ],
)
def test_what_monitor_does_not_understand_it_refuses(resources: list[str] | None, query: dict[str, str]) -> None:
    world, resource = measured()
    answer = batch(world, [resource] if resources is None else resources, **query)
    assert (answer.status, answer.body["error"]["code"]) == (400, "BadRequest")


def test_one_resource_can_be_asked_through_resource_manager() -> None:
    world, resource = measured()
    path = f"{resource}/providers/microsoft.insights/metrics"
    # As ``az monitor metrics list`` sends it: encoded twice.
    span = "2026-09-21T14%3A00%3A00Z/2026-09-21T14%3A30%3A00Z"
    query = {"metricnames": "CpuUsage,MemoryUsage", "timespan": span, "interval": "PT1M", "aggregation": "Average"}
    body = world.call("GET", path, query=query, api="2023-10-01").body
    assert [m["name"]["value"] for m in body["value"]] == ["CpuUsage", "MemoryUsage"]
    assert body["timespan"] == "2026-09-21T14:00:00Z/2026-09-21T14:30:00Z"
    missing = world.call("GET", path.replace("iris-1", "iris-9"), query=query, api="2023-10-01")
    assert missing.body["error"]["code"] == "ResourceNotFound"


def test_a_known_log_query_gives_its_number_and_an_unknown_one_an_error(tmp_path: Path) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_text("\"Jobs | where State == 'waiting'\\n| count\": 42\n")
    world = World(settings=Settings(log_answers=answers))
    path = "/v1/workspaces/w/query"
    known = world.call("POST", path, {"query": "Jobs | where State == 'waiting' | count"}, api=None)
    assert known.body["tables"][0]["rows"] == [[42.0]]
    unknown = world.call("POST", path, {"query": "Nothing"}, api=None)
    assert (unknown.status, unknown.body["error"]["innererror"]["code"]) == (400, "SemanticError")
    answers.write_text('"Nothing": 7\n')  # set while it runs
    assert world.call("POST", path, {"query": "Nothing"}, api=None).body["tables"][0]["rows"] == [[7.0]]


def test_what_belongs_to_deleted_groups_is_forgotten() -> None:
    world, resource = measured()
    world.arm.series.forget(set())
    assert batch(world, [resource]).body["values"][0]["value"][0]["timeseries"] == []
