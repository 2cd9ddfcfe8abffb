"""The past as points and as a picture, and a pin's effect before it is sent."""

from __future__ import annotations

import time
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from msgspec.structs import replace

from scaler.past import Point
from scaler.web.bodies import iso
from scaler.web.history import binned
from tests.web.doors import Door, problem

MONDAY_10 = 1_789_977_600.0  # 2026-09-21 08:00 UTC, 10:00 in Berlin


async def test_history_is_as_many_points_as_were_asked_for(door: Door) -> None:
    await door.tick(times=40)
    told = (await door.call("GET", "services/iris/history?minutes=10&points=40")).json()
    assert told["step_s"] == 15
    assert {len(column) for column in told["points"].values()} == {40}
    assert told["until"] == iso(door.world.clock())
    assert told["points"]["desired"][-1] == (await door.call("GET", "services/iris")).json()["desired"]


async def test_what_was_not_recorded_is_not_known_and_never_zero(door: Door) -> None:
    await door.tick(times=4)
    door.world.clock.advance(1800)
    await door.tick()
    told = (await door.call("GET", "services/iris/history?minutes=30&points=120")).json()
    ready = told["points"]["ready"]
    assert ready[0] is not None
    assert ready[60] is None
    assert ready[-1] is not None


async def test_an_hour_that_is_over_is_read_once_and_one_that_is_not_each_time(door: Door) -> None:
    door.world.clock.at = MONDAY_10
    await door.tick(times=240)
    door.world.clock.advance(600)
    await door.tick()
    first = (await door.call("GET", "services/iris/history?minutes=120")).json()
    reads: list[float] = []
    drawn = door.world.store.drawn

    async def counted(*args: object, **kwargs: object) -> object:
        reads.append(1)
        return await drawn(*args, **kwargs)  # type: ignore[arg-type]

    door.world.store.drawn = counted  # type: ignore[method-assign, assignment]
    again = (await door.call("GET", "services/iris/history?minutes=120")).json()
    assert again == first
    assert len(reads) == 1


def test_bins_take_counts_at_their_largest_and_load_at_its_mean() -> None:
    ticks = [
        Point(at=0, desired=1, ready=1, arrivals_per_s=2.0),
        Point(at=5, desired=4, ready=2, arrivals_per_s=None),
        Point(at=9, desired=2, ready=2, arrivals_per_s=6.0, cold_starts_s=(3.0,)),
        Point(at=10, desired=0, ready=0, arrivals_per_s=0.0),
    ]
    first, second, third = binned(ticks, 0, 30, 3)
    assert (first.desired, first.ready, first.arrivals_per_s, first.cold_starts_s) == (4, 2, 4.0, (3.0,))
    assert (second.desired, second.arrivals_per_s) == (0, 0.0)
    assert (third.desired, third.cold_starts_s) == (0, ())


async def test_the_picture_is_svg_in_the_time_zone_of_the_service(door: Door) -> None:
    door.world.clock.at = MONDAY_10
    await door.tick(times=40)
    answer = await door.call("GET", "services/iris/chart?minutes=60")
    assert answer.headers["content-type"] == "image/svg+xml"
    svg = ET.fromstring(answer.text)
    texts = [t.text for t in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "10:00" in texts
    assert "ready replicas from 0 to 0" in (svg.get("aria-label") or "")
    assert "script" not in answer.text
    assert "style=" not in answer.text


async def test_the_picture_shows_off_hours_and_pins_as_bands(door: Door) -> None:
    door.world.clock.at = MONDAY_10 - 86_400  # a Sunday: iris is off
    await door.tick(times=4)
    assert 'class="band off"' in (await door.call("GET", "services/iris/chart?minutes=5")).text
    await door.call("PUT", "services/iris/pin", json={"replicas": 3})
    await door.tick(times=20)
    text = (await door.call("GET", "services/iris/chart?minutes=5")).text
    assert 'class="band pin"' in text
    assert 'class="band off"' not in text


async def test_a_picture_of_nothing_says_so(door: Door) -> None:
    assert "nothing is recorded" in (await door.call("GET", "services/iris/chart")).text
    for query in ("minutes=4", "minutes=44641", "points=9", "points=x", "until=x"):
        problem(
            await door.call("GET", f"services/iris/chart?{query}"), 422, "bad-time" if "until" in query else "bad-query"
        )


async def test_a_dry_run_says_what_comes_of_a_pin_and_changes_nothing(door: Door) -> None:
    await door.tick()
    ticks = len(door.world.store.recorded)
    body = {"replicas": 5}
    told = (await door.call("PUT", "services/iris/pin?dry_run=true", json=body)).json()
    assert told["effect"]["outcome"] == "preview"
    assert told["effect"]["desired"] == 5
    assert (await door.world.store.load("iris")).pin is None
    real = (await door.call("PUT", "services/iris/pin", json=body)).json()
    assert real["effect"]["because"] == told["effect"]["because"]
    without = (await door.call("DELETE", "services/iris/pin?dry_run=true")).json()
    assert without["removed"] is True
    assert without["effect"]["desired"] != 5
    assert (await door.call("GET", "services/iris/pin")).status_code == 200
    assert len(door.world.store.recorded) == ticks + 1
    problem(await door.call("PUT", "services/iris/pin?dry_run=yes", json=body), 422, "bad-query")


@pytest.mark.verify
async def test_a_week_is_answered_in_300_ms_once_it_was_read(door: Door) -> None:
    await door.tick()
    (row,) = (r for r in door.world.store.recorded.values() if r.service == "iris")
    for i in range(7 * 24 * 240):
        await door.world.store.record(replace(row, at=row.at - 15 * i, tick=f"t{i}"))
    (await door.call("GET", "services/iris/history?minutes=10080")).json()
    times = [time.perf_counter()]
    for _ in range(5):
        await door.call("GET", "services/iris/history?minutes=10080")
        times.append(time.perf_counter())
    assert min(b - a for a, b in pairwise(times)) < 0.3
