"""Queue triggers: look for messages with a growing pause, call the function, delete, retry or put aside as poison.

A message in hand is invisible to others for ``LEASE_S`` and kept so while its function runs; a host that dies gives it
back after that. (Azure's host takes ten minutes.) Storage being away is said once, and waited for.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientError
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.functions.meta import Datum
from azure.functions.queue import QueueMessage
from azure.storage.queue import QueueMessage as StoredMessage
from azure.storage.queue.aio import QueueClient

from infra.local.functions.app import Function, Output, QueueTrigger
from infra.local.functions.invoke import FunctionFailed
from infra.local.functions.settings import QueueSettings
from infra.local.functions.storage import Storage

log = logging.getLogger(__name__)
SHORTEST_PAUSE_S = 0.1
LONGEST_OUTAGE_PAUSE_S = 5.0
LEASE_S = 60
UNREACHABLE = (AzureError, ClientError, OSError, TimeoutError)


class QueueListener:
    """Serves one queue-triggered function. ``sleep`` paces the looks; it is injected so that tests need not wait."""

    def __init__(
        self,
        function: Function,
        storage: Storage,
        settings: QueueSettings,
        call: Callable[[Function, object], Awaitable[object]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        lease_s: int = LEASE_S,
    ) -> None:
        assert isinstance(function.trigger, QueueTrigger)
        self._function = function
        self._queue = storage.queue(function.trigger.connection, function.trigger.queue)
        self._poison = storage.queue(function.trigger.connection, f"{function.trigger.queue}-poison")
        self._settings = settings
        self._call = call
        self._sleep = sleep
        self._lease_s = lease_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause_s = SHORTEST_PAUSE_S
        self._is_away = False

    async def run(self) -> None:
        """Look for messages and call the function, until cancelled; messages in hand go on (see ``finish``)."""
        while True:
            while len(self._tasks) > self._settings.new_batch_threshold:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            try:
                messages = await self._receive()
            except UNREACHABLE as error:
                await self._sleep(self._after_outage(error))
                continue
            self._back()
            for message in messages:
                task = asyncio.create_task(self._handle(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if messages:
                self._pause_s = SHORTEST_PAUSE_S
            else:
                await self._sleep(self._pause_s)
                self._pause_s = min(2 * self._pause_s, self._settings.max_polling_interval_s)

    async def finish(self) -> None:
        """Wait for the messages in hand."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def abandon(self) -> None:
        """Let go of the messages in hand; they come back when their lease ends."""
        for task in self._tasks:
            task.cancel()

    async def _receive(self) -> list[StoredMessage]:
        count = self._settings.batch_size
        pages = self._queue.receive_messages(
            messages_per_page=count, max_messages=count, visibility_timeout=self._lease_s
        )
        try:
            return [message async for message in pages]
        except ResourceNotFoundError:
            await create_queue(self._queue)
            return []

    async def _handle(self, message: StoredMessage) -> None:
        try:
            await self._serve(message)
        except UNREACHABLE as error:
            log.warning("queue %s: message %s comes back: %s", self._queue.queue_name, message.id, _reason(error))

    async def _serve(self, message: StoredMessage) -> None:
        most = self._settings.max_dequeue_count
        count = message.dequeue_count or 1
        argument = self._argument(message)
        if argument is None or count > most:
            await self._put_aside(message, "it is not base64" if argument is None else f"it was taken {count} times")
            return
        ended = asyncio.Event()
        lease = asyncio.create_task(self._keep(message, ended))
        try:
            await self._call(self._function, argument)
        except FunctionFailed:
            has_failed = True
        except asyncio.CancelledError:
            lease.cancel()
            raise
        else:
            has_failed = False
        finally:
            ended.set()
            await asyncio.wait([lease])
        if not has_failed:
            await self._queue.delete_message(message)
        elif count >= most:
            await self._put_aside(message, f"its function failed {count} times")
        else:
            await self._queue.update_message(message, visibility_timeout=int(self._settings.visibility_timeout_s))

    async def _keep(self, message: StoredMessage, ended: asyncio.Event) -> None:
        """Renew the lease at half its time until the function has ended. A renewal under way is awaited: it changes the
        receipt that the message is deleted with."""
        while not await _is_set_within(ended, self._lease_s / 2):
            try:
                renewed = await self._queue.update_message(message, visibility_timeout=self._lease_s)
            except UNREACHABLE as error:
                log.warning("queue %s: lease not renewed: %s", self._queue.queue_name, _reason(error))
            else:
                message.pop_receipt = renewed.pop_receipt

    def _argument(self, message: StoredMessage) -> object | None:
        """What the function is given; None when the body is not encoded as it should be."""
        body = str(message.content or "").encode()
        if self._settings.is_base64:
            try:
                body = base64.b64decode(body, validate=True)
            except (binascii.Error, ValueError):
                return None
        if self._function.annotation is str:
            return body.decode("utf-8", "replace")
        if self._function.annotation is bytes:
            return body
        return queue_message(
            id=message.id,
            body=body,
            dequeue_count=message.dequeue_count,
            expiration_time=message.expires_on,
            insertion_time=message.inserted_on,
            time_next_visible=message.next_visible_on,
            pop_receipt=message.pop_receipt,
        )

    async def _put_aside(self, message: StoredMessage, because: str) -> None:
        log.error("message %s goes to %s: %s", message.id, self._poison.queue_name, because)
        await send(self._poison, str(message.content))
        await self._queue.delete_message(message)

    def _after_outage(self, error: BaseException) -> float:
        """Say once that storage is away; the pause before the next try, in seconds."""
        if not self._is_away:
            log.warning("queue %s is out of reach, trying on: %s", self._queue.queue_name, _reason(error))
            self._is_away, self._pause_s = True, SHORTEST_PAUSE_S
        self._pause_s = min(2 * self._pause_s, LONGEST_OUTAGE_PAUSE_S)
        return self._pause_s

    def _back(self) -> None:
        if self._is_away:
            log.warning("queue %s is back", self._queue.queue_name)
            self._is_away, self._pause_s = False, SHORTEST_PAUSE_S


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def queue_message(**fields: Any) -> QueueMessage:
    """A message as a function gets it."""
    return QueueMessage(**fields)  # type: ignore[no-untyped-call]


async def create_queue(queue: QueueClient) -> None:
    """Make it unless it is there."""
    try:
        await queue.create_queue()
    except ResourceExistsError:
        log.debug("queue %s is there already", queue.queue_name)


async def send(queue: QueueClient, content: str) -> None:
    """Send a message, to a queue that is made if it is missing."""
    try:
        await queue.send_message(content)
    except ResourceNotFoundError:
        await create_queue(queue)
        await queue.send_message(content)


async def send_output(storage: Storage, settings: QueueSettings, output: Output, value: Datum) -> None:
    """Send what a function put on a queue output: one message, or one per item of a list."""
    queue = storage.queue(output.connection, output.queue)
    for body in _bodies(value):
        await send(queue, base64.b64encode(body).decode() if settings.is_base64 else body.decode("utf-8", "replace"))


def _bodies(value: Datum) -> list[bytes]:
    if value.type == "bytes":
        return [bytes(value.value)]
    content: Any = json.loads(value.value) if value.type == "json" else value.value
    items = content if isinstance(content, list) else [content]
    if value.type == "json":  # of messages, as azure.functions writes them
        items = [item["body"] if isinstance(item, dict) else item for item in items]
    return [(item if isinstance(item, str) else json.dumps(item)).encode() for item in items]


def _reason(error: BaseException) -> str:
    """The first line of an error of the SDK, without the request it quotes."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
