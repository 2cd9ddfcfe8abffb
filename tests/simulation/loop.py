"""An event loop that is stepped: it has no time and no I/O of its own, so a history runs the same way each time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from tests.simulation.timeline import Timeline


class SteppedLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as tasks, futures, semaphores and time limits need. ``deliver`` is how a timer that is
    due comes back: through the instance, which may be paused or dead by then."""

    def __init__(self, timeline: Timeline, deliver: Callable[[Callable[[], None]], None]) -> None:
        self._timeline = timeline
        self._deliver = deliver
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self.faults: list[BaseException] = []
        self.stopped = False  # its instance sleeps or is dead

    def run_ready(self) -> None:
        """Run until everything waits."""
        asyncio._set_running_loop(self)
        try:
            while self._ready and not self.stopped:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)

    def end(self) -> None:
        """Cancel whatever still runs, so that nothing is left half-way when it is collected."""
        for task in self._tasks:
            task.cancel()
        self.run_ready()
        self._tasks.clear()

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self._timeline.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **named: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task = asyncio.Task(coro, loop=self, **named)
        self._tasks = [t for t in self._tasks if not t.done()] if len(self._tasks) > 64 else self._tasks
        self._tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timeline.post(when, lambda: None if handle.cancelled() else self._deliver(lambda: self._due(handle)))
        return handle

    def _due(self, handle: asyncio.TimerHandle) -> None:
        self._ready.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """The timeline drops it when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if (fault := context.get("exception")) is not None:
            self.faults.append(fault)
