"""How bad a seed's day is: each seed knows some of the faults, each at its own rate, until the weather turns calm."""

from __future__ import annotations

from msgspec import Struct

from scaler.errors import OutOfCapacity, Refused, Unavailable
from tests.simulation.timeline import Timeline

TABLE = ("load", "save", "move", "record", "services", "past")
MANAGER = ("list", "show", "create", "delete", "usage")
SERVER = ("stats", "drain")
LIMITS_S = {**dict.fromkeys(TABLE, 10.0), **dict.fromkeys(MANAGER, 25.0), **dict.fromkeys(SERVER, 5.0)}
VERY_LATE_S = 400.0


class Fate(Struct, frozen=True, kw_only=True):
    """What befalls one call: seconds to its effect (None: it never arrives), seconds back (None: the answer is lost),
    and the error that is its answer instead of an effect."""

    there_s: float | None = 0.01
    back_s: float | None = 0.01
    error: Exception | None = None


class Weather:
    """Rates of faults, drawn once; ``fate`` then draws for each call."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._random = timeline.random
        self.calm = False
        kinds = (*TABLE, *MANAGER, *SERVER)
        self._lost = {kind: self._some(0.12) for kind in kinds}  # the request, or its answer
        self._refused = {kind: self._some(0.12) for kind in kinds}
        self._slow = {kind: self._some(0.3) for kind in kinds}
        self._late = self._some(0.2)  # of the creates and deletes whose answer is lost: how many happen minutes later
        self._out: dict[str, float] = {}  # kind → until when nothing of it is answered
        self.crash = self._some(0.05)  # of the ticks
        self.pause = self._some(0.12)
        self.missed = self._some(0.15)
        self.doubled = self._some(0.3)
        self.steps = self._some(0.04)  # of the ticks: the clock of an instance is set wrong, for a while
        self.skews = self._some(1.0) > 0.5
        self.list_lag_s = self._some(120.0)
        self.list_gaps = self._some(0.05)  # of the groups in a list: left out
        self.incidents = self._some(0.5)  # of the replicas: something happens to them
        self.bad_starts = self._some(0.3)
        self.strangers = self._some(1.0) > 0.6
        self.outages = self._some(1.0) > 0.5
        self.discovery = self._some(1.0) > 0.4
        self.walls = self._some(1.0) > 0.5
        self.operators = self._some(1.0) > 0.2
        self.discovery_out_until = 0.0

    def _some(self, most: float) -> float:
        """Half of all seeds do not know this fault; the others know it at a rate of their own."""
        return self._random.random() * most if self._random.random() < 0.5 else 0.0

    def turns(self, rate: float) -> bool:
        return not self.calm and rate > 0 and self._random.random() < rate

    def strike(self, kinds: tuple[str, ...], seconds: float) -> None:
        """Nothing of these kinds is answered for a while."""
        self._timeline.tell("weather", f"no {'/'.join(kinds)} for {seconds:.0f} s")
        for kind in kinds:
            self._out[kind] = max(self._out.get(kind, 0.0), self._timeline.now + seconds)

    def fate(self, kind: str) -> Fate:
        random = self._random
        there, back = 0.005 + 0.02 * random.random(), 0.005 + 0.02 * random.random()
        if self.calm:
            return Fate(there_s=there, back_s=back)
        if self._timeline.now < self._out.get(kind, 0.0):
            return Fate(there_s=None) if random.random() < 0.5 else Fate(there_s=there, back_s=back, error=_down())
        if self.turns(self._slow[kind]):
            there += random.random() * LIMITS_S[kind] * 0.6
            back += random.random() * LIMITS_S[kind] * 0.6
        if self.turns(self._refused[kind]):
            return Fate(there_s=there, back_s=back, error=self._refusal(kind))
        if self.turns(self._lost[kind]):
            return self._astray(kind, there)
        return Fate(there_s=there, back_s=back)

    def _astray(self, kind: str, there: float) -> Fate:
        """The request is lost, or only its answer; and what is lost to its sender may happen minutes later."""
        if self._random.random() < 0.4:
            return Fate(there_s=None)
        if kind in ("create", "delete", "drain") and self.turns(self._late):
            there = self._random.choice((30.0, 120.0, VERY_LATE_S)) * self._random.random()
        return Fate(there_s=there, back_s=None)

    def _refusal(self, kind: str) -> Exception:
        random = self._random
        wait = random.choice((None, 5.0, 30.0, 120.0))
        if kind != "create":
            return random.choice((_down(), Unavailable("429 TooManyRequests", retry_after_s=wait)))
        return random.choice(
            (
                _down(),
                Unavailable("409 ContainerGroupTransitioning"),
                OutOfCapacity(
                    "429 SubscriptionRequestsThrottled", code="SubscriptionRequestsThrottled", retry_after_s=wait
                ),
                OutOfCapacity("quota", code="ContainerGroupQuotaReached"),
                OutOfCapacity("no room", code="ServiceUnavailable"),
                Refused("The image is not accessible.", code="InaccessibleImage"),
                Refused("An error response is received from the docker registry", code="RegistryErrorResponse"),
            )
        )


def _down() -> Unavailable:
    return Unavailable("503 ServiceUnavailable")
