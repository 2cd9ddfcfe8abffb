"""Who is let in, how often, and that ten thousand bad requests change nothing."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from scaler.errors import BadSetting
from scaler.web.access import Access
from scaler.web.functions import Entry
from tests.web.doors import Door, problem
from tests.web.doors import door as open_door
from tests.world import World

ENTRA = Access(kind="entra", platform=True)


def signed_in(*roles: str) -> dict[str, str]:
    """The headers that the platform sets for a caller with these app roles."""
    claims = [{"typ": "roles", "val": role} for role in roles] + [{"typ": "name", "val": "operator"}]
    principal = {"auth_typ": "aad", "claims": claims, "name_typ": "name", "role_typ": "roles"}
    encoded = base64.b64encode(json.dumps(principal).encode()).decode()
    return {"x-ms-client-principal": encoded, "x-ms-client-principal-name": "anna@contoso.com"}


@pytest.fixture
async def entra() -> AsyncIterator[Door]:
    async with open_door(access=ENTRA) as opened:
        yield opened


DOORS = [
    ("GET", "services", {"reader", "operator"}),
    ("GET", "services/iris/pin", {"reader", "operator"}),
    ("GET", "metrics", {"reader", "operator"}),
    ("PUT", "services/iris/pin", {"operator"}),
    ("DELETE", "services/iris/pin", {"operator"}),
    ("POST", "services/iris/tick", {"operator"}),
    ("POST", "services/iris/wake", {"waker", "operator"}),
    ("POST", "alerts", {"waker", "operator"}),
    ("POST", "events", {"waker", "operator"}),
]


@pytest.mark.parametrize(("method", "path", "allowed"), DOORS)
async def test_each_door_opens_to_its_roles_alone(entra: Door, method: str, path: str, allowed: set[str]) -> None:
    problem(await entra.call(method, path), 401, "not-signed-in")
    for role in ("reader", "operator", "waker", "owner"):
        answer = await entra.call(method, path, headers=signed_in(role))
        assert (answer.status_code != 403) == (role in allowed), (role, answer.text)
    problem(await entra.call(method, path, headers=signed_in()), 403, "no-role")


async def test_the_doors_without_data_are_open_to_all(entra: Door) -> None:
    for path in ("health", "openapi.json", "dashboard"):
        assert (await entra.call("GET", path)).status_code in (200, 503)


@pytest.mark.parametrize("header", ["", "x", "e30=", "bnVsbA==", "W10=", base64.b64encode(b"[" * 20000).decode(), "é"])
async def test_a_principal_that_cannot_be_read_is_nobody(entra: Door, header: str) -> None:
    answer = await entra.call("GET", "services", headers=[(b"x-ms-client-principal", header.encode())])
    problem(answer, 401, "not-signed-in")


async def test_with_entra_the_name_of_the_platform_is_recorded(entra: Door) -> None:
    body = {"replicas": 2, "actor": "somebody else"}
    await entra.call("PUT", "services/iris/pin", json=body, headers=signed_in("operator"))
    pin = (await entra.world.store.load("iris")).pin
    assert pin is not None
    assert pin.actor == "anna@contoso.com"


def test_entra_without_the_platform_before_it_lets_nobody_in() -> None:
    with pytest.raises(BadSetting, match="nobody is let in"):
        Access.read({"AUTOSCALER_AUTH": "entra"})
    with pytest.raises(BadSetting, match="neither"):
        Access.read({"AUTOSCALER_AUTH": "none"})
    assert Access.read({"AUTOSCALER_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True"}) == ENTRA
    assert Access.read({}) == Access()


async def test_functions_are_open_to_the_host_only_where_the_app_asks_for_roles() -> None:
    import azure.functions as func  # noqa: PLC0415

    for env, level in (
        ({}, "FUNCTION"),
        ({"AUTOSCALER_AUTH": "none"}, "FUNCTION"),
        ({"AUTOSCALER_AUTH": "entra"}, "ANONYMOUS"),
    ):
        entry = Entry(lambda: pytest.fail("built"), env=env)
        assert entry.auth_level.name == level
    answer = await entry.http(
        func.HttpRequest("GET", "https://x/api/services", headers=signed_in("operator"), body=b"")
    )
    assert answer.status_code == 500
    assert b"nobody is let in" in answer.get_body()


async def test_a_caller_that_comes_too_often_waits_and_others_do_not() -> None:
    async with open_door(limited=True) as door:
        mine, other = {"x-functions-key": "mine"}, {"x-functions-key": "other"}
        answers = [await door.call("POST", "services/iris/tick", headers=mine) for _ in range(45)]
        assert [a.status_code for a in answers[:40]] == [200] * 40
        told = problem(answers[-1], 429, "too-many-requests")
        assert "come again in 1 s" in told
        assert answers[-1].headers["retry-after"] == "1"
        assert (await door.call("POST", "services/iris/tick", headers=other)).status_code == 200
        assert (await door.call("POST", "services/iris/wake", headers=mine)).status_code == 200
        assert (await door.call("GET", "services", headers=mine)).status_code == 200
        door.world.clock.at -= 3600
        assert (await door.call("POST", "services/iris/tick", headers=mine)).status_code == 429
        door.world.clock.advance(1)
        assert (await door.call("POST", "services/iris/tick", headers=mine)).status_code == 200


async def test_the_limiter_forgets_callers_rather_than_fill_the_memory() -> None:
    async with open_door(limited=True) as door:
        for i in range(1200):
            assert (await door.call("GET", "nothing", headers={"x-functions-key": str(i)})).status_code == 404
        limiter: Any = door.client._transport.app  # type: ignore[attr-defined]
        assert len(limiter._buckets) <= 1000


def bad_request(rng: random.Random) -> tuple[str, str, dict[str, Any]]:
    """A request that must be refused, whatever else it may be."""
    service = rng.choice(["iris", "digits"])
    letters = [rng.choice([rng.randrange(32, 127), rng.randrange(0xA1, 0x2FFF)]) for _ in range(rng.randrange(20))]
    noise = "?" + "".join(map(chr, letters))  # a number or a time by accident it is not
    body: bytes = rng.choice(
        [
            noise.encode() or b"{",
            json.dumps({"replicas": rng.choice([-1, 7, 10**9, 1.5, "3", None, [], {}, True])}).encode(),
            json.dumps({"replicas": 2, noise or "x": 1}).encode(),
            json.dumps({"replicas": 2, "for": noise + "h"}).encode(),
            json.dumps({"replicas": 2, "until": noise}).encode(),
            b'{"replicas": NaN}',
            b'{"replicas": 1, "replicas": 1}',
            b'{"replicas": 2}' + b" " * 65_536,
            json.dumps({"min": 4, "max": 3}).encode(),
            json.dumps({"replicas": 2, "reason": "\x1b[31m" + noise}).encode(),
        ]
    )
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", f"services/{service}/pin", {"content": body}),
        ("PUT", f"services/{service}/pin", {"json": {"replicas": 2}, "headers": {"if-match": f'"{rng.random()}"'}}),
        ("DELETE", f"services/{service}/pin", {"headers": {"if-match": '"0123456789abcdef"'}}),
        ("DELETE", f"services/{service}/pin", {"content": b'{"why": 1}'}),
        (
            "POST",
            f"services/{service}/{rng.choice(['tick', 'wake'])}",
            {"content": rng.choice([b"[]", b"{", b'{"x":1}'])},
        ),
        (rng.choice(["PATCH", "POST", "TRACE", "X"]), f"services/{service}/pin", {"content": body}),
        (
            "PUT",
            f"services/{rng.choice(['nope', '..', '%2e%2e', 'iris%00', 'IRIS', 'a' * 500])}/pin",
            {"json": {"replicas": 2}},
        ),
        ("POST", "alerts", {"content": rng.choice([b"", b"[]", b'{"schemaId":"x"}', b'{"data":' * 500])}),
        ("POST", "events", {"content": rng.choice([b"", b"[]", b"[[]]", b'[{"subject":1}]', b"\xff"])}),
        ("PUT", f"services/{service}/pin", {"data": {"replicas": "3"}}),
        ("GET", f"services/{service}/explain", {"params": {"at": noise}}),
        ("GET", f"services/{service}/decisions", {"params": {"limit": noise or "0"}}),
        (
            "GET",
            f"services/{service}/schedule",
            {"params": {"days": rng.choice([noise, "0", "367", "-1", "1e1", "٣"])}},
        ),
    ]
    return rng.choice(kinds)


async def _refuse(count: int) -> None:
    async with open_door() as door:
        await door.tick()
        await door.call("PUT", "services/iris/pin", json={"replicas": 2})
        before = _state(door.world)
        rng = random.Random(7)
        for i in range(count):
            method, path, more = bad_request(rng)
            answer: httpx.Response = await door.call(method, path, **more)
            assert 400 <= answer.status_code < 500, (i, method, path, more, answer.status_code, answer.text[:300])
            assert answer.headers["content-type"] == "application/problem+json"
        assert _state(door.world) == before


def _state(world: World) -> Any:
    rows = {s: {k: (r.value, r.etag) for k, r in rows.items()} for s, rows in world.store.rows.items() if rows}
    return rows, dict(world.store.recorded)


async def test_bad_requests_change_nothing() -> None:
    await _refuse(600)


@pytest.mark.verify
async def test_ten_thousand_bad_requests_change_nothing() -> None:
    await _refuse(10_000)
