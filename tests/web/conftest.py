"""A door with nothing behind it yet."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.web.doors import Door
from tests.web.doors import door as open_door


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with open_door() as opened:
        yield opened
