"""Values to table rows and back: frozen structs on one side, columns that Azure Tables can hold on the other. No I/O.

A column holds at most 64 KiB, so long text and bytes go on in ``<name>_1``, ``<name>_2`` … None is an absent column.
Columns that this version does not know are left alone on reading, and gone after the next write.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import NoneType
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Struct

from scaler.errors import Unavailable

BYTES_A_COLUMN = 60_000
CHARACTERS_A_COLUMN = 16_000  # the limit counts UTF-16 units, of which a character has up to two
KEYS = frozenset({"PartitionKey", "RowKey", "Timestamp"})
Row = dict[str, Any]
T = TypeVar("T", bound=Struct)


def to_row(partition: str, key: str, value: Struct, *, leave_out: frozenset[str] = frozenset()) -> Row:
    """The columns of a struct. ``leave_out`` names fields that the keys or the ETag already hold."""
    row: Row = {"PartitionKey": partition, "RowKey": key}
    for name in value.__struct_fields__:
        if name not in leave_out:
            row |= _columns(name, getattr(value, name))
    return row


def _columns(name: str, value: object) -> Row:
    match value:
        case None:
            return {}
        case enum.Enum():
            return {name: value.value}
        case bool() | float():
            return {name: value}
        case int():
            return {name: (value, "Edm.Int64")}
        case str():
            return _split(name, value, CHARACTERS_A_COLUMN)
        case bytes():
            return _split(name, value, BYTES_A_COLUMN)
    raise TypeError(f"column {name}: a {type(value).__name__} has no place in a table")


def _split(name: str, value: str | bytes, size: int) -> Row:
    parts = [value[i : i + size] for i in range(0, len(value), size)] or [value]
    return {name if i == 0 else f"{name}_{i}": part for i, part in enumerate(parts)}


def from_row(table: str, row: Mapping[str, Any], into: type[T], **more: object) -> T:
    """The struct that a row holds; ``more`` are fields that are no columns. Raises ``Unavailable``, naming table, key
    and column, for a row that somebody damaged: nothing may be concluded from it, its absence neither."""
    values = dict(more)
    try:
        for field in msgspec.structs.fields(into):
            if field.name in row:
                values.setdefault(field.name, _joined(field.name, row))
            elif NoneType in get_args(field.type):
                values.setdefault(field.name, None)
        return msgspec.convert(values, into, builtin_types=(bytes,))
    except (msgspec.ValidationError, TypeError) as error:
        where = f"table {table}, partition {row.get('PartitionKey')}, row {row.get('RowKey')}"
        raise Unavailable(f"{where}: {_problem(str(error))}; mend the column, or delete the row") from error


def _joined(name: str, row: Mapping[str, Any]) -> object:
    value = row[name]
    if isinstance(value, tuple):  # an Int64 comes as a pair of value and type
        value = value[0]
    if isinstance(value, str | bytes):
        i = 1
        while f"{name}_{i}" in row:
            value += row[f"{name}_{i}"]
            i += 1
    return value


def _problem(message: str) -> str:
    """msgspec's message with the column first."""
    what, _, place = message.partition(" - at `$.")
    column = place.rstrip("`")
    if "missing required field" in what:
        return f"column {what.rpartition(' ')[2].strip('`')} is missing"
    what = what[:1].lower() + what[1:]
    return f"column {column}: {what.replace('`', '')}" if column else what
