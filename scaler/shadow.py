"""The shadow policy: a second one that decides beside the live one with each tick, and only records."""

from __future__ import annotations

from msgspec.structs import replace

from scaler.budget import Size
from scaler.config import Service
from scaler.decide import Policy, State, decide, initial_state, policy_of
from scaler.errors import BadSetting
from scaler.model import Decision, Observation


def shadow_of(service: Service, name: str, where: str, *, size: Size | None = None) -> Policy | None:
    """The policy that a service's ``shadow`` means: the live one, but for what it names. Raises ``BadSetting``."""
    text = service.shadow
    if text is None:
        return None
    named = {key: value for key in text.__struct_fields__ if (value := getattr(text, key)) is not None}
    try:
        return policy_of(replace(service, shadow=None, **named), name, where, size=size)
    except BadSetting as error:
        raise BadSetting(f"{error} (as services.{name}.shadow has it)") from error


def decide_beside(
    policy: Policy, shadow: State | None, live: State, observation: Observation
) -> tuple[Decision, State]:
    """What the shadow policy decides on what the live one sees, and what it has to remember beyond the live ``live``.

    The record of arrivals is the live one's wherever that has one: they are the same arrivals, and the largest part of
    a state.
    """
    state = _lent(shadow or initial_state(policy), live)
    decision, after = decide(policy, state, observation)
    return decision, _returned(after, live)


def _lent(state: State, live: State) -> State:
    if state.ahead is None or live.ahead is None:
        return state
    return replace(state, ahead=replace(state.ahead, history=live.ahead.history))


def _returned(state: State, live: State) -> State:
    assert state.ahead is not None  # `decide` never leaves it out
    if live.ahead is None:
        return state
    history = replace(state.ahead.history, blocks=(), tail=b"")
    return replace(state, ahead=replace(state.ahead, history=history))
