"""Container groups on Azure, by the management SDK: asked for and deleted without waiting, each answer given a meaning.

A call never waits for Azure to finish: creating takes minutes, and the next list tells. Nothing is tried again here:
the back-off is kept in state, where every instance of the app sees it.

What an error of a create means (codes and statuses as Azure gives them):

    OutOfCapacity   ContainerGroupQuotaReached, ServiceUnavailable as 409, InsufficientCapacity, any 429
    Unavailable     no answer, 401, 408, 5xx, ContainerGroupTransitioning and other 409: the group may come to be
    Refused         every other 4xx, InaccessibleImage and RegistryErrorResponse among them
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.rest import HttpRequest
from azure.mgmt.core.exceptions import ARMErrorFormat
from msgspec import Struct, field

from scaler.azure.failures import code_of, retry_after_s, told, unavailable
from scaler.errors import OutOfCapacity, Refused, Unavailable
from scaler.model import Group, GroupDetail
from scaler.ports import GroupRequest, Usage, outgoing

if TYPE_CHECKING:
    from azure.core.async_paging import AsyncItemPaged, AsyncPageIterator
    from azure.mgmt.containerinstance import models
    from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient

CALL_LIMIT_S = 25.0  # within the act deadline of a tick
ROLE = "`groups` of infra/app/roles.json on the resource group"
GONE = frozenset({"ResourceNotFound", "ContainerGroupNotFound"})  # a missing resource group is another 404
NO_ROOM = frozenset({"ContainerGroupQuotaReached", "InsufficientCapacity", "InsufficientCapacity.", "QuotaExceeded"})
OWN_API_VERSION = "2023-05-01"  # the SDK's; a template that needs a newer one is sent with that
NOT_NOW = frozenset({401, 408, 409})
MENDED_FIRST = frozenset({"RegistryErrorResponse", "InaccessibleImage"})  # whatever their status
T = TypeVar("T")


class ContainerGroups:
    """``ports.Fleet`` over one resource group. The client must not retry by itself (``retry_total=0``): it would sleep
    for as long as Azure says, inside a tick."""

    def __init__(self, client: ContainerInstanceManagementClient, resource_group: str) -> None:
        self._client = client
        self._resource_group = resource_group

    async def list(self) -> Sequence[Group]:
        """By the client's pipeline and our own reading: the SDK's models of a thousand groups cost most of a second."""
        scope = f"/subscriptions/{self._client._config.subscription_id}/resourceGroups/{self._resource_group}"
        url: str | None = f"{scope}/providers/Microsoft.ContainerInstance/containerGroups?api-version={OWN_API_VERSION}"
        found: builtins.list[Group] = []
        while url:
            page = await self._read("list", partial(self._page, url), "listing container groups")
            found += [_listed(group, self._resource_group) for group in page.value]
            url = page.next_link
        return found

    async def _page(self, url: str) -> _Page:
        response = await self._client._send_request(HttpRequest("GET", url))
        if response.status_code != 200:
            kind = ClientAuthenticationError if response.status_code == 401 else HttpResponseError
            raise kind(response=response, error_format=ARMErrorFormat)
        try:
            return msgspec.json.decode(response.content, type=_Page)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from error

    async def show(self, name: str) -> GroupDetail | None:
        groups = self._client.container_groups
        try:
            group = await self._read("show", lambda: groups.get(self._resource_group, name), f"container group {name}")
        except _Gone:
            return None
        return _shown(group)

    async def create(self, request: GroupRequest) -> None:
        # Bytes go out as they are. The SDK would drop what its models do not know from anything else.
        body = cast("IO[bytes]", request.body)
        groups = self._client.container_groups
        what = f"creating container group {request.name}"
        newer = {"api_version": request.api_version} if request.api_version > OWN_API_VERSION else {}
        try:
            await self._send(
                "create",
                lambda: groups.begin_create_or_update(self._resource_group, request.name, body, polling=False, **newer),
                what,
            )
        except AzureError as error:
            raise _refusal(what, error) from error

    async def delete(self, name: str) -> None:
        groups = self._client.container_groups
        what = f"deleting container group {name}"
        try:
            await self._read("delete", lambda: groups.begin_delete(self._resource_group, name, polling=False), what)
        except _Gone:
            return

    async def usage(self, region: str) -> Sequence[Usage]:
        lines = await self._pages("usage", self._client.location.list_usage(region), f"the quota of {region}")
        return [_usage(line) for line in lines if line.name and line.limit is not None]

    async def _pages(self, kind: str, items: AsyncIterable[T], what: str) -> builtins.list[T]:
        """Every page, or ``Unavailable``: half a list would let groups look as if they were gone."""
        pages = cast("AsyncPageIterator[T]", cast("AsyncItemPaged[T]", items).by_page())
        found: builtins.list[T] = []
        while True:
            page = await self._read(kind, lambda: anext(pages), what)
            found += [item async for item in page]
            if pages.continuation_token is None:
                return found

    async def _read(self, kind: str, send: Callable[[], Awaitable[T]], what: str) -> T:
        """One call that changes nothing, or may be said twice."""
        try:
            return await self._send(kind, send, what)
        except AzureError as error:
            if isinstance(error, HttpResponseError) and error.status_code == 404 and code_of(error) in GONE:
                raise _Gone(what) from error
            raise unavailable(what, error, role=ROLE) from error

    async def _send(self, kind: str, send: Callable[[], Awaitable[T]], what: str) -> T:
        try:
            with outgoing(kind):
                async with asyncio.timeout(CALL_LIMIT_S):
                    return await send()
        except TimeoutError as error:
            raise Unavailable(f"{what}: Azure gave no answer within {CALL_LIMIT_S:.0f} s") from error
        except (TypeError, ValueError, AttributeError) as error:
            # The SDK's way to say that the body is not what the model wants. An unreadable list is not an empty one.
            raise Unavailable(f"{what}: Azure's answer could not be read ({type(error).__name__})") from error


class _Gone(Exception):
    """Azure says that the group does not exist."""


def _refusal(what: str, error: AzureError) -> Exception:
    """Which of our errors a failed create is: see the table above."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    code, said = code_of(error), f"{what}: {told(error)}"
    if status == 429 or code in NO_ROOM or (status == 409 and code == "ServiceUnavailable"):
        return OutOfCapacity(said, code=code, retry_after_s=retry_after_s(error))
    will_not_be = status is not None and 400 <= status < 500 and (status not in NOT_NOW or code in MENDED_FIRST)
    if not will_not_be:
        return unavailable(what, error, role=ROLE)
    hint = f"; give the identity the role {ROLE}" if status == 403 else ""
    return Refused(said + hint, code=code)


class _Address(Struct):
    ip: str | None = None


class _Properties(Struct, rename="camel"):
    provisioning_state: str = ""
    ip_address: _Address | None = None


class _Item(Struct):
    """What is read of a listed group."""

    name: str
    location: str = ""
    tags: dict[str, str] | None = None
    properties: _Properties = field(default_factory=_Properties)


class _Page(Struct, rename="camel"):
    value: list[_Item]
    next_link: str | None = None


def _listed(group: _Item, resource_group: str) -> Group:
    address = group.properties.ip_address
    return Group(
        name=group.name,
        region=group.location.replace(" ", "").lower(),
        tags=group.tags or {},
        provisioning_state=group.properties.provisioning_state,
        address=address.ip if address else None,
        resource_group=resource_group,
    )


def _usage(line: Any) -> Usage:  # read-only fields, which the SDK's types call None
    return Usage(name=str(line.name.value), used=float(line.current_value or 0), limit=float(line.limit))


def _shown(group: models.ContainerGroup) -> GroupDetail:
    view = group.instance_view
    inner = group.containers[0].instance_view if group.containers else None
    now = inner.current_state if inner else None
    before = inner.previous_state if inner else None
    ended = next((state for state in (now, before) if state is not None and state.exit_code is not None), None)
    events: list[Any] = [*((view.events if view else None) or ()), *((inner.events if inner else None) or ())]
    events.sort(key=lambda event: (event.last_timestamp is not None, event.last_timestamp))
    first = {str(event.name): event.first_timestamp for event in reversed(events)}
    return GroupDetail(
        name=str(group.name),
        provisioning_state=group.provisioning_state or "",
        state=view.state if view else None,
        container_state=now.state if now else None,
        detail=(now.detail_status if now else None) or None,
        exit_code=ended.exit_code if ended else None,
        restart_count=(inner.restart_count if inner else None) or 0,
        events=tuple(f"{event.name}: {event.message}" for event in events),
        pulling_at=_epoch(first.get("Pulling")),
        pulled_at=_epoch(first.get("Pulled")),
        started_at=_epoch(first.get("Started") or (now.start_time if now else None)),
    )


def _epoch(at: datetime | None) -> float | None:
    return at.timestamp() if at is not None else None
