"""The host: one app, its HTTP door, timers and queues on one loop, and a stop that lets running functions end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from infra.local.functions.admin import Admin
from infra.local.functions.app import App, Function, QueueTrigger, TimerTrigger, load_app
from infra.local.functions.errors import StartError
from infra.local.functions.http import HttpDoor
from infra.local.functions.invoke import FunctionFailed, Invoker, Outcome
from infra.local.functions.keys import Keys, load_keys
from infra.local.functions.queues import UNREACHABLE, QueueListener, send_output
from infra.local.functions.settings import HostSettings, load_host_settings
from infra.local.functions.storage import Storage
from infra.local.functions.timers import Clock, Monitor, WallClock, run_timer, timer_argument

log = logging.getLogger(__name__)
GRACE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that was read and checked before anything starts."""

    app: App
    settings: HostSettings
    keys: Keys
    storage: Storage
    monitor: Monitor


def prepare(app_folder: Path, keys_path: Path, env: Mapping[str, str], verify: str | None = None) -> Parts:
    """Load the app, its settings and the keys. Raises StartError; nothing runs yet."""
    settings = load_host_settings(app_folder, env)
    app = load_app(app_folder, settings, env, time.time())
    storage = Storage(env, verify)
    for function in app.functions:
        if isinstance(function.trigger, QueueTrigger):
            storage.check(function.trigger.connection, f"function {function.name}")
        for output in function.outputs + ((function.returned,) if function.returned else ()):
            if output.kind == "queue":
                storage.check(output.connection, f"function {function.name}")
    keys = load_keys(keys_path, [f.name for f in app.functions if f.returned and f.returned.kind == "http"])
    monitor = Monitor(keys_path.with_name("timers.json"))
    return Parts(app=app, settings=settings, keys=keys, storage=storage, monitor=monitor)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises StartError when the port is taken."""
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts: 40 ms a request.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on {host} port {port}: {error.strerror}; stop what listens there, or choose another port "
            "with --port or FUNCTIONS_PORT"
        ) from error
    return listener


class Host:
    """Runs the parts. ``clock`` is injected so that tests can step time."""

    def __init__(self, parts: Parts, clock: Clock | None = None, grace_s: float = GRACE_S) -> None:
        self._parts = parts
        self._clock = clock or WallClock()
        self._grace_s = grace_s
        self._invoker = Invoker(parts.settings.function_timeout_s)
        self._by_hand: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin the end: nothing new, what runs may finish."""
        self._stopping.set()

    async def serve(self, listener: socket.socket) -> bool:
        """Run until ``stop``; whether every function had ended within the grace."""
        server = self._server()
        listeners = self._queue_listeners()
        loops = [asyncio.create_task(listener.run()) for listener in listeners]
        loops += [asyncio.create_task(self._run_timer(f, f.trigger)) for f in self._timers()]
        http = asyncio.create_task(server.serve(sockets=[listener]))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([http, stopping, *loops], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping, http}:
                task.result()  # a loop never ends: what it raised is our own mistake
        finally:
            has_ended = await self._end(server, http, loops, listeners)
            stopping.cancel()
            await self._parts.storage.close()
        return has_ended

    async def _end(
        self,
        server: uvicorn.Server,
        http: asyncio.Task[None],
        loops: list[asyncio.Task[None]],
        listeners: list[QueueListener],
    ) -> bool:
        server.should_exit = True
        for loop in loops:
            loop.cancel()
        ends = [asyncio.ensure_future(listener.finish()) for listener in listeners]
        waiting = {http, *ends, *self._by_hand, *self._calls}
        _, late = await asyncio.wait(waiting, timeout=self._grace_s)
        if late:
            log.warning("functions still ran after %g s and were given up", self._grace_s)
            server.force_exit = True
            for listener in listeners:
                listener.abandon()
            for task in late - {http}:
                task.cancel()
            await asyncio.wait(waiting, timeout=1.0)
        await asyncio.gather(*loops, return_exceptions=True)
        return self._invoker.close()

    def _server(self) -> uvicorn.Server:
        parts = self._parts
        admin = Admin(app=parts.app, host_id="local", began_at=time.time(), start=self._start_by_hand)
        door = HttpDoor(parts.app, parts.keys, parts.settings.max_body_bytes, self._call, admin)
        # h11 bounds the size of a request's head; httptools does not.
        config = uvicorn.Config(
            door,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, int(self._grace_s)),
        )
        return _Server(config)

    def _queue_listeners(self) -> list[QueueListener]:
        parts = self._parts
        return [
            QueueListener(f, parts.storage, parts.settings.queues, self._call)
            for f in parts.app.functions
            if isinstance(f.trigger, QueueTrigger) and not f.is_disabled
        ]

    def _timers(self) -> list[Function]:
        return [f for f in self._parts.app.functions if isinstance(f.trigger, TimerTrigger) and not f.is_disabled]

    async def _run_timer(self, function: Function, trigger: object) -> None:
        assert isinstance(trigger, TimerTrigger)

        async def call(is_past_due: bool) -> None:
            # In a task of its own: the end of the timer must not cancel the call that runs.
            await asyncio.shield(self._keep(function, timer_argument(function, is_past_due), self._calls))

        await run_timer(function.name, trigger, call, self._clock, self._parts.monitor)

    def _start_by_hand(self, function: Function, argument: object) -> asyncio.Task[None]:
        return self._keep(function, argument, self._by_hand)

    def _keep(self, function: Function, argument: object, among: set[asyncio.Task[None]]) -> asyncio.Task[None]:
        async def run() -> None:
            with contextlib.suppress(FunctionFailed):  # the log has said so
                await self._call(function, argument)

        task = asyncio.create_task(run())
        among.add(task)
        task.add_done_callback(among.discard)
        return task

    async def _call(self, function: Function, argument: object) -> Outcome:
        """One invocation with its outputs sent; raises FunctionFailed."""
        outcome = await self._invoker.call(function, argument)
        returned = function.returned
        outputs = list(outcome.outputs)
        if returned is not None and outcome.returned is not None:
            outputs.append((returned, outcome.returned))
        for output, value in outputs:
            if output.kind == "queue":
                try:
                    await send_output(self._parts.storage, self._parts.settings.queues, output, value)
                except UNREACHABLE as error:
                    log.exception("function %s: its output %s was not sent", function.name, output.name)
                    raise FunctionFailed from error
        return outcome


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the host decides what a signal means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def stop_on_signals(host: Host) -> None:
    """SIGTERM and SIGINT end the host gracefully."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.stop)
