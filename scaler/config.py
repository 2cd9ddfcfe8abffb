"""What an operator writes: ``autoscaler.yaml`` decoded once into frozen values, or one sentence on what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from scaler import yaml12
from scaler.errors import BadSetting

Count = Annotated[int, Meta(ge=0, le=100_000)]
Share = Annotated[float, Meta(gt=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=1e9)]
SERVICE_NAME = re.compile(r"(?!.*--)[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_GROUP = r"(?i)/subscriptions/[^/]+/resourceGroups/[^/]+/providers/"
POOL_ID = re.compile(_GROUP + r"Microsoft.StandbyPool/standbyContainerGroupPools/[^/]+")
PROFILE_ID = re.compile(_GROUP + r"Microsoft.ContainerInstance/containerGroupProfiles/[^/]+")
REGION_NAME = re.compile(r"[a-z0-9]{2,40}(@[a-z][a-z0-9]{0,19})?")


class _Written(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping of the file: unknown keys are errors."""


class Bounds(_Written, frozen=True):
    """Least and most replicas, whatever the demand."""

    min: Count = 0
    max: Annotated[int, Meta(ge=1, le=100_000)] = 10


class Target(_Written, frozen=True):
    """What one replica carries: requests at once, requests per second, and the share (0..1) of CPU, memory, GPU."""

    concurrency: Positive | None = None
    requests_per_second: Positive | None = None
    cpu: Share | None = None
    memory: Share | None = None
    gpu: Share | None = None


class Rule(_Written, frozen=True):
    """One rule of the schedule as written; ``schedule.py`` gives it its meaning."""

    days: str | None = None  # mon-fri, sat,sun
    dates: list[str] | None = None  # 2026-12-24, 2026-12-24..2026-12-31
    holidays: str | None = None  # DE, DE-BY, US-CA
    start: str | None = field(name="from", default=None)  # HH:MM or HH:MM:SS, local time
    end: str | None = field(name="to", default=None)
    min: Count | None = None
    max: Count | None = None
    off: bool = False
    wake: bool = False  # with off: a request may still start a replica


class ScheduleText(_Written, frozen=True):
    """Rules and the time zone that they are meant in."""

    timezone: str = "UTC"
    rules: list[Rule] = field(default_factory=list)


class Budget(_Written, frozen=True):
    """What the replicas may cost: a warning first, then a cap. Prices are the operator's own; ``replica_hour`` is
    reckoned from the template's cores and memory where it is left out."""

    monthly: Positive | None = None
    daily: Positive | None = None
    warn_at: Share = 0.8
    currency: str = "EUR"
    replica_hour: Positive | None = None
    vcpu_hour: Positive = 0.045
    gb_hour: Positive = 0.005


class SignalText(_Written, frozen=True):
    """A number from elsewhere and how much of it one replica carries; exactly one source."""

    per_replica: Positive
    storage_queue: str | None = None
    log_query: str | None = None
    metric: str | None = None  # <resource id>/<namespace>/<name>
    name: str | None = None


class ScaleIn(_Written, frozen=True):
    """How the fleet shrinks: never below the largest need of the last ``window_s``. A draining replica is deleted
    when it had nothing in hand and no arrival for ``idle_s``, or when the deadline has passed."""

    window_s: Positive | None = None  # 60, or as long as was cheapest on the service's own record
    drain_deadline_s: Positive = 120.0
    idle_s: Positive = 5.0


class Shadow(_Written, frozen=True):
    """A second policy that decides beside the live one and only records: what is left out is as the live one has it."""

    replicas: Bounds | None = None
    target: Target | None = None
    slo_wait_s: Positive | None = None
    lateness_price: Positive | None = None
    forecast: bool | None = None
    scale_in: ScaleIn | None = None
    schedule: ScheduleText | None = None


class Start(_Written, frozen=True):
    """How long a replica may take from being asked for to being ready before it is given up, and how long it is taken
    to need until starts were seen."""

    deadline_s: Positive = 900.0
    expected_s: Positive = 90.0


class RolloutText(_Written, frozen=True):
    """How a new version replaces the old one; ``rollout.py`` gives it its meaning."""

    surge: Count = 1
    gate_s: Positive = 30.0
    attempts: Annotated[int, Meta(ge=1, le=100)] = 2
    error_margin: Share = 0.05
    latency_ratio: Annotated[float, Meta(ge=1, le=1000)] = 2.0
    min_requests: Count = 20


class StandbyPool(_Written, frozen=True):
    """A pool of container groups that run already, and the profile they were made from: resource ids."""

    pool: str
    profile: str
    revision: Annotated[int, Meta(ge=1)] = 1


class Service(_Written, frozen=True):
    """One model, served by replicas made from one template."""

    template: str | None = None
    regions: list[str] = field(default_factory=list)
    replicas: Bounds = field(default_factory=Bounds)
    target: Target = field(default_factory=Target)
    slo_wait_s: Positive = 5.0
    lateness_price: Positive = 10.0
    schedule: ScheduleText = field(default_factory=ScheduleText)
    budget: Budget | None = None
    signals: list[SignalText] = field(default_factory=list)
    scale_in: ScaleIn = field(default_factory=ScaleIn)
    start: Start = field(default_factory=Start)
    hold_limit_s: Positive = 300.0
    unhealthy_after_s: Positive = 60.0
    rollout: RolloutText = field(default_factory=RolloutText)
    standby_pool: StandbyPool | None = None
    spares: bool = False
    forecast: bool = True
    shadow: Shadow | None = None


class Config(_Written, frozen=True):
    """The whole file."""

    services: dict[str, Service]


def load(text: str | bytes, file: str) -> Config:
    """Decode ``autoscaler.yaml`` (YAML or JSON). Raises ``BadSetting`` naming file, path and what was expected."""
    raw = yaml12.read(text, file)
    if not isinstance(raw, dict) or not isinstance(raw.get("services"), dict) or not raw["services"]:
        raise BadSetting(f"{file}: services: expected a mapping of names to settings, like `services: {{iris: …}}`")
    if unknown := sorted(set(map(str, raw)) - {"services"}):
        raise BadSetting(f"{file}: {unknown[0]}: unknown key; the only key here is `services`")
    return Config(services={str(name): _service(file, str(name), value) for name, value in raw["services"].items()})


def _service(file: str, name: str, raw: object) -> Service:
    path = f"services.{name}"
    if not SERVICE_NAME.fullmatch(name):
        raise BadSetting(
            f"{file}: {path}: a service name has 1 to 40 lower-case letters, digits and single dashes, begins with a "
            "letter and does not end with a dash"
        )
    try:
        service = msgspec.convert({} if raw is None else raw, Service)
    except msgspec.ValidationError as error:
        raise BadSetting(f"{file}: {_located(path, str(error))}") from error
    for where, problem in _contradictions(service):
        raise BadSetting(f"{file}: {path}{where}: {problem}")
    return service


def _located(path: str, message: str) -> str:
    """msgspec's message with its place first: ``services.iris.replicas.max: expected `int`, got `str```."""
    what, _, place = message.partition(" - at `$")
    place = place.rstrip("`")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        return f"{path}{place}.{unknown[1]}: unknown key; docs/configuration.md lists the keys"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"{path}{place}.{missing[1]}: missing"
    return f"{path}{place}: {what[0].lower()}{what[1:]}"


def _contradictions(service: Service) -> list[tuple[str, str]]:
    """What no single key shows to be wrong: (path below the service, sentence)."""
    return [*_of_counts(service), *_of_money(service), *_of_places(service), *_of_signals(service)]


def _of_counts(service: Service) -> Iterator[tuple[str, str]]:
    bounds = service.replicas
    for key, given in ((".replicas", bounds), (".shadow.replicas", service.shadow and service.shadow.replicas)):
        if given and given.min > given.max:
            yield key, f"min {given.min} is above max {given.max}"
    if service.rollout.surge == 0 and bounds.max == 1:
        yield ".rollout.surge", "with surge 0 and max 1 a rollout could never replace the only replica; say surge: 1"


def _of_money(service: Service) -> Iterator[tuple[str, str]]:
    budget = service.budget
    if budget and (budget.daily or budget.monthly) and budget.replica_hour is None and service.template is None:
        yield (
            ".budget",
            "without a template nobody knows what a replica costs, and no limit would hold; add replica_hour, the "
            "price of one replica for an hour, or name the template",
        )


def _of_places(service: Service) -> Iterator[tuple[str, str]]:
    for i, region in enumerate(service.regions):
        if not REGION_NAME.fullmatch(region):
            what = f"{region!r} is no Azure region name; write it like `westeurope`, or `westeurope@second`"
            yield f".regions[{i}]", what
    for key, kind in (("pool", POOL_ID), ("profile", PROFILE_ID)):
        if service.standby_pool and not kind.fullmatch(given := getattr(service.standby_pool, key)):
            expected = kind.pattern.rpartition("/providers/")[2].removesuffix("/[^/]+")
            yield f".standby_pool.{key}", f"{given!r} is no resource id of a {expected}"


def _of_signals(service: Service) -> Iterator[tuple[str, str]]:
    for i, signal in enumerate(service.signals):
        if sum(s is not None for s in (signal.storage_queue, signal.log_query, signal.metric)) != 1:
            yield f".signals[{i}]", "expected exactly one of storage_queue, log_query, metric"
