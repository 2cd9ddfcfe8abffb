"""The same apps and calls through Microsoft's worker core and through our host: both say the same."""

from __future__ import annotations

import json
import os
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest

from infra.local.functions.app import load_app
from infra.local.functions.errors import StartError
from infra.local.functions.invoke import FunctionFailed, Invoker
from infra.local.functions.queues import queue_message
from infra.local.functions.settings import load_host_settings
from tests.infra.functions.serving import serving, write_app
from tests.infra.functions.worker import ROOT, Call, judge

pytestmark = pytest.mark.skipif(
    find_spec("azure_functions_runtime") is None,
    reason="azure-functions-runtime is not installed; tests/conformance.txt says how",
)

APP = """
import datetime, pathlib
notes = pathlib.Path(__file__).parent / "notes"

def note(**said):
    with notes.open("a") as file:
        file.write(json.dumps(said, default=str) + "\\n")

def said_by(req, context):
    keep = ("content-type", "x-one", "x-two")
    return {
        "method": req.method, "url": req.url.partition("/api/")[2], "route": dict(req.route_params),
        "params": dict(req.params), "headers": {k: v for k, v in req.headers.items() if k in keep},
        "body": req.get_body().decode("latin-1"), "one": req.headers.get("X-ONE"), "name": context.function_name,
        "id": len(context.invocation_id), "folder": pathlib.Path(context.function_directory).name,
        "retries": context.retry_context.retry_count, "trace": context.trace_context.trace_parent,
    }

@app.route(route="sync/{x?}", methods=["GET", "POST"])
def sync(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(said_by(req, context)), mimetype="application/json")

@app.route(route="async/{x}/{*rest}")
async def asynchronous(req: func.HttpRequest, context) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(said_by(req, context)), mimetype="application/json", status_code=201)

@app.route(route="json", methods=["POST"])
def parsed(req: func.HttpRequest) -> func.HttpResponse:
    try:
        return func.HttpResponse(json.dumps(req.get_json()))
    except ValueError as error:
        return func.HttpResponse(str(error), status_code=400)

@app.route(route="form", methods=["POST"])
def form(req: func.HttpRequest) -> str:
    return json.dumps(dict(req.form))

@app.route(route="give/{what}")
def give(req: func.HttpRequest):
    match req.route_params["what"]:
        case "text": return "grüße"
        case "bytes": return func.HttpResponse(bytes(range(256)), mimetype="image/png")
        case "raw": return b"raw"
        case "none": return None
        case "dict": return {"a": 1}
        case "list": return ["a"]
        case "number": return 5
        case "raise": raise KeyError("x")
        case "empty": return func.HttpResponse()
        case "latin": return func.HttpResponse("ü", charset="latin-1", mimetype="text/html")
        case "json": return func.HttpResponse("{}", mimetype="application/json", charset="utf-8")
        case "status": return func.HttpResponse("no", status_code=503, headers={"Retry-After": "7", "X-A": "b"})
        case "cookies":
            response = func.HttpResponse("c", headers={"Content-Type": "text/x"})
            response.headers.add("Set-Cookie", "a=1; Path=/; HttpOnly; SameSite=Strict")
            response.headers.add("Set-Cookie", 'b="x y"; Max-Age=60; Secure')
            return response

@app.timer_trigger(arg_name="t", schedule="0 0 * * * *")
async def timer(t: func.TimerRequest) -> None:
    note(past_due=t.past_due, status=t.schedule_status, schedule=t.schedule)

@app.timer_trigger(arg_name="t", schedule="0 0 * * * *")
def returning(t: func.TimerRequest):
    return "a value"

@app.queue_trigger(arg_name="m", queue_name="q", connection="C")
@app.queue_output(arg_name="out", queue_name="o", connection="C")
def queue(m: func.QueueMessage, out: func.Out[str]) -> None:
    note(body=m.get_body().decode(), id=m.id, count=m.dequeue_count, receipt=m.pop_receipt,
         times=[t.timestamp() for t in (m.insertion_time, m.expiration_time, m.time_next_visible)])
    if m.get_body() == b"fail":
        raise ValueError("no")
    out.set("sent on")

@app.queue_trigger(arg_name="m", queue_name="q", connection="C")
def text(m: str) -> None:
    note(text=m)

@app.queue_trigger(arg_name="m", queue_name="q", connection="C")
@app.queue_output(arg_name="out", queue_name="o", connection="C")
@app.queue_output(arg_name="many", queue_name="o", connection="C")
def send(m: func.QueueMessage, out: func.Out[str], many: func.Out[func.QueueMessage]) -> None:
    values = {"text": "ü", "bytes": b"raw", "dict": {"a": 1}, "list": ["a", {"b": 2}], "int": 5, "bool": True,
              "float": 1.5, "tuple": (1,), "one": func.QueueMessage(body="b"),
              "some": [func.QueueMessage(body="b"), "c"], "wrong": [5]}
    what = m.get_body().decode()
    (many if what in ("one", "some", "wrong") else out).set(values[what])
"""

SENT = ["text", "bytes", "dict", "list", "int", "bool", "float", "tuple", "one", "some", "wrong"]
GIVEN = [
    "text",
    "bytes",
    "raw",
    "none",
    "dict",
    "list",
    "number",
    "raise",
    "empty",
    "latin",
    "json",
    "status",
    "cookies",
]
TIMES = ["2026-01-02T03:04:05+00:00", "2026-01-09T03:04:05+00:00", "2026-01-02T03:14:05+00:00"]


def http(function: str, method: str, path: str, **more: Any) -> Call:
    """A request; the route's parameters are what Azure's host would have found."""
    query: dict[str, str] = more.get("query", {})
    url = f"http://127.0.0.1/api/{path}" + (f"?{urlencode(query)}" if query else "")
    return Call(
        function=function,
        kind="http",
        method=method,
        url=url,
        headers=more.get("headers", {}),
        query=query,
        route=more.get("route", {}),
        body=more.get("body", ""),
    )


HTTP_CALLS = [
    http("sync", "GET", "sync"),
    http("sync", "POST", "sync/a", route={"x": "a"}, body="\x00\xffraw", headers={"x-one": "1", "x-two": "a,b"}),
    http("sync", "GET", "sync/b", route={"x": "b"}, query={"q": "1 2", "r": "ä"}),
    http("asynchronous", "DELETE", "async/1/2/3", route={"x": "1", "rest": "2/3"}),
    http("asynchronous", "PUT", "async/1", route={"x": "1"}, body="put", headers={"content-type": "text/plain"}),
    http("parsed", "POST", "json", body='{"a": [1, 2.5, null, true]}', headers={"content-type": "application/json"}),
    http("parsed", "POST", "json", body="{broken", headers={"content-type": "application/json"}),
    http("parsed", "POST", "json", body=""),
    http("form", "POST", "form", body="a=1&b=%20", headers={"content-type": "application/x-www-form-urlencoded"}),
    *(http("give", "GET", f"give/{what}", route={"what": what}) for what in GIVEN),
]

TIMER_CALLS = [
    Call(function=function, kind="timer", past_due=past_due)
    for function, past_due in (("timer", True), ("timer", False), ("returning", False))
]
METADATA = {"Id": "m-1", "DequeueCount": 3, "PopReceipt": "r", "InsertionTime": TIMES[0], "ExpirationTime": TIMES[1]}
QUEUE_CALLS = [
    Call(function=function, kind="queue", body=body, metadata={**METADATA, "NextVisibleTime": TIMES[2]})
    for function, body in (("queue", "grüße"), ("queue", "fail"), ("text", "as text"), *(("send", k) for k in SENT))
]

EVERY_SECOND = "@app.timer_trigger(arg_name='t', schedule='* * * * * *')"
QUEUED = "@app.queue_output(arg_name='o', queue_name='q', connection='C')"
BROKEN = {
    "missing module": "import no_such_module",
    "two apps": "other = func.FunctionApp()\n@app.route(route='x')\ndef f(req): ...",
    "no app": "del app",
    "unbound parameter": "@app.route(route='x')\ndef f(request): ...",
    "binding without parameter": "@app.route(route='x')\ndef f(): ...",
    "one parameter too many": "@app.route(route='x')\ndef f(req, more): ...",
    "no trigger": "@app.function_name('f')\ndef f(): ...",
    "two triggers": f"{EVERY_SECOND}\n@app.route(route='x')\ndef f(req, t): ...",
    "one name twice": "@app.route(route='x')\ndef f(req): ...\n"
    "@app.function_name('f')\n@app.route(route='y')\ndef g(req): ...",
    "wrong annotation": "@app.route(route='x')\ndef f(req: int): ...",
    "timer as request": f"{EVERY_SECOND}\ndef f(t: func.HttpRequest): ...",
    "context of another type": "@app.route(route='x')\ndef f(req, context: int): ...",
    "wrong result": "@app.route(route='x')\ndef f(req) -> int: ...",
    "output not out": f"{QUEUED}\n@app.route(route='x')\ndef f(req, o: str): ...",
    "no result annotated": "@app.route(route='x')\ndef f(req) -> None: ...",
    "input as out": "@app.route(route='x')\ndef f(req: func.Out[str]): ...",
}
SOUND = {
    "bytes message": "@app.queue_trigger(arg_name='m', queue_name='q', connection='C')\ndef f(m: bytes): ...",
    "context that is bound": "@app.timer_trigger(arg_name='context', schedule='* * * * * *')\ndef f(context): ...",
    "timer as text": f"{EVERY_SECOND}\ndef f(t: str): ...",
    "no annotations": "@app.route(route='x')\nasync def f(req): ...",
    "out of a message": f"{QUEUED}\n@app.route(route='x')\ndef f(req, o: func.Out[func.QueueMessage]): ...",
    "result by name": "@app.route(route='x', binding_arg_name='o')\ndef f(req, o: func.Out[func.HttpResponse]): ...",
    "asgi": "import starlette.applications as s\napp = func.AsgiFunctionApp(s.Starlette())",
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Microsoft's worker core says of everything, asked once."""
    folder = tmp_path_factory.mktemp("judge")
    names = [*BROKEN, *SOUND]
    jobs: list[dict[str, Any]] = [
        {"app": str(write_app(folder / f"index-{i}", (BROKEN | SOUND)[name]))} for i, name in enumerate(names)
    ]
    app = write_app(folder / "app", APP)
    jobs.append({"app": str(app), "calls": [*HTTP_CALLS, *TIMER_CALLS, *QUEUE_CALLS]})
    found = dict(zip([*names, "app"], judge(jobs, os.environ), strict=True))
    return {**found, "notes": _notes(app)}


def _notes(folder: Path) -> list[str]:
    return (folder / "notes").read_text().splitlines()


@pytest.mark.parametrize("name", [*BROKEN, *SOUND])
def test_an_app_is_refused_here_exactly_if_it_is_refused_there(
    name: str, verdicts: dict[str, Any], tmp_path: Path
) -> None:
    write_app(tmp_path, (BROKEN | SOUND)[name])
    ours: list[str] | str
    try:
        ours = [f.name for f in load_app(tmp_path, load_host_settings(tmp_path, {}), {}, 0.0).functions]
    except StartError as error:
        ours = str(error)

    theirs = verdicts[name]["error"]
    assert isinstance(ours, list) == (theirs is None) == (name in SOUND), (ours, theirs)
    assert theirs or ours == verdicts[name]["functions"]


async def test_http_functions_answer_here_as_they_do_there(verdicts: dict[str, Any], tmp_path: Path) -> None:
    theirs = verdicts["app"]["answers"][: len(HTTP_CALLS)]
    async with serving(write_app(tmp_path / "app", APP), {"C__queueServiceUri": "https://127.0.0.1:1"}) as running:
        for call, verdict in zip(HTTP_CALLS, theirs, strict=True):
            path = call["url"].removeprefix("http://127.0.0.1")
            answer = await running.http.request(
                call["method"], path, headers=call["headers"], content=call["body"].encode("latin-1")
            )
            assert _seen(answer.status_code, answer.headers, answer.content) == _expected(verdict), call["url"]


def _seen(status: int, headers: Any, body: bytes) -> dict[str, Any]:
    """What of an answer the function decided, in a form to compare."""
    kept = ("content-type", "retry-after", "x-a")
    text = body.decode("latin-1")
    return {
        "status": status,
        "headers": {name: headers[name] for name in kept if name in headers},
        "cookies": headers.get_list("set-cookie"),
        "body": json.loads(text) if text.startswith('{"method"') else text,
    }


def _expected(verdict: dict[str, Any]) -> dict[str, Any]:
    """What Azure's host makes of a verdict of its worker."""
    returned = verdict["returned"]
    if not verdict["ok"]:
        return {"status": 500, "headers": {}, "cookies": [], "body": ""}
    if returned["type"] == "string":
        text = returned["value"].encode().decode("latin-1")
        return {"status": 200, "headers": {"content-type": "text/plain; charset=utf-8"}, "cookies": [], "body": text}
    body = returned["body"]
    return {
        "status": int(returned["status"]),
        "headers": returned["headers"],
        "cookies": returned["cookies"],
        "body": json.loads(body) if body.startswith('{"method"') else body,
    }


async def test_timers_and_messages_are_handled_here_as_they_are_there(verdicts: dict[str, Any], tmp_path: Path) -> None:
    theirs = verdicts["app"]["answers"][len(HTTP_CALLS) :]
    folder = write_app(tmp_path / "app", APP)
    app = load_app(folder, load_host_settings(folder, {}), {}, 0.0)
    invoker = Invoker(10.0, {})
    for call, verdict in zip([*TIMER_CALLS, *QUEUE_CALLS], theirs, strict=True):
        function = app.named(call["function"])
        assert function is not None
        try:
            outcome = await invoker.call(function, _argument(call))
        except FunctionFailed:
            assert not verdict["ok"], call
        else:
            assert verdict["ok"], (call, verdict)
            outputs = {output.name: {"type": d.type, "value": _text(d.value)} for output, d in outcome.outputs}
            assert outputs == verdict["outputs"]
    invoker.close()

    assert _notes(folder) == verdicts["notes"]


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _argument(call: Call) -> object:
    if call["kind"] == "timer":
        return TimerRequest(past_due=call["past_due"])
    if call["function"] == "text":
        return call["body"]
    inserted, expires, visible = (datetime.fromisoformat(text) for text in TIMES)
    return queue_message(
        id="m-1",
        body=call["body"],
        dequeue_count=3,
        pop_receipt="r",
        insertion_time=inserted,
        expiration_time=expires,
        time_next_visible=visible,
    )


@pytest.mark.skipif(not (ROOT / "function_app.py").exists(), reason="there is no function_app.py yet")
def test_our_own_app_is_indexed_there(tmp_path: Path) -> None:
    (verdict,) = judge([{"app": str(ROOT)}], os.environ)

    assert verdict["error"] is None
    expected = {"tick", "wake", "read", "change", "alerts", "events", "dashboard", "metrics", "health", "openapi"}
    assert expected <= set(verdict["functions"])


def test_the_judge_itself_tells_good_from_bad() -> None:
    assert isinstance(func.FunctionApp(), func.FunctionRegister)
    (verdict,) = judge([{"app": str(ROOT / "no such folder")}], os.environ)

    assert verdict["functions"] == []
