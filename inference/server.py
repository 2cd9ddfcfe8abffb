"""The process: a socket, uvicorn on uvloop, signals, and a drain before the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Coroutine, Iterator
from typing import Any

import uvicorn

from inference import app, tls
from inference.connection import Connection, sweep_all
from inference.errors import BadSetting
from inference.ledger import Ledger
from inference.lifecycle import Event, Phase
from inference.service import EXPIRE_EVERY_S, Place, Service
from inference.settings import Settings

log = logging.getLogger("inference")
BACKLOG = 2048


def listen(settings: Settings) -> socket.socket:
    """The bound socket; raises BadSetting where the address is taken or not ours."""
    where = f"{settings.host}:{settings.port}"
    try:
        family, *_, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadSetting(f"Cannot listen on {where}: {reason}; set HOST and PORT to a free address.") from None
    return bound


class Server(uvicorn.Server):
    """uvicorn's server with our signals: SIGTERM and SIGINT drain, SIGHUP loads the models anew."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._leave_by: float | None = None
        self._arrivals = (-1, 0.0)
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise SIGTERM again at the end; a drained replica exits with 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._run(self._service.reload()))
        yield

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _told_to_stop(self) -> None:
        if self._leave_by is not None:  # told twice: at once
            self.force_exit = self.should_exit = True
            return
        log.info("draining", extra={"in_flight": self._service.meter.in_flight, "queued": self._service.meter.queued})
        self._leave_by = time.monotonic() + self._service.settings.drain_s
        if self._service.phase is Phase.STARTING:
            self.should_exit = True
        self._service.leaving = True
        self._service.lifecycle.on(Event.DRAIN)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, then loads; a worker that joins others loads first, so that no request meets it unready."""
        if not self._service.place.listens_at_once:
            loading = asyncio.ensure_future(self._service.start())
            while not (self.should_exit or loading.done()):
                await asyncio.wait({loading}, timeout=EXPIRE_EVERY_S)
            if self.should_exit:
                return
        await super().startup(sockets)
        if self._service.place.listens_at_once:
            self._run(self._service.start())
        self._run(self._expire())
        self._run(sweep_all(self.server_state.connections))

    async def _expire(self) -> None:
        while not self.should_exit:
            self._service.expire()
            await asyncio.sleep(EXPIRE_EVERY_S)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: leaves once drained, or when the model could not be loaded."""
        if self._service.phase is Phase.STOPPED:
            return True
        if self._leave_by is not None and self._drained(time.monotonic()):
            self.should_exit = True
        return await super().on_tick(counter)

    def _drained(self, now: float) -> bool:
        """Nothing in hand and nothing new for a little while, or out of time."""
        arrivals, since = self._arrivals
        if self._service.meter.arrivals != arrivals or not self._service.idle:
            self._arrivals = (self._service.meter.arrivals, now)
            return now >= (self._leave_by or 0.0)
        return now - since >= self._service.settings.drain_quiet_s or now >= (self._leave_by or 0.0)


def new_start_id() -> str:
    """What tells one start of a replica from the next: counters reset with it."""
    return str(uuid.uuid4())


def serve(settings: Settings, bound: socket.socket, place: Place | None = None) -> int:
    """Serves until told to stop; the exit code (0, or 2 when the model cannot be served)."""
    service = Service(settings, place or Place(ledger=Ledger(1), slot=0, start_id=new_start_id()))
    config = uvicorn.Config(
        app.build(service),
        loop="uvloop",
        http=Connection.serving(service),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        ssl_context_factory=(lambda *_: tls.context(settings.certificate)) if settings.certificate else None,
    )
    server = Server(config, service)
    host, port = bound.getsockname()[:2]
    log.info("listening", extra={"host": host, "port": port, "replica": settings.replica})
    server.run(sockets=[bound])
    service.lifecycle.on(Event.STOP)
    service.telemetry.stop()
    if service.failure is not None:
        print(service.failure, file=sys.stderr)
    log.info("stopped", extra={"completed": service.meter.completed, "failed": service.meter.failed})
    return 2 if service.failure is not None else 0


def leave(code: int) -> None:
    """Ends the process without unloading: torch may still be loading in its thread."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
