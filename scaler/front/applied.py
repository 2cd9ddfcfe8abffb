"""Which endpoint list each Envoy works with, as its polls say."""

from __future__ import annotations

from dataclasses import dataclass

from scaler.front.endpoints import Endpoint, Endpoints, version_of

SILENT_S = 10.0  # an Envoy that has not polled for so long is gone, or cannot hear us; it holds nothing back any more
KEPT = 64  # lists remembered by tag
ENVOYS = 64  # node ids remembered; more is somebody making them up


@dataclass(slots=True)
class _Envoy:
    tag: str
    at: float
    polls: int


class Applied:
    """The lists of one service that were served, and who has which. Times are epoch seconds."""

    def __init__(self) -> None:
        self._envoys: dict[str, _Envoy] = {}
        self._lists: dict[str, frozenset[Endpoint]] = {}
        self._version = 0

    def served(self, endpoints: Endpoints) -> None:
        """Remember a list by its tag."""
        tag = endpoints.tag
        self._lists.pop(tag, None)
        self._lists[tag] = frozenset(endpoints.ready)
        while len(self._lists) > KEPT:
            del self._lists[next(iter(self._lists))]

    def begin(self, node: str, tag: str, now: float) -> bool:
        """A poll says that ``node`` works with list ``tag``; True when that is news."""
        envoy = self._envoys.get(node)
        if envoy is None:
            while len(self._envoys) >= ENVOYS:
                del self._envoys[min(self._envoys, key=lambda each: self._envoys[each].at)]
            self._envoys[node] = _Envoy(tag=tag, at=now, polls=1)
            return True
        changed = envoy.tag != tag
        envoy.tag, envoy.at, envoy.polls = tag, now, envoy.polls + 1
        return changed

    def end(self, node: str, now: float) -> None:
        """The poll was answered, or broke off."""
        envoy = self._envoys.get(node)
        if envoy is not None:
            envoy.at, envoy.polls = now, max(0, envoy.polls - 1)

    def version(self, now: float) -> int:
        """The version that every Envoy has at least; the last one known when none polls."""
        live = self._live(now)
        if live:
            self._version = min(version_of(envoy.tag) for envoy in live)
        return self._version

    def usable(self, endpoints: Endpoints, now: float) -> frozenset[Endpoint]:
        """Replicas of the list that every Envoy knows already; none while no Envoy polls."""
        live = self._live(now)
        usable = frozenset(endpoints.ready) if live else frozenset()
        for envoy in live:
            usable &= self._lists.get(envoy.tag, frozenset())
        return usable

    def _live(self, now: float) -> list[_Envoy]:
        return [envoy for envoy in self._envoys.values() if envoy.polls or now - envoy.at < SILENT_S]
