"""The day that is played: its phases in real time, the settings that make it, the requests that come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct

from infra.local.demo.arrivals import Playback, Stretch, poisson
from infra.local.places import REGION

SERVICE = "iris"
RECORDED = "trace"
TIMEZONE = "Europe/Berlin"
SEED = 20_260_301
MAX_REPLICAS = 5
PINNED = 2
SLO_WAIT_S = 5.0
LATENESS_PRICE = 4.0  # low, so that the last replica of a day that lasts minutes goes within one
HOLD_LIMIT_S = 60.0
SCALE_IN_WINDOW_S = 10.0
DRAIN_DEADLINE_S = 15.0
EXPECTED_START_S = 6.0  # the learning before which nothing is given up lasts some times as long: within the day, then
REFUSAL_GRACE_S = 3.0  # a tick has to see the clock pass, and discovery the tick

# The working hours of the built-in day; a recorded trace takes their place and their length.
WORKING_HOURS = (
    Stretch(name="quiet", seconds=14, rate_from=2, rate_to=2),
    Stretch(name="rise", seconds=24, rate_from=2, rate_to=24),
    Stretch(name="burst", seconds=18, rate_from=44, rate_to=44),
    Stretch(name="fall", seconds=16, rate_from=24, rate_to=3),
    Stretch(name="afternoon", seconds=17, rate_from=3, rate_to=3),
)
WORK_S = sum(stretch.seconds for stretch in WORKING_HOURS)
BUILT_IN_PEAK = max(stretch.rate_to for stretch in WORKING_HOURS)
OFF_HOURS = Stretch(name="off-hours", seconds=23, rate_from=1, rate_to=1)
AFTER_HOURS = (
    Stretch(name="morning", seconds=14, rate_from=2, rate_to=2),
    Stretch(name="pin", seconds=24, rate_from=2, rate_to=2),
    Stretch(name="evening", seconds=6, rate_from=2, rate_to=2),
)
REPLICAS_AT_PEAK = 4
SUSTAINED_S = 18.0  # load that lasts so long has to be met, however slowly replicas start
PEAK_RATE = 60.0  # requests/s of a recording, on a machine with two cores


class Phase(Struct, frozen=True, kw_only=True):
    """A named span of the day, epoch seconds."""

    name: str
    start: float
    end: float


class Day(Struct, frozen=True, kw_only=True):
    """A day from ``starts_at`` (epoch s) on: its phases, its arrivals, one replica's share of the load."""

    starts_at: float
    phases: tuple[Phase, ...]
    arrivals_s: tuple[float, ...]
    requests_per_second: float  # what one replica carries
    least_at_peak: int  # ready replicas that the load must bring, given time to start
    title: str

    def phase(self, name: str) -> Phase:
        """The phase of that name."""
        return next(phase for phase in self.phases if phase.name == name)

    @property
    def is_recorded(self) -> bool:
        """Whether its working hours are a recording."""
        return self.phases[0].name == RECORDED

    @property
    def off(self) -> Phase:
        """When the schedule says that there are no replicas."""
        return self.phase("off-hours")

    @property
    def ends_at(self) -> float:
        """When the last request is sent."""
        return self.phases[-1].end

    def name_at(self, at: float) -> str:
        """What the phase at that time is called."""
        return next((phase.name for phase in self.phases if phase.start <= at < phase.end), "night")

    def may_refuse(self, due_at: float) -> bool:
        """Whether a request that was due then may meet a closed door."""
        return self.off.start - 1 <= due_at <= self.off.end + REFUSAL_GRACE_S


def built_in_day(starts_at: float) -> Day:
    """Quiet, rise, burst, fall, off-hours, wake from zero, a pin that ends."""
    arrivals = poisson(WORKING_HOURS, SEED)
    return _day(starts_at, WORKING_HOURS, arrivals, BUILT_IN_PEAK, "a day of requests")


def recorded_day(starts_at: float, playback: Playback, name: str) -> Day:
    """The same day with a recording in its working hours."""
    work = (Stretch(name=RECORDED, seconds=WORK_S, rate_from=0, rate_to=0),)
    peak = _peak_rate(playback.arrivals_s)
    title = f"{name}, {playback.factor:.0f} times as fast"
    return _day(starts_at, work, playback.arrivals_s, peak, title)


def _day(
    starts_at: float, work: Sequence[Stretch], work_arrivals: Sequence[float], peak_rate: float, title: str
) -> Day:
    later = (OFF_HOURS, *AFTER_HOURS)
    per_replica = max(1.0, math.ceil(peak_rate / REPLICAS_AT_PEAK))
    arrivals = [*work_arrivals, *(WORK_S + at for at in poisson(later, SEED + 1))]
    phases, at = [], starts_at
    for stretch in (*work, *later):
        phases.append(Phase(name=stretch.name, start=at, end=at + stretch.seconds))
        at += stretch.seconds
    return Day(
        starts_at=starts_at,
        phases=tuple(phases),
        arrivals_s=tuple(arrivals),
        requests_per_second=per_replica,
        least_at_peak=max(1, min(3, int(_peak_rate(work_arrivals, SUSTAINED_S) / per_replica))),
        title=title,
    )


def _peak_rate(arrivals_s: Sequence[float], over_s: float = 5.0) -> float:
    """The highest rate (requests/s) that lasts for ``over_s`` seconds."""
    most, first = 0, 0
    for last, at in enumerate(arrivals_s):
        while at - arrivals_s[first] > over_s:
            first += 1
        most = max(most, last - first + 1)
    return most / over_s


def write_settings(folder: Path, day: Day | None, *, image: str) -> Path:
    """Write ``autoscaler.yaml`` and the replica's template; without a day, a service that is always open.

    Spans are written to the second in the wall-clock time of the service's own time zone. Returns the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "replica.yaml").write_text(_TEMPLATE.format(service=SERVICE, region=REGION, image=image))
    rules, timezone = "[]", TIMEZONE
    if day is not None:
        timezone = _timezone(day)
        start, end = (_clock(at, timezone) for at in (day.off.start, day.off.end))
        rules = f'\n        - {{from: "{start}", to: "{end}", off: true}}'
    file = folder / "autoscaler.yaml"
    text = _SETTINGS.format(
        service=SERVICE,
        region=REGION,
        most=MAX_REPLICAS,
        rate=f"{day.requests_per_second if day else BUILT_IN_PEAK / REPLICAS_AT_PEAK:g}",
        slo=SLO_WAIT_S,
        lateness=LATENESS_PRICE,
        window=SCALE_IN_WINDOW_S,
        drain=DRAIN_DEADLINE_S,
        hold=HOLD_LIMIT_S,
        start=EXPECTED_START_S,
        timezone=timezone,
        rules=rules,
    )
    file.write_text(text)
    return file


def _timezone(day: Day) -> str:
    """The usual time zone, but UTC around the hours when its clocks change: a time of day means one moment there."""
    zone = ZoneInfo(TIMEZONE)
    offsets = {datetime.fromtimestamp(day.starts_at + hours * 3600, zone).utcoffset() for hours in (-2, -1, 0, 1, 2)}
    return TIMEZONE if len(offsets) == 1 else "UTC"


def _clock(at: float, timezone: str) -> str:
    return datetime.fromtimestamp(at, ZoneInfo(timezone)).strftime("%H:%M:%S")


_SETTINGS = """\
# Written by `make demo` and `make up`: one service with the short windows of a day that lasts minutes.
services:
  {service}:
    template: replica.yaml
    regions: [{region}]
    replicas: {{min: 0, max: {most}}}
    target: {{requests_per_second: {rate}}}
    slo_wait_s: {slo:g}
    lateness_price: {lateness:g}
    hold_limit_s: {hold:g}
    scale_in: {{window_s: {window:g}, drain_deadline_s: {drain:g}}}
    start: {{expected_s: {start:g}, deadline_s: 60}}
    unhealthy_after_s: 20
    schedule:
      timezone: {timezone}
      rules: {rules}
"""

# As `az container export` writes it.
_TEMPLATE = """\
additional_properties: {{}}
apiVersion: '2023-05-01'
location: {region}
name: {service}
properties:
  containers:
  - name: {service}
    properties:
      environmentVariables: []
      image: {image}
      ports:
      - port: 8000
        protocol: TCP
      resources:
        requests:
          cpu: 1.0
          memoryInGB: 1.5
  ipAddress:
    ports:
    - port: 8000
      protocol: TCP
    type: Public
  osType: Linux
  restartPolicy: Always
tags: {{}}
type: Microsoft.ContainerInstance/containerGroups
"""
