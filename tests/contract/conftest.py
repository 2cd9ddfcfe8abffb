"""Azurite and the stand-in once for all contract tests, and the SDK clients that speak to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from azure.core.credentials import AccessToken
from azure.data.tables.aio import TableServiceClient
from azure.mgmt.containerinstance.aio import ContainerInstanceManagementClient

from tests.azurite import Azurite, StaticCredential, start_azurite, unsigned_token
from tests.stand_in import GROUP, ROLES, SUBSCRIPTION, StandIn, missing_stand_in, start_stand_in


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with start_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
async def tables(azurite: Azurite) -> AsyncIterator[TableServiceClient]:
    client = TableServiceClient(
        azurite.table, credential=azurite.credential, connection_verify=str(azurite.ca), retry_total=0
    )
    async with client:
        yield client


class ManagementCredential(StaticCredential):
    """A TokenCredential for Resource Manager that asks nobody."""

    async def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        return unsigned_token("https://management.azure.com")


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    if missing := missing_stand_in():
        pytest.skip(missing)
    options = ("--subscription", SUBSCRIPTION, "--resource-group", GROUP, "--start-delay", "0.3", "--page-size", "3")
    with start_stand_in(
        tmp_path_factory.mktemp("arm"), *options, "--back-off", "0.2", "--authorization", str(ROLES)
    ) as running:
        yield running


@pytest.fixture
async def management(stand_in: StandIn) -> AsyncIterator[ContainerInstanceManagementClient]:
    stand_in.mend()
    client = ContainerInstanceManagementClient(
        ManagementCredential(),
        SUBSCRIPTION,
        base_url=stand_in.arm,
        connection_verify=str(stand_in.ca),
        retry_total=0,
    )
    async with client:
        yield client
