"""The replica as an object: its models, its phase, its counts; what the two ways from HTTP have in common."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from inference.batcher import Batcher, Job
from inference.errors import BadSetting, Refused, queue_full
from inference.gpu import Gpus
from inference.ledger import Ledger
from inference.lifecycle import Event, Lifecycle, Phase
from inference.meter import Meter, Usage, quantile
from inference.model import Model, load
from inference.settings import Settings, read
from inference.telemetry import Telemetry

BEGAN = time.monotonic()  # nearly the start of the process: torch is imported later
log = logging.getLogger("inference")
EXPIRE_EVERY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a process stands among the workers of its replica."""

    ledger: Ledger
    slot: int
    start_id: str
    listens_at_once: bool = True


@dataclass(frozen=True, slots=True)
class Served:
    """A model that answers requests, and its queue."""

    model: Model
    batcher: Batcher


class Service:
    """One per process; every method is called on the event loop's thread unless it says otherwise."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self.settings = settings
        self.place = place
        self.lifecycle = Lifecycle()
        self.meter = Meter()
        place.ledger.resume(place.slot, self.meter)
        self.usage = Usage()
        self.gpus: Gpus | None = None
        self.telemetry = Telemetry(settings)
        self.served: dict[str, Served] = {}
        self.generation = 0  # grows whenever `served` changes
        self.failure: BadSetting | None = None
        self.load_s: float | None = None  # from the start of the process until the models were warm
        self.leaving = False  # told to stop: drains for good
        self.timeout_s = settings.request_timeout_s
        self._loading: asyncio.Task[None] | None = None
        self._retired: list[Batcher] = []

    # -- life

    async def start(self) -> None:
        """Loads and warms the models beside the loop, then becomes ready; on failure sets `failure` and stops."""
        try:
            await self._load(self.settings)
        except BadSetting as failure:
            self.failure = failure
        except Exception as error:  # left to itself, it would say "starting" for ever
            log.exception("start failed")
            self.failure = BadSetting(f"The models cannot be made ready: {type(error).__name__}: {error}.")
        if self.failure is not None:
            self.lifecycle.on(Event.STOP)
            return
        self.load_s = round(time.monotonic() - BEGAN, 3)
        self.lifecycle.on(Event.LOADED)
        if self.place.listens_at_once:
            self.place.ledger.loaded = True
        log.info("ready", extra={"models": sorted(self.served), "phase": self.phase.spoken})

    async def reload(self) -> None:
        """Loads all models anew and swaps them in once warm; what queued before is answered by the old ones."""
        if self._loading is not None and not self._loading.done():
            log.warning("a reload is under way already")
            return
        self._loading = asyncio.current_task()
        try:
            fresh = read()
            await self._load(replace(self.settings, models=fresh.models, factory=fresh.factory))
            log.info("reloaded", extra={"models": sorted(self.served)})
        except BadSetting as failure:
            log.error("reload failed, the old models go on serving", extra={"reason": str(failure)})
        except Exception:
            log.exception("reload failed, the old models go on serving")

    async def _load(self, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Model]] = loop.create_future()

        def work() -> None:
            try:
                models = [load(name, file, settings) for name, file in settings.models]
                for model in models:
                    model.warm_up()
                # What is loaded now stays: out of the garbage collector's sight, a collection costs little.
                gc.collect()
                gc.freeze()
                if self.gpus is None:
                    self.gpus = Gpus()
                    self.telemetry.start()
            except Exception as error:  # handed to the loop, which reacts
                _hand(loop, done, error)
            except BaseException as error:  # a factory that exits: not the way that a future may end
                _hand(loop, done, RuntimeError(repr(error)))
            else:
                _hand(loop, done, models)

        # A daemon thread, not the loop's executor: a process that is told to stop while torch loads must not wait.
        threading.Thread(target=work, name="load", daemon=True).start()
        models = await done
        old = list(self.served.values())
        self.served = {m.name: Served(m, Batcher(m, settings, self.meter, loop)) for m in models}
        self.generation += 1
        self._retired += [served.batcher for served in old]

    @property
    def phase(self) -> Phase:
        return self.lifecycle.phase

    @property
    def spoken(self) -> str:
        """The phase of the whole replica: starting until every worker that listens can answer."""
        if self.phase is Phase.READY and not self.place.ledger.loaded:
            return Phase.STARTING.value
        return self.phase.spoken

    @property
    def idle(self) -> bool:
        return self.meter.in_flight == 0 and self.meter.queued == 0

    def batchers(self) -> Iterable[Batcher]:
        yield from (served.batcher for served in self.served.values())
        yield from self._retired

    def expire(self) -> None:
        """Refuses what waited past its deadline and lets go of models that nothing waits for; call it often."""
        now = time.monotonic()
        self._follow_drain()
        self._publish()
        for batcher in self.batchers():
            batcher.expire(now)
        for batcher in [b for b in self._retired if b.idle]:
            batcher.close()
            self._retired.remove(batcher)

    def not_ready(self) -> str:
        """Why this replica should get no requests now; empty when it should."""
        if self.spoken != Phase.READY.value:
            return f"The replica is {self.spoken}."
        if any(served.batcher.full for served in self.served.values()):
            return "The queue is full."
        return ""

    def traced(self, traceparent: bytes) -> bool:
        """Whether a request with this header becomes a span, and so goes the Starlette way."""
        return self.telemetry.wants(traceparent)

    # -- one request

    def default(self) -> str:
        """The name of the model behind /predict."""
        return self.settings.models[0][0]

    def find(self, name: str) -> Served:
        """The model called `name`; raises Refused if there is none or it still loads."""
        served = self.served.get(name)
        if served is None:
            if self.phase in {Phase.STARTING, Phase.EARLY_DRAINING}:
                raise Refused(503, "The model is still loading.", retry_after_s=1)
            raise Refused(404, f"There is no model {name!r} here, only {', '.join(sorted(self.served))}.")
        return served

    def full(self, served: Served) -> bool:
        """Whether the model takes no more now: its queue is full, and cannot be emptied for less than a refusal."""
        return served.batcher.full and not served.batcher.relieve()

    def turn_away(self, served: Served) -> int:
        """Counts an arrival that met a full queue; whole seconds after which it may come again."""
        self.meter.arrivals += 1
        self.meter.rejected += 1
        return served.batcher.met_full()

    def admit(self, served: Served) -> None:
        """Counts an arrival; raises Refused if the queue is full, before anything is spent on the body."""
        if self.full(served):
            raise queue_full(self.turn_away(served))
        self.meter.arrivals += 1

    def submit(self, served: Served, job: Job, timeout_s: float) -> None:
        """Hands an admitted job to its batcher; `timeout_s` from now is its deadline."""
        job.at = now = time.monotonic()
        job.deadline = now + timeout_s
        served.batcher.submit(job)

    # -- what is said about it

    def drain(self, on: bool) -> None:
        """Drains, or undoes it, in every worker of the replica."""
        self.place.ledger.draining = on
        self._follow_drain()

    def _follow_drain(self) -> None:
        draining = self.place.ledger.draining or self.leaving
        self.lifecycle.on(Event.DRAIN if draining else Event.UNDRAIN)

    def _publish(self) -> None:
        meter = self.meter
        recent = meter.recent()
        figures: dict[str, float] = {
            "arrivals": meter.arrivals,
            "completed": meter.completed,
            "failed": meter.failed,
            "rejected": meter.rejected,
            "in_flight": meter.in_flight,
            "queued": meter.queued,
            "busy_s": meter.busy_s(),
            "latency_sum_s": meter.latency_sum_s,
            "cpu": self.usage.cpu(),
            "memory_bytes": self.usage.memory_bytes(),
        }
        self.place.ledger.write(self.place.slot, figures, meter.counts, recent)

    def totals(self) -> tuple[dict[str, float], list[int], list[int]]:
        """Figures, all latencies and recent latencies of all workers, this one up to date."""
        self._publish()
        return self.place.ledger.total()

    def stats(self) -> dict[str, Any]:
        """The document of `GET /stats`."""
        figures, _, bins = self.totals()
        return {
            "replica": self.name,
            "start_id": self.place.start_id,
            "sequence": time.monotonic_ns() // 1000,  # grows whichever worker answers
            "at": time.time(),
            "phase": self.spoken,
            "in_flight": int(figures["in_flight"]),
            "queued": int(figures["queued"]),
            "capacity": (self.settings.capacity or self.settings.max_batch_size) * self.settings.workers,
            "arrivals_total": int(figures["arrivals"]),
            "completed_total": int(figures["completed"]),
            "failed_total": int(figures["failed"]),
            "rejected_total": int(figures["rejected"]),
            "busy_seconds_total": round(figures["busy_s"], 6),
            "latency_s": {name: quantile(bins, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))},
            "cpu": round(min(1.0, figures["cpu"]), 4),
            "memory_bytes": int(figures["memory_bytes"]),
            "gpu": self.gpus.read() if self.gpus else [],
            "load_s": self.load_s,
        }

    @property
    def name(self) -> str:
        """The replica's name; that in REPLICA_FILE goes before REPLICA once it is there."""
        file = self.settings.replica_file
        try:
            return (file.read_text(encoding="utf-8").strip() if file else "") or self.settings.replica
        except OSError:
            return self.settings.replica


def _hand(loop: asyncio.AbstractEventLoop, done: asyncio.Future[Any], result: Any) -> None:
    def set_() -> None:
        if done.done():
            return
        if isinstance(result, BaseException):
            done.set_exception(result)
        else:
            done.set_result(result)

    try:
        loop.call_soon_threadsafe(set_)
    except RuntimeError:  # the loop is closed: the process is leaving
        log.debug("loaded too late")
