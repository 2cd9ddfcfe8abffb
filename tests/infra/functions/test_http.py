"""The HTTP door, over real sockets: keys, bodies, answers, failures."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from infra.local.functions.host import bind
from tests.infra.functions.serving import Running, serving, write_app

ECHO = """
@app.route(route="echo/{x?}", methods=["GET", "POST", "HEAD"])
def echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    body = req.get_body()
    said = {
        "method": req.method, "url": req.url, "headers": dict(req.headers), "params": dict(req.params),
        "route": dict(req.route_params), "length": len(body), "body": body[:100].decode("latin-1"),
        "invocation": context.invocation_id, "function": context.function_name, "folder": context.function_directory,
        "thread": threading.current_thread().name,
    }
    return func.HttpResponse(json.dumps(said), mimetype="application/json")
"""

ANSWERS = """
@app.route(route="answer/{how}")
async def answer(req: func.HttpRequest):
    how = req.route_params["how"]
    match how:
        case "text":
            return "grüße"
        case "none":
            return None
        case "dict":
            return {"a": 1}
        case "raise":
            raise ValueError("the-secret-reason")
        case "exit":
            raise SystemExit(5)
        case "cancel":
            raise asyncio.CancelledError
        case "html":
            return func.HttpResponse("<p>ü</p>", mimetype="text/html", charset="latin-1")
        case "bytes":
            return func.HttpResponse(bytes(range(256)), mimetype="application/octet-stream")
        case "empty":
            return func.HttpResponse(status_code=204)
        case "teapot":
            headers = {"X-Kind": "tea", "Content-Length": "3"}
            return func.HttpResponse("short and stout", status_code=418, headers=headers)
        case "cookies":
            response = func.HttpResponse("ok")
            response.headers.add("Set-Cookie", "a=1; Path=/; HttpOnly")
            response.headers.add("Set-Cookie", "b=2; Max-Age=60; SameSite=Lax")
            return response
        case "split":
            return func.HttpResponse("x", headers={"x-evil": "a\\x0bb"})
        case "status":
            return func.HttpResponse("x", status_code=99)
"""

KEYED = """
@app.route(route="open")
def open_(req: func.HttpRequest) -> str: return "open"

@app.route(route="locked", auth_level=func.AuthLevel.FUNCTION)
def locked(req: func.HttpRequest) -> str: return "locked"

@app.route(route="other", auth_level=func.AuthLevel.FUNCTION)
def other(req: func.HttpRequest) -> str: return "other"

@app.route(route="vault", auth_level=func.AuthLevel.ADMIN)
def vault(req: func.HttpRequest) -> str: return "vault"
"""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    env = {"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": str(8 << 20), "AzureWebJobs.gone.Disabled": "true"}
    gone = "@app.route(route='gone')\ndef gone(req: func.HttpRequest) -> str: return 'here'"
    async with serving(write_app(tmp_path, ECHO + ANSWERS + KEYED + gone), env) as host:
        yield host


async def test_a_function_sees_the_request_as_on_azure(running: Running) -> None:
    answer = await running.http.post(
        "/api/Echo/one%20two?a=1&A=2&b=&c=x%2Fy",
        headers=[("X-Custom", "one"), ("x-custom", "two"), ("Content-Type", "text/plain")],
        content=b"\x00\xffbytes",
    )

    said = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert said["method"] == "POST"
    assert said["url"] == f"http://127.0.0.1:{running.port}/api/Echo/one%20two?a=1&A=2&b=&c=x%2Fy"
    assert said["route"] == {"x": "one two"}
    assert said["params"] == {"a": "1,2", "c": "x/y"}
    assert said["headers"]["x-custom"] == "one,two"
    assert said["headers"]["content-type"] == "text/plain"
    assert (said["length"], said["body"]) == (7, "\x00\xffbytes")
    assert (said["function"], said["folder"]) == ("echo", str(running.parts.app.folder))
    assert said["thread"].startswith("function")


async def test_every_call_has_its_own_invocation_id(running: Running) -> None:
    said = [(await running.http.get("/api/echo")).json()["invocation"] for _ in range(3)]

    assert len(set(said)) == 3


@pytest.mark.parametrize(
    ("how", "status", "kind", "body"),
    [
        ("text", 200, "text/plain; charset=utf-8", "grüße".encode()),
        ("html", 200, "text/html; charset=latin-1", b"<p>\xfc</p>"),
        ("bytes", 200, "application/octet-stream", bytes(range(256))),
        ("empty", 204, "text/plain; charset=utf-8", b""),
        ("teapot", 418, "text/plain; charset=utf-8", b"short and stout"),
        ("none", 500, None, b""),
        ("dict", 500, None, b""),
        ("raise", 500, None, b""),
        ("exit", 500, None, b""),
        ("cancel", 500, None, b""),
        ("split", 500, None, b""),
        ("status", 500, None, b""),
    ],
)
async def test_a_result_becomes_the_answer_of_azure(
    running: Running, how: str, status: int, kind: str | None, body: bytes
) -> None:
    answer = await running.http.get(f"/api/answer/{how}")

    assert (answer.status_code, answer.headers.get("content-type"), answer.content) == (status, kind, body)


async def test_headers_and_several_cookies_reach_the_client(running: Running) -> None:
    assert (await running.http.get("/api/answer/teapot")).headers["x-kind"] == "tea"
    cookies = (await running.http.get("/api/answer/cookies")).headers.get_list("set-cookie")
    assert cookies == ["a=1; HttpOnly; Path=/", "b=2; Max-Age=60; SameSite=Lax"]


async def test_a_failure_is_logged_with_its_stack_and_answered_without(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await running.http.get("/api/answer/raise?code=my-key")

    assert (answer.status_code, answer.content) == (500, b"")
    assert "ValueError: the-secret-reason" in caplog.text
    assert "function answer failed" in caplog.text
    assert "my-key" not in caplog.text


def is_problem(answer: httpx.Response) -> bool:
    """Whether it is a problem document that says its own status and a sentence."""
    content = answer.json() if answer.headers["content-type"] == "application/problem+json" else {}
    return content.get("status") == answer.status_code and str(content.get("detail", "")).endswith(".")


async def test_a_key_opens_only_what_it_is_for(running: Running) -> None:
    keys = json.loads((running.parts.app.folder / "keys.json").read_text())
    master, host = keys["master"], keys["functionKeys"]["default"]
    own, foreign = keys["functions"]["locked"]["default"], keys["functions"]["other"]["default"]

    async def get(path: str, key: str | None) -> int:
        headers = {} if key is None else {"x-functions-key": key}
        return (await running.http.get(f"/api/{path}", headers=headers)).status_code

    assert [await get("open", key) for key in (None, "wrong")] == [200, 200]
    assert [await get("locked", key) for key in (None, "", "wrong", foreign, own, host, master)] == (
        [401, 401, 401, 401, 200, 200, 200]
    )
    assert [await get("vault", key) for key in (None, host, own, master)] == [401, 401, 401, 200]


async def test_a_key_may_come_in_the_query_but_a_header_goes_first(running: Running) -> None:
    key = running.parts.keys.functions["locked"]["default"]

    assert (await running.http.get("/api/locked", params={"code": key})).status_code == 200
    assert (await running.http.get("/api/locked", params={"CODE": key})).status_code == 200
    wrong = await running.http.get("/api/locked", params={"code": key}, headers={"x-functions-key": "wrong"})
    assert (wrong.status_code, is_problem(wrong)) == (401, True)


async def test_what_no_route_allows_is_not_found(running: Running) -> None:
    requests = [
        ("GET", "/api/nothing"),
        ("DELETE", "/api/echo"),
        ("OPTIONS", "/api/echo"),
        ("GET", "/echo"),
        ("GET", "/x"),
    ]

    answers = [await running.http.request(method, path) for method, path in requests]

    assert [(answer.status_code, is_problem(answer)) for answer in answers] == [(404, True)] * len(requests)
    assert (await running.http.get("/")).status_code == 204


async def test_head_has_the_headers_and_no_body(running: Running) -> None:
    answer = await running.http.head("/api/echo")

    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


async def test_a_disabled_function_answers_only_the_master_key(running: Running) -> None:
    assert (await running.http.get("/api/gone")).status_code == 404
    assert (await running.http.get("/api/gone", headers=running.master)).text == "here"


async def test_a_body_up_to_the_limit_is_taken_and_more_is_refused(running: Running) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * (1 << 18)

    assert (await running.http.post("/api/echo", content=b"x" * (8 << 20))).json()["length"] == 8 << 20
    assert (await running.http.post("/api/echo", content=b"x" * ((8 << 20) + 1))).status_code == 413
    assert (await running.http.post("/api/echo", content=endless())).status_code == 413
    assert (await running.http.get("/api/open")).text == "open"


async def test_a_small_limit_holds_for_bodies_whose_length_is_not_announced(tmp_path: Path) -> None:
    async def content(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 50

    async with serving(write_app(tmp_path, ECHO), {"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "100"}) as running:
        answers = [await running.http.post("/api/echo", content=content(count)) for count in (2, 3)]

    assert [answer.status_code for answer in answers] == [200, 413]


async def test_without_a_key_a_body_is_not_even_read(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"POST /api/locked HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")

    head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)

    assert head == b"HTTP/1.1 401 Unauthorized\r\n"
    writer.close()
    await writer.wait_closed()


async def test_many_large_bodies_at_once_do_not_fill_the_memory(running: Running) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def post() -> int:
        async def content() -> AsyncIterator[bytes]:
            for _ in range(32):
                yield b"x" * (1 << 18)

        return int((await running.http.post("/api/echo", content=content())).json()["length"])

    assert await asyncio.gather(*(post() for _ in range(24))) == [8 << 20] * 24
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 24 * 8


async def test_a_client_that_leaves_in_the_middle_does_no_harm(running: Running) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(b"POST /api/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")

    assert (await running.http.get("/api/open")).text == "open"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET /api/echo HTTP/1.1\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/echo HTTP/1.1\r\nHost: x\r\nX-Big: " + b"x" * 200_000 + b"\r\n\r\n",
        b"POST /api/echo HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["rubbish", "no host", "long path", "long header", "negative length", "broken chunk"],
)
async def test_what_is_no_http_is_refused_and_the_host_lives(
    running: Running, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(request_bytes)

    head = await asyncio.wait_for(reader.readline(), 5)

    assert head.startswith(b"HTTP/1.1 400") or head == b""
    writer.close()
    assert (await running.http.get("/api/open")).text == "open"


async def test_slow_functions_in_threads_and_on_the_loop_run_side_by_side(tmp_path: Path) -> None:
    source = """
    both = threading.Barrier(2)
    here = asyncio.Event()

    @app.route(route="thread")
    def thread(req: func.HttpRequest) -> str:
        both.wait(10)
        return "met"

    @app.route(route="loop/{first}")
    async def loop(req: func.HttpRequest) -> str:
        if req.route_params["first"] == "yes":
            await asyncio.wait_for(here.wait(), 10)
        else:
            here.set()
        return "met"
    """
    async with serving(write_app(tmp_path, source)) as running:
        answers = await asyncio.gather(
            *(running.http.get(f"/api/{path}") for path in ("thread", "thread", "loop/yes", "loop/no"))
        )

    assert [answer.text for answer in answers] == ["met"] * 4


async def test_a_function_that_outlasts_the_timeout_is_a_500(tmp_path: Path) -> None:
    source = """
    @app.route(route="slow")
    async def slow(req: func.HttpRequest) -> str:
        await asyncio.Event().wait()
    """
    async with serving(write_app(tmp_path, source, {"functionTimeout": "00:00:01"})) as running:
        assert (await running.http.get("/api/slow")).status_code == 500


def test_small_answers_are_not_held_back_by_the_kernel() -> None:
    with bind("127.0.0.1", 0) as listener:
        # asyncio sets TCP_NODELAY on what it accepts only where the protocol is named; without, 40 ms a request.
        assert listener.proto == socket.IPPROTO_TCP


async def test_a_hundred_requests_at_once_are_all_answered(running: Running) -> None:
    limits = httpx.Limits(max_connections=100)
    url = f"http://127.0.0.1:{running.port}/api/echo/"
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=20) as client:
        answers = await asyncio.gather(*(client.get(f"{url}{i}") for i in range(100)))

    assert [answer.json()["route"]["x"] for answer in answers] == [str(i) for i in range(100)]
