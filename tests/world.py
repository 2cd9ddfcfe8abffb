"""A world in memory: table, container groups and replica servers, with a clock in hand and faults on request.

It keeps the rules of Azure that the autoscaler leans on: ETags and transactions of the table, a list without run state,
addresses that come late, deletes that end later, names that mean the same group again. The contract tests run the same
sentences against it and against the real SDKs.

    world = World(start_delay_s=20)
    await world.fleet.create(request)          # Pending
    world.clock.advance(20)                    # Succeeded, with an address, and a server that says ready
    world.faults.add("list", Unavailable("no answer"), times=2)
    world.faults.add("create", Unavailable("answer lost"), done=True)    # it happens, and nobody hears of it
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from scaler.errors import OutOfCapacity, Refused, Unavailable
from scaler.model import Group, GroupDetail, Latency, Replica, Stats
from scaler.ports import GroupRequest, Usage, outgoing
from tests.memory_store import Faults, MemoryStore

START_AT = 1_790_000_000.0


class Clock:
    """The time of the world, in epoch seconds. It moves when told to."""

    def __init__(self, at: float = START_AT) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def advance(self, seconds: float) -> float:
        assert seconds >= 0
        self.at += seconds
        return self.at


class Server:
    """The server of one replica, as it answers on ``/stats``. Tests set how busy it is; totals follow the clock."""

    def __init__(self, name: str, clock: Clock, *, ready_at: float, capacity: int = 4) -> None:
        self.name, self.clock, self.ready_at, self.capacity = name, clock, ready_at, capacity
        self.start_id = f"{name}-1"
        self.draining = False
        self.silent = False  # gives no answer at all
        self.cpu: float | None = None
        self.memory_bytes = 400_000_000
        self.latency_s = Latency(p50=None, p95=None, p99=None)
        self.arrivals = self.completed = self.failed = self.rejected = self.sequence = 0
        self._in_flight = self.queued = 0
        self._busy_s, self._busy_at = 0.0, clock()

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @in_flight.setter
    def in_flight(self, count: int) -> None:
        self._busy_s, self._busy_at = self.busy_s, self.clock()
        self._in_flight = count

    @property
    def busy_s(self) -> float:
        return self._busy_s + self._in_flight * (self.clock() - self._busy_at)

    def arrive(self, count: int, *, each_s: float | None = None) -> None:
        """``count`` requests come in and are done at once, or have kept it busy for ``each_s`` seconds each."""
        self.arrivals += count
        self.completed += count
        self._busy_s += count * (each_s or 0.0)

    def restart(self) -> None:
        """The process ended and began anew: counters at zero, not draining, ready at once."""
        self.start_id = f"{self.name}-{int(self.start_id.rpartition('-')[2]) + 1}"
        self.draining = False
        self.arrivals = self.completed = self.failed = self.rejected = self.sequence = 0
        self._in_flight = self.queued = 0
        self._busy_s, self._busy_at = 0.0, self.clock()

    def stats(self) -> Stats:
        self.sequence += 1
        phase = "starting" if self.clock() < self.ready_at else "draining" if self.draining else "ready"
        return Stats(
            replica=self.name,
            start_id=self.start_id,
            sequence=self.sequence,
            at=self.clock(),
            phase=phase,  # type: ignore[arg-type]
            in_flight=self._in_flight,
            queued=self.queued,
            capacity=self.capacity,
            arrivals_total=self.arrivals,
            completed_total=self.completed,
            failed_total=self.failed,
            rejected_total=self.rejected,
            busy_seconds_total=self.busy_s,
            latency_s=self.latency_s,
            cpu=self.cpu,
            memory_bytes=self.memory_bytes,
            gpu=[],
        )


class Held(Struct):
    """A container group as Azure holds it."""

    name: str
    region: str
    tags: dict[str, str]
    body: dict[str, Any]
    created_at: float
    started_at: float  # when its containers run and its address is known
    address: str
    server: Server
    state: str | None = None  # overrides: Stopped, Failed, …
    container_state: str | None = None
    detail: str | None = None
    exit_code: int | None = None
    restart_count: int = 0
    provisioning_state: str | None = None
    deleted_at: float | None = None


class MemoryFleet:
    """``ports.Fleet``: groups start ``start_delay_s`` after they were asked for, and are listed until they are gone."""

    def __init__(self, clock: Clock, faults: Faults | None = None) -> None:
        self.clock, self.faults = clock, faults or Faults()
        self.held: dict[str, Held] = {}
        self.start_delay_s: Callable[[str], float] = lambda _name: 20.0  # asked for → its containers run
        self.load_delay_s: Callable[[str], float] = lambda _name: 0.0  # its containers run → its server is ready
        self.delete_delay_s = 0.0  # asked to go → no longer listed
        self.capacity: dict[str, int] = defaultdict(lambda: 100)  # groups a region takes
        self.missing_images: set[str] = set()  # whoever asks for one of them is refused
        self.made: Counter[str] = Counter()  # how often each name was asked for: above one is a restart on Azure
        self.asked_to_go: Counter[str] = Counter()
        self._made = 0

    async def list(self) -> Sequence[Group]:
        self._meet("list")
        return [_listed(held, self.clock()) for held in self._present().values()]

    async def show(self, name: str) -> GroupDetail | None:
        self._meet("show", name)
        held = self._present().get(name)
        return None if held is None else _shown(held, self.clock())

    async def create(self, request: GroupRequest) -> None:
        self._meet("create", request.name)
        body = json.loads(request.body)
        region = body["location"]
        if images := self.missing_images & {c["properties"].get("image") for c in body["properties"]["containers"]}:
            raise Refused(f"The image '{images.pop()}' is not accessible.", code="InaccessibleImage")
        if self._used(region) >= self.capacity[region] and request.name not in self._present():
            raise OutOfCapacity(f"no room in {region}", code="ContainerGroupQuotaReached")
        self.made[request.name] += 1
        self._hold(request.name, region, body)
        self.faults.after("create", request.name)

    async def delete(self, name: str) -> None:
        self._meet("delete", name)
        self.asked_to_go[name] += 1
        if (held := self._present().get(name)) is not None and held.deleted_at is None:
            held.deleted_at = self.clock() + self.delete_delay_s
        self.faults.after("delete", name)

    async def usage(self, region: str) -> Sequence[Usage]:
        self._meet("usage", region)
        return [Usage(name="ContainerGroups", used=self._used(region), limit=self.capacity[region])]

    def add(self, name: str, *, tags: dict[str, str], region: str = "westeurope", port: int = 8000) -> Held:
        """A group that somebody else made: it runs already."""
        body = {"location": region, "tags": tags, "properties": {"ipAddress": {"ports": [{"port": port}]}}}
        held = self._hold(name, region, body)
        held.created_at = held.started_at = held.server.ready_at = self.clock()
        return held

    def remove(self, name: str) -> None:
        """Somebody else deletes it."""
        del self.held[name]

    def _hold(self, name: str, region: str, body: dict[str, Any]) -> Held:
        self._made += 1
        started_at = self.clock() + self.start_delay_s(name)
        held = Held(
            name=name,
            region=region,
            tags=dict(body.get("tags") or {}),
            body=body,
            created_at=self.clock(),
            started_at=started_at,
            address=f"127.64.{self._made // 250}.{self._made % 250 + 1}",
            server=Server(name, self.clock, ready_at=started_at + self.load_delay_s(name)),
        )
        self.held[name] = held
        return held

    def _present(self) -> dict[str, Held]:
        gone = [n for n, held in self.held.items() if held.deleted_at is not None and held.deleted_at <= self.clock()]
        for name in gone:
            del self.held[name]
        return self.held

    def _used(self, region: str) -> int:
        return sum(held.region == region for held in self._present().values())

    def _meet(self, kind: str, name: str | None = None) -> None:
        with outgoing(kind):
            self.faults.before(kind, name)


def _listed(held: Held, at: float) -> Group:
    started = at >= held.started_at
    return Group(
        name=held.name,
        region=held.region,
        tags=dict(held.tags),
        provisioning_state=held.provisioning_state or ("Succeeded" if started else "Pending"),
        address=held.address if started else None,
        resource_group="world",
    )


def _shown(held: Held, at: float) -> GroupDetail:
    started = at >= held.started_at
    return GroupDetail(
        name=held.name,
        provisioning_state=held.provisioning_state or ("Succeeded" if started else "Pending"),
        state=held.state or ("Running" if started else "Pending"),
        container_state=held.container_state or ("Running" if started else "Waiting"),
        detail=held.detail,
        exit_code=held.exit_code,
        restart_count=held.restart_count,
        pulling_at=held.created_at + 2 if started else None,
        pulled_at=held.created_at + (held.started_at - held.created_at) / 2 if started else None,
        started_at=held.started_at if started else None,
    )


class MemoryReplicas:
    """``ports.Replicas``: asks the server of the group that has the replica's address."""

    def __init__(self, fleet: MemoryFleet, faults: Faults | None = None) -> None:
        self.fleet, self.faults = fleet, faults or Faults()

    async def stats(self, replica: Replica) -> Stats:
        with outgoing("stats"):
            self.faults.before("stats", replica.name)
        return self._server(replica).stats()

    async def drain(self, replica: Replica, *, draining: bool) -> None:
        with outgoing("drain"):
            self.faults.before("drain", replica.name)
        self._server(replica).draining = draining
        self.faults.after("drain", replica.name)

    def _server(self, replica: Replica) -> Server:
        held = self.fleet._present().get(replica.name)
        running = (
            held is not None and self.fleet.clock() >= held.started_at and held.container_state in (None, "Running")
        )
        if held is None or not running or held.server.silent or replica.address != held.address:
            raise Unavailable(f"replica {replica.name}: no answer")
        return held.server


class World:
    """All of it together. ``mint`` gives names in order: ``iris-0001``, ``iris-0002`` …"""

    def __init__(self, *, start_delay_s: float = 20.0, load_delay_s: float = 0.0, at: float = START_AT) -> None:
        self.clock = Clock(at)
        self.faults = Faults()
        self.store = MemoryStore(self.faults)
        self.fleet = MemoryFleet(self.clock, self.faults)
        self.fleet.start_delay_s = lambda _name: start_delay_s
        self.fleet.load_delay_s = lambda _name: load_delay_s
        self.replicas = MemoryReplicas(self.fleet, self.faults)
        self._minted = 0

    def mint(self, service: str) -> str:
        self._minted += 1
        return f"{service}-{self._minted:04d}"

    def server(self, name: str) -> Server:
        return self.fleet.held[name].server

    @property
    def servers(self) -> dict[str, Server]:
        """Those that run, by name."""
        present = self.fleet._present()
        return {name: held.server for name, held in present.items() if self.clock() >= held.started_at}
