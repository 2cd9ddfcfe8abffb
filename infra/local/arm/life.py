"""The life of one container group: what each moment and each end of a process makes of it.

    Pending - pulling - pulled - started - settled (Succeeded)
                                    |  a container ends: Always, or OnFailure with an exit code: back-off, run again
                                    |                    else it stays Terminated
    stop: runs end, Stopped          start, restart, update: runs end, the stages begin anew

Nothing here looks at a clock or starts anything: the time is given, and what is to be done comes back as effects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
from msgspec import Struct

from infra.local.arm.delays import StartDelay
from infra.local.arm.errors import no_capacity_message
from infra.local.arm.state import (
    FAILED,
    REPAIRING,
    SUCCEEDED,
    Container,
    Effect,
    End,
    Event,
    Group,
    Operation,
    Outcome,
    Plan,
    Start,
)

UNKNOWN_EXIT = 137  # of a process that ended while nobody could see its exit code
STOPPED_EXIT = 0


class Pace(Struct, frozen=True, kw_only=True):
    """How quickly things happen, in seconds: back-off doubles from ``back_off_s`` and is forgotten after a long run."""

    settle_s: float = 0.5
    back_off_s: float = 10.0
    back_off_most_s: float = 300.0
    forget_s: float = 600.0


def schedule_start(group: Group, delay: StartDelay, now: float, settle_s: float) -> None:
    """Let the stages of a start begin now."""
    started = now + delay.started_s
    group.plan = Plan(
        pulling_at=now + delay.pulling_s,
        pulled_at=now + delay.pulled_s,
        start_at=started,
        settle_at=started + settle_s,
    )
    group.stopped = False
    for container in group.containers:
        container.crashes, container.restart_at = 0, None


def advance(
    group: Group, operation: Operation | None, now: float, pace: Pace, new_run: Callable[[], str]
) -> list[Effect]:
    """Everything due up to ``now``, in order."""
    _pull(group, now)
    effects: list[Effect] = []
    plan = group.plan
    if plan.start_at is not None and plan.start_at <= now:
        if group.fate in ("no_capacity", "failed"):
            fail(group, operation, plan.start_at)
            return effects
        effects += [_start(group, container, plan.start_at, new_run()) for container in group.containers]
        plan.start_at = None
    if plan.settle_at is not None and plan.settle_at <= now:
        settle(group, operation)
    if plan.repaired_at is not None and plan.repaired_at <= now:
        plan.repaired_at, group.provisioning = None, SUCCEEDED
        for container in group.containers:
            container.restart_at = now
    for container in group.containers:
        if container.restart_at is not None and container.restart_at <= now:
            container.restart_count += 1
            effects.append(_start(group, container, container.restart_at, new_run()))
    return effects


def next_at(group: Group) -> float | None:
    """When ``advance`` next has something to do; None: nothing is planned."""
    waits = [c.restart_at for c in group.containers if c.restart_at is not None]
    return min(group.plan.moments() + waits, default=None)


def settle(group: Group, operation: Operation | None) -> None:
    """The operation is over: Azure now calls the group Succeeded, whatever became of its containers since."""
    group.plan.settle_at, group.operation, group.provisioning = None, None, SUCCEEDED
    if operation is not None:
        operation.status = SUCCEEDED
        operation.events = [event for container in group.containers[:1] for event in container.events]


def fail(group: Group, operation: Operation | None, at: float) -> None:
    """The group will not come: its operation ends Failed, with the reason where Azure puts it."""
    cpu, memory_gb = requested(group)
    message = no_capacity_message(group.location, cpu, memory_gb, str(group.properties.get("osType", "Linux")))
    name = "InsufficientCapacity."
    if group.fate == "failed":
        message, name = "Subscription deployment didn't reach a successful state within the time limit.", "Failed"
    group.plan, group.operation, group.provisioning, group.fate = Plan(), None, FAILED, None
    if operation is not None:
        operation.status, operation.error = FAILED, message
        operation.events = [Event(name=name, message=message, at=at, first_at=at, type="Warning")]


def exited(group: Group, container: Container, exit_code: int, now: float, pace: Pace) -> None:
    """A run ended by itself: note how, and plan the next one if the restart policy wants one."""
    assert container.started_at is not None, "what ended was started"
    long = now - container.started_at >= pace.forget_s
    container.crashes = 1 if long else container.crashes + 1
    _end(container, now, exit_code, "Error" if exit_code else "Completed")
    if group.policy == "Always" or (group.policy == "OnFailure" and exit_code != 0):
        # The first restart comes at once, as the kubelet does it; then the waiting doubles.
        doubled = pace.back_off_s * 2.0 ** max(0, container.crashes - 2)
        wait = 0.0 if container.crashes == 1 else min(pace.back_off_most_s, doubled)
        container.restart_at = now + wait
        if wait:
            _repeat(container, "BackOff", "Back-off restarting failed container", now)


def stop_runs(group: Group, now: float, *, exit_code: int = STOPPED_EXIT, detail: str = "Completed") -> list[Effect]:
    """End every run of the group; it is not run again by its policy."""
    effects: list[Effect] = []
    for container in group.containers:
        container.restart_at = None
        if container.run is not None:
            effects.append(End(key=group.key, run=container.run))
            container.events.append(
                Event(name="Killing", message=f"Killing container with id {container.run}.", at=now, first_at=now)
            )
            _end(container, now, exit_code, detail)
    return effects


def break_down(group: Group, now: float, repaired_at: float) -> list[Effect]:
    """The host under the group fails: its containers are gone until Azure has repaired it."""
    effects = stop_runs(group, now, exit_code=STOPPED_EXIT, detail="Infrastructure Error")
    group.provisioning, group.refusals = REPAIRING, 2
    group.plan.repaired_at = repaired_at
    return effects


def run_state(group: Group) -> str:
    """``instanceView.state`` of the group. A container that backs off still counts as running."""
    if group.provisioning == REPAIRING:
        return "Unknown"
    if group.provisioning == FAILED:
        return "Failed"
    if group.stopped:
        return "Stopped"
    if group.plan.start_at is not None:
        return "Pending"
    if any(c.run is not None or c.restart_at is not None for c in group.containers):
        return "Running"
    return "Failed" if any(c.ended is not None and c.ended.exit_code for c in group.containers) else "Succeeded"


def requested(group: Group) -> tuple[float, float]:
    """Cores and gigabytes that the containers of the group ask for together."""
    requests = [c["properties"].get("resources", {}).get("requests", {}) for c in group.properties["containers"]]
    return sum(float(r.get("cpu", 0)) for r in requests), sum(float(r.get("memoryInGB", 0)) for r in requests)


def _pull(group: Group, now: float) -> None:
    plan = group.plan
    if plan.pulling_at is not None and plan.pulling_at <= now:
        _note(group, "Pulling", "pulling image", plan.pulling_at)
        plan.pulling_at = None
    if plan.pulled_at is not None and plan.pulled_at <= now:
        _note(group, "Pulled", "Successfully pulled image", plan.pulled_at)
        plan.pulled_at = None


def _start(group: Group, container: Container, at: float, run: str) -> Start:
    assert container.run is None, "one run at a time"
    if container.ended is not None:
        container.previous, container.ended = container.ended, None
    container.run, container.started_at, container.restart_at = run, at, None
    _repeat(container, "Started", "Started container", at)
    return Start(key=group.key, container=container.name, run=run)


def _end(container: Container, now: float, exit_code: int, detail: str) -> None:
    started_at = now if container.started_at is None else container.started_at
    container.ended = Outcome(started_at=started_at, finished_at=now, exit_code=exit_code, detail=detail)
    container.run = None


def _note(group: Group, name: str, message: str, at: float) -> None:
    images = {c["name"]: c["properties"].get("image", "") for c in group.properties["containers"]}
    for container in group.containers:
        container.events = [e for e in container.events if e.name != name]
        said = f'{message} "{pinned(images[container.name])}"'
        container.events.append(Event(name=name, message=said, at=at, first_at=at))


def _repeat(container: Container, name: str, message: str, at: float) -> None:
    """The same event again raises its count, as Azure does it."""
    before = next((e for e in container.events if e.name == name), None)
    if before is None:
        container.events.append(Event(name=name, message=message, at=at, first_at=at))
    else:
        container.events.remove(before)
        container.events.append(msgspec.structs.replace(before, at=at, count=before.count + 1))


def pinned(image: str) -> str:
    """The image by digest, as Azure's events name it; the digest is made up from the name."""
    head, _, tag = image.rpartition(":")
    name = head if head and "/" not in tag else image
    return f"{name.partition('@')[0]}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"
