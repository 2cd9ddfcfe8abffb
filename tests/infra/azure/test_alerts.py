"""Alerts ask for what ticks really write, name conditions that exist, and each is in the runbook."""

from __future__ import annotations

import logging
import re

import msgspec
import pytest

from scaler.conditions import KINDS
from scaler.model import Decision, Observation
from scaler.tick.ticked import Ticked, facts, note
from tests.infra.azure.bicep import INFRA

ALERTS = (INFRA / "app" / "alerts.bicep").read_text(encoding="utf-8")
DOCS = {name: (INFRA.parent / "docs" / name).read_text(encoding="utf-8") for name in ("deploy.md", "runbook.md")}
KQL = re.findall(r"```kusto\n(.*?)```", DOCS["deploy.md"], re.DOTALL)
QUERIES = [*re.findall(r"query: '(.*)'", ALERTS), *KQL]
TABLES = {"AppTraces", "AppRequests", "AppExceptions", "ContainerInstanceLog"}
TICKED = Ticked(
    service="iris",
    at=1.0,
    cause="timer",
    outcome="saved",
    seconds=0.1,
    stretches=(),
    decision=Decision(desired=2, limited_by="max", because="…"),
    observation=Observation(at=1.0, window_s=15.0, ready=1, starting=1),
    actions=(),
    calls={},
    conditions=("image_pull",),
)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_reads_what_a_tick_writes(query: str) -> None:
    keys = set(re.findall(r"\btick\.(\w+)", query))
    assert keys <= set(facts(TICKED)), keys - set(facts(TICKED))


@pytest.mark.parametrize("query", KQL)
def test_the_queries_in_the_docs_name_the_tables_of_today(query: str) -> None:
    first = next(line for line in query.splitlines() if line and not line.startswith("//"))
    assert first in TABLES


def test_the_line_of_a_tick_is_what_the_alerts_take_apart(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "scaler.tick"):
        note(TICKED)
    (line,) = caplog.messages
    assert line.startswith("tick {")
    assert msgspec.json.decode(line[5:])["conditions"] == "image_pull"
    assert 'startswith "tick {"' in ALERTS
    assert "substring(Message, 5)" in ALERTS


def test_the_conditions_that_alert_exist() -> None:
    named = re.findall(r'"(\w+)"', next(q for q in QUERIES if "has_any" in q).partition("has_any")[2])
    assert named
    assert set(named) <= set(KINDS)


@pytest.mark.parametrize("name", [*re.findall(r"^ {4}name: '([\w-]+)'", ALERTS, re.MULTILINE), "budget"])
def test_every_alert_is_in_the_runbook(name: str) -> None:
    assert f"\n## {name}\n" in DOCS["runbook.md"]
