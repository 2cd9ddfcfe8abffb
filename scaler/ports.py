"""What a tick needs of the world. ``scaler.azure`` gives it; the in-memory world of the tests gives it too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from msgspec import Struct, field

from scaler.errors import Conflict, OutOfCapacity, Refused
from scaler.foresight.history import Block, Span
from scaler.model import Front, Group, GroupDetail, Pin, Replica, Stats


class GroupRequest(Struct, frozen=True, kw_only=True):
    """A container group to be created: ``body`` is the ARM body (location, tags, properties), secrets included.
    ``api_version`` is the one that the body is meant for; empty: the client's own."""

    name: str
    body: bytes
    api_version: str = ""
    place: str = ""  # of several resource groups, the one to create it in; empty: the deployment's own

    def __repr__(self) -> str:
        return f"GroupRequest(name={self.name!r}, body=<{len(self.body)} bytes>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name)]


class Usage(Struct, frozen=True, kw_only=True):
    """One line of a region's quota, as ``list_usage`` gives it: e.g. StandardCores, ContainerGroups."""

    name: str
    used: float
    limit: float


class Fleet(Protocol):
    """The container groups. Every call raises ``Unavailable`` when nothing was learned."""

    async def list(self) -> Sequence[Group]:
        """All groups of the resource group, ours and strangers'; a list is one read (and one more per next page)."""

    async def show(self, name: str) -> GroupDetail | None:
        """One group with its run state; None when Azure says that it does not exist."""

    async def create(self, request: GroupRequest) -> None:
        """Ask for a group; returns when Azure accepted it, long before it runs. ``Unavailable`` leaves it open whether
        the group will exist. ``OutOfCapacity`` and ``Refused`` mean that it will not."""

    async def delete(self, name: str) -> None:
        """Ask for the end of a group; a group that is gone already is a success."""

    async def usage(self, region: str) -> Sequence[Usage]:
        """The quota of a region and what of it is used."""


class Replicas(Protocol):
    """The servers in the groups, asked directly. Each call raises ``Unavailable`` when the replica gives no answer."""

    async def stats(self, replica: Replica) -> Stats:
        """What the replica says of itself."""

    async def drain(self, replica: Replica, *, draining: bool) -> None:
        """Tell it to take nothing new (True), or to serve again (False). Saying it twice is saying it once."""


class ServiceRow(Struct, frozen=True, kw_only=True):
    """What one service remembers from tick to tick; its ETag is the fence.

    ``memory`` belongs to the tick alone. The other columns are there for others to read: discovery needs
    ``endpoints_version`` (raised with each change of the ready set), ``off``, ``opens_at`` and ``hold_limit_s``.
    """

    memory: bytes
    endpoints_version: int = 0
    off: bool = False
    opens_at: float | None = None
    wakes: bool = True  # whether a request at zero may start a replica now
    hold_limit_s: float = 300.0
    at: float = 0.0
    desired: int = 0
    because: str = ""


class RolloutRow(Struct, frozen=True, kw_only=True):
    """Which versions there are and which should run: ``data`` is a packed ``rollout.Rollout``."""

    data: bytes
    etag: str = ""  # as read; empty for a row not yet written


class Stored(Struct, frozen=True, kw_only=True):
    """Everything the state table holds of one service, read with one query of its partition."""

    service: str
    row: ServiceRow | None = None
    etag: str | None = None  # of the service row; None when there is none yet
    pin: Pin | None = None
    pin_etag: str | None = None
    front: Front | None = None
    rollout: RolloutRow | None = None
    replicas: tuple[Replica, ...] = ()


class DecisionRow(Struct, frozen=True, kw_only=True):
    """One tick, enough to explain it and to recompute it (``recompute.py``). Bytes are msgpack: of a ``Decision``, an
    ``Observation``, a ``State``, a ``Policy``; ``shadow`` is the ``Decision`` of the shadow policy, empty without one.
    """

    service: str
    at: float
    tick: str  # unique
    cause: str  # timer, wake, queue, alert, event, admin
    desired: int
    limited_by: str | None
    because: str
    decision: bytes
    observation: bytes
    state_before: bytes
    policy: bytes = b""
    shadow: bytes = b""
    actions: str  # JSON: what was done and how it ended
    replicas: str  # JSON: {"ready": 3, "starting": 1, "draining": 0}
    seconds: float
    calls: str  # JSON: {"list": 1, "stats": 3, "table": 3, ...}
    conditions: str = "[]"  # JSON


class DrawnRow(Struct, frozen=True, kw_only=True):
    """The columns of a ``DecisionRow`` that a chart is drawn from: a fraction of its bytes."""

    at: float
    desired: int
    decision: bytes
    observation: bytes
    replicas: str


class Changes(Struct, frozen=True, kw_only=True):
    """The rows one save writes and removes together; ``blocks`` are those of the record of arrivals that are full now
    and stored nowhere yet."""

    written: tuple[Replica, ...] = field(default=())
    removed: tuple[Replica, ...] = field(default=())
    rollout: RolloutRow | None = None  # None: as it was
    blocks: tuple[Block, ...] = field(default=())


class Store(Protocol):
    """State and decisions. Every call raises ``Unavailable`` when the table gives no answer."""

    async def load(self, service: str) -> Stored:
        """One query of the service's partition."""

    async def save(self, stored: Stored, row: ServiceRow, changes: Changes) -> Stored:
        """One transaction: the service row if its ETag is still ``stored.etag`` (or if there is still none), and the
        replica rows (written if their ETag still matches; inserted where ``Replica.etag`` is empty). Gives what is
        stored now, new ETags included. Raises ``Conflict``, with nothing changed, when another tick was first."""

    async def history(self, service: str, span: Span) -> Mapping[int, Block]:
        """The stored blocks of the record of arrivals, by number; at least those of the span that are stored at all.
        They never change, so a store keeps what it once read."""

    async def move(self, service: str, replica: Replica) -> Replica:
        """Write one replica row if its ETag still matches; gives it with the new ETag. Raises ``Conflict``."""

    async def record(self, row: DecisionRow) -> None:
        """Insert one decision."""

    async def decisions(
        self, service: str, *, since: float, until: float | None = None, limit: int = 100
    ) -> Sequence[DecisionRow]:
        """Decisions of a span, newest first, at most ``limit``."""

    async def drawn(self, service: str, *, since: float, until: float) -> Sequence[DrawnRow]:
        """Every decision of a span, both ends included, oldest first, as far as it is drawn."""

    async def past(self, service: str, *, first: int, last: int) -> Mapping[int, bytes]:
        """Packed hours (``past.packed``) from the hour ``first`` to ``last`` since 1970, those that there are."""

    async def write_past(self, service: str, hour: int, data: bytes) -> None:
        """Write a packed hour, whatever was there: it never changes, so every writer writes the same."""

    async def write_pin(self, service: str, pin: Pin, *, etag: str | None, create: bool = False) -> str:
        """Write the pin and give its new ETag. With ``etag`` only if it still matches, with ``create`` only if there is
        none, else whatever there is. Raises ``Conflict``."""

    async def remove_pin(self, service: str, *, etag: str | None) -> bool:
        """Take the pin away (if ``etag`` is given, only if it still matches: ``Conflict``); False: there was none."""

    async def write_rollout(self, service: str, row: RolloutRow) -> RolloutRow:
        """Write the rollout's row if its ETag still matches (or if there is still none); gives it with the new ETag.
        Raises ``Conflict``."""

    async def write_front(self, service: str, front: Front) -> None:
        """Write what discovery counts, whatever was there."""

    async def services(self) -> Sequence[str]:
        """Every service that has a row."""


_counting: ContextVar[Calls | None] = ContextVar("counting", default=None)


class Calls:
    """What one tick asked of others, by kind (list, show, create, delete, usage, stats, drain, table, signal), and what
    of it came to nothing, by kind and outcome."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._failed: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Within it, and in tasks started within it, ``outgoing`` counts here."""
        token = _counting.set(self)
        try:
            yield
        finally:
            _counting.reset(token)

    def counts(self) -> dict[str, int]:
        return dict(self._counts)

    def outcomes(self) -> dict[str, int]:
        """How calls ended, by ``<kind> <outcome>``: ok, throttled, refused (an answer that says no), failed (none)."""
        told = Counter({f"{kind} ok": count for kind, count in self._counts.items()})
        for (kind, outcome), count in self._failed.items():
            told[f"{kind} ok"] -= count
            told[f"{kind} {outcome}"] += count
        return {key: count for key, count in sorted(told.items()) if count > 0}

    def add(self, kind: str) -> None:
        self._counts[kind] += 1

    def failed(self, kind: str, error: BaseException) -> None:
        self._failed[kind, _outcome(error)] += 1


@contextmanager
def outgoing(kind: str) -> Iterator[None]:
    """Adapters put it around each request that goes out."""
    calls = _counting.get()
    if calls is None:
        yield
        return
    calls.add(kind)
    try:
        yield
    except BaseException as error:
        calls.failed(kind, error)
        raise


def _outcome(error: BaseException) -> str:
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return "refused" if isinstance(error, Conflict | Refused | OutOfCapacity) else "failed"
    return "throttled" if status == 429 else "refused" if 400 <= status < 500 else "failed"
