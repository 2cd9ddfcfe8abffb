"""Requests that are there together become one call of the model, without a fixed wait.

The next batch is what queued while the last one ran. Five rules make it fast on any model:

* A batch that takes under about a millisecond runs on the event loop's thread; a longer one runs in one worker
  thread, so that the loop goes on reading and answering.
* How many of the waiting rows are taken is read from a table made at warm-up: the most rows per second.
* After a batch its callers tend to come back at once. If the next batch, joined by them, would serve more rows per
  second even after a short wait, it waits: until nobody came for `linger` of a batch's time, and LONGEST times that at
  most. How many really came back is measured, so callers that do not return are soon no longer waited for.
* On one core the loop and the worker thread can only take turns. While a batch runs, the loop reads what has come about
  once a millisecond: waking for every request, it would push the model aside thousands of times a second.
* A model on a GPU takes a second batch while the first is computed (`Model.depth`), so that the GPU never waits for
  Python: at once if it is full, else just before the first should be done, for until then it can still grow.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import threading
import time
from collections import deque
from typing import Protocol

from inference.errors import Refused
from inference.meter import Meter
from inference.model import Model
from inference.settings import Settings, cores
from inference.wire import Outputs

log = logging.getLogger("inference.batcher")

INLINE_S = 0.001
ANSWERING_S = 0.001
TIMER_FROM_S = 0.0005  # the loop's timers count milliseconds; shorter waits turn the loop instead
WORTH_IT = 1.05
LONGEST = 5.0
NAP_S = 0.001
REFUSAL_S = 10e-6  # about what a refusal takes: reading the head, and one write
AHEAD_S = 0.002  # a second batch is handed over so long before the first should be done


class Job(Protocol):
    """One request on its way: packed rows, and how to answer it. Called on the loop's thread only."""

    payload: bytes
    rows: int
    at: float
    deadline: float
    gone: bool

    def answer(self, outputs: Outputs, begin: int) -> None:
        """The rows [begin, begin + rows) of `outputs` are the answer."""

    def refuse(self, reason: Refused) -> None:
        """There will be no answer."""


class Batcher:
    """The queue of one model."""

    def __init__(self, model: Model, settings: Settings, meter: Meter, loop: asyncio.AbstractEventLoop) -> None:
        self.model = model
        self._meter = meter
        self._loop = loop
        self._max_queue = settings.max_queue
        self._max_wait_s = settings.max_wait_ms / 1e3
        self._service_s = settings.service_time_ms / 1e3
        self._linger = settings.linger
        self._queue: deque[Job] = deque()
        self._rows = 0
        self._running = 0  # batches in hand of the worker threads
        self._done_at = 0.0  # when the last of them should be done
        self._turning = False
        self._held = False  # the turn waits for a timer
        self._answers: deque[tuple[Job, Outputs | Refused, int]] = deque()
        self._inbox: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        # Who comes back: jobs answered last, arrivals since, arrivals in time, and the share that came in time.
        self._answered = self._back = self._in_time = 0
        self._gap_s = 0.0  # how long nobody may come
        self._until = self._latest = 0.0
        self._fidelity = 1.0
        self._takes_turns = cores() == 1 and model.depth == 1
        self._napping = False
        self._back_early = threading.Event()  # ends a nap
        # A row of a small model is computed in less time than it takes to refuse it.
        most = model.max_rows
        self._cheap = not self._service_s and most <= model.inline_rows and model.cost_s(most) < most * REFUSAL_S

    @property
    def full(self) -> bool:
        return len(self._queue) >= self._max_queue

    @property
    def idle(self) -> bool:
        return not (self._queue or self._running or self._answers)

    def met_full(self) -> int:
        """Called for every request that met a full queue; whole seconds until what waits now should be done."""
        self._rest()
        return max(1, round(self.model.cost_s(self._rows) + 0.5))

    def _rest(self) -> None:
        """Lets the batch in hand have the core, once all that has come is read."""
        if self._takes_turns and self._running and not self._napping:
            self._napping = True
            self._loop.call_soon(self._nap)

    def _nap(self) -> None:
        self._napping = False
        if self._running:
            self._back_early.wait(NAP_S)

    def relieve(self) -> bool:
        """Runs a batch at once if refusing would cost more than that; whether a full queue has room now.

        Else one turn of the loop that reads a thousand requests would refuse all but `max_queue` of them.
        """
        if not self._cheap or self._running:
            return False
        while self._answers:
            self._answer()
        self._turn()
        return not self.full

    def submit(self, job: Job) -> None:
        """Takes a job of which `payload`, `rows`, `at` and `deadline` are set; answered or refused later."""
        self._queue.append(job)
        self._rows += job.rows
        self._meter.queued += 1
        self._back += 1
        if job.at < self._until:
            self._in_time += 1
            self._until = min(self._latest, job.at + self._gap_s)
        if self._running < self.model.depth and (not self._turning or (self._held and self._complete())):
            self._turning, self._held = True, False
            self._loop.call_soon(self._turn)
        self._rest()

    def _complete(self) -> bool:
        """Whether a turn that was put off need not wait any more: the batch is full, or all who return have come."""
        everybody = not self._running and (self._answered - self._back) * self._fidelity < 1
        return self._rows >= self.model.max_rows or everybody

    def expire(self, now: float) -> None:
        """Refuses what has waited past its deadline, also while a long batch runs."""
        late = [job for job in self._queue if job.gone or job.deadline < now]
        if late:
            self._queue = deque(job for job in self._queue if not (job.gone or job.deadline < now))
            for job in late:
                self._drop(job)

    def close(self) -> None:
        """Ends the worker threads once they are idle."""
        for _ in self._threads:
            self._inbox.put(None)

    def _turn(self) -> None:
        self._turning = self._held = False
        if self._running >= self.model.depth or not self._queue:
            return
        if self._answers and self._rows < min(self._answered, self.model.max_rows):
            return  # those who get an answer now may join; the end of the answering takes the turn
        now = time.monotonic()
        hold_s = self._hold_s(now)
        if hold_s > 0:
            self._turning = True
            if hold_s >= TIMER_FROM_S:
                self._held = True
                self._loop.call_later(min(hold_s, 0.002), self._turn)
            else:
                self._loop.call_soon(self._turn)
            return
        jobs, rows = self._take(now)
        if not jobs:
            return
        self._meter.begin(len(jobs))
        if rows <= self.model.inline_rows and not (self._running or self._service_s):
            self._finish(jobs, self._run(jobs))
        else:
            self._start(jobs, rows, now)

    def _hold_s(self, now: float) -> float:
        """Seconds that the next batch should still wait; 0 almost always."""
        waiting = self._rows
        if waiting >= self.model.max_rows:
            return 0.0
        if self._running:
            return self._done_at - AHEAD_S - now
        if self._max_wait_s and (left_s := self._queue[0].at + self._max_wait_s - now) > 0:
            return left_s
        left_s = self._until - now
        coming = (self._answered - self._back) * self._fidelity
        if left_s <= 0 or coming < 1:
            return 0.0
        joined = min(self.model.max_rows, waiting + int(coming))
        alone = waiting / self.model.cost_s(waiting)
        return left_s if joined / (self.model.cost_s(joined) + left_s) > WORTH_IT * alone else 0.0

    def _take(self, now: float) -> tuple[list[Job], int]:
        waiting = self._queue
        target = self.model.take(self._rows)
        jobs: list[Job] = []
        rows = 0
        while waiting:
            job = waiting[0]
            if job.gone or job.deadline < now:
                self._drop(waiting.popleft())
                continue
            if jobs and rows + job.rows > target:
                break
            jobs.append(waiting.popleft())
            rows += job.rows
        self._rows -= rows
        return jobs, rows

    def _drop(self, job: Job) -> None:
        self._rows -= job.rows
        self._meter.queued -= 1
        self._meter.failed += 1
        if not job.gone:
            job.refuse(Refused(504, "The deadline of the request passed before its turn came."))

    def _run(self, jobs: list[Job]) -> list[Outputs | Refused]:
        """One entry for all jobs, or, where the batch failed, one each: a bad row fails only its own request."""
        try:
            return [self.model.run([job.payload for job in jobs], sum([job.rows for job in jobs]))]
        except Exception as error:  # whatever a model raises is an answer to its callers, never the end of the server
            if len(jobs) > 1:
                return [self._run([job])[0] for job in jobs]
            log.exception("model failed", extra={"model": self.model.name})
            return [Refused(500, f"The model failed on this input: {type(error).__name__}.")]

    def _start(self, jobs: list[Job], rows: int, now: float) -> None:
        self._running += 1
        self._back_early.clear()
        self._done_at = max(now, self._done_at) + self.model.cost_s(rows)
        if len(self._threads) < self._running:
            name = f"model-{self.model.name}-{self._running}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()
        self._inbox.put(jobs)

    def _work(self) -> None:
        while (jobs := self._inbox.get()) is not None:
            begun_at = time.monotonic()
            results = self._run(jobs)
            if self._service_s:
                time.sleep(max(0.0, begun_at + self._service_s - time.monotonic()))
            self._back_early.set()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._returned, jobs, results)

    def _returned(self, jobs: list[Job], results: list[Outputs | Refused]) -> None:
        self._running -= 1
        if not self._running:
            self._done_at = 0.0
            self._turning = False  # a turn that waits for just this need not wait for its time
        self._finish(jobs, results)

    def _finish(self, jobs: list[Job], results: list[Outputs | Refused]) -> None:
        self._meter.end(len(jobs))
        begin = 0
        shared = results[0] if len(results) == 1 else None
        for i, job in enumerate(jobs):
            if shared is None:
                self._answers.append((job, results[i], 0))
            else:
                self._answers.append((job, shared, begin))
                begin += job.rows
        self._remember(len(jobs), sum(job.rows for job in jobs))
        self._answer()

    def _remember(self, answered: int, rows: int) -> None:
        if self._answered:
            self._fidelity += 0.2 * (min(1.0, self._in_time / self._answered) - self._fidelity)
        self._answered, self._back, self._in_time = answered, 0, 0
        cost_s = self.model.cost_s(rows)
        self._gap_s = self._linger * cost_s if cost_s > INLINE_S / 2 else 0.0
        self._until = self._latest = math.inf if self._gap_s else 0.0  # the wait begins when all have their answer

    def _answer(self) -> None:
        """Writes answers for about a millisecond, then lets the loop read before it goes on."""
        meter, now = self._meter, time.monotonic()
        stop_at = now + ANSWERING_S
        answers = self._answers
        while answers:
            job, result, begin = answers.popleft()
            try:
                if isinstance(result, Refused):
                    raise result
                job.answer(result, begin)
                meter.completed += 1
                meter.latencies.append(now - job.at)
            except Refused as reason:
                meter.failed += 1
                job.refuse(reason)
            except Exception:  # one answer that cannot be written must not keep the others from theirs
                log.exception("answer failed", extra={"model": self.model.name})
                meter.failed += 1
                job.refuse(Refused(500, "The answer could not be written."))
            if (now := time.monotonic()) > stop_at and answers:
                self._loop.call_soon(self._answer)
                return
        if self._latest == math.inf:
            self._until, self._latest = now + self._gap_s, now + LONGEST * self._gap_s
        if self._queue and not self._turning and self._running < self.model.depth:
            self._turning = True
            self._loop.call_soon(self._turn)
