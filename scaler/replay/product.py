"""The product's own policy as a contender: the very ``decide()``, fed with what the plant shows it.

What a trace cannot tell is said in notes: signals from elsewhere (unless a record has their numbers) and the memory of
replicas are left out, and CPU and GPU are taken to be as busy as the replicas are.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection

from msgspec import Struct, field
from msgspec.structs import replace

from scaler.config import Service
from scaler.decide import Policy, State, decide, initial_state
from scaler.model import Observation
from scaler.replay.sight import Sight, Wish
from scaler.signals import signal_name

Signals = tuple[tuple[float, dict[str, float | None]], ...]


class Memory(Struct, frozen=True):
    """The policy's own state, when it looked last, and how many starts it has been told of."""

    state: State
    looked_at: int = 0
    starts_told: int = 0


class Product(Struct, frozen=True, kw_only=True):
    """One policy. ``begins_at`` is the instant (epoch seconds) of the first second, ``concurrency`` what one replica
    has in work at most; ``signals`` the recorded numbers from elsewhere, oldest first."""

    name: str
    policy: Policy
    begins_at: float
    concurrency: float
    signals: Signals = ()
    tick_s: int = 15
    wake_s: int | None = 1  # the front wakes the autoscaler as soon as a request finds no replica
    begins: int | None = None

    def initial(self) -> Memory:
        return Memory(initial_state(self.policy))

    def decide(self, state: Memory, seen: Sight) -> tuple[Wish, Memory]:
        decision, after = decide(self.policy, state.state, self.observed(state, seen))
        wish = Wish(decision.desired, off=decision.off and not decision.wakes)
        return wish, Memory(after, seen.at, len(seen.starts_s))

    def observed(self, state: Memory, seen: Sight) -> Observation:
        """What a tick would see at this second."""
        since, window_s = state.looked_at, seen.at - state.looked_at
        in_flight = (seen.in_work[-1] - seen.in_work[since]) / window_s
        busy = min(1.0, in_flight / (seen.ready * self.concurrency)) if seen.ready else None
        at = self.begins_at + seen.at
        return Observation(
            at=at,
            window_s=float(window_s),
            ready=seen.ready,
            starting=seen.starting,
            draining=seen.leaving,
            arrivals=seen.arrivals[-1] - seen.arrivals[since],
            completed=seen.completed[-1] - seen.completed[since],
            in_flight=in_flight,
            queued=seen.queued,
            utilization=busy,
            cpu=busy,
            gpu=busy,
            signals=self._signals(at),
            cold_starts_s=tuple(seen.starts_s[state.starts_told :]),
        )

    def _signals(self, at: float) -> dict[str, float | None]:
        i = bisect.bisect_right(self.signals, at, key=lambda known: known[0])
        return self.signals[i - 1][1] if i else {}


class Played(Struct, frozen=True, kw_only=True):
    """A service as it can be replayed, and what of it cannot."""

    service: Service
    notes: tuple[str, ...] = field(default=())


def playable(service: Service, known_signals: Collection[str]) -> Played:
    """The service without what a replay cannot show to it."""
    notes = []
    lost = [signal_name(s, i) for i, s in enumerate(service.signals) if signal_name(s, i) not in known_signals]
    if lost:
        notes.append(f"left out, for the replay does not know their numbers: {', '.join(lost)}")
    if service.target.memory is not None:
        notes.append("target.memory is left out: a replay does not know the memory of replicas")
    if service.target.cpu is not None or service.target.gpu is not None:
        notes.append("CPU and GPU are taken to be as busy as the replicas are")
    kept = [s for i, s in enumerate(service.signals) if signal_name(s, i) not in lost]
    return Played(
        service=replace(service, signals=kept, target=replace(service.target, memory=None)), notes=tuple(notes)
    )
