"""Events as CloudEvents to a webhook: in order, signed, sent again by the next tick until they are taken.

Each is one POST in structured mode. The signature is that of Standard Webhooks: HMAC-SHA256 over id, time and body
under the secret, so that the receiver knows who sent it, and when. No tick waits for it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import aiohttp
import msgspec

from scaler.happened import Happened

ANSWER_LIMIT_S = 5.0
REMEMBERED = 500  # ids of what was taken
TYPE = "io.github.aci-autoscaler."
MEDIA_TYPE = "application/cloudevents+json"

log = logging.getLogger("scaler.courier")


class WebhookCourier:
    """``ticked.Courier`` to one address. Neither it nor the secret is ever shown: an address may carry a key too."""

    def __init__(self, url: str, secret: str, source: str, clock: Callable[[], float] = time.time) -> None:
        self._url, self._secret, self._source, self._clock = url, secret, source, clock
        self._session: aiohttp.ClientSession | None = None
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._taken: deque[str] = deque(maxlen=REMEMBERED)
        self._said = ""

    def __repr__(self) -> str:
        return f"WebhookCourier(source={self._source!r})"

    def send(self, service: str, events: Sequence[Happened]) -> None:
        """Begin to send what was not taken yet; what this service still has under way goes on first."""
        left = [e for e in events if e.id not in self._taken]
        task = self._under_way.get(service)
        if left and (task is None or task.done()):
            self._under_way[service] = asyncio.get_running_loop().create_task(self._send(left))

    def delivered(self) -> Sequence[str]:
        return tuple(self._taken)

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        await asyncio.gather(*self._under_way.values())

    async def close(self) -> None:
        """Give up what is under way: the next tick of whoever comes then sends it again."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _send(self, events: Sequence[Happened]) -> None:
        """One after the other; the first that is not taken keeps the rest for the next tick, so order holds."""
        for event in events:
            problem = await self._post(event)
            if problem:
                if problem != self._said:  # once, not with each tick
                    log.warning("an event was not taken, it is sent again", extra={"event": event.id, "error": problem})
                self._said = problem
                return
            self._said = ""
            self._taken.append(event.id)

    async def _post(self, event: Happened) -> str:
        """Empty when it was taken, else what kept it from being."""
        body = msgspec.json.encode(cloud_event(event, self._source))
        if self._session is None:
            self._session = aiohttp.ClientSession()
        headers = {"content-type": MEDIA_TYPE, **signature(event.id, self._clock(), body, self._secret)}
        try:
            async with (
                asyncio.timeout(ANSWER_LIMIT_S),
                self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                return "" if 200 <= answer.status < 300 else f"the receiver answers {answer.status}"
        except TimeoutError:
            return f"the receiver gave no answer within {ANSWER_LIMIT_S:.0f} s"
        except (aiohttp.ClientError, OSError) as error:
            return f"the receiver cannot be reached ({type(error).__name__})"  # the error's own words name the address


def cloud_event(event: Happened, source: str) -> Mapping[str, object]:
    """The event as CloudEvents 1.0 has it, in JSON."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": TYPE + event.type,
        "subject": event.data["service"],
        "time": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": event.data,
    }


def signature(message: str, at: float, body: bytes, secret: str) -> dict[str, str]:
    """The headers of Standard Webhooks; without a secret there is nothing to sign with."""
    if not secret:
        return {}
    stamp = str(int(at))
    signed = hmac.new(secret.encode(), f"{message}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(signed).decode(),
    }
