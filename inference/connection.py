"""The quick way: ordinary predictions answered from the HTTP parser's callbacks, inside uvicorn's own protocol.

A request takes it only if all of this holds; every other request goes the Starlette way, on the same connection:

* POST to a path of `Doors`, HTTP/1.1, a content-length within the limit, keep-alive, nothing of UNUSUAL;
* nothing else in hand on this connection (a second, pipelined request is queued by uvicorn and answered in order).

Both ways read with the same reader, queue in the same batcher and write with the same encoder. While a quick request
is in hand it sits where uvicorn keeps its request/response cycle, so that uvicorn's rules for pipelining, shutdown
and lost connections hold for it unchanged.

A head that the parser once accepted for the quick way is remembered byte for byte. When a read begins between two
messages with exactly these bytes, followed by exactly the announced length, the parser is not asked again: it
is deterministic, and would say the same.

A replica that gets more than it can do must say so for next to nothing, or it does nothing else. While the queue is
full, a remembered head is refused as soon as it is seen: its body is neither kept nor parsed but passed over.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inference.doors import Door, Doors, Head
from inference.errors import BROKEN, Refused, queue_full
from inference.handling import shorter
from inference.service import Served, Service
from inference.v2 import LENGTH_HEADER, Binary, Encode
from inference.wire import Outputs

log = logging.getLogger("inference.connection")

UNUSUAL = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"content-encoding"})
JSON_BYTES = LENGTH_HEADER.encode()
NEVER_TWICE = frozenset({b"traceparent", b"x-request-id"})  # heads with these are not worth remembering
SWEEP_EVERY_S = 1.0


class _Nobody:
    """Stands for the event that uvicorn sets for a waiting application: a quick request has none."""

    def set(self) -> None:
        pass


class Call:
    """A quick request: a job for the batcher, and a cycle to uvicorn."""

    __slots__ = (
        "at", "connection", "deadline", "encode", "gone", "head", "keep_alive", "payload", "response_complete", "rows",
    )  # fmt: skip

    message_event = _Nobody()
    more_body = False

    payload: bytes
    rows: int
    at: float
    deadline: float
    encode: Encode

    def __init__(self, connection: Connection, head: Head) -> None:
        self.connection = connection
        self.head = head
        self.gone = False
        self.response_complete = False
        self.keep_alive = True

    @property
    def disconnected(self) -> bool:
        return self.gone

    @disconnected.setter
    def disconnected(self, value: bool) -> None:
        self.gone = value

    def answer(self, outputs: Outputs, begin: int) -> None:
        encoded = self.encode(outputs, begin, begin + self.rows)
        if not self.gone:
            self.connection.write_answer(self, encoded)

    def refuse(self, reason: Refused) -> None:
        if not self.gone:
            self.connection.write_refusal(self, reason)


class Connection(HttpToolsProtocol):
    """One connection; `serving` makes the class that uvicorn instantiates."""

    service: ClassVar[Service]
    doors: ClassVar[Doors]
    _made_for: ClassVar[Any] = None
    _answer_head: ClassVar[bytes] = b""
    _json_head: ClassVar[bytes] = b""
    _full: ClassVar[dict[int, bytes]] = {}  # the refusal of a full queue by its retry-after

    _call: Call | None = None  # the quick request being received
    _body: list[bytes]
    _chunk: bytes | None = None  # what is being parsed, if it began between two messages
    _between = True
    _skip = 0  # bytes of a refused body that are still to come
    _deaf = False
    _idle_s = 0.0
    _receiving_s = 0.0

    @classmethod
    def serving(cls, service: Service) -> type[Connection]:
        """A class of connections to `service`."""
        return type("ServedConnection", (cls,), {"service": service, "doors": Doors()})

    # -- reading

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._idle_s = 0.0
        if self._skip and not (data := self._skipped(data)):
            return
        if self._between:
            if (self.cycle is None or self.cycle.response_complete) and self._remembered(data):
                return
            self._chunk = data
        else:
            self._chunk = None
        self._parse(data)

    def _remembered(self, data: bytes) -> bool:
        """Whether `data` begins with a remembered head and could be dealt with without the parser."""
        end = data.find(b"\r\n\r\n", 0, Doors.LONGEST_HEAD_BYTES) + 4
        known = self.doors.heads.get(data[:end])
        if known is None or self.doors.generation != self.service.generation:
            return False
        missing = end + known.length - len(data)
        if missing >= 0 and self.service.full(known.door.served):
            self.transport.write(self._turned_away(known.door.served))
            self.server_state.total_requests += 1
            self._skip, self._between, self._receiving_s = missing, not missing, 0.0
            return True
        if missing:
            return False
        self.cycle = call = Call(self, known)  # type: ignore[assignment]
        self._begin(call, data[end:])
        return True

    def _skipped(self, data: bytes) -> bytes:
        """What of `data` comes after the body that is passed over."""
        passed = min(self._skip, len(data))
        self._skip -= passed
        self._between = not self._skip
        return data[passed:]

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._last()
        except httptools.HttpParserError:
            if self._in_hand() and not self._receiving():
                self._last()  # the answer of the request before is still due, and comes first
            else:
                self._refuse_and_close(Refused(400, "This is not HTTP/1.1 as the server understands it."))

    def on_message_begin(self) -> None:
        self._between = False
        self._receiving_s = 0.0
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.doors.follow(self.service)
            door = self.doors.by_path.get(self.url)
            if door is not None and (head := self._usual(door)) is not None:
                self._call = self.cycle = Call(self, head)  # type: ignore[assignment]
                self._body = []
                return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)
        super().on_headers_complete()

    def _usual(self, door: Door) -> Head | None:
        """What the head says, if it is one for the quick way."""
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return None
        length, json_bytes, timeout_s = -1, None, self.service.timeout_s
        for name, value in self.headers:
            if name in UNUSUAL:
                return None
            if name == b"content-length":
                length = int(value) if value.isdigit() else -1
            elif name == JSON_BYTES:
                if json_bytes is not None or not value.isdigit():
                    return None
                json_bytes = int(value)
            elif name == b"x-envoy-expected-rq-timeout-ms":
                timeout_s = shorter(timeout_s, value)
            elif name == b"traceparent" and self.service.traced(value):
                return None
        if not 0 < length <= self.service.settings.max_body_bytes or (json_bytes or 0) > length:
            return None
        return Head(door, length, json_bytes, timeout_s)

    def on_body(self, body: bytes) -> None:
        if self._call is not None:
            self._body.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._between = True
        call = self._call
        if call is None:
            super().on_message_complete()
            return
        self._call = None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        chunk = self._chunk
        length = call.head.length
        if chunk is not None and len(chunk) > length and chunk.endswith(body) and chunk.startswith(b"POST "):
            head = chunk[: len(chunk) - length]
            if head.find(b"\r\n\r\n") == len(head) - 4 and not any(n in NEVER_TWICE for n, _ in self.headers):
                self.doors.remember(head, call.head)
        self._begin(call, body)

    # -- answering

    def _begin(self, call: Call, body: bytes) -> None:
        service, head = self.service, call.head
        served = head.door.served
        if service.full(served):
            self.transport.write(self._turned_away(served))
            self._written(call)
            return
        service.meter.arrivals += 1
        try:
            try:
                call.payload, call.rows, call.encode = head.door.read(body, head.json_bytes)
            except Refused:
                service.meter.failed += 1
                raise
        except Refused as reason:
            self.write_refusal(call, reason)
            return
        except Exception:  # whatever a reader did not foresee: its caller is told, and the connection goes on
            log.exception("reading failed", extra={"model": served.model.name})
            service.meter.failed += 1
            self.write_refusal(call, Refused(500, BROKEN))
            return
        service.submit(served, call, head.timeout_s)

    def write_answer(self, call: Call, encoded: bytes | Binary) -> None:
        """Writes a prediction."""
        state = self.server_state
        if self.__class__._made_for is not state.default_headers:  # uvicorn makes the list anew every second
            self._make_head()
        if isinstance(encoded, bytes):
            head, body = self._json_head, encoded
        else:
            body = encoded.body
            head = b"%bcontent-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % (
                self._answer_head,
                encoded.json_bytes,
            )
        closing = b"" if call.keep_alive else b"connection: close\r\n"
        self.transport.write(b"%bcontent-length: %d\r\n%b\r\n%b" % (head, len(body), closing, body))
        self._written(call)

    def write_refusal(self, call: Call, reason: Refused) -> None:
        """Writes a problem document instead of a prediction."""
        self.transport.write(self._problem(reason, close=not call.keep_alive))
        self._written(call)

    def _written(self, call: Call) -> None:
        call.response_complete = True
        self.server_state.total_requests += 1
        if not call.keep_alive:
            self.transport.close()
        elif self.pipeline:
            self.server_state.total_requests -= 1
            self.on_response_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # one sweep a second does it for all connections

    def _make_head(self) -> None:
        cls = self.__class__
        cls._made_for = self.server_state.default_headers
        lines = [b"%b: %b\r\n" % (name, value) for name, value in cls._made_for]
        cls._answer_head = b"HTTP/1.1 200 OK\r\n" + b"".join(lines)
        cls._json_head = cls._answer_head + b"content-type: application/json\r\n"
        cls._full = {}

    def _turned_away(self, served: Served) -> bytes:
        """Counts a request that met a full queue; its answer, made once for all that are told the same."""
        if self.__class__._made_for is not self.server_state.default_headers:
            self._make_head()
        wait_s = self.service.turn_away(served)
        answer = self._full.get(wait_s)
        if answer is None:
            answer = self._full[wait_s] = self._problem(queue_full(wait_s), close=False)
        return answer

    def _problem(self, reason: Refused, *, close: bool) -> bytes:
        body = reason.body()
        lines = [b"HTTP/1.1 %d %b" % (reason.status, reason.title.encode())]
        lines += [b"%b: %b" % pair for pair in self.server_state.default_headers]
        lines.append(b"content-type: application/problem+json")
        if reason.retry_after_s is not None:
            lines.append(b"retry-after: %d" % reason.retry_after_s)
        if close:
            lines.append(b"connection: close")
        lines.append(b"content-length: %d" % len(body))
        return b"\r\n".join([*lines, b"", body])

    # -- endings

    def _in_hand(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _receiving(self) -> bool:
        """Whether what is in hand is the very request that is still being sent."""
        return not self._between and not self.pipeline and (self._call is not None or self.cycle.more_body)

    def _last(self) -> None:
        """What is in hand is answered, and nothing after it."""
        self._deaf = True
        if self._in_hand():
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def _refuse_and_close(self, reason: Refused) -> None:
        self._deaf = True
        self.transport.write(self._problem(reason, close=True))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse_and_close(Refused(400, msg))

    def pause_writing(self) -> None:
        """A client that does not read its answers is not read from either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()

    def sweep(self, passed_s: float) -> None:
        """Called about once a second: closes what is idle too long and refuses what is sent too slowly."""
        if self.transport is None or self.transport.is_closing():
            return
        settings = self.service.settings
        if not self._between:
            self._receiving_s += passed_s
            waits = self._call is not None or not self._in_hand()
            if self._receiving_s > settings.receive_timeout_s and (waits or self.cycle.more_body):
                late = Refused(408, f"The request was not complete after {settings.receive_timeout_s:g} s.")
                answered = self._in_hand() and self._call is None and self.cycle.response_started
                if answered or self._skip:
                    self.transport.close()
                else:
                    self._refuse_and_close(late)
        elif self._in_hand():
            self._idle_s = 0.0
        else:
            self._idle_s += passed_s
            if self._idle_s > settings.keep_alive_s:
                self.transport.close()


async def sweep_all(connections: set[Any]) -> None:
    """Sweeps all connections of a server once a second, for ever."""
    loop = asyncio.get_running_loop()
    at = loop.time()
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        passed_s, at = loop.time() - at, loop.time()
        for connection in list(connections):
            connection.sweep(passed_s)
