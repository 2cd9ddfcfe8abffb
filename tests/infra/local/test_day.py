"""The day that is played, and the settings that make it."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from infra.local.demo.arrivals import Playback
from infra.local.demo.day import (
    PINNED,
    REPLICAS_AT_PEAK,
    SERVICE,
    TIMEZONE,
    WORK_S,
    Day,
    built_in_day,
    recorded_day,
    write_settings,
)
from infra.local.guards import check_config
from scaler.schedule import compile_schedule, preview

LIMIT_S = 200.0  # four minutes less a slow start, the last drain, the picture
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()


def off_spans(folder: Path, day: Day) -> list[tuple[float, float]]:
    loaded = check_config(write_settings(folder, day, image="registry/iris:1"))
    schedule = compile_schedule(loaded.services[SERVICE].schedule, "here")
    return [(p.start, p.end) for p in preview(schedule, day.starts_at, 1.0) if p.off]


def test_the_day_has_every_phase_and_fits_into_its_time() -> None:
    day = built_in_day(NOON)
    names = ["quiet", "rise", "burst", "fall", "afternoon", "off-hours", "morning", "pin", "evening"]
    assert [phase.name for phase in day.phases] == names
    assert day.ends_at - day.starts_at < LIMIT_S
    assert list(day.arrivals_s) == sorted(day.arrivals_s)
    assert day.arrivals_s[-1] < day.ends_at - day.starts_at
    assert day.name_at(day.off.start) == "off-hours"
    assert day.name_at(day.ends_at) == "night"


def test_the_burst_needs_several_replicas_and_the_quiet_hours_one() -> None:
    day = built_in_day(NOON)
    burst, quiet = day.phase("burst"), day.phase("quiet")

    def rate(start: float, end: float) -> float:
        return sum(start <= NOON + at < end for at in day.arrivals_s) / (end - start)

    assert 3 < rate(burst.start, burst.end) / day.requests_per_second <= REPLICAS_AT_PEAK * 1.2
    assert rate(quiet.start, quiet.end) < day.requests_per_second / 2


@pytest.mark.parametrize(
    "starts_at",
    [
        NOON,
        datetime(2026, 3, 1, 23, 58, 11, tzinfo=ZoneInfo(TIMEZONE)).timestamp(),  # its off-hours run over midnight
        datetime(2026, 10, 25, 2, 59, 0, tzinfo=ZoneInfo(TIMEZONE)).timestamp(),  # the clock is put back
        datetime(2026, 3, 29, 1, 57, 40, tzinfo=ZoneInfo(TIMEZONE)).timestamp(),  # the clock is put forward
    ],
)
def test_off_hours_are_written_so_that_the_autoscaler_reads_the_same_seconds(tmp_path: Path, starts_at: float) -> None:
    day = built_in_day(starts_at)
    assert (day.off.start, day.off.end) in off_spans(tmp_path, day)


def test_without_a_day_the_doors_are_never_closed(tmp_path: Path) -> None:
    loaded = check_config(write_settings(tmp_path, None, image="registry/iris:1"))
    assert loaded.services[SERVICE].schedule.rules == []
    assert loaded.services[SERVICE].replicas.max > PINNED


def test_a_recording_takes_the_working_hours_and_a_replica_carries_a_quarter_of_its_peak() -> None:
    played = Playback(arrivals_s=tuple(i / 40 for i in range(40 * int(WORK_S))), factor=12.3, share=1.0)
    day = recorded_day(NOON, played, "trace.csv")
    assert [phase.name for phase in day.phases] == ["trace", "off-hours", "morning", "pin", "evening"]
    assert day.requests_per_second == pytest.approx(40 / REPLICAS_AT_PEAK, abs=1)
    assert "12 times as fast" in day.title
    assert (day.is_recorded, day.least_at_peak) == (True, 3)
    assert day.arrivals_s[: len(played.arrivals_s)] == played.arrivals_s


def test_refusals_are_right_in_off_hours_only() -> None:
    day = built_in_day(NOON)
    assert day.may_refuse(day.off.start + 5)
    assert not day.may_refuse(day.off.start - 5)
    assert not day.may_refuse(day.off.end + 5)
