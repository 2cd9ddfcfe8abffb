"""What each signal alone would ask for: one function from an observation to a count, and ``SIGNALS``, their registry.

Every signal reckons from totals over the whole service, never from a mean per replica: a mean falls when replicas are
added, so it would count those twice that are still starting. A signal that cannot know says so (``count`` is None);
that is not the same as asking for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from msgspec import Struct

from scaler.config import SignalText, Target
from scaler.model import Observation


class Proposal(Struct, frozen=True, kw_only=True):
    """The replicas that one signal alone would ask for; None: it cannot know. ``load`` is the same before rounding."""

    signal: str
    count: int | None
    because: str
    load: float | None = None


class Rates(Struct, frozen=True, kw_only=True):
    """What is derived once for all signals: arrivals per second, and seconds of work in a request."""

    arrivals_per_s: float | None
    service_s: float | None


Signal = Callable[[Target, Observation, Rates], Proposal | None]


def signal_name(text: SignalText, index: int) -> str:
    """The key under which an observation carries this signal's number, and its name in explanations."""
    return text.name or text.storage_queue or f"signals[{index}]"


def proposals(
    target: Target, shares: Iterable[tuple[str, float]], seen: Observation, rates: Rates
) -> tuple[Proposal, ...]:
    """What every configured signal asks for. ``shares``: names of outside signals and how much one replica carries."""
    own = [signal(target, seen, rates) for signal in SIGNALS]
    return (*(p for p in own if p is not None), *(_outside(name, share, seen) for name, share in shares))


def concurrency(target: Target, seen: Observation, rates: Rates) -> Proposal | None:
    """Requests in the service at once: those in work, or what the arrivals will put in work, and those that wait."""
    if target.concurrency is None:
        return None
    in_flight = seen.in_flight
    if in_flight is None and seen.ready == 0:
        in_flight = 0.0
    if in_flight is None or seen.queued is None:
        return _unknown("concurrency", "requests in flight")
    offered = 0.0
    if rates.arrivals_per_s is not None and rates.service_s is not None:
        offered = rates.arrivals_per_s * rates.service_s
    load = max(in_flight, offered) + seen.queued
    return _carried("concurrency", load, target.concurrency, "requests at once")


def requests_per_second(target: Target, seen: Observation, rates: Rates) -> Proposal | None:
    """Arrivals per second."""
    if target.requests_per_second is None:
        return None
    if rates.arrivals_per_s is None:
        return _unknown("requests_per_second", "arrivals")
    return _carried("requests_per_second", rates.arrivals_per_s, target.requests_per_second, "requests/s")


def cpu(target: Target, seen: Observation, rates: Rates) -> Proposal | None:
    """CPU of all ready replicas together."""
    return _share("cpu", target.cpu, seen.cpu, seen.ready)


def memory(target: Target, seen: Observation, rates: Rates) -> Proposal | None:
    """Memory of all ready replicas together."""
    return _share("memory", target.memory, seen.memory, seen.ready)


def gpu(target: Target, seen: Observation, rates: Rates) -> Proposal | None:
    """GPU time of all ready replicas together."""
    return _share("gpu", target.gpu, seen.gpu, seen.ready)


SIGNALS: tuple[Signal, ...] = (concurrency, requests_per_second, cpu, memory, gpu)


def _share(name: str, target: float | None, mean: float | None, ready: int) -> Proposal | None:
    if target is None:
        return None
    if ready == 0:
        return Proposal(signal=name, count=0, because=f"no replica is ready, so none reports {name}")
    if mean is None:
        return _unknown(name, name)
    return _carried(name, mean * ready, target, f"replicas' worth of {name}")


def _outside(name: str, share: float, seen: Observation) -> Proposal:
    value = seen.signals.get(name)
    return _unknown(name, name) if value is None or not math.isfinite(value) else _carried(name, value, share, name)


def _carried(name: str, load: float, per_replica: float, what: str) -> Proposal:
    # A hair below the next whole replica is rounding, not load: 0.1 * 3 / 0.1 must be three.
    needed = max(0.0, load) / per_replica
    count = math.ceil(needed - 1e-9)
    because = f"{load:.4g} {what}, {per_replica:g} per replica, need {_replicas(count)}"
    return Proposal(signal=name, count=count, because=because, load=needed)


def _unknown(name: str, what: str) -> Proposal:
    return Proposal(signal=name, count=None, because=f"{what} not known")


def _replicas(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"
