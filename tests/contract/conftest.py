"""Azurite once for all contract tests, and the ways to reach each door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from azure.data.tables.aio import TableServiceClient

from tests.azurite import Azurite, start_azurite


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
