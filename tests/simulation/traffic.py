"""The front of one service: requests come, go to who is on the list that Envoy has, or wait for somebody to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaler.front.endpoints import endpoints
from scaler.model import Front as FrontRow
from tests.simulation.timeline import run_now
from tests.world import Held, Server

if TYPE_CHECKING:
    from tests.simulation.history import History

WAKE_EVERY_S = 5.0
HOLD_LIMIT_S = 300.0
LATE, ARRIVES_S = 0.1, 3.0  # the share of requests that take a while to the replica, and how long at most


class Front:
    """Envoy and discovery together: a list is applied a little later than it is saved, and much later in an outage."""

    def __init__(self, service: str, history: History) -> None:
        self.service = service
        self._history, self._timeline = history, history.timeline
        self._random = history.timeline.random
        self.applied: tuple[tuple[str, int], ...] = ()
        self.version = 0
        self.rate_rps = 0.0
        self._rate_changes = 0
        self._heard = 0
        self._waiting: dict[int, float] = {}  # request → seconds of work
        self._arrivals = self._expired = 0
        self._wakes = False

    # -- requests

    def load(self, rate_rps: float) -> None:
        """From now on so many requests come each second."""
        self._timeline.tell(self.service, f"{rate_rps:.2f} requests/s")
        self.rate_rps = rate_rps
        self._rate_changes += 1
        self._next(self._rate_changes)

    def _next(self, change: int) -> None:
        if self.rate_rps > 0:
            self._timeline.after(self._random.expovariate(self.rate_rps), lambda: self._come(change))

    def _come(self, change: int) -> None:
        if change != self._rate_changes:
            return
        seconds = self._random.expovariate(1.0 / self._history.typical_s)
        self._request(seconds * 20.0 if self._random.random() < 0.03 else seconds)
        self._next(change)

    def _request(self, seconds: float) -> None:
        if not self._routed(seconds):
            self._arrivals += 1
            number = self._arrivals
            self._waiting[number] = seconds
            self._timeline.after(HOLD_LIMIT_S, lambda: self._expire(number))
            self._wake_soon(0.1)

    def _routed(self, seconds: float) -> bool:
        held = [h for address, _ in self.applied if (h := self._history.azure.serving(address)) is not None]
        if not held:
            return False
        chosen = min(held, key=_load)
        if self._random.random() < LATE:
            self._history.azure.on_the_way[chosen.name] += 1
            self._timeline.after(ARRIVES_S * self._random.random(), lambda: self._arrive_late(chosen, seconds))
        else:
            self._arrive(chosen.server, seconds)
        return True

    def _arrive_late(self, held: Held, seconds: float) -> None:
        """Chosen before, perhaps from a list that is no longer the newest."""
        self._history.azure.on_the_way[held.name] -= 1
        if not held.server.silent:
            self._arrive(held.server, seconds)

    def _arrive(self, server: Server, seconds: float) -> None:
        server.arrivals += 1
        server.in_flight += 1
        life = server.start_id
        self._timeline.after(seconds, lambda: self._done(server, life))

    def _done(self, server: Server, life: str) -> None:
        if server.start_id == life:
            server.in_flight -= 1
            server.completed += 1

    def _expire(self, number: int) -> None:
        if self._waiting.pop(number, None) is not None:
            self._expired += 1

    def _release(self) -> None:
        for number, seconds in list(self._waiting.items()):
            if self._routed(seconds):
                del self._waiting[number]

    def _wake_soon(self, after_s: float) -> None:
        if not self._wakes:
            self._wakes = True
            self._timeline.after(after_s, self._wake)

    def _wake(self) -> None:
        self._wakes = False
        self._release()
        if self._waiting:
            self._history.wake(self.service)
            self._wake_soon(WAKE_EVERY_S)

    # -- discovery

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        return self.rate_rps == 0 and not self._waiting

    def write_row(self) -> None:
        """Discovery writes its row about once a second; so any load finds one just written, but for an outage."""
        if self._history.has_front and not self._out():
            row = FrontRow(
                start_id=f"front-{self.service}",
                at=self._timeline.now,
                waiting=len(self._waiting),
                arrivals_total=self._arrivals,
                expired_total=self._expired,
                applied_version=self.version,
            )
            run_now(self._history.world.store.write_front(self.service, row))

    def heard(self, version: int) -> None:
        """A tick saved this version of the list: Envoy has it a little later."""
        if version != self._heard:
            self._heard = version
            self._timeline.after(0.2 + 2.3 * self._random.random(), self._apply)

    def _apply(self) -> None:
        if self._out():
            self._timeline.post(self._history.weather.discovery_out_until + 0.1, self._apply)
            return
        stored = run_now(self._history.world.store.load(self.service))
        listed = endpoints(stored, hold_limit_s=HOLD_LIMIT_S)
        if (listed.ready, listed.version) != (self.applied, self.version):
            self._timeline.tell("envoy", self.service, f"has version {listed.version}:", *(a for a, _ in listed.ready))
        self.applied, self.version = listed.ready, listed.version
        self._release()

    def _out(self) -> bool:
        return self._timeline.now < self._history.weather.discovery_out_until


def _load(held: Held) -> int:
    return held.server.in_flight
