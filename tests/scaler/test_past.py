"""Hours packed to keep, and the band of what is expected."""

from __future__ import annotations

import zlib

from msgspec.structs import replace

from scaler.past import Point, minutes, newest_over, over, packed, unpacked
from tests.scaler.ticking import Ticking

HOUR = [
    Point(at=7200.0 + 15 * i, desired=i % 4, ready=i % 3, arrivals_per_s=i / 7, in_flight=None, cold_starts_s=(1.5,))
    for i in range(240)
]


def test_an_hour_is_sixty_minutes_and_comes_back_as_it_went() -> None:
    made = minutes(HOUR)
    assert [p.at for p in made] == [7200.0 + 60 * i for i in range(60)]
    back = unpacked(packed(made))
    assert back is not None
    assert [replace(p, arrivals_per_s=None) for p in back] == [replace(p, arrivals_per_s=None) for p in made]
    assert len(packed(made)) < 2500
    assert sum(len(p.cold_starts_s) for p in back) == 240


def test_what_cannot_be_read_is_nothing() -> None:
    assert unpacked(b"") is None
    assert unpacked(b"junk") is None
    assert unpacked(zlib.compress(b"\x93\x01\x02\x03")) is None
    assert unpacked(zlib.compress(b"x" * 10_000_000)) is None


def test_an_hour_is_over_when_nothing_more_will_be_recorded() -> None:
    assert not over(2, 10_800.0 + 299)
    assert over(2, 10_800.0 + 300)
    assert newest_over(10_800.0 + 300) == 2


async def test_the_tick_after_an_hour_packs_it_once() -> None:
    ticking = Ticking()
    ticking.world.clock.at -= ticking.world.clock.at % 3600
    for _ in range(280):
        await ticking.tick()
    _, (service, hour) = sorted(ticking.world.store.packed)  # the first is the hour before anything was
    assert (service, hour) == ("iris", newest_over(ticking.world.clock()))
    points = unpacked(ticking.world.store.packed["iris", hour])
    assert points is not None
    assert len(points) == 60
