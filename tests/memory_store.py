"""The state table in memory, with the rules of Azure Tables; and the faults that all parts of the world meet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from scaler.errors import Conflict
from scaler.foresight.history import MOST_BLOCKS, Block, Span
from scaler.model import Front, Pin, Replica
from scaler.ports import Changes, DecisionRow, DrawnRow, RolloutRow, ServiceRow, Stored, outgoing


class Fault(Struct):
    """An error that calls of a kind meet, ``times`` times (None: until taken away); ``only``: those about a name."""

    error: Exception
    times: int | None = 1
    done: bool = False  # the call took effect, only its answer is lost
    only: str | None = None


class Faults:
    """What is broken now, by kind of call: list, show, create, delete, usage, stats, drain, table, and the store's
    methods by name (load, save, move, record …)."""

    def __init__(self) -> None:
        self._faults: defaultdict[str, list[Fault]] = defaultdict(list)

    def add(
        self, kind: str, error: Exception, *, times: int | None = 1, done: bool = False, only: str | None = None
    ) -> None:
        self._faults[kind].append(Fault(error, times, done, only))

    def clear(self, kind: str | None = None) -> None:
        for faults in [self._faults[kind]] if kind else self._faults.values():
            faults.clear()

    def before(self, kind: str, name: str | None = None) -> None:
        """Raises what keeps the call from happening."""
        self._meet(kind, name, done=False)

    def after(self, kind: str, name: str | None = None) -> None:
        """Raises what keeps the answer from arriving."""
        self._meet(kind, name, done=True)

    def _meet(self, kind: str, name: str | None, *, done: bool) -> None:
        for fault in self._faults[kind]:
            if fault.done is done and fault.times != 0 and fault.only in (None, name):
                if fault.times is not None:
                    fault.times -= 1
                raise fault.error


class _Row(Struct):
    value: Any
    etag: str


class MemoryStore:
    """``ports.Store`` with the rules of Azure Tables: every write gives a new ETag, a transaction is all or nothing."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.rows: defaultdict[str, dict[str, _Row]] = defaultdict(dict)  # service → key → row
        self.recorded: dict[tuple[str, str], DecisionRow] = {}
        self.packed: dict[tuple[str, int], bytes] = {}
        self._writes = 0

    async def load(self, service: str) -> Stored:
        self._meet("load")
        rows = self.rows[service]
        own, pin, front, rolling = (rows.get(key) for key in ("service", "pin", "front", "rollout"))
        replicas = [replace(r.value, etag=r.etag) for key, r in sorted(rows.items()) if key.startswith("replica-")]
        return Stored(
            service=service,
            row=own.value if own else None,
            etag=own.etag if own else None,
            pin=pin.value if pin else None,
            pin_etag=pin.etag if pin else None,
            front=front.value if front else None,
            rollout=replace(rolling.value, etag=rolling.etag) if rolling else None,
            replicas=tuple(replicas),
        )

    async def history(self, service: str, span: Span) -> Mapping[int, Block]:
        if not any(key.startswith("history-") for key in self.rows[service]):
            return {}
        self._meet("history")
        return {r.value.number: r.value for k, r in self.rows[service].items() if k.startswith("history-")}

    async def services(self) -> Sequence[str]:
        self._meet("services")
        return sorted(service for service, rows in self.rows.items() if "service" in rows)

    async def save(self, stored: Stored, row: ServiceRow, changes: Changes) -> Stored:
        self._meet("save")
        rows = self.rows[stored.service]
        self._match(rows, "service", stored.etag)
        for replica in (*changes.written, *changes.removed):
            self._match(rows, f"replica-{replica.name}", replica.etag or None)
        if changes.rollout is not None:
            self._match(rows, "rollout", changes.rollout.etag or None)
        etag = self._write(rows, "service", row)
        for block in changes.blocks:
            self._write(rows, f"history-{block.number % (2 * MOST_BLOCKS):04d}", block)
        written = {r.name: replace(r, etag=self._write(rows, f"replica-{r.name}", r)) for r in changes.written}
        rolling = stored.rollout
        if changes.rollout is not None:
            rolling = replace(changes.rollout, etag=self._write(rows, "rollout", changes.rollout))
        gone = {r.name for r in changes.removed}
        for name in gone:
            del rows[f"replica-{name}"]
        kept = (r for r in stored.replicas if r.name not in gone and r.name not in written)
        self.faults.after("save")
        replicas = sorted((*kept, *written.values()), key=lambda r: r.name)
        return replace(stored, row=row, etag=etag, rollout=rolling, replicas=tuple(replicas))

    async def move(self, service: str, replica: Replica) -> Replica:
        self._meet("move", replica.name)
        rows = self.rows[service]
        if not replica.etag:
            raise Conflict("a row that was never written cannot be moved")
        self._match(rows, f"replica-{replica.name}", replica.etag)
        moved = replace(replica, etag=self._write(rows, f"replica-{replica.name}", replica))
        self.faults.after("move", replica.name)
        return moved

    async def record(self, row: DecisionRow) -> None:
        self._meet("record")
        self.recorded.setdefault((row.service, f"{int(row.at * 1000):015d}-{row.tick}"), row)
        self.faults.after("record")

    async def decisions(
        self, service: str, *, since: float, until: float | None = None, limit: int = 100
    ) -> Sequence[DecisionRow]:
        self._meet("decisions")
        newest_first = [r for (s, _), r in sorted(self.recorded.items(), reverse=True) if s == service]
        return [r for r in newest_first if since <= r.at and (until is None or r.at <= until)][:limit]

    async def drawn(self, service: str, *, since: float, until: float) -> Sequence[DrawnRow]:
        self._meet("drawn")
        rows = [r for (s, _), r in sorted(self.recorded.items()) if s == service and since <= r.at <= until]
        return [DrawnRow(**{name: getattr(r, name) for name in DrawnRow.__struct_fields__}) for r in rows]

    async def past(self, service: str, *, first: int, last: int) -> dict[int, bytes]:
        self._meet("past")
        return {hour: data for (s, hour), data in sorted(self.packed.items()) if s == service and first <= hour <= last}

    async def write_past(self, service: str, hour: int, data: bytes) -> None:
        self._meet("write_past")
        self.packed[service, hour] = data

    async def write_pin(self, service: str, pin: Pin, *, etag: str | None, create: bool = False) -> str:
        self._meet("write_pin")
        if create or etag is not None:
            self._match(self.rows[service], "pin", None if create else etag)
        return self._write(self.rows[service], "pin", pin)

    async def remove_pin(self, service: str, *, etag: str | None) -> bool:
        self._meet("remove_pin")
        if "pin" not in self.rows[service]:
            return False
        if etag is not None:
            self._match(self.rows[service], "pin", etag)
        del self.rows[service]["pin"]
        return True

    async def write_rollout(self, service: str, row: RolloutRow) -> RolloutRow:
        self._meet("write_rollout")
        self._match(self.rows[service], "rollout", row.etag or None)
        return replace(row, etag=self._write(self.rows[service], "rollout", row))

    async def write_front(self, service: str, front: Front) -> None:
        self._meet("write_front")
        self._write(self.rows[service], "front", front)

    def _meet(self, method: str, name: str | None = None) -> None:
        with outgoing("table"):
            self.faults.before("table", name)
            self.faults.before(method, name)

    def _match(self, rows: dict[str, _Row], key: str, etag: str | None) -> None:
        """``etag`` None: the row must not be there yet."""
        row = rows.get(key)
        if (row.etag if row else None) != etag:
            raise Conflict(f"row {key}: read with ETag {etag}, stored is {row.etag if row else None}")

    def _write(self, rows: dict[str, _Row], key: str, value: Any) -> str:
        self._writes += 1
        etag = f'W/"{self._writes}"'
        rows[key] = _Row(value, etag)
        return etag
