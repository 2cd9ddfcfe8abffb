"""The guide's JSON: `{"data": rows}` in, `{"predictions": rows}` out; rows travel inside as packed bytes.

`RowsReader.read` is the definition. For big bodies of plain numbers simdjson reads the same text several times
faster; it is asked only where both must agree (see `_quick`), and whatever it refuses is read again by the definition,
so the reason given to the client always comes from there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from inference.errors import Refused

try:
    import simdjson
except ImportError:  # pure speed: the definition reads everything
    simdjson = None  # type: ignore[assignment]

Array = NDArray[Any]

# numpy's name → struct code, and whether JSON writes it as a whole number
CODES = {
    "float32": "f",
    "float64": "d",
    "float16": "e",
    "int64": "q",
    "int32": "i",
    "int16": "h",
    "int8": "b",
    "uint8": "B",
    "bool": "?",
}
QUICK_FROM_BYTES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a model takes and gives, without the batch dimension."""

    input_name: str
    dtype: str
    row_shape: tuple[int, ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]

    @property
    def row_numbers(self) -> int:
        return math.prod(self.row_shape)

    @property
    def row_bytes(self) -> int:
        return self.row_numbers * np.dtype(self.dtype).itemsize


def nested(depth: int, leaf: type) -> Any:
    kind: Any = leaf
    for _ in range(depth):
        kind = list[kind]
    return kind


class RowsReader:
    """Reads `{"data": rows}` for one signature."""

    def __init__(self, signature: Signature) -> None:
        code = CODES[signature.dtype]
        leaf: type = bool if code == "?" else float if code in "fde" else int
        body = msgspec.defstruct("Body", [("data", nested(len(signature.row_shape) + 1, leaf))])
        self._decode = msgspec.json.Decoder(body).decode
        self._signature = signature
        self._numbers = signature.row_numbers
        self._pack = struct.Struct(f"<{self._numbers}{code}").pack
        self._flat = len(signature.row_shape) == 1
        self._parser: Any = simdjson.Parser() if simdjson and self._flat and code == "f" else None

    def read(self, body: bytes) -> tuple[bytes, int]:
        """The rows as packed bytes, and how many; raises Refused with the path of what is wrong."""
        if self._parser is not None and len(body) >= QUICK_FROM_BYTES and (quick := self._quick(body)):
            return quick
        try:
            rows: list[Any] = self._decode(body).data  # type: ignore[attr-defined]
        except msgspec.MsgspecError as error:
            raise Refused(400, f"The body is not as expected: {error}") from None
        except (UnicodeDecodeError, RecursionError) as error:
            raise Refused(400, f"The body is not JSON: {error}") from None
        return self.pack(rows), len(rows)

    def pack(self, rows: Sequence[Any], path: str = "$.data") -> bytes:
        """Nested rows as bytes; raises Refused with the path of a row of the wrong shape or a number too large."""
        if not rows:
            raise Refused(400, f"The body is not as expected: at least one row is needed - at `{path}`")
        try:
            if self._flat:
                if len(rows) == 1 and len(rows[0]) == self._numbers:
                    return self._pack(*rows[0])
                return b"".join([self._pack(*row) for row in rows])
            shape = self._signature.row_shape
            return b"".join([self._pack(*_flatten(row, shape, f"{path}[{i}]")) for i, row in enumerate(rows)])
        except (struct.error, OverflowError):
            raise Refused(400, self._why(rows, path)) from None

    def _why(self, rows: Sequence[Any], path: str) -> str:
        shape = self._signature.row_shape
        for i, row in enumerate(rows):
            try:
                self._pack(*_flatten(row, shape, f"{path}[{i}]"))
            except Refused as refused:
                return refused.detail
            except (struct.error, OverflowError):
                for where, value in _leaves(row, f"{path}[{i}]"):
                    try:
                        struct.pack(f"<{CODES[self._signature.dtype]}", value)
                    except (struct.error, OverflowError):
                        kind = self._signature.dtype
                        return f"The body is not as expected: {value!r} does not fit {kind} - at `{where}`"
        raise AssertionError("a row that cannot be packed has a reason")

    def _quick(self, body: bytes) -> tuple[bytes, int] | None:
        """The same rows read by simdjson, or None wherever the two readers could differ.

        Brackets are counted so that no list hides inside a row; a second "data" or an escape is left to the
        definition because simdjson takes the first of two equal keys and msgspec the last. Two quotation marks hold
        one key.
        """
        if body[:1] != b"{" or b"\\" in body or not (_occurs(body, b'"', 2) or body.count(b'"data"') == 1):
            return None
        try:
            data = self._parser.parse(body)["data"]
            rows = len(data)
            if not rows or not _occurs(body, b"[", rows + 1) or any(len(row) != self._numbers for row in data):
                return None
            wide = np.frombuffer(data.as_buffer(of_type="d"), dtype=np.float64)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):  # RuntimeError: a number beyond 64 bits
            return None
        if len(wide) != rows * self._numbers or not (np.abs(wide).max() <= FLOAT32_MAX):
            return None
        return wide.astype(np.float32).tobytes(), rows


FLOAT32_MAX = float(np.finfo(np.float32).max)
FEW = 8


def _occurs(body: bytes, mark: bytes, times: int) -> bool:
    """Whether `mark` is there exactly so often; looking for a few is several times faster than counting."""
    if times > FEW:
        return body.count(mark) == times
    at = -1
    for _ in range(times):
        at = body.find(mark, at + 1)
        if at < 0:
            return False
    return body.find(mark, at + 1) < 0


def _flatten(row: Any, shape: tuple[int, ...], path: str) -> list[Any]:
    if not shape:
        return [row]
    if len(row) != shape[0]:
        what = "numbers" if len(shape) == 1 else "lists"
        raise Refused(400, f"The body is not as expected: {shape[0]} {what} needed, {len(row)} given - at `{path}`")
    if len(shape) == 1:
        return list(row)
    flat: list[Any] = []
    for i, part in enumerate(row):
        flat += _flatten(part, shape[1:], f"{path}[{i}]")
    return flat


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, list):
        yield path, value
        return
    for i, part in enumerate(value):
        yield from _leaves(part, f"{path}[{i}]")


class Outputs:
    """What the model said for one batch: one array an output, rows first; JSON text is made once and shared."""

    __slots__ = ("_texts", "arrays")

    SMALL = 64  # numbers in a row up to which the whole batch is written at once and cut

    def __init__(self, arrays: tuple[Array, ...]) -> None:
        self.arrays = arrays
        self._texts: list[bytes] | None = None

    def text(self, begin: int, end: int) -> bytes:
        """Rows [begin, end) of the first output as JSON; raises Refused where a number is not finite."""
        array = self.arrays[0]
        if array.ndim > 2 or (array.ndim == 2 and array.shape[1] > self.SMALL):
            text = orjson.dumps(np.ascontiguousarray(array[begin:end]), option=orjson.OPT_SERIALIZE_NUMPY)
        elif array.ndim == 1:
            texts = self._texts or self._cut(array, 1, b",")
            text = b"[" + b",".join(texts[begin:end]) + b"]"
        else:
            texts = self._texts or self._cut(array, 2, b"],[")
            text = b"[[" + (texts[begin] if end == begin + 1 else b"],[".join(texts[begin:end])) + b"]]"
        if b"n" in text:  # null, which stands for what JSON cannot write
            raise Refused(422, not_finite(array[begin:end], "$.predictions"))
        return text

    def _cut(self, array: Array, brackets: int, between: bytes) -> list[bytes]:
        whole = orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
        self._texts = whole[brackets:-brackets].split(between)
        return self._texts


def not_finite(array: Array, path: str) -> str:
    """The reason to refuse an answer that JSON cannot carry, with the path of the first such number."""
    where = np.argwhere(~np.isfinite(array))[0]
    value = array[tuple(where)]
    path += "".join(f"[{i}]" for i in where)
    return f"The model's answer holds {value}, which JSON cannot carry - at `{path}`; binary tensors (v2) can."
