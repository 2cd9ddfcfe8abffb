"""All container groups of the stand-in: what each request does to them, and what time does.

Pure: the time, the delays, the ids and the free addresses are given, and what is to be done with processes is left in
``effects`` for the one who drives it. A simulation drives it with its own clock and no processes at all.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct, field

from infra.local.arm.addresses import Addresses
from infra.local.arm.asked import Asked, check_update
from infra.local.arm.delays import CACHED, Draw, StartDelay
from infra.local.arm.errors import (
    dns_label_taken,
    internal_error,
    quota_reached,
    resource_not_found,
    transitioning,
)
from infra.local.arm.life import (
    Pace,
    advance,
    break_down,
    exited,
    next_at,
    requested,
    schedule_start,
    stop_runs,
)
from infra.local.arm.limits import Limits
from infra.local.arm.standby import Pool, Standby
from infra.local.arm.state import (
    CANCELED,
    PENDING,
    REPAIRING,
    UPDATING,
    Container,
    Effect,
    Group,
    Json,
    Key,
    Operation,
)

KEPT_OPERATIONS = 500


class Kept(Struct, kw_only=True):
    """What outlives the program."""

    groups: list[Group] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    next_address: int = 0
    standby: Standby = field(default_factory=Standby)


class Groups:
    """The container groups of all subscriptions."""

    def __init__(
        self,
        draw: Draw,
        *,
        addresses: Addresses,
        pace: Pace | None = None,
        limits: Limits | None = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.pace = pace or Pace()
        self.limits = limits or Limits()
        self.operations: dict[str, Operation] = {}
        self.effects: list[Effect] = []
        self.standby = Standby()
        self._groups: dict[Key, Group] = {}
        self._draw = draw
        self._addresses = addresses
        self._new_id = new_id

    def keep(self) -> Kept:
        """Everything, to be given to ``restore`` one day."""
        return Kept(
            groups=list(self._groups.values()),
            operations=list(self.operations.values()),
            next_address=self._addresses.next_number,
            standby=self.standby,
        )

    def restore(self, kept: Kept) -> None:
        self._groups = {group.key: group for group in kept.groups}
        self.operations = {operation.id: operation for operation in kept.operations}
        self._addresses.next_number = kept.next_address
        self.standby = kept.standby

    def find(self, key: Key) -> Group | None:
        return self._groups.get(key)

    def get(self, key: Key, resource_group: str, name: str) -> Group:
        """Raises ``ArmError`` 404, naming the group as the client wrote it."""
        if (group := self._groups.get(key)) is None:
            raise resource_not_found(resource_group, name)
        return group

    def listed(self, subscription: str, resource_group: str | None = None) -> list[Group]:
        """The groups of a resource group or of the whole subscription, by name."""
        found = (
            group
            for key, group in self._groups.items()
            if key.subscription == subscription.lower()
            and (resource_group is None or key.resource_group == resource_group.lower())
        )
        return sorted(found, key=lambda group: (group.resource_group.lower(), group.name))

    def every(self) -> Iterable[Group]:
        return self._groups.values()

    def put_pool(self, resource: str, body: Json, now: float) -> Pool:
        """Create a standby pool, or change its size. Raises ``ArmError``."""
        return self.standby.put_pool(resource, body, self._draw, now)

    def resolved(self, body: Json, now: float) -> tuple[Json, StartDelay | None]:
        """What a PUT asks for, with its profile filled in; and how long its start takes where a pool gives it."""
        return self.standby.resolved(body, self._draw, now)

    def put(
        self,
        subscription: str,
        resource_group: str,
        name: str,
        asked: Asked,
        now: float,
        fate: str | None = None,
        *,
        claimed: StartDelay | None = None,
    ) -> tuple[Group, Operation, bool]:
        """Create or update a group; True when it was created. ``claimed``: it comes from a standby pool. Raises
        ``ArmError``."""
        self.advance(now)
        key = Key.of(subscription, resource_group, name)
        group = self._groups.get(key)
        if group is not None:
            return group, self._update(group, asked, now), False
        group = Group(
            subscription=subscription,
            resource_group=resource_group,
            name=name,
            location=asked.location,
            properties=asked.properties,
            created_at=now,
            tags=asked.tags,
            zones=asked.zones,
            identity=asked.identity,
            containers=[Container(name=c["name"]) for c in asked.properties["containers"]],
            fate=fate,
            pooled=claimed is not None,
        )
        self._check_label(group)
        self._check_quota(group, groups=1)
        group.address = self._take_address(group)
        self._groups[key] = group
        return group, self._begin(group, PENDING, claimed or self._draw(group.properties), now), True

    def patch(self, group: Group, tags: dict[str, str]) -> None:
        """A PATCH changes the tags and nothing else."""
        group.tags = tags

    def delete(self, group: Group, now: float) -> None:
        """The group is gone at once; its processes get their signal."""
        self.advance(now)
        if group.operation is not None:
            self.operations[group.operation].status = CANCELED
        self.effects += stop_runs(group, now)
        self._groups.pop(group.key, None)

    def stop(self, group: Group, now: float) -> None:
        self._refuse_transition(group, now)
        self.effects += stop_runs(group, now)
        group.stopped, group.address = True, None

    def start(self, group: Group, now: float) -> Operation:
        """A stopped group starts like a new one: another host, another address, the image pulled again."""
        self._refuse_transition(group, now)
        if not group.stopped:
            return self._begin(group, PENDING, StartDelay(0.0, 0.0, 0.0), now)
        self._check_quota(group, groups=0)
        group.address = self._take_address(group)
        return self._begin(group, PENDING, self._draw(group.properties), now)

    def restart(self, group: Group, now: float) -> Operation:
        self._refuse_transition(group, now)
        if group.refusals:
            group.refusals -= 1
            raise internal_error(self._new_id(), self._new_id())
        return self._begin_again(group, now)

    def repair(self, group: Group, now: float, for_s: float) -> None:
        """The host under the group fails; Azure mends that after ``for_s``."""
        self.advance(now)
        self.effects += break_down(group, now, now + for_s)

    def exited(self, key: Key, run: str, exit_code: int, now: float) -> None:
        """A run ended by itself. One that was ended by us, or whose group is gone, is of no interest."""
        group = self._groups.get(key)
        if group is None:
            return
        for container in group.containers:
            if container.run == run:
                exited(group, container, exit_code, now, self.pace)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Let happen what is due up to now."""
        for group in self._groups.values():
            at = next_at(group)
            if at is not None and at <= now:
                operation = self.operations.get(group.operation) if group.operation else None
                self.effects += advance(group, operation, now, self.pace, self._new_id)

    def next_at(self) -> float | None:
        """When ``advance`` next has something to do."""
        moments = (next_at(group) for group in self._groups.values())
        return min((at for at in moments if at is not None), default=None)

    def take_effects(self) -> list[Effect]:
        taken, self.effects = self.effects, []
        return taken

    def usage(self, subscription: str, location: str) -> dict[str, tuple[float, float]]:
        """What a region has in use and its limit, by the name of the quota."""
        groups = [g for g in self.listed(subscription) if g.location == location]
        cores = sum(requested(g)[0] for g in groups if not g.stopped)
        return {
            "ContainerGroups": (float(len(groups)), float(self.limits.groups)),
            "StandardCores": (cores, self.limits.cores),
        }

    def _update(self, group: Group, asked: Asked, now: float) -> Operation:
        if group.is_transitioning or group.provisioning == REPAIRING:
            raise transitioning(group.name)
        check_update(group, asked)
        was_stopped = group.stopped
        if was_stopped:
            self._check_quota(group, groups=0)
        group.properties, group.tags, group.identity = asked.properties, asked.tags, asked.identity
        if was_stopped or group.address is None:
            group.address = self._take_address(group)
        return self._begin_again(group, now)

    def _begin_again(self, group: Group, now: float) -> Operation:
        """Every container anew, from layers that are there."""
        self.effects += stop_runs(group, now)
        for container in group.containers:
            container.events, container.ended, container.previous = [], None, None
            container.restart_count = 0
        delay = self._draw(group.properties)
        quick = StartDelay(delay.pulling_s * CACHED, delay.pulled_s * CACHED, delay.started_s * CACHED)
        return self._begin(group, UPDATING, quick, now)

    def _begin(self, group: Group, provisioning: str, delay: StartDelay, now: float) -> Operation:
        operation = Operation(id=self._new_id(), group_id=group.id, location=group.location, started_at=now)
        self.operations[operation.id] = operation
        while len(self.operations) > KEPT_OPERATIONS:
            del self.operations[next(iter(self.operations))]
        group.operation, group.provisioning = operation.id, provisioning
        if group.is_started and any(c.run for c in group.containers):
            # Started already: nothing to do but to say so.
            group.plan.settle_at = now + self.pace.settle_s
        else:
            schedule_start(group, delay, now, self.pace.settle_s)
        return operation

    def _refuse_transition(self, group: Group, now: float) -> None:
        self.advance(now)
        if group.is_transitioning:
            raise transitioning(group.name)

    def _take_address(self, group: Group) -> str:
        used = {other.address for other in self._groups.values()}
        return self._addresses.take(used, first_port(group.properties))

    def _check_label(self, group: Group) -> None:
        """A DNS label belongs to one group of a region: a template with one makes one replica and no second."""
        label = (group.properties.get("ipAddress") or {}).get("dnsNameLabel")
        for other in self._groups.values():
            taken = (other.properties.get("ipAddress") or {}).get("dnsNameLabel")
            if label is not None and label == taken and other.location == group.location:
                raise dns_label_taken(label, group.name)

    def _check_quota(self, group: Group, *, groups: int) -> None:
        usage = self.usage(group.subscription, group.location)
        for kind, wanted in (("StandardCores", requested(group)[0]), ("ContainerGroups", float(groups))):
            used, limit = usage[kind]
            if wanted and used + wanted > limit:
                raise quota_reached(kind, group.location, limit=limit, used=used, wanted=wanted)


def first_port(properties: dict[str, Any], container: dict[str, Any] | None = None) -> int:
    """The port a container is told to listen on: its own first, else the first of the group, else 80."""
    own = (container or properties["containers"][0])["properties"].get("ports") or []
    ports = own or (properties.get("ipAddress") or {}).get("ports") or [{"port": 80}]
    return int(ports[0]["port"])
