"""A recorded decision made again from what it was made from: the same bytes come out, or the record is not whole."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from scaler.decide import Policy, State, decide
from scaler.foresight.history import Block, Span
from scaler.memory import span, with_history
from scaler.model import Decision, Observation
from scaler.ports import DecisionRow


def blocks_of(row: DecisionRow) -> Span | None:
    """The stored blocks of the record of arrivals that the decision was made from besides the row."""
    try:
        return span(msgspec.msgpack.decode(row.state_before, type=State))
    except msgspec.MsgspecError:
        return None


def recomputed(row: DecisionRow, blocks: Mapping[int, Block]) -> Decision | None:
    """What ``decide`` says today to a recorded policy, state and observation; None where row and ``blocks`` (those
    that ``blocks_of`` names) do not hold them in a form that this version reads."""
    try:
        policy = msgspec.msgpack.decode(row.policy, type=Policy)
        state = msgspec.msgpack.decode(row.state_before, type=State)
        observation = msgspec.msgpack.decode(row.observation, type=Observation)
    except msgspec.MsgspecError:
        return None
    named = span(state)
    if named and any(number not in blocks for number in range(named.first, named.last + 1)):
        return None
    return decide(policy, with_history(state, blocks), observation)[0]


def is_reproduced(row: DecisionRow, blocks: Mapping[int, Block]) -> bool | None:
    """Whether the recorded decision comes out again bit for bit; None where that cannot be tried."""
    again = recomputed(row, blocks)
    return None if again is None else msgspec.msgpack.encode(again) == row.decision
