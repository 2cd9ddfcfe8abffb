"""KEDA: from and to zero by itself, and an HPA on the metric's total in between.

Every 30 s it looks whether there is anything at all: then from zero to one; and where there was nothing for more than
300 s, to zero from any count. Source: pkg/scaling/executor, ``scale_scaledobjects.go``.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from scaler.peers.hpa import Recommendations, normalized, of_total
from scaler.replay.sight import Sight, Terms, Wish

POLLING_S = 30
COOLDOWN_S = 300
RATE_WINDOW_S = 60  # rate(requests[1m]), as its Prometheus scaler is usually asked
LOAD_WINDOW_S = 30


class Memory(Struct, frozen=True):
    """The HPA's window, when it polled last, and when that poll found something last."""

    recommendations: Recommendations = ()
    polled_at: int | None = None
    active_at: int = 0


class Keda(Struct, frozen=True):
    """On requests per second, or on requests in work and waiting (``concurrency``)."""

    terms: Terms
    metric: Literal["rate", "concurrency"] = "rate"
    tick_s: int = 15
    wake_s: int | None = None
    begins: int | None = None

    @property
    def name(self) -> str:
        return f"keda{'' if self.metric == 'rate' else '-load'}:{self.terms.share:g}"

    def initial(self) -> Memory:
        return Memory()

    def decide(self, state: Memory, seen: Sight) -> tuple[Wish, Memory]:
        total, target = self._total(seen)
        polls = state.polled_at is None or seen.at - state.polled_at >= POLLING_S
        polled_at = seen.at if polls else state.polled_at
        active_at = seen.at if polls and total > 0 else state.active_at
        least = max(1, self.terms.min)
        if seen.asked == 0:
            wanted = least if polls and total > 0 else self.terms.min
            return Wish(wanted), Memory(polled_at=polled_at, active_at=active_at)
        if polls and total == 0 and self.terms.min == 0 and seen.at - active_at > COOLDOWN_S:
            return Wish(0), Memory(polled_at=polled_at, active_at=active_at)
        proposed = of_total(total, target, seen.asked)
        wish, window = normalized(proposed, seen, state.recommendations, least, self.terms.max)
        return wish, Memory(window, polled_at, active_at)

    def _total(self, seen: Sight) -> tuple[float, float]:
        """The metric over the whole service, and how much of it one replica shall have."""
        if self.metric == "rate":
            return seen.arrivals_per_s(RATE_WINDOW_S), self.terms.share * self.terms.rate
        return seen.concurrency(LOAD_WINDOW_S), self.terms.share * self.terms.concurrency
