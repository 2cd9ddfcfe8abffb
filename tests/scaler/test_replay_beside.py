"""The live policy and its shadow, on a record that real ticks wrote; and that record as a trace."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from scaler.cli.replay_input import Options, from_rows, rows_of
from scaler.cli.replaying import replayed
from scaler.cli.shadowing import beside, body_of
from scaler.errors import BadSetting
from scaler.model import Decision
from scaler.ports import DecisionRow
from scaler.replay.beside import Pair, compared, followed, pairs
from scaler.replay.plant import World
from scaler.replay.run import run
from tests.scaler.ticking import Ticking

SERVICE = """
services:
  iris:
    replicas: {min: 1, max: 4}
    regions: [westeurope]
    template: replica.yaml
    target: {requests_per_second: 10}
    forecast: false
    shadow: {replicas: {min: 2, max: 4}}
"""


def row(at: float, live: int, shadow: int | None) -> DecisionRow:
    said = Decision(desired=shadow or 0, limited_by=None, because=f"shadow {shadow}")
    return DecisionRow(
        service="iris", at=at, tick=f"t{at}", cause="timer", desired=live, limited_by="min", because=f"live {live}",
        decision=b"", observation=b"", state_before=b"", actions="[]", replicas="{}", seconds=0.1, calls="{}",
        shadow=b"" if shadow is None else msgspec.msgpack.encode(said),
    )  # fmt: skip


def test_both_decisions_of_each_tick_are_counted() -> None:
    rows = [row(0.0, 2, 2), row(60.0, 2, 3), row(120.0, 2, 3), row(180.0, 4, 1), row(240.0, 1, 1), row(250.0, 1, None)]
    made = compared(pairs(rows, "iris"))
    assert (made.ticks, made.same, made.shadow_more, made.shadow_fewer) == (5, 2, 2, 1)
    assert made.live_hours == pytest.approx((3 * 2 + 4 + 2 * 1) * 60 / 3600)  # the last one stands for two minutes
    assert made.shadow_hours == pytest.approx((2 + 3 + 3 + 1 + 2 * 1) * 60 / 3600)
    assert made.live_limits == {"min": 5}
    assert made.shadow_limits == {}
    assert [(p.at, p.live, p.shadow) for p in made.most_apart] == [(180.0, 4, 1), (60.0, 2, 3)]
    assert made.most_apart[0].shadow_because == "shadow 1"


def test_a_silence_is_charged_for_no_longer_than_a_decision_stands() -> None:
    made = compared(pairs([row(0.0, 3, 3), row(36_000.0, 3, 3)], "iris"))
    assert made.live_hours == pytest.approx(3 * 240 / 3600)


def test_a_record_without_a_shadow_says_how_to_have_one() -> None:
    for rows in ([], [row(0.0, 1, None)], [replace(row(0.0, 1, 1), shadow=b"\xc1")]):
        with pytest.raises(BadSetting, match=r"services\.iris\.shadow"):
            pairs(rows, "iris")


def test_what_was_decided_can_be_followed() -> None:
    both = pairs([row(1000.0, 1, 2), row(1030.0, 3, 2), row(1090.0, 0, 2)], "iris")
    live, shadow = followed(both, 1000.0)
    world = World(rate=1.0, request_s=0.5, slo_wait_s=5.0, leaving_s=0, starts_s=(1.0,))
    made, beside_it = (run(rule, world, [0.0] * 120, rule.begins) for rule in (live, shadow))
    assert made.billed.tolist() == [1.0] * 30 + [3.0] * 60 + [0.0] * 30
    assert beside_it.billed.tolist() == [2.0] * 120


async def ticked(ticks: int) -> tuple[Ticking, list[DecisionRow]]:
    """Real ticks against a world in which every replica that runs gets a request a second, of two seconds' work."""
    here = Ticking(services=SERVICE)
    began = here.world.clock()
    for _ in range(ticks):
        await here.tick()
        for held in here.world.fleet.held.values():
            if here.world.clock() >= held.server.ready_at:
                held.server.arrive(15, each_s=2.0)
    return here, await rows_of(here.world.store, "iris", began, here.world.clock())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "autoscaler.yaml"
    path.write_text(SERVICE.replace("    template: replica.yaml\n", ""), encoding="utf-8")
    return path


async def test_a_record_of_real_ticks_is_a_trace(file: Path) -> None:
    here, rows = await ticked(400)
    assert [r.at for r in rows] == sorted(r.at for r in rows)
    assert len(rows) == 400
    material = from_rows(rows, Options(config=file))
    assert material.recorded is not None
    assert material.recorded.request_s == pytest.approx(2.0, rel=0.01)
    assert material.recorded.starts_s[0] > 0
    arrived = sum(held.server.arrivals for held in here.world.fleet.held.values())
    assert sum(material.trace.requests) == pytest.approx(arrived, abs=31)  # but for the first and the last look
    made = replayed(material, Options(config=file, against=("shadow", "fixed:2")))
    live, shadow, fixed = (p.score for p in made.played)
    assert shadow.replica_hours == pytest.approx(fixed.replica_hours, rel=0.01)  # the shadow's least is two
    assert live.replica_hours < shadow.replica_hours


async def test_the_shadow_that_real_ticks_recorded_is_compared(file: Path) -> None:
    _, rows = await ticked(100)
    made = beside(rows, Options(config=file))
    assert made.comparison.ticks == 100
    assert made.comparison.shadow_more >= 99
    assert {p.score.name for p in made.played} == {"live", "shadow"}
    told = body_of(made)
    assert told["decided"]["shadow_fewer"] == 0
    assert told["followed"][1]["against_first"]["difference"] > 0


async def test_a_record_is_read_whole_across_the_hours_and_each_tick_once() -> None:
    here, rows = await ticked(700)  # almost three hours
    every = await here.world.store.decisions("iris", since=0, limit=10_000)
    assert [r.tick for r in rows] == [r.tick for r in reversed(every)]


def pair(at: float, live: int, shadow: int) -> Pair:
    return Pair(at=at, live=live, shadow=shadow, live_because="", shadow_because="", live_limit=None, shadow_limit=None)


def test_only_the_first_tick_of_a_difference_is_shown() -> None:
    made = compared([pair(15.0 * i, 1, 3) for i in range(50)] + [pair(800.0 + i, 1, 2) for i in range(3)])
    assert [p.at for p in made.most_apart] == [0.0, 800.0]
