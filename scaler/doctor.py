"""Whether a service can be scaled from here: every right, limit and neighbour that a tick needs, one line each.

It runs where the ticks run (``GET /api/services/{s}/doctor``, with the deployed identity) and at a desk (``python -m
scaler doctor``, with the login of whoever asks). Nothing is left behind by it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from scaler.errors import BadSetting, Refused, Unavailable
from scaler.model import Phase, Replica
from scaler.quota import has_room_for
from scaler.signals import signal_name
from scaler.tick.managed import Managed

if TYPE_CHECKING:
    from scaler.azure.inspection import Inspection
    from scaler.model import Json
    from scaler.settings import Settings
    from scaler.tick.scaler import Scaler

PATIENCE_S = 20.0
CLOCK_OFF_S = 30.0  # tokens and leases bear that much
FRONT_SILENT_S = 90.0
CERTIFICATES = "certificates of replicas"
OF_IMAGES = frozenset({"image_pull", "registry_credentials", "registry_failure"})
FIRST_START = "Nothing, if container groups can reach it: the first start will tell. Is its name right?"


class Check(Struct, frozen=True, kw_only=True):
    """One thing looked at. ``ok`` None: it could not be looked at from here, which is no fault."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


async def examine_service(settings: Settings, service: str) -> list[Check]:
    """Every check of one service. Raises ``BadSetting`` for a configuration that cannot be used, KeyError for a service
    that is not configured."""
    async with _opened(settings) as (scaler, inspection):
        found = _Examination(settings, scaler, inspection, scaler.managed[service])
        return await found.checks()


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Scaler, Inspection]]:
    from scaler.azure import connect, open_inspection  # noqa: PLC0415 - takes most of a second

    async with AsyncExitStack() as stack:
        scaler = connect(settings)
        stack.push_async_callback(scaler.world.close)  # type: ignore[attr-defined]
        yield scaler, await stack.enter_async_context(open_inspection(settings))


class _Examination:
    def __init__(self, settings: Settings, scaler: Scaler, inspection: Inspection, managed: Managed) -> None:
        self._settings, self._scaler, self._inspection, self._managed = settings, scaler, inspection, managed
        self._body: Json = msgspec.json.decode(managed.template.body) if managed.template else {}
        self._version = managed.template.hash if managed.template else ""

    async def checks(self) -> list[Check]:
        looked: list[Awaitable[Check]] = [self._tables(), self._groups(), self._clock(), self._queue(), self._front()]
        if self._managed.template is not None:
            looked += [self._rights(), self._certificates(), *self._neighbours(), *self._images()]
        looked += [self._replicas(), self._metrics(), self._logs(), *self._signals()]
        for region in self._managed.service.regions:
            looked += [self._quota(region), self._capability(region)]
        if self._settings.front.zone:
            looked.append(self._record())
        return list(await asyncio.gather(*looked))

    # -- where the state is

    async def _tables(self) -> Check:
        async def look() -> str:
            stored = await self._scaler.store.load(self._managed.name)
            wrote = await self._inspection.write_row()
            return f"{wrote}; " + ("the service has a row" if stored.row else "no tick of this service yet")

        return await _one("state table", look, "Give the identity Storage Table Data Contributor on the account.")

    async def _queue(self) -> Check:
        if not self._settings.queue_endpoint:
            return Check(name="queue of wakes", ok=None, detail="AUTOSCALER_QUEUE_ENDPOINT is not set")
        remedy = "Give the identity Storage Queue Data Contributor; does the queue aci-autoscaler-wake exist?"
        return await _one("queue of wakes", self._inspection.queue, remedy)

    # -- what Azure allows

    async def _groups(self) -> Check:
        async def look() -> str:
            groups = await self._scaler.world.fleet.list()
            own = sum(g.tags.get("aci-autoscaler") == self._scaler.world.deployment_id for g in groups)
            return f"{own} of ours, {len(groups) - own} of others that are left alone"

        return await _one("container groups", look, "Give the identity the role `groups` on the resource group.")

    async def _rights(self) -> Check:
        region = next(iter(self._managed.service.regions), "westeurope").partition("@")[0]
        subnets = self._body["properties"].get("subnetIds", [])

        async def look() -> str:
            made = await self._inspection.may_write_groups(region, self._body.get("identity"), subnets)
            return f"make: {made}; delete: {await self._inspection.may_delete_groups()}"

        remedy = "The sentence names the right; infra/app/roles.json says which role has it. It takes minutes to hold."
        return await _one("rights to make and delete", look, remedy)

    def _neighbours(self) -> list[Awaitable[Check]]:
        inspection = self._inspection
        users = (self._body.get("identity") or {}).get("userAssignedIdentities") or {}
        subnets = [s["id"] for s in self._body["properties"].get("subnetIds", []) if "id" in s]
        private = self._settings.front.subnet and not subnets
        told: list[Awaitable[Check]] = [
            _one("identity of replicas", lambda i=i: inspection.identity(i), "Does it exist? May it be read?")  # type: ignore[misc]
            for i in users
        ]
        told += [
            _one("subnet", lambda s=s: inspection.subnet(s), "Delegate it to container groups, or name another.")  # type: ignore[misc]
            for s in subnets
        ]
        if private:
            remedy = "Make ipAddress.type Private and add `subnetIds: [{id: '${SUBNET}'}]` to the template."
            told.append(_said("subnet", ok=False, detail="the front is private, the replicas are not", remedy=remedy))
        return told

    async def _metrics(self) -> Check:
        remedy = "Give the identity the role `regions` on the subscription; only signals that are metrics need it."
        return await _one("right to read metrics", self._inspection.may_read_metrics, remedy)

    async def _logs(self) -> Check:
        if not self._settings.logs_workspace:
            return Check(name="right to ask logs", ok=None, detail="AUTOSCALER_LOGS_WORKSPACE is not set")
        remedy = "Give the identity the role `logs` on the workspace; only signals that are log queries need it."
        return await _one("right to ask logs", self._inspection.may_query_logs, remedy)

    def _signals(self) -> list[Awaitable[Check]]:
        names = [signal_name(text, i) for i, text in enumerate(self._managed.service.signals)]
        read = asyncio.ensure_future(self._scaler.world.signals(self._managed)) if names else None

        async def look(name: str) -> str:
            assert read is not None
            if (value := (await read).get(name)) is None:
                raise Unavailable("cannot be read; the log says why")
            return f"is {value:g}"

        remedy = "Does what it names exist, and has the identity the right to read it? See docs/deploy.md, Security."
        return [_one(f"signal {name}", lambda n=name: look(n), remedy) for name in names]  # type: ignore[misc]

    async def _record(self) -> Check:
        zone = self._settings.front.zone
        remedy = "Give the identity the role `records` on the zone."
        return await _one("record of the front", lambda: self._inspection.may_write_record(zone), remedy)

    # -- what regions have

    async def _quota(self, region: str) -> Check:
        template, most = self._managed.template, self._managed.service.replicas.max

        async def look() -> str:
            lines = await self._scaler.world.fleet.usage(region)
            told = ", ".join(f"{line.name} {line.used:g} of {line.limit:g}" for line in lines) or "none given"
            room = has_room_for(lines, template.cpu if template else 1.0)
            if room is not None and room < most:
                raise Unavailable(f"{told}: room for {room} more replicas, max is {most}")
            return told

        remedy = "Ask Azure for more quota (portal: Quotas, Container Instances), lower max, or add a region."
        return await _one(f"quota in {region}", look, remedy)

    async def _capability(self, region: str) -> Check:
        template = self._managed.template

        async def look() -> str:
            offers = await self._inspection.capabilities(region.partition("@")[0])
            cpu, memory = max((o.cpu for o in offers), default=0.0), max((o.memory_gb for o in offers), default=0.0)
            if template and (template.cpu > cpu or template.memory_gb > memory):
                raise Unavailable(f"at most {cpu:g} cores and {memory:g} GB a group, the template wants more")
            return f"up to {cpu:g} cores and {memory:g} GB a group"

        if _wants_gpu(self._body):
            detail = "the template asks for a GPU; Azure retired GPUs on Container Instances on 2025-07-14"
            remedy = "Take `gpu` out, or serve this model from Container Apps with a serverless GPU or from AKS."
            return Check(name=f"what {region} offers", ok=False, detail=detail, remedy=remedy)
        return await _one(f"what {region} offers", look, "Make the template smaller, or name another region.")

    # -- images, clock, front

    def _images(self) -> list[Awaitable[Check]]:
        containers = self._body["properties"]["containers"]
        by_identity = {
            c["server"] for c in self._body["properties"].get("imageRegistryCredentials", []) if "server" in c
        }
        images = dict.fromkeys(c["properties"]["image"] for c in containers)
        return [self._image(image, by_identity) for image in images]

    async def _image(self, image: str, by_identity: set[str]) -> Check:
        """Whether it was pulled already or could not be, else whether its registry answers: only Azure can try more."""
        name = f"image {image}"
        server = image.partition("/")[0]
        tag = image.rpartition(":")[2] if ":" in image.rpartition("/")[2] else "latest"
        remedy = "Give replicas a tag that is never reused, like the commit: `latest` rolls nothing out."
        if tag == "latest":
            return Check(name=name, ok=False, detail="the tag is latest", remedy=remedy)
        try:
            if ready := [r for r in await self._ready() if r.template == self._version]:
                return Check(name=name, ok=True, detail=f"was pulled; ready replicas of this version: {len(ready)}")
            memory = await self._scaler.memory(self._managed.name)
        except Unavailable:
            memory = None  # the state table is looked at elsewhere
        for condition in memory.conditions if memory else ():
            if condition.name in OF_IMAGES:
                return Check(name=name, ok=False, detail=condition.message, remedy=condition.remedy)
        how = "by identity" if server in by_identity else "without credentials"
        told = await _one(name, lambda: _registry_answers(server), FIRST_START)
        if told.ok is False:  # it is container groups that pull, from a network of their own
            return replace(told, ok=None)
        return replace(told, detail=f"{server} {told.detail}; pulled {how}, which the first start will prove")

    # -- replicas

    async def _ready(self) -> list[Replica]:
        return [r for r in (await self._scaler.store.load(self._managed.name)).replicas if r.phase is Phase.READY]

    async def _replicas(self) -> Check:
        async def look() -> str:
            if not (ready := await self._ready()):
                return "none is ready now, so none was asked"
            asked = await asyncio.gather(*map(self._scaler.world.replicas.stats, ready), return_exceptions=True)
            if failed := [error for error in asked if isinstance(error, Unavailable)]:
                raise Unavailable(f"{len(failed)} of {len(ready)} that are ready do not answer: {failed[0]}")
            proved = sum(r.serves_tls for r in ready)
            return f"{len(ready)} ready, and all answer; by TLS, with a certificate of their own: {proved}"

        remedy = (
            "Can their addresses be reached from here? Are REPLICA_TOKEN and REPLICA_AUTHORITY those they came with?"
        )
        return await _one("replicas", look, remedy)

    async def _certificates(self) -> Check:
        """Whether what goes to replicas is safe from others, and the certificates made now hold."""
        settings, public = self._settings, self._body["properties"]["ipAddress"].get("type") != "Private"
        if settings.replica_authority and settings.replica_tls:
            return await _one(
                CERTIFICATES, self._signed, "Is the clock right? Else write another secret: docs/front.md."
            )
        if not public:
            return Check(name=CERTIFICATES, ok=True, detail="none, and replicas have private addresses")
        detail = "none, and replicas are public: requests and the token go to them unencrypted"
        if not settings.replica_tls:
            remedy = "REPLICA_TLS says so. Where that matters and the server cannot serve TLS, take the variant vnet."
            return Check(name=CERTIFICATES, ok=None, detail=detail, remedy=remedy)
        remedy = "Set REPLICA_AUTHORITY (on Azure: `azd provision` does), or REPLICA_TLS to false if that is meant."
        return Check(name=CERTIFICATES, ok=False, detail=detail, remedy=remedy)

    async def _signed(self) -> str:
        from scaler.authority import Authority  # noqa: PLC0415 - takes a while, and not every deployment has one

        secrets, now = self._settings.replica_authority.split(), time.time()
        authority = Authority(self._settings.replica_authority)
        until = authority.proved(self._managed.name, "doctor", now)
        told = f"{authority.signer.removeprefix('CN=')} signs; a certificate made now holds until {until:%Y-%m-%d}"
        old = [r for r in await self._ready() if r.template != self._version]
        if old:
            return f"{told}; of another version until they are replaced: {len(old)}"
        return told + ("; no replica is left that needs the older secrets" if len(secrets) > 1 else "")

    async def _clock(self) -> Check:
        async def look() -> str:
            off_s = await self._inspection.clock_off_s()
            if abs(off_s) > CLOCK_OFF_S:
                raise Unavailable(f"{off_s:+.0f} s off Azure's")
            return f"{off_s:+.1f} s off Azure's"

        return await _one("clock", look, "Set the clock of this machine; tokens are refused otherwise.")

    async def _front(self) -> Check:
        async def look() -> str:
            front = (await self._scaler.store.load(self._managed.name)).front
            if front is None:
                raise Unavailable("discovery has written nothing yet")
            age_s = time.time() - front.at
            if age_s > FRONT_SILENT_S:
                raise Unavailable(f"discovery wrote last {age_s:.0f} s ago")
            return f"discovery wrote {age_s:.0f} s ago; {front.waiting} requests wait"

        remedy = "Does the front's container group run, and may its identity write the tables? See docs/runbook.md."
        return await _one("front", look, remedy)


def _wants_gpu(body: Json) -> bool:
    containers = body.get("properties", {}).get("containers", [])
    return any("gpu" in c["properties"]["resources"]["requests"] for c in containers)


async def _registry_answers(server: str) -> str:
    """Any answer of its API will do: without a token that is 401."""
    import aiohttp  # noqa: PLC0415 - only doctor needs it here

    try:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S / 2)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"https://{server}/v2/") as answer:
            return f"answers ({answer.status})"
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unavailable(f"{server} does not answer: {type(error).__name__}") from error


async def _said(name: str, *, ok: bool, detail: str, remedy: str) -> Check:
    return Check(name=name, ok=ok, detail=detail, remedy=remedy)


async def _one(name: str, look: Callable[[], Awaitable[str]], remedy: str) -> Check:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return Check(name=name, ok=True, detail=await look())
    except TimeoutError:
        return Check(name=name, ok=False, detail=f"no answer within {PATIENCE_S:.0f} s", remedy=remedy)
    except (Unavailable, Refused, BadSetting) as error:
        return Check(name=name, ok=False, detail=str(error), remedy=remedy)
