"""The nouns: what is observed, what is decided, what is remembered, what is done."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct, field

Data = Literal["fresh", "partial", "stale", "blind"]
Severity = Literal["info", "warning", "error"]


class Phase(StrEnum):
    """Where a replica is in its life, as we see it; the only ways are listed in ``observe.py`` and ``plan.py``."""

    INTENDED = "intended"  # the row is written, Azure was not asked yet
    CREATING = "creating"  # Azure was, or is about to be, asked: the answer may be lost
    STARTING = "starting"  # Azure has the group, the server does not say ready yet
    READY = "ready"  # the server says ready: discovery hands it to the front
    DRAINING = "draining"  # out of discovery, finishing what it holds
    DELETING = "deleting"  # no way back: the group is to go


class Pin(Struct, frozen=True, kw_only=True):
    """An operator's count, in force from ``since`` until ``until`` (epoch seconds; None: until it is taken away)."""

    min: int
    max: int
    since: float
    until: float | None = None
    actor: str = ""
    reason: str = ""


class Observation(Struct, frozen=True, kw_only=True):
    """What one tick saw of one service. None is not known, never zero.

    ``arrivals`` (held and rejected included) and ``completed`` are counts within the last ``window_s``; ``in_flight``
    is its mean over that window, without ``queued``, which is now; ``cpu``, ``memory``, ``gpu`` and ``utilization``
    are shares of 0..1 over all ready replicas.
    """

    at: float
    window_s: float
    ready: int
    starting: int
    draining: int = 0
    deleting: int = 0
    arrivals: float | None = None
    completed: float | None = None
    in_flight: float | None = None
    queued: float | None = None
    utilization: float | None = None
    cpu: float | None = None
    memory: float | None = None
    gpu: float | None = None
    signals: dict[str, float | None] = field(default_factory=dict)
    cold_starts_s: tuple[float, ...] = ()
    cold_starts_of: tuple[str, ...] = ()  # the version of each of them; empty: nobody says
    failed_starts_s: tuple[float, ...] = ()  # ages at which starts of that version failed since
    template: str = ""  # the version that new replicas are made from; empty: nobody says
    data: Data = "fresh"
    pin: Pin | None = None
    quota: int | None = None  # most replicas Azure lets us have now, ours included


class Step(Struct, frozen=True, kw_only=True):
    """One step of a decision: a named rule, the count before and after it, and why in one sentence."""

    name: str
    before: int
    after: int
    because: str


class Beside(Struct, frozen=True, kw_only=True):
    """What a count beside the decided one would mean: ``use`` is how much of what those replicas carry the signal that
    needs most would take (1 is all of it), None where that is not known or there would be no replica."""

    count: int
    use: float | None
    because: str


class Cost(Struct, frozen=True, kw_only=True):
    """What a service's replicas cost, in ``currency``, for local days and months: so far, what the month is forecast to
    come to, and the budget's limits (None: no such limit). ``warning`` says what of the budget is nearly spent."""

    currency: str
    replica_hour: float
    today: float
    month: float
    month_forecast: float
    daily: float | None = None
    monthly: float | None = None
    warning: str | None = None


class Decision(Struct, frozen=True, kw_only=True):
    """How many replicas there should be (ready + starting), and every step that led there.

    ``limited_by`` names the rule that had the last word where the outcome differs from the demand, or the demand is
    not known (``removed``, ``max``, ``quota``, ``budget``, ``pin``, ``off``, ``schedule_max``, ``schedule_min``,
    ``min``, ``blind``, ``stabilization``), else None.
    ``opens_at`` is when an off period ends (epoch seconds), while ``off``.
    """

    desired: int
    limited_by: str | None
    because: str
    steps: tuple[Step, ...] = ()
    off: bool = False
    opens_at: float | None = None
    wakes: bool = True  # whether a request at zero may start a replica now; false only while off
    beside: tuple[Beside, ...] = ()  # one replica fewer, one more
    cost: Cost | None = None  # None: no budget is configured, or nobody knows what a replica costs


class Gpu(Struct, frozen=True):
    """One accelerator as its replica reports it; ``utilization`` is 0..1."""

    utilization: float
    memory_used_bytes: int
    memory_total_bytes: int


class Latency(Struct, frozen=True):
    """Quantiles of recent answers in seconds; None before the first answer."""

    p50: float | None
    p95: float | None
    p99: float | None


class Stats(Struct, frozen=True, kw_only=True):
    """What a replica says of itself on ``GET /stats``; counters start anew with each ``start_id``."""

    replica: str
    start_id: str
    sequence: int
    at: float
    phase: Literal["starting", "ready", "draining"]
    in_flight: int
    queued: int
    capacity: int
    arrivals_total: int
    completed_total: int
    failed_total: int
    rejected_total: int
    busy_seconds_total: float
    latency_s: Latency
    cpu: float | None
    memory_bytes: int
    gpu: list[Gpu]
    load_s: float | None = None  # from the start of its process until it had its model


class Group(Struct, frozen=True, kw_only=True):
    """A container group as a list shows it: no run state, for Azure does not list that."""

    name: str
    region: str
    tags: dict[str, str]
    provisioning_state: str
    address: str | None
    resource_group: str = ""


class GroupDetail(Struct, frozen=True, kw_only=True):
    """A container group as a GET shows it: ``state`` of the group, and the first container's state and detail."""

    name: str
    provisioning_state: str
    state: str | None  # Pending, Running, Stopped, Succeeded, Failed, Unknown
    container_state: str | None  # Waiting, Running, Terminated
    detail: str | None  # e.g. "CrashLoopBackOff: Back-off restarting failed"
    exit_code: int | None
    restart_count: int
    events: tuple[str, ...] = ()  # newest last: "Pulling: pulling image …"
    pulling_at: float | None = None  # epoch seconds by Azure's clock; not always known
    pulled_at: float | None = None
    started_at: float | None = None  # when the first container's process began


TLS_MARK = "-tls"  # ends the name of a version whose replicas serve TLS: a group's tag alone says how to speak to it


class Replica(Struct, frozen=True, kw_only=True):
    """One row of the fleet: what was intended under this name and what became of it. Times are epoch seconds."""

    name: str
    phase: Phase
    region: str
    template: str  # the version that it was made from: ``Template.hash``
    intended_at: float
    phase_at: float  # when it entered this phase
    address: str | None = None
    port: int = 8000
    ready_at: float | None = None  # first time it said ready
    silent_since: float | None = None  # it does not answer /stats since then
    drain_version: int | None = None  # the first version of the endpoint list without it
    drain_since: float | None = None  # a tick first found it draining then: its deadlines count from here
    idle_since: float | None = None  # draining, with nothing in hand and no arrival, since then
    idle_arrivals: int | None = None  # its arrivals_total at that time
    asked_at: float | None = None  # Azure was last asked to delete it then
    because: str = ""  # why it drains or is deleted
    failure: str | None = None  # code of the failure that ended it; the next tick gives it up and backs off
    retry_at: float | None = None  # no new try before then, as Azure asked
    etag: str = ""  # of the row as read; empty for a row not yet written

    @property
    def serves_tls(self) -> bool:
        return self.template.endswith(TLS_MARK)


class Front(Struct, frozen=True, kw_only=True):
    """What discovery counts for the front: requests held because no replica was ready, and what Envoy has applied."""

    start_id: str
    at: float
    waiting: int = 0
    arrivals_total: int = 0
    expired_total: int = 0
    refused_off_hours_total: int = 0
    applied_version: int = 0


class Condition(Struct, frozen=True, kw_only=True):
    """Something an operator should know: a name of ``conditions.KINDS``, what is the matter with what, and what to do
    about it."""

    name: str
    message: str
    remedy: str
    since: float
    severity: Severity = "warning"
    about: str = ""  # the replica, region, version or service that it is about
    until: float | None = None  # something that happened is shown until then; None: it holds as long as it is listed


class Create(Struct, frozen=True, tag=True):
    """Ask Azure for the group of this row."""

    replica: Replica


class Drain(Struct, frozen=True, tag=True):
    """Tell the replica to take nothing new."""

    replica: Replica


class Undrain(Struct, frozen=True, tag=True):
    """Tell a draining replica that it is needed after all."""

    replica: Replica


class Delete(Struct, frozen=True, tag=True):
    """Delete the group of this row."""

    replica: Replica


Action = Create | Drain | Undrain | Delete
Json = dict[str, Any]
