"""Knative's pod autoscaler (KPA): a mean over 60 s, and one over 6 s that wins for a minute once it shows twice what is
ready.

    stable, panic = ceil(mean concurrency over 60 s, 6 s / target), within [floor(ready / 2), 1000 x ready]
    panic while ceil(panic mean / target) / ready >= 2, and 60 s after: the largest of both so far, never less
    zero only after 60 s active, an idle window and 30 s of grace, and through one replica

At zero the activator holds requests and reports them. Source: pkg/autoscaler/scaling/autoscaler.go, kpa/scaler.go.
"""

from __future__ import annotations

import math

from msgspec import Struct
from msgspec.structs import replace

from scaler.replay.sight import Sight, Terms, Wish

STABLE_S, PANIC_S = 60, 6
PANIC_AT = 2.0
UP_RATE, DOWN_RATE = 1000.0, 2.0
GRACE_S = 30


class Memory(Struct, frozen=True):
    """Since when it panics and the most it asked for meanwhile; since when the revision is active, and idle."""

    panic_at: int | None = None
    panic_most: int = 0
    active_at: int | None = None
    idle_at: int | None = None


class Knative(Struct, frozen=True):
    """On requests in work and waiting; the target is a share of what a replica has in work at most."""

    terms: Terms
    tick_s: int = 2
    wake_s: int | None = 1
    begins: int | None = None

    @property
    def name(self) -> str:
        return f"kpa:{self.terms.share:g}"

    def initial(self) -> Memory:
        return Memory()

    def decide(self, state: Memory, seen: Sight) -> tuple[Wish, Memory]:
        target = self.terms.share * self.terms.concurrency
        ready = max(1, seen.ready)
        stable = math.ceil(seen.concurrency(STABLE_S) / target - 1e-9)
        panic = math.ceil(seen.concurrency(PANIC_S) / target - 1e-9)
        state = _alarmed(state, seen.at, panic / ready)
        wanted = _within(stable, ready)
        if state.panic_at is not None:
            state = replace(state, panic_most=max(state.panic_most, wanted, _within(panic, ready)))
            wanted = state.panic_most
        if seen.asked and state.active_at is None:
            state = replace(state, active_at=seen.at)
        wanted, state = (wanted, replace(state, idle_at=None)) if wanted else _towards_zero(state, seen)
        return Wish(self.terms.within(wanted)), state


def _within(count: int, ready: int) -> int:
    return min(max(count, math.floor(ready / DOWN_RATE)), math.ceil(ready * UP_RATE))


def _alarmed(state: Memory, at: int, excess: float) -> Memory:
    if excess >= PANIC_AT:
        return replace(state, panic_at=at)
    if state.panic_at is not None and state.panic_at + STABLE_S < at:
        return replace(state, panic_at=None, panic_most=0)
    return state


def _towards_zero(state: Memory, seen: Sight) -> tuple[int, Memory]:
    """Nothing is asked for: how far that may go already."""
    if seen.asked == 0:
        return 0, replace(state, active_at=None)
    if state.active_at is not None and seen.at - state.active_at < STABLE_S:
        return 1, state
    if state.idle_at is None:
        state = replace(state, idle_at=seen.at)
    if state.idle_at is not None and seen.at - state.idle_at >= GRACE_S:
        return 0, replace(state, active_at=None, idle_at=None)
    return 1, state
