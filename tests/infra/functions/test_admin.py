"""What the master key opens below /admin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.infra.functions.serving import Running, StepClock, serving, write_app, written

SOURCE = """
@app.route(route="say/{word?}")
def say(req: func.HttpRequest) -> str:
    (folder / "said").write_text(req.get_body().decode())
    return "x"

@app.timer_trigger(arg_name="t", schedule="0 0 * * * *")
async def tick(t: func.TimerRequest) -> None:
    (folder / "ticked").write_text(str(t.past_due))

import pathlib
folder = pathlib.Path(__file__).parent
"""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(write_app(tmp_path, SOURCE), clock=StepClock(0.0)) as host:
        yield host


async def test_only_the_master_key_gets_in(running: Running) -> None:
    host_key = {"x-functions-key": running.parts.keys.host["default"]}
    paths = ["host/status", "functions", "functions/tick", "nothing", ""]

    for headers in ({}, host_key):
        answers = [await running.http.get(f"/admin/{path}", headers=headers) for path in paths]
        assert [answer.status_code for answer in answers] == [401] * len(paths)
    assert (await running.http.post("/admin/functions/tick", json={})).status_code == 401
    assert (await running.http.get("/admin/host/ping")).status_code == 200


async def test_the_host_tells_its_state_and_functions(running: Running) -> None:
    status = (await running.http.get("/admin/host/status", headers=running.master)).json()
    functions = (await running.http.get("/admin/functions", headers=running.master)).json()
    tick = (await running.http.get("/admin/functions/TICK", headers=running.master)).json()

    assert (status["state"], status["functionCount"]) == ("Running", 2)
    base = f"http://127.0.0.1:{running.port}"
    assert [(f["name"], f["invoke_url_template"]) for f in functions] == [
        ("say", f"{base}/api/say/{{word?}}"),
        ("tick", None),
    ]
    assert tick == functions[1]
    assert tick["config"]["bindings"][0]["type"] == "timerTrigger"


async def test_a_timer_can_be_run_by_hand(running: Running) -> None:
    answer = await running.http.post("/admin/functions/tick", json={}, headers=running.master)

    assert (answer.status_code, answer.content) == (202, b"")
    assert await written(running.parts.app.folder / "ticked") == "False"


async def test_an_http_function_run_by_hand_gets_the_input(running: Running) -> None:
    answer = await running.http.post("/admin/functions/Say", json={"input": "hello"}, headers=running.master)

    assert answer.status_code == 202
    assert await written(running.parts.app.folder / "said") == "hello"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"input": 5}'])
async def test_a_call_by_hand_needs_a_json_object(running: Running, content: bytes) -> None:
    answer = await running.http.post("/admin/functions/tick", content=content, headers=running.master)

    assert answer.status_code == 400
    assert "Send a JSON object" in answer.text


async def test_unknown_functions_and_methods_are_refused(running: Running) -> None:
    unknown = await running.http.post("/admin/functions/nobody", json={}, headers=running.master)
    wrong = await running.http.delete("/admin/functions", headers=running.master)

    assert (unknown.status_code, wrong.status_code) == (404, 405)


async def test_a_timer_is_called_by_the_clock_of_the_host(tmp_path: Path) -> None:
    clock = StepClock(10.0)
    async with serving(write_app(tmp_path, SOURCE), clock=clock):
        clock.move_to(await clock.asleep_until())

        assert await written(tmp_path / "ticked") == "False"
