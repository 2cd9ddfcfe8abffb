"""What the stand-in knows of its container groups: plain data, kept as one JSON file."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

Json = dict[str, Any]

PENDING, UPDATING, REPAIRING = "Pending", "Updating", "Repairing"
SUCCEEDED, FAILED, CANCELED = "Succeeded", "Failed", "Canceled"
TRANSITIONS = frozenset({PENDING, "Creating", UPDATING})


class Key(Struct, frozen=True, order=True):
    """Which group is meant: names as Azure compares them, without regard to case."""

    subscription: str
    resource_group: str
    name: str

    @classmethod
    def of(cls, subscription: str, resource_group: str, name: str) -> Key:
        return cls(subscription.lower(), resource_group.lower(), name.lower())


class Event(Struct, frozen=True, kw_only=True):
    """One line of the history of a container or of an operation; ``at`` is epoch seconds."""

    name: str
    message: str
    at: float
    first_at: float
    type: str = "Normal"
    count: int = 1


class Outcome(Struct, frozen=True, kw_only=True):
    """A run that ended: when it ran, what it ended with, and the word Azure has for that."""

    started_at: float
    finished_at: float
    exit_code: int
    detail: str


class Container(Struct, kw_only=True):
    """One container of a group: at most one run at a time, and what the last one came to."""

    name: str
    run: str | None = None  # id of the run that is going on
    started_at: float | None = None
    ended: Outcome | None = None  # the last run, while none is going on
    previous: Outcome | None = None  # the run before this one
    restart_count: int = 0
    crashes: int = 0  # in a row; forgotten after a long run
    restart_at: float | None = None  # backing off until then
    events: list[Event] = field(default_factory=list)


class Plan(Struct, kw_only=True):
    """When what comes next for a group will happen; None: done, or not to happen. Epoch seconds."""

    pulling_at: float | None = None
    pulled_at: float | None = None
    start_at: float | None = None
    settle_at: float | None = None  # the operation is then seen to have ended
    repaired_at: float | None = None

    def moments(self) -> list[float]:
        all_ = (self.pulling_at, self.pulled_at, self.start_at, self.settle_at, self.repaired_at)
        return [at for at in all_ if at is not None]


class Group(Struct, kw_only=True):
    """One container group. ``properties`` are those of the last PUT, secrets included: render them with ``bodies``."""

    subscription: str
    resource_group: str
    name: str
    location: str
    properties: Json
    created_at: float
    tags: dict[str, str] = field(default_factory=dict)
    zones: list[str] | None = None
    identity: Json | None = None
    provisioning: str = PENDING
    address: str | None = None
    stopped: bool = False
    containers: list[Container] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    operation: str | None = None  # id of the operation under way
    pooled: bool = False  # claimed from a standby pool
    fate: str | None = None  # what a fault has in store: no_capacity, failed, crash
    refusals: int = 0  # restarts still to be answered with a 500, after a repair

    @property
    def key(self) -> Key:
        return Key.of(self.subscription, self.resource_group, self.name)

    @property
    def id(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.ContainerInstance/containerGroups/{self.name}"
        )

    @property
    def policy(self) -> str:
        return str(self.properties.get("restartPolicy", "Always"))

    @property
    def is_transitioning(self) -> bool:
        return self.provisioning in TRANSITIONS

    @property
    def is_started(self) -> bool:
        """Whether its containers were started since the last create, update or start."""
        return self.plan.start_at is None and not self.stopped and self.provisioning != FAILED


class Operation(Struct, kw_only=True):
    """One long-running operation, polled by its own address long after the group may be gone."""

    id: str
    group_id: str
    location: str
    started_at: float
    status: str = PENDING
    events: list[Event] = field(default_factory=list)
    error: str | None = None


class Start(Struct, frozen=True, kw_only=True):
    """To be done: start this run of this container of the group."""

    key: Key
    container: str
    run: str


class End(Struct, frozen=True, kw_only=True):
    """To be done: end this run."""

    key: Key
    run: str


Effect = Start | End
