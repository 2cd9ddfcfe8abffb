"""What goes wrong in other autoscalers, by situation: each of these is a complaint of their users, and a test of ours.

B1 to B20 number the situations; the name says what has to hold here.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from scaler.errors import Unavailable
from scaler.model import Create, Observation, Phase, Pin
from scaler.ports import Changes
from tests.builders import NOW, front, replica, rules, sight, stats
from tests.scaler.seen import Watch, policy
from tests.scaler.test_plan import phases, planned
from tests.scaler.ticking import SERVICE, TEMPLATE, Ticking

pytestmark = pytest.mark.anyio
BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()


async def running(number: int, *, settings: str = SERVICE) -> Ticking:
    """A service with this many ready replicas and no pin, the largest of whose last minute was this many."""
    ticking = Ticking(services=f"services:\n  iris:{settings}")
    await ticking.pin(number)
    await ticking.ticks_until(Phase.READY, number)
    await ticking.world.store.remove_pin("iris", etag=None)
    return ticking


# -- B1: a stabiliser that takes the smallest of its window


def test_b1_a_scale_in_never_goes_below_any_recommendation_of_the_window() -> None:
    watch = Watch(policy(replicas={"max": 50}, scale_in={"window_s": 60}), ready=40)
    wanted = [40, 25, 1, 1, 1, 1, 1, 1, 1]
    got = [watch.tick(in_flight=4.0 * n).desired for n in wanted]
    assert got == [max(wanted[max(0, i - 3) : i + 1]) for i in range(len(wanted))]
    assert got[3] == 40
    assert got[4] == 25, "25 was asked for within the window: 1 is not the answer yet"


# -- B2: pending replicas are forgotten, so that a deficit is asked for again and again


async def test_b2_a_constant_deficit_is_asked_for_once_however_long_starts_take() -> None:
    ticking = Ticking(services=f"services:\n  iris:{SERVICE.replace('max: 4', 'max: 40')}")
    ticking.world.fleet.start_delay_s = lambda _: 600.0
    ticking.front = front(waiting=3, arrivals_total=3)
    for _ in range(20):
        await ticking.tick()
        assert len(ticking.world.fleet.held) == 3


# -- B3: an outage of the metrics is read as no load


@pytest.mark.parametrize("forecast", [False, True])
def test_b3_blind_for_any_time_never_scales_in(forecast: bool) -> None:
    watch = Watch(policy(forecast=forecast), ready=10)
    watch.tick(in_flight=40.0, arrivals=600.0, completed=600.0)
    nothing = {"data": "blind", "in_flight": None, "arrivals": None, "completed": None, "queued": None}
    for gap_s in (15.0, 60.0, 3600.0, 86_400.0, 30 * 86_400.0):
        watch.at += gap_s
        assert watch.tick(**nothing).desired == 10


# -- B4: an empty answer is read as zero


def test_b4_an_empty_answer_of_a_signal_is_not_zero() -> None:
    jobs = policy(target={}, signals=[{"storage_queue": "jobs", "per_replica": 10}])
    watch = Watch(jobs, ready=5)
    assert watch.tick(signals={"jobs": 50.0}).desired == 5
    for answer in ({"jobs": None}, {}, {"jobs": float("nan")}):
        assert [watch.tick(signals=answer).desired for _ in range(20)] == [5] * 20
    assert [watch.tick(signals={"jobs": 0.0}).desired for _ in range(5)][-1] == 0


# -- B5: no traffic is read as no data


@pytest.mark.parametrize("forecast", [False, True])
def test_b5_true_silence_does_scale_in(forecast: bool) -> None:
    watch = Watch(policy(forecast=forecast), ready=5)
    watch.tick(in_flight=20.0, arrivals=300.0, completed=300.0)
    assert [watch.tick().desired for _ in range(240)][-1] == 0


# -- B6: floors and schedules are lost in an outage


def test_b6_floor_cap_and_schedule_hold_in_an_outage() -> None:
    office = {
        "timezone": "UTC",
        "rules": [{"from": "08:00", "to": "20:00", "min": 3, "max": 6}, {"off": True, "from": "20:00", "to": "08:00"}],
    }
    watch = Watch(policy(schedule=office), at=NOON - 5 * 3600, every_s=60.0)
    nothing = {"data": "blind", "in_flight": None, "arrivals": None, "queued": None}
    got = {round((watch.at - NOON) / 3600, 4): watch.tick(**nothing) for _ in range(20 * 60)}
    assert got[-4.5].desired == 0
    assert got[-4.0].desired == 3
    assert {d.desired for hour, d in got.items() if -4.0 <= hour < 8.0} == {3}
    assert got[8.0].desired == 0
    high = Watch(policy(schedule=office), at=NOON, ready=9)
    assert (high.tick(**nothing).desired, high.tick(**nothing).limited_by) == (6, "schedule_max")


# -- B7: a replica that can never start stops everything


async def test_b7_a_replica_that_can_never_start_does_not_block_scale_in_and_ages_out() -> None:
    ticking = await running(2, settings=SERVICE + "    start: {deadline_s: 120}\n")
    ticking.world.fleet.load_delay_s = lambda _: 1e9
    await ticking.pin(3)
    await ticking.tick()
    stuck = next(name for name, phase in (await ticking.phases()).items() if phase is not Phase.READY)
    await ticking.world.store.remove_pin("iris", etag=None)
    for _ in range(12):
        await ticking.tick()
    assert stuck not in ticking.world.fleet.held
    assert all(phase is not Phase.READY for phase in (await ticking.phases()).values()), "idle ones went all the same"


async def test_b7_and_one_that_is_needed_is_given_up_at_its_deadline() -> None:
    ticking = await running(1, settings=SERVICE + "    start: {deadline_s: 120}\n")
    ticking.world.fleet.load_delay_s = lambda _: 1e9
    await ticking.pin(2)
    await ticking.tick()
    stuck = next(name for name, phase in (await ticking.phases()).items() if phase is not Phase.READY)
    for _ in range(12):
        await ticking.tick()
    assert stuck not in ticking.world.fleet.held


# -- B8: more than the maximum exists, because what starts or dies is not counted


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_b8_existing_and_starting_never_exceed_max_after_any_interleaving(seed: int) -> None:
    asyncio.run(_interleaved(random.Random(seed)))


async def _interleaved(chance: random.Random) -> None:
    ticking = Ticking()
    world, most = ticking.world, 4
    world.fleet.start_delay_s = lambda _: chance.choice((5.0, 60.0, 1e9))
    world.fleet.delete_delay_s = chance.choice((0.0, 20.0, 90.0))
    for _ in range(40):
        if chance.random() < 0.3:
            least = chance.randrange(0, 9)
            await ticking.pin(least, max(least, chance.randrange(0, 9)))
        if chance.random() < 0.2:
            kind = chance.choice(("create", "delete", "list", "show", "move", "save"))
            world.faults.add(kind, Unavailable("no answer"), times=1, done=chance.random() < 0.5)
        if chance.random() < 0.2 and world.servers:
            chance.choice(list(world.servers.values())).silent = chance.random() < 0.5
        now = world.clock.advance(chance.choice((0.5, 5.0, 15.0, 60.0)))
        other = Ticking(world=world).scaler  # another instance of the app
        await asyncio.gather(ticking.scaler.tick(now, cause="timer"), other.tick(now, cause="wake", only="iris"))
        assert len(world.fleet.held) <= most


# -- B9: what somebody does by hand is ignored


async def test_b9_what_is_deleted_by_hand_is_replaced_and_what_is_made_by_hand_is_counted_and_both_are_said() -> None:
    ticking = await running(2)
    await ticking.pin(2)
    gone = next(iter(ticking.world.fleet.held))
    ticking.world.fleet.remove(gone)
    ticking.world.fleet.add("by-hand", tags={"aci-autoscaler": "d1", "service": "iris", "template": "x"})
    said = ""
    for _ in range(12):
        await ticking.tick()
        memory = await ticking.scaler.memory("iris")
        assert memory is not None
        said += " ".join(c.message for c in memory.conditions)
        assert sum(p is Phase.READY for p in (await ticking.phases()).values()) <= 2
    assert gone in said
    assert "by-hand" in said
    assert set(ticking.world.fleet.held) == set(await ticking.phases()), "no group without a row"
    assert sum(p is Phase.READY for p in (await ticking.phases()).values()) == 2


# -- B10: only the newest wish counts


def test_b10_a_peak_within_the_delay_is_not_forgotten_and_a_small_step_does_not_block_a_big_one() -> None:
    watch = Watch(policy(replicas={"max": 20}), ready=2)
    loads = [2, 9, 2, 3, 2]
    assert [watch.tick(in_flight=4.0 * n).desired for n in loads] == [2, 9, 9, 9, 9]
    climbing = Watch(policy(replicas={"max": 20}), ready=2)
    assert [climbing.tick(in_flight=4.0 * n).desired for n in (2, 3, 15)] == [2, 3, 15]


# -- B11: from many to none in one jump


async def test_b11_from_many_to_none_passes_through_drain() -> None:
    ticking = await running(4)
    world = ticking.world
    for server in world.servers.values():
        server.in_flight = 1
    ticking.front = front(applied_version=10_000)
    await ticking.pin(0)
    await ticking.tick()
    assert set((await ticking.phases()).values()) == {Phase.DRAINING}
    for _ in range(3):
        await ticking.tick(10.0)
        assert len(world.fleet.held) == 4, "each of them still works"
    for server in world.servers.values():
        server.in_flight = 0
    for _ in range(4):
        await ticking.tick(10.0)
    assert world.fleet.held == {}


# -- B12: the victim is picked blindly


@given(st.lists(st.integers(0, 30), min_size=2, max_size=8), st.data())
def test_b12_who_goes_has_the_fewest_requests_in_flight(loads: list[int], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(loads) - 1))
    rows = [replica(f"r{i}") for i in range(len(loads))]
    answers = [stats(f"r{i}", in_flight=n // 2, queued=n - n // 2) for i, n in enumerate(loads)]
    after = phases(planned(kept, *rows, view=sight(*answers)))
    went = [loads[i] for i in range(len(loads)) if after[f"r{i}"] == "draining"]
    stayed = [loads[i] for i in range(len(loads)) if after[f"r{i}"] == "ready"]
    assert len(stayed) == kept
    assert max(went) <= min(stayed, default=max(loads))


# -- B13: scale-in drops requests


async def test_b13_no_request_is_lost_on_scale_in_within_the_deadline() -> None:
    ticking = await running(1)
    (name,) = ticking.world.fleet.held
    server = ticking.world.server(name)
    ticking.front = front(applied_version=10_000)
    await ticking.pin(0)
    server.in_flight = 2
    for left in (2, 1, 1):
        await ticking.tick(10.0)
        server.in_flight = left
        assert name in ticking.world.fleet.held
    server.in_flight = 0
    await ticking.tick(1.0)
    assert name in ticking.world.fleet.held, "idle for less than idle_s: one may still be on its way"
    for _ in range(3):
        await ticking.tick(5.0)
    assert name not in ticking.world.fleet.held


# -- B14: a lost "request ended" pins a replica


async def test_b14_counters_of_a_server_that_began_anew_are_not_believed_and_a_drain_ends() -> None:
    ticking = await running(1)
    (name,) = ticking.world.fleet.held
    server = ticking.world.server(name)
    server.in_flight = 1  # and its end is never told
    await ticking.tick()
    server.restart()
    server.ready_at = ticking.world.clock()
    for _ in range(2):
        report = await ticking.tick()
    assert report.decision is not None
    assert [s.after for s in report.decision.steps if s.name == "concurrency"] == [0]
    server.in_flight = 1
    ticking.front = front(applied_version=10_000)
    await ticking.pin(0)
    for _ in range(8):
        await ticking.tick()
    assert name not in ticking.world.fleet.held, "the drain deadline ends what never ends"


# -- B15: deleted twice, or somebody else's


async def test_b15_only_our_own_are_deleted_and_twice_is_once_whatever_the_order_of_the_list() -> None:
    ticking = await running(3)
    world = ticking.world
    ours = set(world.fleet.held)
    for i in range(5):
        world.fleet.add(
            f"stranger-{i}", tags={"service": "iris"} if i % 2 else {"aci-autoscaler": "d2", "service": "iris"}
        )
    world.faults.add("delete", Unavailable("answer lost"), times=3, done=True)
    world.fleet.delete_delay_s = 40.0
    await ticking.pin(0)
    chance = random.Random(15)
    for _ in range(20):
        held = list(world.fleet.held.items())
        chance.shuffle(held)
        world.fleet.held = dict(held)
        await ticking.tick()
    assert sorted(world.fleet.held) == [f"stranger-{i}" for i in range(5)]
    assert set(world.fleet.asked_to_go) == ours


# -- B16: a rollout looks like load


@given(st.integers(0, 6), st.floats(0.0, 60.0))
def test_b16_starting_replicas_of_a_new_version_do_not_change_the_demand(starting: int, load: float) -> None:
    quiet = Watch(policy(replicas={"max": 30}), ready=3).tick(in_flight=load, ready=3)
    rolling = Watch(policy(replicas={"max": 30}), ready=3).tick(in_flight=load, ready=3, starting=starting)
    demands = [[s.after for s in d.steps if s.name == "concurrency"] for d in (quiet, rolling)]
    assert demands[0] == demands[1]


async def test_b16_a_rollout_under_constant_load_keeps_the_count() -> None:
    ticking = await running(2)
    for server in ticking.world.servers.values():
        server.in_flight = 1
    ticking.front = front(applied_version=10_000)
    ticking.deploy(f"services:\n  iris:{SERVICE}", TEMPLATE.replace("inference:1", "inference:2"))
    seen = []
    for _ in range(25):
        report = await ticking.tick()
        assert report.decision is not None
        seen.append(report.decision.desired)
        servers = list(ticking.world.servers.values())
        for server in servers:
            server.in_flight = 1 if server in servers[-2:] else 0
    assert set(seen) == {2}


# -- B17: a restart forgets the window


async def test_b17_a_restart_keeps_the_window_and_the_window_comes_before_the_ceilings() -> None:
    ticking = await running(3)
    ticking.deploy(f"services:\n  iris:{SERVICE}")
    report = await ticking.tick(5.0)
    assert report.decision is not None
    assert (report.decision.desired, report.decision.limited_by) == (3, "stabilization")
    watch = Watch(policy(), ready=2)
    assert watch.tick(in_flight=400.0).desired == 10
    assert watch.state.window[0][1] == 100, "the window holds what was asked for, before max cut it"
    names = [s.name for s in watch.tick(in_flight=0.0, quota=5).steps]
    assert names == ["concurrency", "stabilization", "quota"]


# -- B18: schedules over midnight, at the changes of the clock, on leap days, in two zones


def test_b18_schedules_over_midnight_at_clock_changes_on_leap_days_and_in_two_zones() -> None:
    def desired(rule: dict[str, object], moment: str, zone: str = "Europe/Berlin", fold: int = 0) -> int:
        at = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()
        text = {"timezone": zone, "rules": [rule]}
        return Watch(policy(schedule=text, start={"expected_s": 0.001}), at=at, every_s=0.001).tick().desired

    night = {"days": "fri", "from": "22:00", "to": "06:00", "min": 2}
    assert [desired(night, f"2026-11-2{t}") for t in ("0T21:59", "0T22:00", "1T05:59", "1T06:00")] == [0, 2, 2, 0]
    gap = {"from": "02:30", "to": "04:00", "min": 2}
    assert [desired(gap, f"2026-03-29T{t}") for t in ("01:59:59", "03:00:00", "03:59:59", "04:00:00")] == [0, 2, 2, 0]
    fold = {"from": "02:15", "to": "02:45", "min": 2}
    assert [
        desired(fold, f"2026-10-25T{t}", fold=f) for t, f in (("02:14", 0), ("02:15", 0), ("02:44", 1), ("02:45", 1))
    ] == [0, 2, 2, 0]
    leap = {"dates": ["2028-02-29"], "min": 2}
    assert [desired(leap, f"2028-{d}") for d in ("02-28T23:59", "02-29T00:00", "02-29T23:59", "03-01T00:00")] == [
        0,
        2,
        2,
        0,
    ]
    office = {"from": "09:00", "to": "17:00", "min": 2}
    assert desired(office, "2026-11-23T10:00", "Asia/Tokyo") == 2
    tokyo_morning = datetime(2026, 11, 23, 10, tzinfo=ZoneInfo("Asia/Tokyo")).astimezone(BERLIN)
    assert desired(office, tokyo_morning.replace(tzinfo=None).isoformat()) == 0


# -- B19: taking a pin away bounces


@pytest.mark.parametrize("pinned", [0, 2, 4, 9])
def test_b19_pin_and_unpin_go_there_and_back_without_another_count(pinned: int) -> None:
    watch = Watch(policy(), ready=4)
    got = [watch.tick(in_flight=16.0).desired for _ in range(6)]
    got += [watch.tick(in_flight=16.0, pin=Pin(min=pinned, max=pinned, since=0.0)).desired for _ in range(10)]
    got += [watch.tick(in_flight=16.0).desired for _ in range(6)]
    assert got == [4] * 6 + [pinned] * 10 + [4] * 6


# -- B20: a new configuration at zero


async def test_b20_a_new_configuration_at_zero_wakes_when_asked_and_one_under_load_does_not_go_to_zero() -> None:
    ticking = Ticking()
    await ticking.tick()
    ticking.deploy(f"services:\n  iris:{SERVICE.replace('min: 0', 'min: 2')}")
    await ticking.ticks_until(Phase.READY, 2)
    for server in ticking.world.servers.values():
        server.in_flight = 1
    stored = await ticking.world.store.load("iris")
    assert stored.row is not None
    await ticking.world.store.save(stored, replace(stored.row, memory=b"of another version"), Changes())
    ticking.deploy(f"services:\n  iris:{SERVICE.replace('concurrency: 1', 'concurrency: 2')}")
    for _ in range(10):
        await ticking.tick()
        assert sum(p is Phase.READY for p in (await ticking.phases()).values()) >= 1
    asleep = Ticking()
    await asleep.tick()
    asleep.deploy(f"services:\n  iris:{SERVICE}    lateness_price: 3\n")
    asleep.front = front(waiting=1, arrivals_total=1)
    await asleep.ticks_until(Phase.READY, 1)


# -- and what they share


def test_an_intent_never_outlives_the_wish_for_it() -> None:
    outcome = planned(0, replica("a", Phase.INTENDED), replica("b", Phase.STARTING), by=rules())
    assert [a for a in outcome.actions if isinstance(a, Create)] == []
    assert phases(outcome) == {"b": "deleting"}


def test_an_observation_with_nothing_known_is_still_an_observation() -> None:
    decision = Watch(policy(), ready=3).tick(in_flight=None, arrivals=None, completed=None, queued=None)
    assert decision.desired == 3
    assert Observation(at=NOW, window_s=0.0, ready=0, starting=0).data == "fresh"
