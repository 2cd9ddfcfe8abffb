"""Tells the function app that somebody waits: ``POST /api/services/{service}/wake``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

import aiohttp

from scaler.errors import Unavailable

Wake = Callable[[str], Awaitable[None]]
TIMEOUT_S = 10.0


async def nobody_to_wake(service: str) -> None:
    """For a front without a function app: the timer's next tick reads the row all the same."""


class HttpWake:
    """Posts wakes to the function app; one session for the life of the process. The key never shows."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"x-functions-key": key} if key else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def __call__(self, service: str) -> None:
        """Returns when the tick that it caused is over. Raises ``Unavailable``."""
        assert self._session is not None, "used outside of `async with`"
        url = f"{self._url}/api/services/{service}/wake"
        try:
            async with self._session.post(url, headers=self._headers) as response:
                await response.read()
                if response.status >= 400:
                    raise Unavailable(f"wake {service}: the function app answered {response.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"wake {service}: {error or type(error).__name__}") from error
