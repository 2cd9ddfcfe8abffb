"""Wakes by the queue that the function app listens to: whoever writes there needs no key, only the right to."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError

from scaler.azure.failures import unavailable
from scaler.errors import Unavailable

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueClient

CALL_LIMIT_S = 5.0
LIFE_S = 60  # a wake that nobody took for so long is worth nothing: the timer has come by


class WakeQueue:
    """``front.wake.Wake`` over a storage queue."""

    def __init__(self, queue: QueueClient) -> None:
        self._queue = queue

    async def __call__(self, service: str) -> None:
        """Returns when the message is written, long before the tick. Raises ``Unavailable``."""
        message = b64encode(json.dumps({"service": service}).encode()).decode()  # as host.json says
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                await self._queue.send_message(message, time_to_live=LIFE_S)
        except TimeoutError as error:
            raise Unavailable(f"wake {service}: no answer within {CALL_LIMIT_S:.0f} s") from error
        except AzureError as error:
            raise unavailable(f"wake {service}", error, role="Storage Queue Data Message Sender") from error
