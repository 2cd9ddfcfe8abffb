"""A recorded decision made again from what it was made from: the same bytes come out, or the record is not whole."""

from __future__ import annotations

import msgspec

from scaler.decide import Policy, State, decide
from scaler.model import Decision, Observation
from scaler.ports import DecisionRow


def recomputed(row: DecisionRow) -> Decision | None:
    """What ``decide`` says today to a recorded policy, state and observation; None where the row does not hold them in
    a form that this version reads."""
    try:
        policy = msgspec.msgpack.decode(row.policy, type=Policy)
        state = msgspec.msgpack.decode(row.state_before, type=State)
        observation = msgspec.msgpack.decode(row.observation, type=Observation)
    except msgspec.MsgspecError:
        return None
    return decide(policy, state, observation)[0]


def is_reproduced(row: DecisionRow) -> bool | None:
    """Whether the recorded decision comes out again bit for bit; None where that cannot be tried."""
    again = recomputed(row)
    return None if again is None else msgspec.msgpack.encode(again) == row.decision
