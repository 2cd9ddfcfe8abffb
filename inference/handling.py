"""What the handlers of the Starlette way share: reading a body, waiting for an answer, refusing."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from inference.errors import Refused
from inference.service import Served, Service
from inference.wire import Outputs


class Waiting:
    """A job whose answer a coroutine waits for."""

    def __init__(self, payload: bytes, rows: int, encode: Callable[[Outputs, int, int], Any]) -> None:
        self.payload, self.rows = payload, rows
        self.at = self.deadline = 0.0
        self.gone = False
        self._encode = encode
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answer(self, outputs: Outputs, begin: int) -> None:
        encoded = self._encode(outputs, begin, begin + self.rows)
        if not self.done.done():
            self.done.set_result(encoded)

    def refuse(self, reason: Refused) -> None:
        if not self.done.done():
            self.done.set_exception(reason)


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body; raises Refused 413 as soon as it is known to be too long, 415 if it is compressed."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Refused(415, f"The body is encoded as {encoding!r}; send it as it is.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most_bytes:
        raise Refused(413, f"The body has {declared} bytes; at most {most_bytes} are taken (MAX_BODY_BYTES).")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise Refused(413, f"The body is longer than {most_bytes} bytes (MAX_BODY_BYTES).")
    return bytes(body)


async def compute(service: Service, request: Request, served: Served, job: Waiting) -> Any:
    """The encoded answer of an admitted job; a client that leaves meanwhile takes its job out of the queue."""
    service.submit(served, job, timeout_of(service, request))
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({job.done, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not job.done.done():
            job.gone = True
            raise ClientDisconnect
        return job.done.result()
    finally:
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await leaving


def timeout_of(service: Service, request: Request) -> float:
    """Seconds that the request may take: the setting, or less if the proxy in front says so."""
    return shorter(service.timeout_s, request.headers.get("x-envoy-expected-rq-timeout-ms", "").encode())


def shorter(timeout_s: float, header: bytes) -> float:
    return min(timeout_s, int(header) / 1e3) if header.isdigit() and int(header) else timeout_s


async def arrive(service: Service, request: Request, served: Served) -> bytes:
    """The body of a counted arrival; what fails before the queue is counted as failed."""
    service.admit(served)
    try:
        body = await read_body(request, service.settings.max_body_bytes)
    except (Refused, ClientDisconnect):
        service.meter.failed += 1
        raise
    return body


def authorise(service: Service, request: Request) -> None:
    """Raises Refused 401 unless the request carries the replica's token, or none is set."""
    token = service.settings.token
    given = request.headers.get("authorization", "").encode()
    if token and not hmac.compare_digest(given, b"Bearer " + token.encode()):
        raise Refused(401, "This route wants the header `Authorization: Bearer` with the replica's token.")


def problem(refused: Refused) -> Response:
    """The RFC 9457 answer to a refused request."""
    headers = {"retry-after": str(refused.retry_after_s)} if refused.retry_after_s is not None else {}
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(refused.body(), refused.status, headers=headers, media_type="application/problem+json")
