"""The Grafana dashboard and the workbook ask only for what there is."""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from scaler import happened
from scaler.rollout import Rollout
from scaler.tick.ticked import SEEN, Ticked, facts
from scaler.web.changing import Changing
from tests.web.day import WEEK, play
from tests.web.doors import door

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "monitoring"
GRAFANA = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
WORKBOOK = json.loads((FOLDER / "workbook.json").read_text(encoding="utf-8"))
TABLES = {
    "traces": {"timestamp", "message", "severityLevel", "customDimensions"},
    "requests": {"timestamp", "name", "duration", "success", "customDimensions"},
    "dependencies": {"timestamp", "name", "duration", "success", "customDimensions"},
}
WORDS = frozenset(
    [
        "where",
        "extend",
        "summarize",
        "project",
        "sort",
        "take",
        "by",
        "asc",
        "desc",
        "and",
        "or",
        "not",
        "in",
        "startswith",
        "bin",
        "iff",
        "isempty",
        "tostring",
        "toint",
        "todouble",
        "parse_json",
        "max",
        "min",
        "avg",
        "sum",
        "count",
        "countif",
        "percentile",
        "prev",
        "true",
        "false",
    ]
)


def promql() -> Iterator[str]:
    for panel in GRAFANA["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield GRAFANA["templating"]["list"][1]["query"].removeprefix("label_values(").partition(",")[0]


def kql() -> Iterator[str]:
    return (i["content"]["query"] for i in WORKBOOK["items"] if i["type"] == 3)


async def exposed() -> dict[str, set[str]]:
    """Every series that a scrape has, with the names of its labels."""
    async with door(WEEK) as opened:
        await play(opened.world, opened.scaler, hours=0.5)
        await opened.call("PUT", "services/iris/pin", json={"replicas": 3})
        text = (await opened.call("GET", "metrics")).text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        names = {s.name for s in family.samples} or {family.name + ("_total" if family.type == "counter" else "")}
        for name in names:
            found[name] = {label for s in family.samples for label in s.labels}
    return found


async def test_every_series_and_label_of_the_grafana_dashboard_is_exposed() -> None:
    series = await exposed()
    for expr in promql():
        for name in re.findall(r"aci_autoscaler_\w+", expr):
            assert name in series, (name, expr)
            asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", expr))
            for group in re.findall(r"by \(([^)]*)\)", expr):
                asked |= {label.strip() for label in group.split(",")}
            # A family that has no sample in this world has no labels to look at.
            assert not series[name] or asked <= series[name], (asked - series[name], expr)
    assert len(series) > 25


def test_every_variable_of_the_grafana_dashboard_is_defined() -> None:
    names = {v["name"] for v in GRAFANA["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(GRAFANA))) == names
    ids = [p["id"] for p in GRAFANA["panels"]]
    assert len(ids) == len(set(ids)) >= 10


async def facts_logged(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Every attribute that a log record of ours can carry: of ticks, of what went wrong, of what an operator did."""
    standard = set(vars(logging.makeLogRecord({})))
    async with door(WEEK) as opened:
        with caplog.at_level(logging.INFO, "scaler"):
            await play(opened.world, opened.scaler, hours=0.1)
            await opened.call("PUT", "services/iris/pin", json={"replicas": 3, "actor": "anna", "reason": "launch"})
    found = {key for record in caplog.records for key in vars(record)} - standard
    return found | {"logger", "error"}


async def test_every_dimension_and_table_of_the_workbook_is_written(caplog: pytest.LogCaptureFixture) -> None:
    written = await facts_logged(caplog)
    assert set(SEEN) <= written
    for query in kql():
        table = query.split()[0]
        assert table in TABLES, query
        assert set(re.findall(r"customDimensions\.(\w+)", query)) <= written, query
        made = set(re.findall(r"(\w+) = ", query))
        plain = re.sub(r'"[^"]*"|customDimensions\.\w+|audit\.\w+|\b\d+[a-z]*\b', " ", query)
        unknown = set(re.findall(r"[A-Za-z_]\w*", plain)) - WORDS - TABLES[table] - made - {table}
        assert unknown == set(), query


def test_the_messages_that_the_workbook_looks_for_are_those_we_write() -> None:
    for message in {m for q in kql() for m in re.findall(r'message == "([^"]*)"', q)} - {"tick"}:
        assert message in inspect.getsource(Changing)
    audited = {m for q in kql() for m in re.findall(r"audit\.(\w+)", q)}
    assert audited == {"verb", "service", "actor", "reason"}


def test_the_steps_that_the_workbook_names_are_those_of_a_tick() -> None:
    source = (FOLDER.parents[1] / "scaler" / "tick" / "service.py").read_text(encoding="utf-8")
    named = next(re.findall(r'"(\w+)"', q) for q in kql() if q.startswith("dependencies"))
    assert named == re.findall(r'_stretch\("(\w+)"\)', source)


def test_facts_have_no_value_that_is_not_known() -> None:
    ticked: Any = Ticked(
        service="iris", at=0.0, cause="timer", outcome="lost", seconds=0.1, stretches=(), decision=None,
        observation=None, actions=(), calls={"list failed": 1, "list ok": 2},
    )  # fmt: skip
    assert facts(ticked) == {
        "service": "iris", "cause": "timer", "outcome": "lost", "seconds": 0.1, "actions": "", "calls": 3,
        "calls_failed": 1, "conditions": "",
    }  # fmt: skip


async def test_every_family_and_every_kind_of_event_is_on_the_page() -> None:
    page = (FOLDER.parent / "monitoring.md").read_text(encoding="utf-8")
    async with door(WEEK) as opened:
        await opened.tick()
        text = (await opened.call("GET", "metrics")).text
    families = [f.name for f in text_string_to_metric_families(text)]  # type: ignore[no-untyped-call]
    assert [name for name in families if f"`{name}`" not in page] == []
    kinds = re.findall(r'\("([a-z.]+)", ', inspect.getsource(happened))
    assert {"scaled", "pinned", "unpinned", "condition.raised", "condition.cleared"} <= set(kinds)
    kinds += [f"rollout.{phase}" for phase in get_args(get_type_hints(Rollout)["phase"])]
    assert [kind for kind in kinds if f"`io.github.aci-autoscaler.{kind}`" not in page] == []
