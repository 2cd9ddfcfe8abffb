"""The rules that a plan keeps to: from the settings, the rollout, what waits and what Azure still takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from scaler.config import Service
from scaler.durations import Durations, drain_deadline_s
from scaler.memory import Backoff, waits
from scaler.model import Replica
from scaler.plan import Rules
from scaler.quota import Room
from scaler.rollout import Rollout
from scaler.template import Template


class Allowed(Struct, frozen=True, kw_only=True):
    """What holds ``at`` now: who waits, what Azure still takes, and how long requests take at most."""

    at: float
    backoff: Mapping[str, Backoff]
    room: Room
    durations: Durations | None


def rules(
    service: Service,
    replicas: Sequence[Replica],
    rolled: Rollout | None,
    templates: Mapping[str, Template],
    allowed: Allowed,
) -> Rules:
    """``rolled`` says which of the ``templates``, by version, should run; None: no template is configured."""
    left = allowed.room.left({*service.regions, *(r.region for r in replicas)}, replicas)
    backoff, at = allowed.backoff, allowed.at
    waiting = frozenset(key for key in backoff if waits(backoff, key, at))
    free = (r for r in service.regions if r not in waiting and left["create", r] > 0)
    return Rules(
        max=service.replicas.max,
        surge=service.rollout.surge,
        template=rolled.target if rolled else None,
        makeable={v: t.port for v, t in templates.items() if not waits(backoff, v, at)},
        proven=rolled is None or rolled.proven or rolled.phase != "rolling",
        fallback=rolled.good if rolled and rolled.good in templates else None,
        region=next(free, None),
        waiting=waiting,
        left=left,
        drain_deadline_s=drain_deadline_s(allowed.durations, service.scale_in.drain_deadline_s),
        idle_s=service.scale_in.idle_s,
        unhealthy_after_s=service.unhealthy_after_s,
    )
