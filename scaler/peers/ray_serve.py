"""Ray Serve: ongoing requests over what one replica shall have, applied once the wish has lasted.

    desired = ceil(mean of requests in work and waiting over 30 s / target)
    up after 30 s, down after 600 s of wishing in that direction; what is applied is the newest wish
    to zero only from one; while nothing runs and somebody waits, the first is asked for at once

Source: python/ray/serve/autoscaling_policy.py. Its loop runs ten times a second; here once a second.
"""

from __future__ import annotations

import math

from msgspec import Struct

from scaler.replay.sight import Sight, Terms, Wish

LOOK_BACK_S = 30
UP_DELAY_S, DOWN_DELAY_S = 30, 600


class Memory(Struct, frozen=True):
    """In which direction it wishes (1, -1, 0), and since when."""

    direction: int = 0
    since: int = 0


class RayServe(Struct, frozen=True):
    """On ongoing requests."""

    terms: Terms
    tick_s: int = 1
    wake_s: int | None = 1
    begins: int | None = None

    @property
    def name(self) -> str:
        return f"ray:{self.terms.share:g}"

    def initial(self) -> Memory:
        return Memory()

    def decide(self, state: Memory, seen: Sight) -> tuple[Wish, Memory]:
        total, asked = seen.concurrency(LOOK_BACK_S), seen.asked
        if seen.ready == 0:
            return Wish(self.terms.within(max(1, asked) if total > 0 or seen.queued > 0 else asked)), state
        wanted = self.terms.within(math.ceil(total / (self.terms.share * self.terms.concurrency) - 1e-9))
        direction = (wanted > asked) - (wanted < asked)
        if direction == 0:
            return Wish(asked), Memory()
        if direction != state.direction:
            state = Memory(direction, seen.at)
        if seen.at - state.since < (UP_DELAY_S if direction > 0 else DOWN_DELAY_S):
            return Wish(asked), state
        return Wish(max(1, wanted) if asked > 1 else wanted), Memory()
