"""What Azure and strangers do to container groups: starts that fail, lists that lag, servers that hang, walls."""

from __future__ import annotations

import builtins
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler.errors import Refused, Unavailable
from scaler.model import Group, GroupDetail, Latency, Replica, Stats
from scaler.ports import GroupRequest, Usage
from tests.simulation.record import TickRecord
from tests.world import Held, Server, _listed, _shown

if TYPE_CHECKING:
    from tests.simulation.history import History

OWN = "aci-autoscaler"
BAD_IMAGE = "inference:bad"
NEVER = 1e12
P99_OF_TYPICAL = 4  # what each server says that its slowest requests take, in times the typical work of one


class Azure:
    """``ports.Fleet`` and ``ports.Replicas`` as the world has them: what is asked here takes effect here and now."""

    def __init__(self, history: History) -> None:
        self._history, self._timeline, self._weather = history, history.timeline, history.weather
        self._random = history.timeline.random
        self.fleet = history.world.fleet
        self.fleet.start_delay_s = lambda _: 2.0 + self._random.random() * 40.0
        self.fleet.load_delay_s = lambda _: self._random.random() * 20.0
        self._by_address: dict[str, Held] = {}
        self._free: list[str] = []  # addresses that were given back
        self._gone: list[tuple[Held, float]] = []  # groups that a list that lags still shows
        self._places: dict[str, str] = {}  # group → the resource group that it is in
        self._billed_s: defaultdict[str, float] = defaultdict(float)  # of groups that are gone
        self.on_the_way: Counter[str] = Counter()  # requests that the front has sent and the replica has not got yet
        self.pool_is_broken = history.timeline.random.random() < 0.3  # for good

    # -- the doors

    async def list(self, place: str) -> Sequence[Group]:
        now = self._timeline.now
        lag = 0.0 if self._weather.calm else self._weather.list_lag_s * self._random.random()
        self._gone = [(h, at) for h, at in self._gone if now - at < 600]
        held = [h for h in self.fleet.held.values() if lag == 0 or h.created_at <= now - lag]
        held += [h for h, at in self._gone if at > now - lag]
        held = [h for h in held if self._places.get(h.name, "") == place]
        return [_listed(h, now) for h in held if not self._weather.turns(self._weather.list_gaps)]

    async def show(self, name: str, place: str) -> GroupDetail | None:
        held = self._held(name, place)
        return None if held is None else _shown(held, self._timeline.now)

    async def create(self, request: GroupRequest) -> None:
        self._history.checks.creates(request)
        self._claim(request)
        await self.fleet.create(request)
        held = self.fleet.held[request.name]
        self._places[held.name] = request.place
        if _is_claim(held):
            held.started_at = self._timeline.now + 1.0 + self._random.random()
            held.server.ready_at = held.started_at + self._random.random()
        if self._free and self._random.random() < 0.5:
            held.address = self._free.pop(self._random.randrange(len(self._free)))
        self._by_address[held.address] = held
        self._history.checks.created(held)
        self._befall(held)

    async def delete(self, name: str, place: str) -> None:
        held = self._held(name, place)
        if held is not None:
            self._history.checks.deletes(name)
        if held is None or held.deleted_at is not None:
            return
        after_s = self._random.choice((0.0, 5.0, 40.0)) * self._random.random()
        held.deleted_at, held.provisioning_state = self._timeline.now + after_s, "Deleting"
        _kill(held.server)
        self._timeline.after(after_s, lambda: self._vanish(held))

    async def usage(self, region: str) -> Sequence[Usage]:
        return await self.fleet.usage(region)

    async def stats(self, replica: Replica) -> Stats:
        held = self._answering(replica.address)
        if held is None or held.name != replica.name:
            raise Unavailable(f"replica {replica.name}: no answer")
        return held.server.stats()

    async def drain(self, replica: Replica, record: TickRecord, *, draining: bool) -> None:
        held = self._answering(replica.address)
        if held is None:
            raise Unavailable(f"replica {replica.name}: no answer")
        self._history.checks.drains(held, record, draining=draining)
        held.server.draining = draining

    # -- for the rest of the world

    def serving(self, address: str) -> Held | None:
        """Who takes a request there."""
        held = self._answering(address)
        return held if held is not None and self._timeline.now >= held.server.ready_at else None

    def own(self, service: str | None = None) -> builtins.list[Held]:
        """Groups with our tag, those that are going included."""
        return [
            h for h in self.fleet.held.values() if h.tags.get(OWN) == "d1" and service in (None, h.tags.get("service"))
        ]

    def billed_s(self, service: str) -> float:
        """Seconds of all its groups, from when each was made until it was gone."""
        now = self._timeline.now
        return self._billed_s[service] + sum(now - h.created_at for h in self.own(service))

    def is_draining(self, name: str) -> bool:
        """Whether its server was told to drain."""
        held = self.fleet.held.get(name)
        return held is not None and held.server.draining

    def is_foreign(self, name: str) -> bool:
        held = self.fleet.held.get(name)
        return held is not None and held.tags.get(OWN) != "d1"

    def stranger(self) -> None:
        """Somebody else makes a group, with tags that look like ours or without any."""
        random = self._random
        number = len(self.fleet.held) + random.randrange(10_000)
        tags = random.choice(({}, {OWN: "d2", "service": "a", "template": "x"}, {"service": "a"}))
        held = self.fleet.add(f"{random.choice('ab')}-stranger-{number}", tags=dict(tags))
        self._places[held.name] = random.choice(self._history.places)
        self._by_address[held.address] = held
        self._timeline.tell("stranger", "makes", held.name)

    def remove(self, held: Held) -> None:
        """Somebody deletes it, and it is gone at once."""
        _kill(held.server)
        self._vanish(held)

    def wall(self, region: str, groups: int) -> None:
        self._timeline.tell("azure", f"{region} takes {groups} groups")
        self.fleet.capacity[region] = groups

    def mend(self) -> None:
        """Whatever an incident left behind heals, or is at least plain to see."""
        for region in list(self.fleet.capacity):
            self.fleet.capacity[region] = 100
        for held in self.own():
            if held.deleted_at is None and held.container_state is None and not _is_bad(held):
                held.server.silent = False

    def _held(self, name: str, place: str) -> Held | None:
        return self.fleet.held.get(name) if self._places.get(name, "") == place else None

    def _claim(self, request: GroupRequest) -> None:
        """A standby pool has no group to give now and then, and some are gone for good."""
        if b"standbyPoolProfile" not in request.body:
            return
        self._history.checks.count("claims on a standby pool")
        if self.pool_is_broken or self._weather.turns(0.2):
            raise Refused("The standby pool could not be found.", code="StandbyPoolNotFound")

    def _answering(self, address: str | None) -> Held | None:
        held = self._by_address.get(address or "")
        if held is None or held.server.silent or self._timeline.now < held.started_at:
            return None
        return held if held.container_state in (None, "Running") else None

    def _vanish(self, held: Held) -> None:
        if self.fleet.held.get(held.name) is held:
            del self.fleet.held[held.name]
            self._billed_s[held.tags.get("service", "")] += self._timeline.now - held.created_at
        if self._by_address.get(held.address) is held:
            del self._by_address[held.address]
            self._free.append(held.address)
            self._gone.append((held, self._timeline.now))
            self._timeline.tell("azure", held.name, "is gone")

    # -- what befalls a group

    def _befall(self, held: Held) -> None:
        typical_s = self._history.typical_s
        held.server.latency_s = Latency(p50=typical_s, p95=None, p99=P99_OF_TYPICAL * typical_s)
        if _is_bad(held):
            held.server.ready_at = NEVER
            held.container_state, held.detail = "Waiting", "CrashLoopBackOff: Back-off restarting failed"
            return
        if self._weather.turns(self._weather.bad_starts):
            self._starts_badly(held)
        elif self._weather.turns(self._weather.incidents):
            after_s = 30.0 + 1800.0 * self._random.random()
            self._timeline.after(after_s, lambda: self._incident(held))

    def _starts_badly(self, held: Held) -> None:
        how = self._random.choice(("failed", "no room", "loops", "slow", "dies"))
        self._timeline.tell("azure", held.name, "will start badly:", how)
        match how:
            case "failed" | "no room":
                held.provisioning_state, held.state, held.started_at = "Failed", "Failed", NEVER
                held.detail = "InsufficientCapacity: no room" if how == "no room" else None
            case "loops":
                held.container_state, held.detail = "Waiting", "CrashLoopBackOff: Back-off restarting failed"
            case "slow":
                held.server.ready_at += 600.0 * self._random.random()
            case "dies":
                held.container_state, held.exit_code = "Terminated", 137

    def _incident(self, held: Held) -> None:
        if self._weather.calm or self.fleet.held.get(held.name) is not held or held.deleted_at is not None:
            return
        how = self._random.choice(("hangs", "restarts", "stops", "is deleted", "is told to drain"))
        self._timeline.tell("azure", held.name, how)
        match how:
            case "hangs":
                _kill(held.server)
                seconds = 20.0 + 300.0 * self._random.random()
                self._timeline.after(seconds, lambda: self._hangs_no_longer(held))
            case "restarts":
                held.server.restart()
                held.server.ready_at = self._timeline.now + 30.0 * self._random.random()
                held.restart_count += 1
            case "stops":
                _kill(held.server)
                held.container_state, held.exit_code = "Terminated", 1
            case "is deleted":
                self.remove(held)
            case _:
                held.server.draining = True

    def _hangs_no_longer(self, held: Held) -> None:
        if held.deleted_at is None and self.fleet.held.get(held.name) is held:
            held.server.silent = False


def _kill(server: Server) -> None:
    """It serves nobody any more; what it had in hand is lost to it."""
    server.restart()
    server.silent = True


def _is_claim(held: Held) -> bool:
    return "standbyPoolProfile" in held.body["properties"]


def _is_bad(held: Held) -> bool:
    return bool(BAD_IMAGE in str(held.body["properties"].get("containers")))
