"""Rollouts over the admin API and the command line: what runs, going back, trying again."""

from __future__ import annotations

import pytest

from scaler.cli import show
from scaler.template import Template
from tests.scaler.ticking import TEMPLATE
from tests.web.doors import Door, door, problem

pytestmark = pytest.mark.anyio
CONFIG = """
services:
  iris:
    regions: [westeurope]
    replicas: {min: 1, max: 3}
    rollout: {gate_s: 10}
"""
FIRST = Template.read(TEMPLATE, "replica.yaml")
SECOND = Template.read(TEMPLATE.replace("inference:1", "inference:2"), "replica.yaml")


async def run(at: Door, template: Template, ticks: int = 12) -> None:
    at.deploy(template, CONFIG)
    await at.tick(times=ticks)


async def ready_images(at: Door) -> list[str]:
    body = (await at.call("GET", "services/iris/rollout")).json()
    return [v["image"][-1] for v in body["versions"] for _ in range(v["ready"])]


async def test_without_a_template_there_are_no_versions() -> None:
    async with door(CONFIG) as at:
        await at.tick()
        body = (await at.call("GET", "services/iris/rollout")).json()
        assert (body["phase"], body["target"], body["versions"]) == ("steady", None, [])
        problem(await at.call("POST", "services/iris/rollout", json={"action": "undo"}), 404, "no-rollout")


async def test_the_versions_are_shown_newest_first_and_an_undo_brings_the_one_before_back() -> None:
    async with door(CONFIG) as at:
        await run(at, FIRST)
        await run(at, SECOND, 20)
        body = (await at.call("GET", "services/iris/rollout")).json()
        assert [v["image"][-1] for v in body["versions"]] == ["2", "1"]
        assert (body["phase"], body["target"], body["good"]) == ("steady", SECOND.hash, SECOND.hash)
        asked = {"action": "undo", "reason": "wrong labels", "actor": "anna"}
        told = await at.call("POST", "services/iris/rollout", json=asked)
        assert told.status_code == 200
        assert told.json()["because"] == "undone by key (anna): wrong labels"
        await at.tick(times=20)
        assert await ready_images(at) == ["1"]
        told = await at.call("POST", "services/iris/rollout", json={"action": "retry"})
        assert told.json()["phase"] == "rolling"
        await at.tick(times=20)
        assert await ready_images(at) == ["2"]


async def test_what_cannot_be_done_is_refused_in_a_sentence() -> None:
    async with door(CONFIG) as at:
        await run(at, FIRST)
        told = await at.call("POST", "services/iris/rollout", json={"action": "undo"})
        assert "no earlier version" in problem(told, 409, "no-such-turn")
        told = await at.call("POST", "services/iris/rollout", json={"action": "retry"})
        assert "already" in problem(told, 409, "no-such-turn")
        told = await at.call("POST", "services/iris/rollout", json={"action": "undo", "to": "x"})
        assert FIRST.hash in problem(told, 409, "no-such-turn")
        assert (await at.call("POST", "services/iris/rollout", json={"action": "stop"})).status_code == 422
        assert (await at.call("POST", "services/iris/rollout", json={})).status_code == 422


async def test_the_command_line_shows_the_versions() -> None:
    async with door(CONFIG) as at:
        await run(at, FIRST)
        body = (await at.call("GET", "services/iris/rollout")).json()
        with show.console().capture() as taken:
            show.console().print(show.rollout(body))
        assert FIRST.hash in taken.get()
        assert "nothing to do" in taken.get()
