"""Carry out what was planned and saved: at most once each, within a deadline, and with what fails said and left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from scaler.config import StandbyPool
from scaler.errors import Conflict, OutOfCapacity, Refused, Unavailable
from scaler.memory import POOL_FAILURE
from scaler.model import Action, Create, Delete, Drain, Phase, Replica, Undrain
from scaler.observe import retry_at
from scaler.template import Template
from scaler.tick.managed import World

ACT_DEADLINE_S = 30.0  # shorter than plan.TURN_S: whoever acts is done before another may take over
ACTIONS_AT_ONCE = 16

log = logging.getLogger("scaler.act")


async def act(actions: Sequence[Action], saved: Sequence[Replica], actor: Actor) -> list[str]:
    """Every action at once, on the rows as ``saved`` (with their ETags). Gives what was done, or why not, in words.
    Nothing is raised but faults of our own: what failed is tried again by the next tick."""
    rows = {r.name: r for r in saved}
    gate = asyncio.Semaphore(ACTIONS_AT_ONCE)

    async def one(action: Action) -> str:
        replica = rows[action.replica.name]
        done = f"{type(action).__name__.lower()} {replica.name}"
        try:
            async with gate, asyncio.timeout(ACT_DEADLINE_S):
                await actor.do(action, replica)
        except TimeoutError:
            return f"{done}: no answer within {ACT_DEADLINE_S:.0f} s"
        except Conflict:
            return f"{done}: another tick has it"
        except (Unavailable, Refused) as error:
            log.warning("an action failed", extra={"action": done, "error": str(error)})
            return f"{done}: {error}"
        return done

    return list(await asyncio.gather(*(one(a) for a in actions)))


class Making(Struct, frozen=True, kw_only=True):
    """What replicas of a service are made from: templates by version, and the standby pool that holds groups of the
    version ``pooled``; None where there is none, or it failed of late."""

    service: str
    templates: Mapping[str, Template]
    pool: StandbyPool | None = None
    pooled: str = ""


class Actor:
    """Does one action of one service's tick. ``present`` is now, not when the tick began: it may have been held up."""

    def __init__(self, making: Making, world: World, present: Callable[[], float]) -> None:
        self._making, self._world, self._present = making, world, present
        self._told: dict[str, Unavailable] = {}  # region → Azure's answer that it is to be waited for

    async def do(self, action: Action, replica: Replica) -> None:
        """Raises what the ports raise."""
        match action:
            case Create():
                await self._create(replica)
            case Drain():
                await self._world.replicas.drain(replica, draining=True)
            case Undrain():
                await self._world.replicas.drain(replica, draining=False)
            case Delete():
                await self._delete(replica)

    async def _create(self, replica: Replica) -> None:
        """The row says ``creating`` before Azure is asked: an instance that slept since its save cannot move it. Where
        Azure has just asked to be waited for, it stays an intent, and gives its place up with the next tick."""
        if replica.region in self._told:
            raise self._told[replica.region]
        creating = replace(replica, phase=Phase.CREATING, phase_at=self._present())
        creating = await self._world.store.move(self._making.service, creating)
        try:
            await self._ask_for(creating)
        except (Unavailable, Refused) as error:
            await self._not_taken(creating, error)
            raise

    async def _ask_for(self, replica: Replica) -> None:
        """One PUT: a claim on the standby pool where there is one for this version, else the whole template."""
        making, world = self._making, self._world
        template = making.templates.get(replica.template)
        if template is None:
            raise Refused(f"version {replica.template} can no longer be made", code="VersionLost")
        own = {"service": making.service, "deployment_id": world.deployment_id, "region": replica.region}
        if making.pool is None or replica.template != making.pooled:
            certify = world.certify if template.serves_tls else None
            certificate = certify(making.service, replica.name, self._present()) if certify else ""
            request = template.request(replica.name, token=world.replica_token, certificate=certificate, **own)
            return await world.fleet.create(request)
        try:
            return await world.fleet.create(template.claim(replica.name, making.pool, **own))
        except Refused as error:
            raise Refused(str(error), code=POOL_FAILURE) from error

    async def _delete(self, replica: Replica) -> None:
        """Not asked again before Azure allows it."""
        try:
            await self._world.fleet.delete(replica.name)
        except Unavailable as error:
            if error.retry_after_s is not None:
                later = replace(replica, retry_at=retry_at(self._present(), error.retry_after_s))
                await self._world.store.move(self._making.service, later)
            raise

    async def _not_taken(self, creating: Replica, error: Unavailable | Refused) -> None:
        """The row says how long Azure asked to be waited for, and why it will not be: the next tick then gives it up,
        and reports it. Until then it is ``creating``: a row that were ``deleting`` already could not be told from one
        that was reported."""
        row = creating
        if isinstance(error, Unavailable) and error.retry_after_s is not None:
            self._told[creating.region] = error
            row = replace(row, retry_at=retry_at(self._present(), error.retry_after_s), because=str(error))
        if isinstance(error, OutOfCapacity | Refused):
            row = replace(row, failure=error.code, because=str(error))
        if row != creating:
            await self._world.store.move(self._making.service, row)
