"""What can be reached through the front and what cannot, and what its doors do with nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.errors import BadSetting
from scaler.front.bootstrap import bootstrap
from scaler.front.layout import Address
from tests.front.parts import Table, discovery, envoy, layout, needs_envoy, replica, until

TWO = {"iris": 30.0, "digits": 20.0}


async def raw(port: int, request: bytes) -> tuple[int, bytes]:
    """The status and everything else of the answer to these bytes; 0 when the connection was closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            return int(head.split(b" ", 2)[1]), head + await reader.readexactly(int(length[1]) if length else 0)
    except (ConnectionError, asyncio.IncompleteReadError):
        return 0, b""
    finally:
        writer.close()


def get(target: str, host: str = "iris", extra: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{extra}\r\n".encode("latin-1")


RESERVED = [
    "/drain", "/stats", "/metrics", "/DRAIN", "/Stats", "//drain", "///drain", "/./drain", "/x/../drain", "/%64rain",
    "/%44rain", "/drai%6e", "/drain?x=1", "/drain/", "/drain//", "/drain;x=1", "/drain/now", "/drain#x", "/.//drain",
    "/%2e/drain", "/%2e%2e/drain", "/x/%2e%2e/drain", "/iris/drain", "/iris//drain", "/iris/./drain", "/digits/%73tats",
    "/iris/x/../metrics", "/digits/../drain", "//iris//drain", "/drain%2f", "/%2fdrain", "/iris%2fdrain", "/%5cdrain",
    "/\\drain", "\\drain", "/x/..\\drain", "/drain%3bx", "http://iris/drain", "http://other//%64rain", "/metrics%00",
    "/stats%20", "/%2564rain", "/drain%252f", "/IRIS/drain", "/drain\t", "/d\u00adrain", "/drain?",
]  # fmt: skip


@needs_envoy
async def test_no_spelling_of_a_reserved_path_reaches_a_replica(tmp_path: Path) -> None:
    table = Table(*TWO)
    async with (
        discovery(table, TWO) as port,
        replica("r") as (app, where),
        envoy(tmp_path, layout(port, TWO)) as front,
    ):
        table.put("iris", where)
        table.put("digits", where)
        listening = int(front.url.rpartition(":")[2])
        assert (await raw(listening, get("/predict")))[0] == 200
        assert (await raw(listening, get("/predict", "digits")))[0] == 200
        for host in ("iris", "digits", "elsewhere", "iris.example.org", ""):
            for target in RESERVED:
                status, answer = await raw(listening, get(target, host))
                assert status != 200 or not reserved(app.paths[-1]), (host, target, answer)
        assert not [path for path in app.paths if reserved(path)]


def reserved(path: str) -> bool:
    """Whether a server that is generous with paths could take it for one of the three."""
    plain = path.lower().replace("\\", "/").split(";")[0].strip("/ \x00\t")
    return plain in ("drain", "stats", "metrics")


@needs_envoy
async def test_services_are_told_apart_by_host_by_path_and_the_first_answers_the_rest(tmp_path: Path) -> None:
    table = Table(*TWO)
    async with (
        discovery(table, TWO) as port,
        replica("iris") as (iris, where),
        replica("digits", "127.64.0.8") as (digits, other),
        envoy(tmp_path, layout(port, TWO)) as front,
    ):
        table.put("iris", where)
        table.put("digits", other)
        cases = [
            ("iris", "/predict", "iris", "/predict"),
            ("iris:8080", "/predict", "iris", "/predict"),
            ("digits", "/predict", "digits", "/predict"),
            ("digits:1", "/predict", "digits", "/predict"),
            ("digits.example.org", "/a/b", "digits", "/a/b"),
            ("DIGITS", "/predict", "digits", "/predict"),
            ("elsewhere", "/predict", "iris", "/predict"),
            ("elsewhere", "/", "iris", "/"),
            ("elsewhere", "/digits/predict", "digits", "/predict"),
            ("elsewhere", "/digits/", "digits", "/"),
            ("elsewhere", "/iris/predict", "iris", "/predict"),
            ("elsewhere", "/digitsx/predict", "iris", "/digitsx/predict"),
            ("127.0.0.1", "/iris/digits/predict", "iris", "/digits/predict"),
        ]
        for host, path, service, arrives in cases:
            async with front.session.get(front.url + path, headers={"host": host}) as response:
                assert (await response.json())["replica"] == service, (host, path)
            assert {"iris": iris, "digits": digits}[service].paths[-1] == arrives


@needs_envoy
async def test_nobody_outside_steers_the_front_by_headers_and_nothing_of_it_shows(tmp_path: Path) -> None:
    table = Table(*TWO)
    meant = {
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-max-retries": "0",
        "x-envoy-retry-on": "",
        "x-envoy-original-path": "/drain",
        "x-envoy-attempt-count": "9",
        "x-aci-service": "digits",
        "x-aci-stream": "mine",
        "x-aci-started": "1",
        "x-forwarded-for": "127.0.0.1",
    }
    async with discovery(table, TWO) as port, envoy(tmp_path, layout(port, TWO)) as front:
        asked = asyncio.create_task(exchange(front.session, front.url + "/predict", meant))
        await until(lambda: table.fronts["iris"] and table.fronts["iris"][-1].waiting == 1)
        assert not table.fronts["digits"][-1].waiting
        async with replica("r") as (app, where):
            app.latch.clear()
            table.put("iris", where)
            await until(lambda: app.in_flight == 1)
            app.latch.set()
            status, headers = await asked
            assert status == 200
            assert not [name for name in headers if name.startswith(("x-aci", "x-envoy"))]
            assert app.headers[-1]["x-aci-service"] == "iris"
            assert app.headers[-1]["x-aci-stream"] != "mine"


async def exchange(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> tuple[int, list[str]]:
    async with session.post(url, data=b"x", headers=headers) as response:
        await response.read()
        return response.status, [name.lower() for name in response.headers]


@pytest.mark.verify
@needs_envoy
async def test_thirty_services_each_hold_and_serve_by_themselves(tmp_path: Path) -> None:
    many = {f"model-{i}": 20.0 for i in range(30)}
    table = Table(*many)
    async with discovery(table, many) as port, envoy(tmp_path, layout(port, many)) as front:
        asked = [
            asyncio.create_task(exchange(front.session, f"{front.url}/{name}/predict", {"host": "x"})) for name in many
        ]
        await until(lambda: all(rows and rows[-1].waiting == 1 for rows in table.fronts.values()), 30)
        async with replica("r") as (app, where):
            for name in many:
                table.put(name, where)
            assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 30
            assert {h["x-aci-service"] for h in app.headers} == set(many)


# --- discovery's own door ---


@pytest.fixture
async def door() -> AsyncIterator[int]:
    async with discovery(Table(*TWO), TWO) as port:
        yield port


def posted(body: bytes, path: str = "/v3/discovery:endpoints", length: int | None = None, extra: str = "") -> bytes:
    size = len(body) if length is None else length
    return (
        f"POST {path} HTTP/1.1\r\nhost: d\r\nconnection: close\r\ncontent-length: {size}\r\n{extra}\r\n".encode() + body
    )


async def poll(port: int, **request: Any) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/v3/discovery:endpoints", json=request) as response,
    ):
        assert response.status == 200
        return dict(await response.json())


async def test_an_unknown_service_is_an_empty_answer(door: int) -> None:
    assert (await poll(door, resource_names=["nobody"]))["resources"] == []


async def test_an_unread_service_is_an_empty_list_and_all_are_told_when_none_is_named(door: int) -> None:
    said = await poll(door, node={"id": "e"})
    assert [each["cluster_name"] for each in said["resources"]] == ["iris", "digits"]
    assert all(each["endpoints"] == [] for each in said["resources"])


async def test_rows_that_envoy_could_not_use_are_left_out_of_the_list() -> None:
    table = Table("iris")
    table.put("iris", ("10.0.0.1", 8000), ("not an address", 8000), ("10.0.0.2", 0), ("10.0.0.3", 70000), ("::1", 80))
    async with discovery(table, {"iris": 1.0}) as port:
        said = await poll(port, resource_names=["iris"], node={"id": "e"})
    members = said["resources"][0]["endpoints"][0]["lb_endpoints"]
    assert sorted(m["endpoint"]["address"]["socket_address"]["address"] for m in members) == ["10.0.0.1", "::1"]


NONSENSE = [
    b"", b"{", b"[]", b"null", b"NaN", b'{"version_info": NaN}', b'{"version_info": 1}', b'{"resource_names": "iris"}',
    b'{"resource_names": [1]}', b'{"node": []}', b'{"node": {"id": 7}}', b"\xff\xfe", b"\x00" * 1000, b"[" * 100_000,
    b'{"resource_names": [' + b'"x",' * 1000 + b'"y"',
]  # fmt: skip


async def test_nonsense_is_400_with_a_reason(door: int) -> None:
    for body in NONSENSE:
        status, answer = await raw(door, posted(body))
        assert status == 400, body[:40]
        document = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert document["status"] == 400
        assert "no discovery request" in document["detail"]
        assert b"application/problem+json" in answer


async def test_other_doors_are_closed_with_a_reason(door: int) -> None:
    for request, status in (
        (get("/"), 404),
        (get("/v3/discovery:clusters"), 404),
        (get("/v3/discovery:endpoints"), 405),
        (posted(b"", "/healthz"), 405),
        (get("/x", extra="x-aci-service: nobody\r\n"), 404),
        (get("/x", extra="x-aci-service: \xff\r\n"), 404),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET\r\n\r\n", 400),
    ):
        answered, answer = await raw(door, request)
        assert answered == status, request
        assert answered == 400 or b"problem+json" in answer


async def test_a_hundred_megabytes_are_refused_and_the_next_caller_is_served(door: int) -> None:
    async with aiohttp.ClientSession() as session:
        big = io.BytesIO(b"x" * 100_000_000)
        with contextlib.suppress(aiohttp.ClientError):
            async with session.post(f"http://127.0.0.1:{door}/v3/discovery:endpoints", data=big) as response:
                assert response.status == 413
        async with session.get(f"http://127.0.0.1:{door}/healthz") as response:
            assert response.status == 200
            assert (await response.json())["services"]["iris"]["ready"] == 0


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
VALUES = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=20), st.lists, max_leaves=5)
KEYS = st.sampled_from(["version_info", "resource_names", "node", "type_url", "x"])
REQUESTS = st.one_of(
    st.binary(max_size=2000),
    st.binary(max_size=500).map(posted),
    st.dictionaries(KEYS, VALUES).map(lambda value: posted(json.dumps(value).encode())),
    st.tuples(PRINTABLE, PRINTABLE, PRINTABLE).map(
        lambda said: get(
            "/",
            extra="x-aci-service: iris\r\nx-envoy-attempt-count: {}\r\nx-aci-started: {}\r\n"
            "x-aci-stream: {}\r\n".format(*said),
        )
    ),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(REQUESTS, min_size=10, max_size=10))
def test_whatever_bytes_come_the_process_lives(requests: list[bytes]) -> None:
    async def all_of_them() -> None:
        async with discovery(Table(*TWO), {"iris": 0.01, "digits": 0.01}) as port:
            for request in requests:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                writer.write_eof()
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(reader.read(), 5)
                writer.close()
            assert (await raw(port, get("/healthz")))[0] == 200

    asyncio.run(all_of_them())


# --- the bootstrap itself ---


def test_what_envoy_would_refuse_is_said_in_a_sentence() -> None:
    with pytest.raises(BadSetting, match="front: no service"):
        bootstrap(layout(1, {}))
    with pytest.raises(BadSetting, match="front: listen: 'localhost' is no IP address"):
        bootstrap(layout(1, TWO, listen=Address("localhost", 1)))
    with pytest.raises(BadSetting, match=r"front: admin: 0\.0\.0\.0 is not loopback"):
        bootstrap(layout(1, TWO, admin=Address("0.0.0.0", 1)))


async def test_a_port_in_use_is_said_in_a_sentence(door: int) -> None:
    with pytest.raises(BadSetting, match=r"discovery: cannot listen on 127.0.0.1 port \d+: Address already in use"):
        async with discovery(Table(*TWO), TWO, port=door):
            pass
