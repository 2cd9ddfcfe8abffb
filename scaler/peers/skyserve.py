"""SkyServe's request rate autoscaler: requests of the last minute over what one replica shall have, with long delays.

    want = ceil(requests in 60 s / 60 / target);  from zero at once
    up after 15 looks in a row that want more (300 s), down after 60 that want less (1200 s); the newest wish is applied

Source: sky/serve/autoscalers.py, ``RequestRateAutoscaler``. It looks every 20 s, every 5 s at zero.
"""

from __future__ import annotations

import math

from msgspec import Struct

from scaler.replay.sight import Sight, Terms, Wish

WINDOW_S = 60
UP_LOOKS, DOWN_LOOKS = 15, 60


class Memory(Struct, frozen=True):
    """Looks in a row that wanted more, and less."""

    more: int = 0
    less: int = 0


class SkyServe(Struct, frozen=True):
    """On requests per second."""

    terms: Terms
    tick_s: int = 20
    wake_s: int | None = 5
    begins: int | None = None

    @property
    def name(self) -> str:
        return f"skyserve:{self.terms.share:g}"

    def initial(self) -> Memory:
        return Memory()

    def decide(self, state: Memory, seen: Sight) -> tuple[Wish, Memory]:
        per_s = seen.arrivals_per_s(WINDOW_S)
        wanted = self.terms.within(math.ceil(per_s / (self.terms.share * self.terms.rate) - 1e-9))
        asked = seen.asked
        if asked == 0:
            return Wish(wanted), Memory()
        if wanted > asked:
            more = state.more + 1
            return (Wish(wanted), Memory()) if more >= UP_LOOKS else (Wish(asked), Memory(more=more))
        if wanted < asked:
            less = state.less + 1
            return (Wish(wanted), Memory()) if less >= DOWN_LOOKS else (Wish(asked), Memory(less=less))
        return Wish(asked), Memory()
