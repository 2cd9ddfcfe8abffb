"""One pass over a world in memory: what it does, and what it does when a step fails or two passes meet."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from msgspec.structs import replace

from scaler.config import load
from scaler.decide import State
from scaler.errors import Conflict, OutOfCapacity, Refused, Unavailable
from scaler.measure import Totals
from scaler.memory import Memory
from scaler.model import Decision, Phase, Replica
from scaler.observe import Fleet
from scaler.plan import Plan
from scaler.ports import Changes, DecisionRow, ServiceRow, Stored
from scaler.rollout import Rollout, read, undone
from scaler.tick.act import ACTIONS_AT_ONCE
from scaler.tick.rows import Outcome, to_record, to_save
from scaler.tick.service import SIGHT_S
from tests.builders import NOW, front, replica
from tests.scaler.ticking import SERVICE, TEMPLATE, Ticking, managed

pytestmark = pytest.mark.anyio


class CrashError(Exception):
    """The instance dies here."""


async def running(number: int, *, target: str = "concurrency: 1") -> Ticking:
    """A service with this many ready replicas, held there by a pin."""
    ticking = Ticking(services=f"services:\n  iris:{SERVICE.replace('concurrency: 1', target)}")
    await ticking.pin(number)
    await ticking.ticks_until(Phase.READY, number)
    return ticking


async def test_a_pin_makes_replicas_and_they_become_ready() -> None:
    ticking = Ticking()
    await ticking.pin(2)
    report = await ticking.tick()
    assert report.outcome == "saved"
    assert list((await ticking.phases()).values()) == [Phase.CREATING, Phase.CREATING]
    await ticking.ticks_until(Phase.READY, 2)
    stored = await ticking.world.store.load("iris")
    assert stored.row is not None
    assert stored.row.endpoints_version == 1


async def test_what_is_created_carries_our_tags_its_name_token_and_certificate_as_secrets() -> None:
    ticking = Ticking()
    await ticking.pin(1)
    await ticking.tick()
    asked_at = ticking.world.clock()
    await ticking.ticks_until(Phase.READY, 1)
    (held,) = ticking.world.fleet.held.values()
    assert held.tags["aci-autoscaler"] == "d1"
    assert held.tags["service"] == "iris"
    variables = {v["name"]: v for v in held.body["properties"]["containers"][0]["properties"]["environmentVariables"]}
    assert variables["REPLICA"]["value"] == held.name
    assert variables["REPLICA_TOKEN"] == {"name": "REPLICA_TOKEN", "secureValue": "planted-secret"}
    certificate = f"planted-secret key of iris {held.name} at {asked_at:.0f}"
    assert variables["TLS_CERTIFICATE"] == {"name": "TLS_CERTIFICATE", "secureValue": certificate}


async def test_a_tick_that_changes_nothing_costs_a_list_three_scrapes_and_three_table_calls() -> None:
    ticking = await running(3)
    await ticking.tick()
    _, calls = await ticking.last()
    assert calls == {"list": 1, "stats": 3, "table": 3}


async def test_scale_in_takes_out_drains_and_deletes_over_several_ticks() -> None:
    ticking = await running(1, target="requests_per_second: 10")
    (name,) = ticking.world.fleet.held
    ticking.front = front(applied_version=1)
    await ticking.world.store.remove_pin("iris", etag=None)
    await ticking.ticks_until(Phase.DRAINING, 1)
    await ticking.tick(5)
    assert not ticking.world.server(name).draining, "the front has not taken the list without it yet"
    ticking.front = front(applied_version=2)
    await ticking.tick(5)
    assert ticking.world.server(name).draining
    ticking.world.server(name).in_flight = 1
    await ticking.tick(5)
    await ticking.tick(5)
    assert await ticking.phases() == {name: Phase.DRAINING}
    ticking.world.server(name).in_flight = 0
    for _ in range(4):
        await ticking.tick(5)
    assert await ticking.phases() == {}
    assert ticking.world.fleet.held == {}


async def test_held_requests_wake_the_service_at_once() -> None:
    ticking = Ticking()
    await ticking.tick()
    ticking.front = front(waiting=2, arrivals_total=2)
    report = await ticking.tick(0.2, cause="wake", only="iris")
    assert report.decision is not None
    assert report.decision.desired >= 1
    assert len(ticking.world.fleet.held) >= 1


async def test_of_two_ticks_at_once_exactly_one_has_the_turn() -> None:
    ticking = Ticking()
    await ticking.pin(2)
    now = ticking.world.clock.advance(1)
    reports = await asyncio.gather(
        ticking.scaler.tick(now, cause="timer"), ticking.scaler.tick(now, cause="wake", only="iris")
    )
    assert sorted(r.outcome for (r,) in reports) == ["lost", "saved"]
    assert len(ticking.world.fleet.held) == 2


async def test_no_list_means_nothing_is_created_twice_and_nothing_deleted() -> None:
    ticking = await running(2)
    before = await ticking.phases()
    ticking.world.faults.add("list", Unavailable("no answer"), times=3)
    for _ in range(3):
        assert (await ticking.tick()).outcome == "saved"
        assert await ticking.phases() == before
    assert sum(ticking.world.fleet.made.values()) == 2


async def test_a_list_that_azure_throttles_is_not_asked_again_before_it_says_so() -> None:
    ticking = await running(1)
    before = await ticking.phases()
    ticking.world.faults.add("list", Unavailable("429", retry_after_s=100.0), times=1)
    said, lists = list[list[str]](), list[int]()
    for _ in range(9):
        ticking.deploy(f"services:\n  iris:{SERVICE}")  # each tick on another instance: what it knows is in the table
        await ticking.tick()
        _, calls = await ticking.last()
        said.append(await conditions_of(ticking))
        lists.append(calls.get("list", 0))
        assert await ticking.phases() == before
    assert lists == [1, 0, 0, 0, 0, 0, 0, 1, 1]  # 15 s apart: 105 s later is the first that may
    assert ["throttled" in s and "blind" in s for s in said] == [True] * 7 + [False] * 2


async def test_a_wait_for_the_list_that_a_clock_ahead_of_ours_wrote_is_forgotten() -> None:
    ticking = await running(1)
    ticking.world.clock.at += 5000
    ticking.world.faults.add("list", Unavailable("429", retry_after_s=100.0), times=1)
    await ticking.tick()
    ticking.world.clock.at -= 5000
    await ticking.tick()
    assert not {"blind", "throttled"} & set(await conditions_of(ticking))


async def test_silence_of_all_replicas_never_scales_in() -> None:
    ticking = await running(2)
    await ticking.world.store.remove_pin("iris", etag=None)
    for server in ticking.world.servers.values():
        server.silent = True
    for _ in range(20):
        await ticking.tick()
    assert list((await ticking.phases()).values()) == [Phase.READY, Phase.READY]


async def test_an_unreadable_table_changes_nothing() -> None:
    ticking = await running(1)
    ticking.world.faults.add("load", Unavailable("no answer"))
    assert (await ticking.tick()).outcome == "unavailable: no answer"
    assert ticking.world.fleet.asked_to_go == {}


async def test_a_put_whose_answer_is_lost_is_found_in_the_list() -> None:
    ticking = Ticking()
    ticking.world.faults.add("create", Unavailable("answer lost"), done=True)
    await ticking.pin(1)
    await ticking.ticks_until(Phase.READY, 1)
    assert sum(ticking.world.fleet.made.values()) == 1


async def test_a_crash_between_save_and_act_is_repaired_by_a_later_tick() -> None:
    ticking = Ticking()
    ticking.world.faults.add("move", CrashError(), times=1)
    await ticking.pin(1)
    with pytest.raises(CrashError):
        await ticking.tick()
    assert list((await ticking.phases()).values()) == [Phase.INTENDED]
    await ticking.ticks_until(Phase.READY, 1)
    assert sum(ticking.world.fleet.made.values()) == 1


async def test_a_replica_deleted_by_a_stranger_is_replaced_and_said_so() -> None:
    ticking = await running(2)
    name = next(iter(ticking.world.fleet.held))
    ticking.world.fleet.remove(name)
    await ticking.ticks_until(Phase.READY, 2)
    assert name not in ticking.world.fleet.held
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert [c.name for c in memory.conditions] == ["vanished"]


async def test_a_group_with_our_tag_and_no_row_is_reaped_and_strangers_are_left_alone() -> None:
    ticking = Ticking()
    await ticking.tick()
    ours = {"aci-autoscaler": "d1", "service": "iris", "template": "x"}
    ticking.world.fleet.add("stray", tags=ours)
    ticking.world.fleet.add("other", tags={**ours, "aci-autoscaler": "d2"})
    ticking.world.fleet.add("plain", tags={})
    for _ in range(6):
        await ticking.tick()
    assert sorted(ticking.world.fleet.held) == ["other", "plain"]
    assert await ticking.phases() == {}


async def test_with_the_table_lost_the_fleet_is_taken_over_and_nothing_is_deleted_or_made_anew() -> None:
    ticking = await running(3)
    ticking.world.store.rows.clear()
    await ticking.pin(3)
    await ticking.tick()
    assert list((await ticking.phases()).values()) == [Phase.READY] * 3
    assert ticking.world.fleet.asked_to_go == {}
    assert sum(ticking.world.fleet.made.values()) == 3
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert memory.state.starts_s == ()
    assert memory.starts == ()


async def test_no_room_in_a_region_backs_off_and_takes_the_next() -> None:
    ticking = Ticking()
    ticking.world.fleet.capacity["westeurope"] = 1
    await ticking.pin(3)
    await ticking.ticks_until(Phase.READY, 3)
    regions = sorted(held.region for held in ticking.world.fleet.held.values())
    assert regions == ["northeurope", "northeurope", "westeurope"]


async def test_a_region_that_has_room_again_is_taken_again_before_the_next_one() -> None:
    ticking = Ticking()
    ticking.world.fleet.capacity["westeurope"] = 0
    await ticking.pin(1)
    await ticking.ticks_until(Phase.READY, 1)
    assert {held.region for held in ticking.world.fleet.held.values()} == {"northeurope"}
    ticking.world.fleet.capacity["westeurope"] = 10
    await ticking.tick(60)  # a region that looks full is asked for its quota so often
    await ticking.pin(3)
    await ticking.ticks_until(Phase.READY, 3)
    regions = sorted(held.region for held in ticking.world.fleet.held.values())
    assert regions == ["northeurope", "westeurope", "westeurope"]


async def test_no_room_anywhere_is_a_ceiling_with_a_name_until_there_is_room() -> None:
    ticking = Ticking()
    ticking.world.fleet.capacity["westeurope"] = ticking.world.fleet.capacity["northeurope"] = 1
    ticking.world.faults.add("usage", Unavailable("not read: Azure's refusals have to say it"), times=None)
    await ticking.pin(3)
    limits = []
    for _ in range(12):
        report = await ticking.tick()
        assert report.decision is not None
        limits.append((report.decision.desired, report.decision.limited_by))
    assert limits[0] == (3, "pin")
    assert (2, "quota") in limits
    ticking.world.fleet.capacity["northeurope"] = 5
    await ticking.ticks_until(Phase.READY, 3, most=60)


async def test_a_quota_is_a_ceiling_before_azure_refuses() -> None:
    ticking = Ticking()
    fleet = ticking.world.fleet
    fleet.capacity["westeurope"], fleet.capacity["northeurope"] = 2, 1
    await ticking.pin(4)
    report = await ticking.tick()
    assert report.decision is not None
    assert (report.decision.desired, report.decision.limited_by) == (3, "quota")
    await ticking.ticks_until(Phase.READY, 3)
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    told = [c.message for c in memory.conditions if c.name == "quota"]
    assert [said.rpartition(": ")[2] for said in told] == [
        "room for 2 replicas (ContainerGroups 0 of 2 were in use).",
        "room for 1 replicas (ContainerGroups 0 of 1 were in use).",
    ]
    fleet.capacity["northeurope"] = 5
    await ticking.ticks_until(Phase.READY, 4)
    assert asked(await ticking.world.store.decisions("iris", since=0), "create") == 4


async def test_a_quota_that_cannot_be_read_leaves_the_ceiling_as_it_was() -> None:
    ticking = Ticking(services=f"services:\n  iris:{SERVICE.replace(', northeurope', '')}")
    ticking.world.fleet.capacity["westeurope"] = 2
    await ticking.pin(4)
    await ticking.ticks_until(Phase.READY, 2)
    ticking.world.faults.add("usage", Unavailable("403"), times=None)
    for after_s in (15.0, 60.0, 900.0, 3600.0):
        report = await ticking.tick(after_s)
        assert report.decision is not None
        assert (report.decision.desired, report.decision.limited_by) == (2, "quota")


async def test_a_quota_that_was_never_read_limits_nothing() -> None:
    ticking = Ticking()
    ticking.world.faults.add("usage", Unavailable("403"), times=None)
    await ticking.pin(4)
    await ticking.ticks_until(Phase.READY, 4)


async def test_quotas_are_read_every_quarter_of_an_hour_and_once_for_all_services() -> None:
    ticking = Ticking(services=f"services:\n  iris:{SERVICE}\n  other:{SERVICE}")
    for _ in range(130):
        await ticking.tick()
    rows = [*await ticking.world.store.decisions("iris", since=0, limit=200)]
    rows += await ticking.world.store.decisions("other", since=0, limit=200)
    began = min(row.at for row in rows)
    assert sorted({row.at - began for row in rows if "usage" in json.loads(row.calls)}) == [0.0, 900.0, 1800.0]
    assert asked(rows, "usage") == 3 * 2


def asked(rows: Sequence[DecisionRow], kind: str) -> int:
    return sum(json.loads(row.calls).get(kind, 0) for row in rows)


async def test_a_start_that_failed_makes_the_next_floor_open_earlier() -> None:
    ticking = Ticking()
    ticking.world.fleet.load_delay_s = lambda _name: 1e6
    await ticking.pin(1)
    for _ in range(70):
        await ticking.tick()
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert len(memory.state.failed_s) == 1
    assert memory.state.failed_s[0] >= 900.0


async def test_the_starts_of_a_new_version_are_learned_apart() -> None:
    ticking = Ticking()
    await ticking.pin(1)
    await ticking.ticks_until(Phase.READY, 1)
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    old, seen = memory.state.template, memory.state.starts_s
    assert len(seen) == 1
    ticking.deploy(f"services:\n  iris:{SERVICE}", TEMPLATE.replace("inference:1", "inference:2"))
    await ticking.ticks_until(Phase.DRAINING, 1)
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert memory.state.template != old
    assert (len(memory.state.starts_s), memory.state.earlier_s) == (1, seen)


async def test_a_refused_image_is_tried_more_and_more_rarely() -> None:
    ticking = Ticking()
    error = Refused("The image is not accessible.", code="InaccessibleImage")
    ticking.world.faults.add("create", error, times=None)
    await ticking.pin(1)
    tried = [len((await ticking.tick()).actions) for _ in range(40)]
    assert 3 <= sum(tried) <= 8
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert "image_pull" in [c.name for c in memory.conditions]
    assert await ticking.phases() == {} or set((await ticking.phases()).values()) == {Phase.DELETING}


async def test_retry_after_is_honoured() -> None:
    ticking = Ticking(services=f"services:\n  iris:{SERVICE.replace(', northeurope', '')}")
    ticking.world.faults.add("create", OutOfCapacity("throttled", code="429", retry_after_s=120.0), times=1)
    await ticking.pin(1)
    tried = [len((await ticking.tick()).actions) for _ in range(8)]
    assert tried == [1, 0, 0, 0, 0, 0, 0, 0] or tried.index(1, 1) * 15 >= 120


async def test_a_tick_that_slept_over_what_it_saw_changes_nothing() -> None:
    ticking = Ticking()
    await ticking.pin(1)

    async def sleeps(_: object) -> dict[str, float | None]:
        ticking.world.clock.advance(SIGHT_S + 1)
        return {}

    ticking.scaler.world = replace(ticking.scaler.world, signals=sleeps)
    assert (await ticking.tick()).outcome == "unavailable: what it saw is older than 120 s"
    assert await ticking.phases() == {}


async def test_a_new_template_rolls_without_ever_having_fewer_ready() -> None:
    ticking = await running(2)
    old = set(ticking.world.fleet.held)
    ticking.deploy(f"services:\n  iris:{SERVICE}", TEMPLATE.replace("inference:1", "inference:2"))
    ticking.front = front(applied_version=10_000)
    for _ in range(40):
        await ticking.tick()
        phases = list((await ticking.phases()).values())
        assert sum(p is Phase.READY for p in phases) >= 2
        assert len(ticking.world.fleet.held) <= 3 + 1
        if not old & set(ticking.world.fleet.held):
            break
    assert not old & set(ticking.world.fleet.held)


async def test_a_template_that_does_not_start_never_takes_the_last_good_replica() -> None:
    ticking = await running(1)
    (good,) = ticking.world.fleet.held
    ticking.deploy(
        f"services:\n  iris:{SERVICE}    start: {{deadline_s: 60}}\n", TEMPLATE.replace("inference:1", "inference:bad")
    )
    ticking.world.fleet.load_delay_s = lambda _: 1e9
    for _ in range(60):
        await ticking.tick()
    assert (await ticking.phases())[good] is Phase.READY


# ---------------------------------------------------------------- rollouts

SECOND = TEMPLATE.replace("inference:1", "inference:2")
LARGE = f"services:\n  iris:{SERVICE}    rollout: {{gate_s: 10}}\n"


async def rolled(ticking: Ticking) -> Rollout:
    stored = await ticking.world.store.load("iris")
    found = read(stored.rollout.data if stored.rollout else None)
    assert found is not None
    return found


async def images(ticking: Ticking) -> list[str]:
    """The images of what is ready, by the groups that Azure holds."""
    ready = [name for name, phase in (await ticking.phases()).items() if phase is Phase.READY]
    bodies = [ticking.world.fleet.held[name].body["properties"] for name in ready]
    return sorted(body["containers"][0]["properties"]["image"].rpartition(":")[2] for body in bodies)


async def settled(number: int) -> Ticking:
    """A service whose first version has proved itself."""
    ticking = Ticking(services=LARGE)
    ticking.front = front(applied_version=10_000)
    await ticking.pin(number)
    await ticking.ticks_until(Phase.READY, number)
    await ticking.tick()
    assert (await rolled(ticking)).phase == "steady"
    return ticking


async def test_a_bad_image_is_taken_back_and_load_is_met_with_the_good_version_meanwhile() -> None:
    ticking = await settled(1)
    ticking.world.fleet.missing_images.add("example.azurecr.io/inference:2")
    ticking.deploy(LARGE, SECOND)
    await ticking.tick()
    await ticking.pin(3)
    for _ in range(12):
        await ticking.tick()
        assert len(await images(ticking)) >= 1
    assert await images(ticking) == ["1", "1", "1"]
    after = await rolled(ticking)
    assert (after.phase, after.target) == ("steady", after.good)
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert {"rollout_returned", "image_pull"} <= {c.name for c in memory.conditions}


async def test_what_a_bad_version_leaves_behind_is_cleared_away() -> None:
    ticking = await settled(2)
    ticking.deploy(f"{LARGE}    start: {{deadline_s: 60}}\n", SECOND)
    ticking.world.fleet.load_delay_s = lambda _: 1e9
    for _ in range(40):
        await ticking.tick()
        assert await images(ticking) == ["1", "1"]
    assert len(ticking.world.fleet.held) == 2


async def test_a_good_version_replaces_the_old_one_and_the_history_keeps_both() -> None:
    ticking = await settled(2)
    ticking.deploy(LARGE, SECOND)
    for _ in range(40):
        await ticking.tick()
        assert len(await images(ticking)) >= 2
    assert await images(ticking) == ["2", "2"]
    after = await rolled(ticking)
    assert [(v.image[-1], v.ended) for v in after.versions] == [("1", ""), ("2", "")]


async def test_an_undo_brings_the_old_version_back_though_its_template_is_no_longer_there() -> None:
    ticking = await settled(1)
    ticking.deploy(LARGE, SECOND)
    for _ in range(20):
        await ticking.tick()
    assert await images(ticking) == ["2"]
    stored = await ticking.world.store.load("iris")
    assert stored.rollout is not None
    back = undone(await rolled(ticking), ticking.world.clock(), by="anna", reason="")
    await ticking.world.store.write_rollout("iris", replace(stored.rollout, data=msgspec.msgpack.encode(back)))
    for _ in range(20):
        await ticking.tick()
        assert len(await images(ticking)) >= 1
    assert await images(ticking) == ["1"]
    assert "planted-secret" not in repr(stored.rollout)


async def certified(ticking: Ticking) -> list[bool]:
    """Of what is ready, whether it was given a certificate; it has to be what its version's name says."""
    rows = [r for r in (await ticking.world.store.load("iris")).replicas if r.phase is Phase.READY]
    servers = [ticking.world.fleet.held[r.name].body["properties"]["containers"][0]["properties"] for r in rows]
    given = [any(v["name"] == "TLS_CERTIFICATE" for v in s["environmentVariables"]) for s in servers]
    assert given == [r.serves_tls for r in rows]
    return given


@pytest.mark.parametrize(("before", "after"), [("", "CN=test"), ("CN=test", ""), ("CN=before", "CN=test")])
async def test_switching_tls_or_its_signer_is_a_rollout_that_never_has_fewer_ready(before: str, after: str) -> None:
    ticking = await settled(2)
    ticking.deploy(LARGE, signer=before)
    for _ in range(40):
        await ticking.tick()
    old = set(ticking.world.fleet.held)
    assert await certified(ticking) == [bool(before)] * 2
    ticking.deploy(LARGE, signer=after)
    for _ in range(40):
        await ticking.tick()
        assert len(await certified(ticking)) >= 2
    assert await certified(ticking) == [bool(after)] * 2
    assert not old & set(ticking.world.fleet.held)


async def test_a_server_that_cannot_serve_tls_goes_on_without_it() -> None:
    """The version that is returned to is made as it was: without a certificate."""
    ticking = await settled(1)
    ticking.deploy(LARGE, signer="")
    for _ in range(20):
        await ticking.tick()
    assert await certified(ticking) == [False]
    ticking.world.fleet.load_delay_s = lambda _: 1e9
    ticking.deploy(f"{LARGE}    start: {{deadline_s: 60}}\n")
    for _ in range(40):
        await ticking.tick()
        assert await certified(ticking) == [False]
    ticking.world.fleet.load_delay_s = lambda _: 1.0
    await ticking.pin(2)
    await ticking.ticks_until(Phase.READY, 2)
    assert await certified(ticking) == [False, False]
    assert (await rolled(ticking)).phase == "steady"


async def test_without_an_authority_a_version_that_serves_tls_can_no_longer_be_made() -> None:
    ticking = await settled(1)
    ticking.deploy(LARGE, SECOND, signer="")
    await ticking.tick()
    ticking.scaler.world = replace(ticking.scaler.world, certify=None)
    stored = await ticking.world.store.load("iris")
    assert stored.rollout is not None
    back = undone(await rolled(ticking), ticking.world.clock(), by="anna", reason="")
    await ticking.world.store.write_rollout("iris", replace(stored.rollout, data=msgspec.msgpack.encode(back)))
    await ticking.pin(2)
    await ticking.tick()
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert "version_lost" in {c.name for c in memory.conditions}


async def test_of_an_undo_and_a_tick_at_once_one_wins() -> None:
    ticking = await settled(1)
    stored = await ticking.world.store.load("iris")
    assert stored.rollout is not None
    await ticking.world.store.write_rollout("iris", stored.rollout)
    with pytest.raises(Conflict):
        await ticking.world.store.write_rollout("iris", stored.rollout)


async def test_creations_stop_at_what_azure_takes_and_go_on_in_the_next_region() -> None:
    ticking = Ticking(services=f"services:\n  iris:{SERVICE.replace('max: 4', 'max: 400')}")
    ticking.world.fleet.capacity["westeurope"] = ticking.world.fleet.capacity["northeurope"] = 1000
    await ticking.pin(200)
    for _ in range(3):
        await ticking.tick(1)
    made = Counter(held.region for held in ticking.world.fleet.held.values())
    assert made == {"westeurope": 95, "northeurope": 95}
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    assert [c.name for c in memory.conditions] == ["rate_budget", "rate_budget"]
    for _ in range(30):
        await ticking.tick(15)
    assert len(ticking.world.fleet.held) == 200


async def test_a_look_at_a_group_that_azure_throttles_is_not_taken_again_before_it_says_so() -> None:
    ticking = await running(1)
    ticking.world.server("iris-0001").silent = True
    ticking.world.faults.add("show", Unavailable("429", retry_after_s=100.0), times=1)
    looks, said = [], []
    for _ in range(9):
        await ticking.tick()
        _, calls = await ticking.last()
        looks.append(calls.get("show", 0))
        said.append("throttled" in await conditions_of(ticking))
    assert looks == [1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert said == [True] * 7 + [False] * 2


async def test_a_region_that_asks_to_be_waited_for_is_asked_for_nothing_more_in_this_tick() -> None:
    ticking = Ticking(services=f"services:\n  iris:{SERVICE.replace('max: 4', 'max: 40')}")
    await ticking.pin(40)
    ticking.world.faults.add("create", OutOfCapacity("429", code="HTTP 429", retry_after_s=600.0), times=1)
    await ticking.tick()
    assert len(ticking.world.fleet.held) < ACTIONS_AT_ONCE  # these were on their way
    await ticking.tick()
    assert Counter(held.region for held in ticking.world.fleet.held.values())["northeurope"] >= 40 - ACTIONS_AT_ONCE


async def test_a_creation_that_may_come_to_be_has_its_region_waited_for_too() -> None:
    ticking = Ticking()
    await ticking.pin(1)
    ticking.world.faults.add("create", Unavailable("503", retry_after_s=600.0), times=1)
    await ticking.tick()
    await ticking.pin(2)
    for _ in range(20):  # the first is given up after the grace
        await ticking.tick()
    assert [held.region for held in ticking.world.fleet.held.values()] == ["northeurope"] * 2
    assert "azure_fails" in await conditions_of(ticking)


async def test_an_intent_left_over_in_a_region_that_waits_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking = Ticking()
    await ticking.pin(2)
    throttled = OutOfCapacity("throttled", code="HTTP 429", retry_after_s=600.0)
    ticking.world.faults.add("create", throttled, times=1)
    move = ticking.world.store.move

    async def loses_the_second(service: str, row: Replica) -> Replica:
        if row.name == "iris-0002":
            raise Unavailable("no answer")
        return await move(service, row)

    monkeypatch.setattr(ticking.world.store, "move", loses_the_second)
    for _ in range(6):
        await ticking.tick()
    assert [held.region for held in ticking.world.fleet.held.values()] == ["northeurope"] * 2


async def test_a_delete_that_azure_throttles_waits_as_long_as_it_says() -> None:
    ticking = await running(1)
    ticking.world.faults.add("delete", Unavailable("throttled", retry_after_s=100.0), times=1)
    (name,) = ticking.world.fleet.held
    ticking.world.fleet.held[name].state = "Stopped"
    ticking.world.server(name).silent = True
    await ticking.ticks_until(Phase.DELETING, 1)
    at = ticking.world.clock()
    for _ in range(30):
        await ticking.tick(5)
        if name not in ticking.world.fleet.held:
            break
    assert 100 <= ticking.world.clock() - at <= 110


async def test_a_gap_between_ticks_is_said_by_the_tick_that_ends_it() -> None:
    ticking = await running(1)
    ticking.scaler.world = replace(ticking.scaler.world, period_s=15.0)
    await ticking.tick(60)
    assert await conditions_of(ticking) == []
    await ticking.tick(61)
    assert await conditions_of(ticking) == ["missed_ticks"]


async def conditions_of(ticking: Ticking) -> list[str]:
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    return [c.name for c in memory.conditions]


async def test_the_phases_of_a_start_are_remembered() -> None:
    ticking = await running(1)
    memory = await ticking.scaler.memory("iris")
    assert memory is not None
    (start,) = memory.starts
    assert start.total_s == 30.0
    assert start.process_s is not None


async def test_a_decision_row_keeps_calls_and_time_and_no_secret() -> None:
    ticking = await running(1)
    (row, *_) = await ticking.world.store.decisions("iris", since=0)
    assert row.cause == "timer"
    assert json.loads(row.replicas)["ready"] == 1
    assert "planted-secret" not in repr(row)
    assert "planted-secret" not in repr(ticking.scaler.world)


async def test_a_memory_that_cannot_be_read_starts_anew_and_keeps_the_fleet() -> None:
    ticking = await running(2)
    stored = await ticking.world.store.load("iris")
    assert stored.row is not None
    await ticking.world.store.save(stored, replace(stored.row, memory=b"\xc1 damaged"), Changes())
    await ticking.tick()
    assert list((await ticking.phases()).values()) == [Phase.READY, Phase.READY]
    assert await ticking.scaler.memory("iris") is not None


# ---------------------------------------------------------------- a standby pool

WARM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.StandbyPool/standbyContainerGroupPools/warm"
MADE_FROM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerInstance/containerGroupProfiles/iris"
POOLED = f"services:\n  iris:{SERVICE}    standby_pool: {{pool: {WARM}, profile: {MADE_FROM}}}\n"


async def test_a_replica_is_claimed_from_the_standby_pool() -> None:
    ticking = Ticking(services=POOLED)
    await ticking.pin(1)
    await ticking.tick()
    (held,) = ticking.world.fleet.held.values()
    assert held.body["properties"]["standbyPoolProfile"]["id"] == WARM
    assert "planted-secret" not in json.dumps(held.body), "a config map is no place for secrets"
    assert held.tags["aci-autoscaler"] == "d1"


async def test_a_quota_that_was_read_before_there_was_a_pool_limits_nothing() -> None:
    ticking = Ticking()
    ticking.world.fleet.capacity["westeurope"] = ticking.world.fleet.capacity["northeurope"] = 1
    await ticking.pin(4)
    before = (await ticking.tick()).decision
    ticking.deploy(POOLED)
    after = (await ticking.tick()).decision
    assert before is not None
    assert after is not None
    assert (before.desired, before.limited_by, after.desired, after.limited_by) == (2, "quota", 4, "pin")


async def test_a_pool_that_refuses_is_left_alone_and_replicas_are_made_from_the_template() -> None:
    ticking = Ticking(services=POOLED)
    ticking.world.faults.add("create", Refused("no such pool", code="StandbyPoolNotFound"), times=1)
    await ticking.pin(1)
    await ticking.tick()
    await ticking.tick()
    (held,) = ticking.world.fleet.held.values()
    assert "standbyPoolProfile" not in held.body["properties"]
    assert "standby_pool" in await conditions_of(ticking)
    assert held.region == "westeurope", "the region is not to blame"


def outcome(*rows: Replica, removed: tuple[Replica, ...] = (), version: int = 8) -> Outcome:
    """What a tick over these rows came to."""
    decided = Decision(desired=len(rows), limited_by=None, because="")
    memory = Memory(at=NOW, state=State(), totals=Totals(at=NOW), decision=decided)
    planned = Plan(replicas=rows, removed=removed)
    return Outcome(
        memory=memory, fleet=Fleet(replicas=rows), planned=planned, version=version, rolled=None, shadow=None
    )


def test_only_rows_that_changed_are_written_and_only_rows_that_were_stored_are_removed() -> None:
    kept, changes, gone, never = replica("a"), replica("b"), replica("c", Phase.INTENDED), replica("d", Phase.INTENDED)
    stored = Stored(service="iris", replicas=(kept, changes, gone))
    after = replace(changes, silent_since=NOW)
    _, saved = to_save(stored, None, outcome(kept, after, removed=(gone, never)), 300.0)
    assert (saved.written, saved.removed) == ((after,), (gone,))


def test_who_was_in_no_list_is_waited_for_in_none_and_who_left_an_earlier_one_as_before() -> None:
    row = ServiceRow(memory=b"", endpoints_version=7)
    draining = [replica("a", Phase.DRAINING, drain_version=8), replica("b", Phase.DRAINING, drain_version=3)]
    _, saved = to_save(Stored(service="iris", row=row), None, outcome(*draining), 300.0)
    assert [r.drain_version for r in saved.written] == [7, 3]


def test_the_call_that_records_a_decision_is_counted_though_no_other_was_made() -> None:
    (service,) = managed(load(f"services:\n  iris:{SERVICE}", "autoscaler.yaml"), TEMPLATE, "CN=test")
    for calls, told in (({}, {"table": 1}), ({"list": 1, "table": 2}, {"list": 1, "table": 3})):
        row = to_record(service, State(), outcome(), tick="t", cause="", actions=[], seconds=0.0, calls=calls)
        assert json.loads(row.calls) == told
