"""State and decisions in Azure Table Storage: one query to load a service, one transaction to save it.

Table ``state`` has a partition a service, with the rows ``service`` (its ETag is the fence), ``pin``, ``front``,
``rollout``, a ``replica-<name>`` for each replica, a ``past-<hour>`` for each hour that is over, and a
``history-<number>`` for each full block of the record of arrivals. Blocks never change; their keys go round, so that
twice as many are kept as a record has: what was decided with a full record can still be computed again. Table
``decisions`` has a row a tick, in order of time.

A transaction takes 100 rows. A larger save becomes several, and each of them rewrites the service row under the fence,
all but the last with what it held before: the turn stays ours between them, and what was decided is remembered with the
last alone, as is a change of the endpoint list, as far as it fits. A crash in between leaves rows that are each right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.data.tables import UpdateMode
from msgspec import Struct
from msgspec.structs import replace

from scaler.azure.failures import told, unavailable
from scaler.azure.table_rows import Row, from_row, to_row
from scaler.errors import Conflict, Unavailable
from scaler.foresight.history import MOST_BLOCKS, Block, Span
from scaler.model import Front, Phase, Pin, Replica
from scaler.ports import Changes, DecisionRow, DrawnRow, RolloutRow, ServiceRow, Stored, outgoing

if TYPE_CHECKING:
    from azure.core.async_paging import AsyncPageIterator
    from azure.data.tables.aio import TableClient, TableServiceClient

CALL_LIMIT_S = 10.0
ROWS_A_TRANSACTION = 100
STATE, DECISIONS = "state", "decisions"
REPLICA, ROLLOUT = "replica-", "rollout"
PAST, HISTORY = "past-", "history-"  # a tick reads from `pin` on, and so neither of these
BLOCKS_KEPT = 2 * MOST_BLOCKS
BLOCKS_ONE_BY_ONE = 8  # more than so many are read with all the others
FIRST_SPAN_MS = 900_000  # how far back the newest decisions are looked for at first; doubled until there are enough
LAST_MS = 10**15 - 1
DRAWN = ("PartitionKey", "RowKey", *DrawnRow.__struct_fields__, "decision_1", "observation_1")
OF_THE_KEY = frozenset({"name", "etag"})
Operation = tuple[str, Row] | tuple[str, Row, dict[str, Any]]
T = TypeVar("T")


class TableState:
    """``ports.Store`` over azure-data-tables. Tables are made when the first call finds that there are none."""

    def __init__(self, service: TableServiceClient, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._state: TableClient = service.get_table_client(STATE)
        self._decisions: TableClient = service.get_table_client(DECISIONS)
        self._clock = clock  # only to know where the newest decisions are
        self._blocks: dict[str, dict[int, Block]] = {}  # by service: what was read once is not read again

    # -- state

    async def load(self, service: str) -> Stored:
        # Everything from `pin` on: `front` comes before it, and history, which a tick does not need, between them.
        rows = await self._query(
            self._state, "PartitionKey eq @service and (RowKey eq 'front' or RowKey ge 'pin')", service=service
        )
        return _stored(service, rows)

    async def history(self, service: str, span: Span) -> Mapping[int, Block]:
        """What is kept here is believed as long as its last block is the one that the span names."""
        known = {n: b for n, b in self._blocks.get(service, {}).items() if n >= span.first}
        newest = max((n for n in known if n <= span.last), default=-1)
        if newest == span.last and known[newest].digest != span.digest:
            known, newest = {}, -1
        missing = range(max(span.first, newest + 1), span.last + 1)
        if missing:
            known |= await self._read_blocks(service, missing)
            self._blocks[service] = known
        return known

    async def _read_blocks(self, service: str, numbers: range) -> dict[int, Block]:
        keys = "RowKey ge 'history-' and RowKey lt 'history.'"
        if len(numbers) <= BLOCKS_ONE_BY_ONE:
            keys = " or ".join(f"RowKey eq '{_block_key(number)}'" for number in numbers)
        rows = await self._query(self._state, f"PartitionKey eq @service and ({keys})", service=service)
        blocks = (from_row(STATE, row, Block) for row in rows)
        return {block.number: block for block in blocks if block.number in numbers}

    async def services(self) -> Sequence[str]:
        rows = await self._query(self._state, "RowKey eq 'service'", select=("PartitionKey", "RowKey"))
        return sorted(str(row["PartitionKey"]) for row in rows)

    async def save(self, stored: Stored, row: ServiceRow, changes: Changes) -> Stored:
        operations = _operations(stored, changes)
        rows_each = ROWS_A_TRANSACTION - 1
        batches = [operations[i : i + rows_each] for i in range(0, len(operations), rows_each)] or [[]]
        etag, etags = stored.etag, dict[str, str]()
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            kept = row if last else stored.row or ServiceRow(memory=b"")
            fence = _fenced("update" if etag else "create", to_row(stored.service, "service", kept), etag)
            replies = await self._transaction([fence, *batch], f"the rows of {stored.service}")
            etag = _etag(replies[0])
            etags |= {str(op[1]["RowKey"]): r.get("etag", "") for op, r in zip(batch, replies[1:], strict=True)}
        self._blocks.setdefault(stored.service, {}).update({block.number: block for block in changes.blocks})
        written = {r.name: replace(r, etag=etags[REPLICA + r.name]) for r in changes.written}
        rolling = replace(changes.rollout, etag=etags[ROLLOUT]) if changes.rollout else stored.rollout
        gone = {r.name for r in changes.removed}
        kept_rows = (r for r in stored.replicas if r.name not in gone and r.name not in written)
        replicas = sorted((*kept_rows, *written.values()), key=lambda r: r.name)
        return replace(stored, row=row, etag=etag, rollout=rolling, replicas=tuple(replicas))

    async def _transaction(self, operations: Sequence[Operation], what: str) -> Sequence[Mapping[str, Any]]:
        return await self._call(lambda: self._state.submit_transaction(operations), what)

    async def move(self, service: str, replica: Replica) -> Replica:
        row = _replica_row(service, replica)
        reply = await self._call(
            lambda: self._state.update_entity(
                row, UpdateMode.REPLACE, etag=replica.etag, match_condition=MatchConditions.IfNotModified
            ),
            f"replica {replica.name}",
        )
        return replace(replica, etag=_etag(reply))

    async def write_rollout(self, service: str, row: RolloutRow) -> RolloutRow:
        (reply,) = await self._transaction([_rollout_operation(service, row)], f"the rollout of {service}")
        return replace(row, etag=_etag(reply))

    async def write_front(self, service: str, front: Front) -> None:
        row = to_row(service, "front", front)
        await self._call(lambda: self._state.upsert_entity(row, UpdateMode.REPLACE), "front")

    # -- pins

    async def past(self, service: str, *, first: int, last: int) -> Mapping[int, bytes]:
        rows = await self._query(
            self._state,
            "PartitionKey eq @service and RowKey ge @first and RowKey le @last",
            service=service,
            first=_past_key(first),
            last=_past_key(last),
        )
        found = ((str(row["RowKey"]), from_row(STATE, row, _Past)) for row in rows)
        return {int(key.removeprefix(PAST)): past.data for key, past in found}

    async def write_past(self, service: str, hour: int, data: bytes) -> None:
        row = to_row(service, _past_key(hour), _Past(data=data))
        await self._call(lambda: self._state.upsert_entity(row, UpdateMode.REPLACE), f"an hour of {service}")

    async def write_pin(self, service: str, pin: Pin, *, etag: str | None, create: bool = False) -> str:
        row = to_row(service, "pin", pin)

        def send() -> Awaitable[Mapping[str, Any]]:
            if create:
                return self._state.create_entity(row)
            if etag is None:
                return self._state.upsert_entity(row, UpdateMode.REPLACE)
            return self._state.update_entity(
                row, UpdateMode.REPLACE, etag=etag, match_condition=MatchConditions.IfNotModified
            )

        return _etag(await self._call(send, f"the pin of {service}"))

    async def remove_pin(self, service: str, *, etag: str | None) -> bool:
        # A transaction, for the client's own delete does not say whether there was something to delete.
        row: Row = {"PartitionKey": service, "RowKey": "pin"}
        operation = _fenced("delete", row, etag)
        try:
            await self._call(lambda: self._state.submit_transaction([operation]), f"the pin of {service}")
        except _Absent:
            return False
        return True

    # -- decisions

    async def record(self, row: DecisionRow) -> None:
        entity = to_row(row.service, f"{_key(_milliseconds(row.at))}-{row.tick}", row, leave_out=frozenset({"service"}))
        try:
            await self._call(lambda: self._decisions.create_entity(entity), f"a decision of {row.service}")
        except Conflict:
            return  # an answer was lost and this is the second try: the key is the tick's own

    async def decisions(
        self, service: str, *, since: float, until: float | None = None, limit: int = 100
    ) -> Sequence[DecisionRow]:
        """Both ends belong to the span. The table sorts oldest first, so the newest are found by looking at the last
        minutes, then at twice as much before them, and so on."""
        found: list[DecisionRow] = []
        floor = max(0, _milliseconds(since))
        end = LAST_MS if until is None else _milliseconds(until) + 1
        start = _milliseconds(self._clock() if until is None else until) - FIRST_SPAN_MS
        span = FIRST_SPAN_MS
        while end > floor:
            start = max(start, floor)
            rows = await self._span(service, start, end)
            found += [r for r in reversed(rows) if since <= r.at and (until is None or r.at <= until)]
            if len(found) >= limit:
                break
            span *= 2
            start, end = start - span, start
        return found[:limit]

    async def drawn(self, service: str, *, since: float, until: float) -> Sequence[DrawnRow]:
        rows = await self._query(
            self._decisions,
            "PartitionKey eq @service and RowKey ge @start and RowKey lt @end",
            select=DRAWN,
            service=service,
            start=_key(max(0, _milliseconds(since))),
            end=_key(_milliseconds(until) + 1),
        )
        found = [from_row(DECISIONS, row, DrawnRow) for row in rows]
        return [r for r in found if since <= r.at <= until]

    async def _span(self, service: str, start: int, end: int) -> list[DecisionRow]:
        rows = await self._query(
            self._decisions,
            "PartitionKey eq @service and RowKey ge @start and RowKey lt @end",
            service=service,
            start=_key(start),
            end=_key(end),
        )
        return [from_row(DECISIONS, row, DecisionRow, service=service) for row in rows]

    # -- calls

    async def _query(
        self, table: TableClient, filter: str, select: Sequence[str] | None = None, **parameters: str
    ) -> list[Row]:
        """Every row that fits, page after page."""
        found: list[Row] = []
        items = table.query_entities(filter, parameters=parameters, select=list(select) if select else None)
        pages = cast("AsyncPageIterator[Row]", items.by_page())
        while True:
            page = await self._call(lambda: anext(pages), f"a query of table {table.table_name}")
            found += [row async for row in page]
            if pages.continuation_token is None:
                return found

    async def _call(self, send: Callable[[], Awaitable[T]], what: str) -> T:
        """One request, or what came of it as one of our errors. A table that is missing is made, and asked again."""
        try:
            return await self._once(send, what)
        except _NoTable:
            await self._make_tables()
        try:
            return await self._once(send, what)
        except _NoTable as error:
            raise Unavailable(f"{what}: the table is gone, perhaps somebody is deleting it") from error

    async def _once(self, send: Callable[[], Awaitable[T]], what: str) -> T:
        try:
            with outgoing("table"):
                async with asyncio.timeout(CALL_LIMIT_S):
                    return await send()
        except TimeoutError as error:
            raise Unavailable(f"{what}: table storage gave no answer within {CALL_LIMIT_S:.0f} s") from error
        except AzureError as error:
            raise _failure(what, error) from error

    async def _make_tables(self) -> None:
        for name in (STATE, DECISIONS):
            with suppress(Conflict):  # it is there already
                await self._once(partial(self._service.create_table, name), f"making table {name}")


class _Past(Struct, frozen=True):
    """A packed hour of points: ``scaler/past.py``."""

    data: bytes


class _Absent(Conflict):
    """The row is not there."""


class _NoTable(Exception):
    """The table is not there."""


def _failure(what: str, error: AzureError) -> Exception:
    status = error.status_code if isinstance(error, HttpResponseError) else None
    if status == 404:
        return _NoTable() if "TableNotFound" in f"{told(error)} {error}" else _Absent(f"{what}: is no longer there")
    if status == 409 and "BeingDeleted" not in told(error):
        return Conflict(f"{what}: is already there")
    if status == 412:
        return Conflict(f"{what}: was changed by somebody else")
    return unavailable(what, error, role="Storage Table Data Contributor")


def _stored(service: str, rows: Sequence[Any]) -> Stored:
    by_key = {str(row["RowKey"]): row for row in rows}
    own, pin, front, rolling = (by_key.get(key) for key in ("service", "pin", "front", ROLLOUT))
    replicas = (
        from_row(STATE, row, Replica, name=key.removeprefix(REPLICA), etag=_etag(row.metadata))
        for key, row in by_key.items()
        if key.startswith(REPLICA)
    )
    return Stored(
        service=service,
        row=from_row(STATE, own, ServiceRow) if own is not None else None,
        etag=_etag(own.metadata) if own is not None else None,
        pin=from_row(STATE, pin, Pin) if pin is not None else None,
        pin_etag=_etag(pin.metadata) if pin is not None else None,
        front=from_row(STATE, front, Front) if front is not None else None,
        rollout=from_row(STATE, rolling, RolloutRow, etag=_etag(rolling.metadata)) if rolling is not None else None,
        replicas=tuple(sorted(replicas, key=lambda r: r.name)),
    )


def _operations(stored: Stored, changes: Changes) -> list[Operation]:
    """Rows of a save; those that change what the front may send to come last, so that they share a transaction with the
    version that says so."""
    before = {r.name: r for r in stored.replicas}
    written = [
        (
            _endpoint(replica) != _endpoint(before.get(replica.name)),
            _fenced("update" if replica.etag else "create", _replica_row(stored.service, replica), replica.etag),
        )
        for replica in changes.written
    ]
    removed = [
        (
            _endpoint(replica) is not None,
            _fenced("delete", {"PartitionKey": stored.service, "RowKey": REPLICA + replica.name}, replica.etag),
        )
        for replica in changes.removed
    ]
    blocks: list[Operation] = [
        ("upsert", to_row(stored.service, _block_key(block.number), block), {"mode": UpdateMode.REPLACE})
        for block in changes.blocks
    ]
    rolling = [(False, _rollout_operation(stored.service, changes.rollout))] if changes.rollout else []
    operations = sorted([*rolling, *written, *removed], key=lambda pair: pair[0])
    return [*blocks, *(operation for _, operation in operations)]


def _rollout_operation(service: str, row: RolloutRow) -> Operation:
    columns = to_row(service, ROLLOUT, row, leave_out=OF_THE_KEY)
    return _fenced("update" if row.etag else "create", columns, row.etag)


def _block_key(number: int) -> str:
    return f"{HISTORY}{number % BLOCKS_KEPT:04d}"


def _endpoint(replica: Replica | None) -> tuple[str, int] | None:
    if replica is None or replica.phase is not Phase.READY or not replica.address:
        return None
    return replica.address, replica.port


def _replica_row(service: str, replica: Replica) -> Row:
    return to_row(service, REPLICA + replica.name, replica, leave_out=OF_THE_KEY)


def _fenced(verb: str, row: Row, etag: str | None) -> Operation:
    """An operation that holds only while the row is as it was read; without an ETag, a row that must not be there yet
    (``create``), or that may be as it is."""
    if verb == "create" or not etag:
        return verb, row
    options: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
    if verb == "update":
        options["mode"] = UpdateMode.REPLACE
    return verb, row, options


def _etag(metadata: Mapping[str, Any]) -> str:
    etag = metadata.get("etag")
    assert etag, "table storage gives an ETag with every row and every write"
    return str(etag)


def _milliseconds(at: float) -> int:
    return int(at * 1000)


def _past_key(hour: int) -> str:
    return f"{PAST}{hour:07d}"


def _key(milliseconds: int) -> str:
    return f"{milliseconds:015d}"
