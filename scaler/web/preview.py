"""What a pin would do, before it is sent: the very decision function, on what was last observed."""

from __future__ import annotations

from msgspec.structs import replace

from scaler.decide import Policy, decide
from scaler.memory import Memory
from scaler.model import Decision, Pin


def decision_with(memory: Memory | None, policy: Policy, pin: Pin | None, now: float) -> Decision | None:
    """What the next tick would decide with this pin (None: with none); None before the first tick."""
    if memory is None or memory.observation is None:
        return None
    seen = replace(memory.observation, at=max(now, memory.observation.at), pin=pin, cold_starts_s=())
    return decide(policy, memory.state, seen)[0]
