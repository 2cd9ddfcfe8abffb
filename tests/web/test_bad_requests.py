"""Ten thousand requests that nobody should send: each is refused with a problem document, and nothing is changed."""

from __future__ import annotations

import copy
import json
import random
import string
from typing import Any

import pytest

from scaler.web.access import Access
from scaler.web.openapi import document
from tests.web.doors import CONFIG, Door
from tests.web.doors import door as open_door

pytestmark = [pytest.mark.verify, pytest.mark.timeout(600)]

REQUESTS = 10_000
VERBS = ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "BREW")
PATHS = [path.replace("{service}", "iris") for path in document()["paths"]]
CHANGING = (
    "services/iris/pin",
    "services/iris/tick",
    "services/iris/wake",
    "services/iris/rollout",
    "alerts",
    "events",
)
BAD_VALUES: tuple[Any, ...] = (
    -1, 10**30, 1.5, "3", True, [], {}, None, "x" * 400, "a\nb", "\u202egnp.exe", "2020-01-01T00:00:00Z", "12h30",
    "9999-99-99", float("nan"), [[]] * 50, {"a": {"b": {"c": []}}},
)  # fmt: skip
KEYS = ("replicas", "min", "max", "until", "for", "reason", "actor", "action", "to", "schemaId", "data", "extra")


def text(noise: random.Random, most: int = 40) -> str:
    return "".join(noise.choice(string.printable) for _ in range(noise.randint(0, most)))


def body(noise: random.Random) -> bytes:
    """Bytes that are no valid pin, tick, wake, rollout, alert or event."""
    kind = noise.randrange(6)
    if kind == 0:
        return noise.randbytes(noise.randint(1, 200))
    if kind == 1:
        return text(noise, 300).encode()
    if kind == 2:
        return b'{"replicas": 3, "replicas": 4}'
    if kind == 3:
        return b"[" * noise.randint(1000, 60_000)
    wrong = {noise.choice(KEYS): noise.choice(BAD_VALUES) for _ in range(noise.randint(1, 4))}
    # A key that nobody knows: whatever else is in it, the whole is refused.
    return json.dumps(wrong | {f"not-a-key-{noise.randrange(9)}": noise.choice(BAD_VALUES)}).encode()


def request(noise: random.Random) -> dict[str, Any]:
    """One request that must not change anything."""
    kind = noise.randrange(5)
    if kind == 0:  # no such place
        path = "/".join(noise.choice((*PATHS, "..", "%2e", "iris", "")).strip("/") for _ in range(3)) + "/not-here"
        return {"method": noise.choice(VERBS), "path": path}
    if kind == 1:  # no such method there
        path = noise.choice(PATHS).strip("/")
        item = document()["paths"][f"/{path}".replace("/iris", "/{service}")]
        return {"method": noise.choice([v for v in VERBS if v.lower() not in item and v != "HEAD"]), "path": path}
    if kind == 2:  # no such service, and a good body
        good = {"json": {"replicas": 3}} if noise.random() < 0.5 else {}
        return {"method": "PUT", "path": f"services/{noise.randrange(10**9)}/pin", **good}
    path = noise.choice(CHANGING)
    method = "PUT" if path.endswith("/pin") and noise.random() < 0.7 else "DELETE" if path.endswith("/pin") else "POST"
    headers = {"content-type": noise.choice(("application/json", "text/plain", "application/xml"))}
    return {"method": method, "path": path, "content": body(noise), "headers": headers}


def state(door: Door) -> Any:
    """All that is stored."""
    store = door.world.store
    return copy.deepcopy((dict(store.rows), store.recorded, store.packed, sorted(door.world.fleet.held)))


@pytest.mark.parametrize("access", [Access(), Access(kind="entra", platform=True)], ids=["keys", "entra"])
async def test_ten_thousand_bad_requests_change_nothing(access: Access) -> None:
    noise = random.Random(20_261_126)
    async with open_door(CONFIG, access=access) as door:
        await door.tick(times=3)
        before, statuses = state(door), dict[int, int]()
        for _ in range(REQUESTS):
            asked = request(noise)
            answer = await door.client.request(
                asked["method"],
                f"/api/{asked['path']}",
                content=asked.get("content"),
                json=asked.get("json"),
                headers=asked.get("headers"),
            )
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert 400 <= answer.status_code < 500, (asked, answer.text)
            assert answer.headers["content-type"] == "application/problem+json", asked
            if asked["method"] != "HEAD":
                assert set(answer.json()) == {"type", "title", "status", "detail"}, asked
        assert state(door) == before
        assert len(statuses) >= (2 if access.kind == "entra" else 5), statuses
