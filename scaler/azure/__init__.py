"""The one place where clients of Azure are built; what they are built from is ``Settings``, and one credential for all.

Importing this imports no SDK: they take most of a second, and only who connects needs them.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from msgspec.structs import replace

from scaler.cadence import period_s
from scaler.config import Config, SignalText
from scaler.errors import BadSetting
from scaler.files import read_services
from scaler.ports import Fleet
from scaler.settings import Settings
from scaler.signals import signal_name
from scaler.template import stands_for
from scaler.tick.managed import Managed, World
from scaler.tick.scaler import Scaler
from scaler.tick.ticked import note

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.data.tables.aio import TableServiceClient
    from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient
    from azure.monitor.query.aio import LogsQueryClient
    from azure.monitor.querymetrics.aio import MetricsClient
    from azure.storage.queue.aio import QueueClient

    from scaler.authority import Authority
    from scaler.azure.inspection import Inspection
    from scaler.azure.signal_sources import Source
    from scaler.azure.table_state import TableState
    from scaler.front.keep import Keeper
    from scaler.front.wake import Wake
    from scaler.tick.courier import WebhookCourier
    from scaler.tick.telemetry import Telemetry

CONNECT_LIMIT_S, READ_LIMIT_S = 5.0, 25.0
LOGS_AUDIENCE = "https://api.loganalytics.io"
WAKE_QUEUE = "aci-autoscaler-wake"  # function_app.py has its trigger
QUEUE_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
LETTERS = "abcdefghjkmnpqrstvwxyz0123456789"  # 32 of them, and none that looks like another
LETTERS_A_NAME = 10  # 50 bits: no name comes twice

Close = Callable[[], Awaitable[None]]


class _Closes(Protocol):
    async def close(self) -> None: ...


Client = TypeVar("Client", bound=_Closes)


class Connected(World, frozen=True, kw_only=True):
    """``World`` on Azure."""

    closers: tuple[Close, ...] = ()

    async def close(self) -> None:
        """Close every connection, the credential's last."""
        await _close(self.closers)


def connect(settings: Settings) -> Scaler:
    """The scaler that the settings describe; nothing is sent yet. ``scaler.world.close()`` ends its connections.
    Raises ``BadSetting`` for a configuration or a template that cannot be used."""
    config, managed = read_services(settings.config_file, settings.template_values)
    _check_places(settings, config)
    _check_pools(settings, config)
    authority = _authority(settings)
    signer = authority.signer if authority and settings.replica_tls else ""
    token = (authority.stands_for if authority else stands_for)(settings.replica_token)
    managed = [_given(m, token, signer) for m in managed]
    clients = _Clients(settings)
    sources = {m.name: clients.sources(m) for m in managed}
    world = _world(settings, clients, sources, authority)
    if settings.front.wanted:
        world = replace(world, front=_front(settings, clients, config, world.fleet))
    return Scaler(config, managed, world)


def _front(settings: Settings, clients: _Clients, config: Config, fleet: Fleet) -> Keeper:
    from scaler.azure.address_records import AddressRecords  # noqa: PLC0415
    from scaler.front.group import front_request  # noqa: PLC0415
    from scaler.front.keep import Keeper  # noqa: PLC0415

    records = AddressRecords(clients.arm, settings.front.zone) if settings.front.zone else None
    limits = {name: service.hold_limit_s for name, service in config.services.items()}
    return Keeper(fleet, front_request(settings, limits), records)


def _authority(settings: Settings) -> Authority | None:
    if not settings.replica_authority:
        return None
    from scaler.authority import Authority  # noqa: PLC0415

    return Authority(settings.replica_authority)


def _given(managed: Managed, token: str, signer: str) -> Managed:
    template = managed.template
    return replace(managed, template=template.given(token=token, signer=signer)) if template else managed


def _world(
    settings: Settings, clients: _Clients, sources: Mapping[str, Mapping[str, Source]], authority: Authority | None
) -> Connected:
    from scaler.azure.replica_stats import ReplicaStats  # noqa: PLC0415
    from scaler.azure.signal_sources import read_all  # noqa: PLC0415

    async def signals(managed: Managed) -> dict[str, float | None]:
        return await read_all(sources.get(managed.name, {}))

    replicas = ReplicaStats(settings.replica_token, authority.trusted if authority else "")
    telemetry, courier = _telemetry(settings), _courier(settings)
    closers = [c.close for c in (telemetry, courier) if c is not None]
    return Connected(
        store=clients.table(),
        fleet=_fleet(settings, clients),
        replicas=replicas,
        mint=mint,
        stopwatch=time.perf_counter,
        signals=signals,
        deployment_id=settings.deployment_id,
        replica_token=settings.replica_token,
        certify=authority.certify if authority else None,
        is_listed=lambda region: region.partition("@")[2] in {"", *settings.places},
        period_s=period_s(settings.tick_schedule),
        watch=telemetry.watch if telemetry else note,
        courier=courier,
        closers=(*clients.closers, replicas.close, *closers),
    )


def _check_places(settings: Settings, config: Config) -> None:
    for name, service in config.services.items():
        for i, region in enumerate(service.regions):
            place = region.partition("@")[2]
            if place and place not in settings.places:
                raise BadSetting(
                    f"{Path(settings.config_file).name}: services.{name}.regions[{i}]: {region}: there is no place "
                    f"{place!r}; name it in AUTOSCALER_PLACES"
                )


def _check_pools(settings: Settings, config: Config) -> None:
    """A claim on a standby pool can carry nothing secret, and so no certificate."""
    pooled = next((name for name, service in config.services.items() if service.standby_pool), None)
    if pooled is not None and settings.replica_authority and settings.replica_tls:
        raise BadSetting(
            f"{Path(settings.config_file).name}: services.{pooled}.standby_pool: replicas of a pool get no "
            "certificate; take it out, or set REPLICA_TLS to false (Bicep: replicaTls)"
        )


def _fleet(settings: Settings, clients: _Clients) -> Fleet:
    from scaler.azure.container_groups import ContainerGroups  # noqa: PLC0415
    from scaler.azure.places import Places  # noqa: PLC0415

    home = ContainerGroups(clients.arm, settings.resource_group)
    if not settings.places:
        return home
    others = {
        name: ContainerGroups(clients.arm_of(place.subscription_id), place.resource_group)
        for name, place in settings.places.items()
    }
    return Places({"": home, **others})


def _telemetry(settings: Settings) -> Telemetry | None:
    from scaler.tick.telemetry import Telemetry, to_azure_monitor  # noqa: PLC0415

    connection = settings.telemetry_connection
    if not connection:
        return None
    return Telemetry(to_azure_monitor(connection, settings.telemetry_identity), settings.deployment_id)


def _courier(settings: Settings) -> WebhookCourier | None:
    from scaler.tick.courier import WebhookCourier  # noqa: PLC0415

    source = f"/aci-autoscaler/{settings.deployment_id}"
    return WebhookCourier(settings.events_url, settings.events_secret, source) if settings.events_url else None


@asynccontextmanager
async def open_inspection(settings: Settings) -> AsyncIterator[Inspection]:
    """What ``doctor`` asks with. Closed with the block."""
    from scaler.azure.inspection import Inspection  # noqa: PLC0415

    clients = _Clients(settings)
    scope = f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"
    queue = clients.queue(WAKE_QUEUE) if settings.queue_endpoint else None
    try:
        yield Inspection(clients.arm, clients.table_service(), queue, scope, logs=clients.trivial_query())
    finally:
        await _close(clients.closers)


@asynccontextmanager
async def open_wakes(settings: Settings) -> AsyncIterator[Wake]:
    """Wakes by queue, for a discovery that has an identity and no key. Closed with the block."""
    from scaler.azure.wake_queue import WakeQueue  # noqa: PLC0415

    clients = _Clients(settings)
    try:
        yield WakeQueue(clients.queue(WAKE_QUEUE))
    finally:
        await _close(clients.closers)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[TableState]:
    """The state table alone, for discovery: no more of Azure is imported or needed. Closed with the block."""
    clients = _Clients(settings)
    try:
        yield clients.table()
    finally:
        await _close(clients.closers)


async def _close(closers: Sequence[Close]) -> None:
    """Last opened, first closed; one that fails keeps no other from being closed."""
    async with AsyncExitStack() as stack:
        for close in closers:
            stack.push_async_callback(close)


def mint(service: str) -> str:
    """A name that was never given before, and never will be again: ``iris-7f3a0c9k2m``."""
    return f"{service}-" + "".join(secrets.choice(LETTERS) for _ in range(LETTERS_A_NAME))


class _Clients:
    """Clients, each built with the first call for it. None retries: what failed is tried again by the next tick."""

    def __init__(self, settings: Settings) -> None:
        # The SDKs tell every request at INFO, and Application Insights charges for each line.
        logging.getLogger("azure").setLevel(logging.WARNING)
        self._settings = settings
        self._credential = _credential(settings)
        self.closers: list[Close] = [self._credential.close]
        self._arms: dict[str, ContainerInstanceManagementClient] = {}
        self._options: dict[str, Any] = {
            "retry_total": 0,
            "connection_timeout": CONNECT_LIMIT_S,
            "read_timeout": READ_LIMIT_S,
        }

    def table(self) -> TableState:
        from scaler.azure.table_state import TableState  # noqa: PLC0415

        return TableState(self.table_service())

    def table_service(self) -> TableServiceClient:
        from azure.data.tables.aio import TableServiceClient  # noqa: PLC0415

        endpoint = self._settings.table_endpoint
        return self._kept(TableServiceClient(endpoint, credential=self._credential, **self._options))

    @cached_property
    def arm(self) -> ContainerInstanceManagementClient:
        return self.arm_of(self._settings.subscription_id)

    def arm_of(self, subscription_id: str) -> ContainerInstanceManagementClient:
        """A client for one subscription; places of the same one share it."""
        if subscription_id not in self._arms:
            self._arms[subscription_id] = self._arm(subscription_id)
        return self._arms[subscription_id]

    def _arm(self, subscription_id: str) -> ContainerInstanceManagementClient:
        from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient  # noqa: PLC0415

        endpoint = self._settings.arm_endpoint
        client = ContainerInstanceManagementClient(
            self._credential,
            subscription_id,
            base_url=endpoint,
            credential_scopes=[f"{endpoint}/.default"],
            **self._options,
        )
        return self._kept(client)

    def sources(self, managed: Managed) -> dict[str, Source]:
        """What reads the signals of a service, by the names that its policy knows them by. Raises ``BadSetting``."""
        texts = managed.service.signals
        where = f"{Path(self._settings.config_file).name}: services.{managed.name}.signals"
        return {signal_name(text, i): self._source(text, f"{where}[{i}]") for i, text in enumerate(texts)}

    def _source(self, text: SignalText, path: str) -> Source:
        from scaler.azure.signal_sources import LogNumber, MetricName, MetricNumber, QueueDepth  # noqa: PLC0415

        if text.storage_queue is not None:
            return QueueDepth(self._queue(text.storage_queue, f"{path}.storage_queue"))
        if text.log_query is not None:
            if not self._settings.logs_workspace:
                raise BadSetting(f"{path}.log_query: set AUTOSCALER_LOGS_WORKSPACE to the id of the workspace to ask")
            return LogNumber(self._logs, self._settings.logs_workspace, text.log_query)
        assert text.metric is not None, "the configuration allows exactly one source"
        try:
            metric = MetricName.of(text.metric)
        except BadSetting as error:
            raise BadSetting(f"{path}.metric: {error}") from error
        return MetricNumber(metric, self.arm, self._metrics, time.time)

    def _queue(self, name: str, path: str) -> QueueClient:
        if not self._settings.queue_endpoint:
            raise BadSetting(f"{path}: set AUTOSCALER_QUEUE_ENDPOINT to the queue service of the storage account")
        if not QUEUE_NAME.fullmatch(name):
            raise BadSetting(f"{path}: {name!r} is no queue name: 3 to 63 lower-case letters, digits and single dashes")
        return self.queue(name)

    def queue(self, name: str) -> QueueClient:
        from azure.storage.queue.aio import QueueClient  # noqa: PLC0415

        endpoint = self._settings.queue_endpoint
        return self._kept(QueueClient(endpoint, name, credential=self._credential, **self._options))

    def trivial_query(self) -> Source | None:
        """Reads no table, so that only the right to ask is asked for; None without a workspace."""
        from scaler.azure.signal_sources import LogNumber  # noqa: PLC0415

        workspace = self._settings.logs_workspace
        return LogNumber(self._logs, workspace, "print value = 1") if workspace else None

    @cached_property
    def _metrics(self) -> MetricsClient | None:
        if not self._settings.metrics_endpoint:
            return None
        from azure.monitor.querymetrics.aio import MetricsClient  # noqa: PLC0415

        return self._kept(MetricsClient(self._settings.metrics_endpoint, self._credential, **self._options))

    @cached_property
    def _logs(self) -> LogsQueryClient:
        from azure.monitor.query.aio import LogsQueryClient  # noqa: PLC0415

        endpoint = self._settings.logs_endpoint or LOGS_AUDIENCE
        return self._kept(LogsQueryClient(self._credential, endpoint=endpoint, audience=LOGS_AUDIENCE, **self._options))

    def _kept(self, client: Client) -> Client:
        self.closers.append(client.close)
        return client


def _credential(settings: Settings) -> AsyncTokenCredential:
    """The managed identity where the place offers one; else whatever is at hand, a developer's login included."""
    if settings.managed_identity:
        from azure.identity.aio import ManagedIdentityCredential  # noqa: PLC0415

        return ManagedIdentityCredential(client_id=settings.client_id or None)
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

    return DefaultAzureCredential(managed_identity_client_id=settings.client_id or None)
