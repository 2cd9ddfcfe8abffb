"""The triggers: what azure.functions indexes, and what each function does with what the host hands it."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

import function_app
from scaler.errors import BadSetting
from scaler.web.functions import Entry, Once
from tests.web.doors import scaler_of
from tests.world import World

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS: dict[str, Any] = {str(f.get_function_name()): f for f in function_app.app.get_functions()}
KEYLESS = {"dashboard", "health", "openapi"}


class Behind:
    """The functions with the world in memory behind them."""

    def __init__(self) -> None:
        self.world = World()
        self.scaler = scaler_of(self.world)
        self.entry = Entry(lambda: self.scaler, self.world.clock)

    async def http(self, function: str, method: str, path: str, **more: Any) -> func.HttpResponse:
        """What the host does: the request through the user function of this name."""
        request = func.HttpRequest(
            method,
            f"https://app.azurewebsites.net/api/{path}",
            headers=more.get("headers", {}),
            params=more.get("params", {}),
            body=more.get("body", b""),
        )
        answer = await FUNCTIONS[function].get_user_function()(req=request)
        assert isinstance(answer, func.HttpResponse)
        return answer

    @property
    def causes(self) -> list[tuple[str, str]]:
        return sorted((r.service, r.cause) for r in self.world.store.recorded.values())


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Behind:
    made = Behind()
    monkeypatch.setattr(function_app, "entry", made.entry)
    return made


def test_the_functions_are_those_that_keys_and_roles_are_given_for() -> None:
    shown = {
        str(name): (f.get_trigger().get_dict_repr().get("route"), str(f.get_trigger().get_dict_repr().get("authLevel")))
        for name, f in FUNCTIONS.items()
    }
    http = {name: route for name, (route, _) in shown.items() if route}
    assert http == {
        "read": "services/{*rest}",
        "change": "services/{*rest}",
        "alerts": "alerts",
        "events": "events",
        "metrics": "metrics",
        "dashboard": "dashboard",
        "health": "health",
        "openapi": "openapi.json",
    }
    anonymous = {name for name, (_, level) in shown.items() if "ANONYMOUS" in level.upper()}
    assert anonymous == KEYLESS


def test_reading_and_changing_share_no_method() -> None:
    methods = {
        name: {str(getattr(m, "value", m)) for m in FUNCTIONS[name].get_trigger().get_dict_repr()["methods"]}
        for name in ("read", "change")
    }
    assert methods["read"] == {"GET"}
    assert not methods["read"] & methods["change"]


def test_the_timer_takes_its_schedule_from_the_settings_and_never_runs_on_start() -> None:
    timer = FUNCTIONS["tick"].get_trigger().get_dict_repr()
    assert timer["schedule"] == "%AUTOSCALER_TICK_SCHEDULE%"
    assert timer["runOnStartup"] is False


async def test_the_timer_ticks_every_service(behind: Behind) -> None:
    await FUNCTIONS["tick"].get_user_function()(timer=None)
    assert behind.causes == [("digits", "timer"), ("iris", "timer")]


@pytest.mark.parametrize(
    ("body", "ticked"),
    [
        (b'{"service": "iris"}', ["iris"]),
        (b"", ["digits", "iris"]),
        (b'{"service": "gone"}', ["digits", "iris"]),
        (b'[{"subject": "an event"}]', ["digits", "iris"]),
        (b"\xff[[[", ["digits", "iris"]),
    ],
)
async def test_a_queue_message_ticks_the_service_that_it_names_or_all(
    behind: Behind, body: bytes, ticked: list[str]
) -> None:
    await FUNCTIONS["wake"].get_user_function()(message=func.QueueMessage(id="1", body=body))
    assert behind.causes == [(name, "queue") for name in ticked]


async def test_each_http_function_leads_to_the_admin_api(behind: Behind) -> None:
    read = await behind.http("read", "GET", "services")
    assert read.status_code == 200
    assert read.mimetype == "application/json"
    assert json.loads(read.get_body())["services"][0]["service"] == "digits"
    body = json.dumps({"replicas": 3, "reason": "ümlaut"}).encode()
    changed = await behind.http("change", "PUT", "services/iris/pin", body=body)
    assert changed.status_code == 200
    assert json.loads(changed.get_body())["pin"]["reason"] == "ümlaut"
    assert changed.headers["etag"].startswith('"')
    assert (await behind.http("dashboard", "GET", "dashboard")).mimetype == "text/html; charset=utf-8"
    assert (await behind.http("openapi", "GET", "openapi.json")).status_code == 200
    assert (await behind.http("metrics", "GET", "metrics")).status_code == 200
    assert (await behind.http("health", "GET", "health")).status_code == 503
    assert (await behind.http("alerts", "POST", "alerts", body=b"{}")).status_code == 422
    assert (await behind.http("events", "POST", "events", body=b"[]")).status_code == 422


async def test_a_query_arrives_whether_the_host_leaves_it_in_the_address_or_not(behind: Behind) -> None:
    in_address = await behind.http("read", "GET", "services/iris/schedule?days=3")
    as_params = await behind.http("read", "GET", "services/iris/schedule", params={"days": "3"})
    assert json.loads(in_address.get_body())["days"] == json.loads(as_params.get_body())["days"] == 3


async def test_a_huge_body_through_the_functions_is_refused(behind: Behind) -> None:
    answer = await behind.http("change", "PUT", "services/iris/pin", body=b" " * 1_000_000)
    assert answer.status_code == 413


async def test_a_fault_of_ours_is_a_500_and_stands_in_the_log(
    behind: Behind, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: str) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(behind.world.store, "load", broken)
    answer = await behind.http("read", "GET", "services/iris")
    assert answer.status_code == 500
    assert answer.mimetype == "application/problem+json"
    assert b"secret" not in answer.get_body()
    assert "ZeroDivisionError" in caplog.text


async def test_a_bad_configuration_is_said_at_every_door_and_breaks_no_import(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def build() -> Any:
        raise BadSetting("autoscaler.yaml: services.iris.replicas: min 3 is above max 2")

    monkeypatch.setattr(function_app, "entry", Entry(build))
    made = Behind()
    for function, path in (("read", "services"), ("health", "health"), ("metrics", "metrics")):
        answer = await made.http(function, "GET", path)
        assert answer.status_code == 500
        assert "min 3 is above max 2" in json.loads(answer.get_body())["detail"]
    caplog.clear()
    await FUNCTIONS["tick"].get_user_function()(timer=None)
    assert [(r.levelno, "min 3 is above max 2" in r.getMessage()) for r in caplog.records] == [(logging.ERROR, True)]
    assert (await made.http("dashboard", "GET", "dashboard")).status_code == 200


async def test_an_unreadable_environment_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCALER_DEPLOYMENT_ID", "")
    monkeypatch.setattr(function_app, "entry", Entry())
    answer = await Behind().http("read", "GET", "services")
    assert answer.status_code == 500
    assert "AUTOSCALER_DEPLOYMENT_ID" in json.loads(answer.get_body())["detail"]


def test_many_first_calls_at_once_build_one_scaler_and_a_failure_is_tried_again() -> None:
    built: list[int] = []
    start = threading.Barrier(8)

    def build() -> Any:
        built.append(1)
        if len(built) == 1:
            raise BadSetting("not yet")
        return object()

    once = Once(build)
    with pytest.raises(BadSetting):
        once()

    def call() -> None:
        start.wait()
        once()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 2


def test_indexing_the_functions_imports_neither_sdk_nor_web_app() -> None:
    code = "import sys, function_app; print([m for m in ('aiohttp','starlette','azure.identity') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


async def test_first_calls_at_once_are_all_answered(behind: Behind) -> None:
    answers = await asyncio.gather(*(behind.http("read", "GET", "services") for _ in range(20)))
    assert {a.status_code for a in answers} == {200}
