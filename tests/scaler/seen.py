"""Builders with quiet defaults for the tests of the decision core."""

from __future__ import annotations

import json
from typing import Any

from scaler import config
from scaler.decide import Policy, State, decide, initial_state, policy_of
from scaler.model import Decision, Observation


def policy(**settings: Any) -> Policy:
    """A policy from settings as an operator writes them; unless told, at most 10 replicas of 4 requests at once, and
    no forecast."""
    settings = {
        "replicas": {"min": 0, "max": 10},
        "target": {"concurrency": 4},
        "start": {"expected_s": 60},
        "forecast": False,
        **settings,
    }
    text = json.dumps({"services": {"iris": settings}})
    return policy_of(config.load(text, "autoscaler.yaml").services["iris"], "iris", "autoscaler.yaml")


def seen(at: float = 0.0, **facts: Any) -> Observation:
    """A fresh observation of a service at rest with nothing ready."""
    quiet: dict[str, Any] = {
        "window_s": 15.0,
        "ready": 0,
        "starting": 0,
        "arrivals": 0.0,
        "completed": 0.0,
        "in_flight": 0.0,
        "queued": 0.0,
    }
    return Observation(at=at, **{**quiet, **facts})


class Watch:
    """Ticks a policy along; every tick sees the count that the tick before asked for, all of it ready."""

    def __init__(self, policy: Policy, at: float = 0.0, every_s: float = 15.0, ready: int = 0) -> None:
        self.policy, self.at, self.every_s, self.ready = policy, at, every_s, ready
        self.state: State = initial_state(policy)

    def tick(self, **facts: Any) -> Decision:
        facts = {"ready": self.ready, "window_s": self.every_s, **facts}
        decision, self.state = decide(self.policy, self.state, seen(self.at, **facts))
        self.at += self.every_s
        self.ready = decision.desired
        return decision
