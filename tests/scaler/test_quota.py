"""What a region's quota has room for, as last read: a ceiling that never takes anything away."""

import pytest
from msgspec.structs import replace

from scaler.allowance import Allowance
from scaler.model import Phase
from scaler.ports import Usage
from scaler.quota import Quota, Room, ceiling, conditions, due, has_room_for, left, read
from tests.builders import NOW, replica

WEST = Quota(region="westeurope", asked_at=NOW, most=4, told="ContainerGroups 96 of 100")
NORTH = Quota(region="northeurope", asked_at=NOW, most=2, told="StandardCores 98 of 100")


def usage(groups: float | None = None, cores: float | None = None) -> list[Usage]:
    """So much of 100 is used."""
    used = {"ContainerGroups": groups, "StandardCores": cores, "StandardK80Cores": 0.0}
    return [Usage(name=name, used=u, limit=100.0) for name, u in used.items() if u is not None]


@pytest.mark.parametrize(
    ("groups", "cores", "cpu", "room"),
    [
        (97.0, 90.0, 1.0, 3),
        (97.0, 98.0, 1.0, 2),
        (0.0, 97.0, 2.0, 1),
        (0.0, 99.0, 0.1, 10),
        (None, 90.0, 4.0, 2),
        (97.0, None, 4.0, 3),
        (120.0, 0.0, 1.0, 0),
        (100.0, 0.0, 1.0, 0),
        (97.0, 100.0, 0.0, 3),
        (None, None, 1.0, None),
    ],
)
def test_the_scarcer_of_groups_and_cores_says_how_many_more(
    groups: float | None, cores: float | None, cpu: float, room: int | None
) -> None:
    assert has_room_for(usage(groups, cores), cpu) == room


def test_what_we_had_there_counts_among_the_most() -> None:
    told = read(None, "westeurope", usage(97.0, 94.0), 5, 2.0, NOW)
    said = "ContainerGroups 97 of 100, StandardCores 94 of 100, StandardK80Cores 0 of 100"
    assert told == Quota(region="westeurope", asked_at=NOW, most=8, told=said)


def test_a_read_that_says_nothing_leaves_what_was_known() -> None:
    assert read(WEST, "westeurope", None, 9, 1.0, NOW + 900) == replace(WEST, asked_at=NOW + 900)
    assert read(WEST, "westeurope", usage(), 9, 1.0, NOW + 900) == replace(WEST, asked_at=NOW + 900)
    assert read(None, "westeurope", None, 9, 1.0, NOW) == Quota(region="westeurope", asked_at=NOW)


@pytest.mark.parametrize(
    ("after_s", "there", "is_due"),
    [(899, 0, False), (900, 0, True), (59, 4, False), (60, 4, True), (60, 3, False), (-60, 0, False), (-61, 0, True)],
)
def test_a_region_is_asked_for_rarely_and_sooner_where_it_looks_full(after_s: float, there: int, is_due: bool) -> None:
    rows = [replica(f"r{i}") for i in range(there)]
    assert due([WEST], ["westeurope"], rows, NOW + after_s) == (["westeurope"] if is_due else [])


def test_a_region_that_was_never_asked_for_is_due() -> None:
    assert due([WEST], ["westeurope", "northeurope"], [], NOW) == ["northeurope"]


def test_what_drains_takes_up_room_and_what_is_only_intended_does_not() -> None:
    rows = [replica("a"), replica("b", Phase.DRAINING), replica("c", Phase.DELETING), replica("d", Phase.INTENDED)]
    elsewhere = replica("e", region="northeurope")
    assert left([WEST], "westeurope", [*rows, elsewhere]) == 1
    assert left([replace(WEST, most=2)], "westeurope", rows) == 0
    assert left([WEST], "northeurope", rows) is None
    assert left([replace(WEST, most=None)], "westeurope", rows) is None


def test_the_ceiling_is_the_sum_over_regions_and_never_below_what_is_there() -> None:
    regions = ["westeurope", "northeurope"]
    assert ceiling([WEST, NORTH], regions, []) == 6
    assert ceiling([WEST, NORTH], ["westeurope"], []) == 4
    assert ceiling([replace(WEST, most=0), NORTH], regions, []) == 2
    there = [*(replica(f"r{i}") for i in range(7)), replica("gone", Phase.DRAINING)]
    assert ceiling([WEST, NORTH], regions, there) == 7


def test_a_region_that_never_said_is_no_ceiling() -> None:
    regions = ["westeurope", "northeurope"]
    assert ceiling([WEST], regions, []) is None
    assert ceiling([WEST, replace(NORTH, most=None)], regions, []) is None
    assert ceiling([WEST], [], []) is None


def test_a_region_takes_what_both_its_quota_and_the_pace_of_requests_allow() -> None:
    allowance = Allowance(NOW)
    room = Room((WEST,), allowance)
    assert room.left({"westeurope", "northeurope"}, [replica("a")]) == {
        ("create", "westeurope"): 3,
        ("delete", "westeurope"): 95,
        ("create", "northeurope"): 95,
        ("delete", "northeurope"): 95,
    }
    allowance.take("create", "westeurope", 94)
    assert room.left(["westeurope"], [])["create", "westeurope"] == 1


def test_the_quotas_are_told_where_they_keep_a_service_from_what_it_wants() -> None:
    known = [WEST, NORTH, Quota(region="uksouth", asked_at=NOW)]
    told = list(conditions(known, ["westeurope", "uksouth"], "quota", NOW))
    assert [(c.name, c.about) for c in told] == [("quota", "westeurope")]
    assert told[0].message.endswith("room for 4 replicas (ContainerGroups 96 of 100 were in use).")
    assert list(conditions(known, ["westeurope"], "max", NOW)) == []
