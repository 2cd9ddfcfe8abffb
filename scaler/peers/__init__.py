"""The rules of other autoscalers, restated from their source and documentation, to compare with on the same trace.

Each file is one rule: what it looks at, its published defaults, and its own memory. They see what they would see in
life, and without a fault: no metric is ever missing here. ``share`` in ``Terms`` is how much of what a replica carries
the rule aims to keep busy; it is the one knob, for their other settings are left as they come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scaler.peers.fixed import Fixed
from scaler.peers.hpa import Hpa
from scaler.peers.keda import Keda
from scaler.peers.knative import Knative
from scaler.peers.ray_serve import RayServe
from scaler.peers.skyserve import SkyServe
from scaler.replay.sight import Rule, Terms

PEERS: dict[str, Callable[[Terms], Rule[Any]]] = {
    "hpa": Hpa,
    "keda": Keda,
    "keda-load": lambda terms: Keda(terms, metric="concurrency"),
    "kpa": Knative,
    "ray": RayServe,
    "skyserve": SkyServe,
}

__all__ = ["PEERS", "Fixed"]
