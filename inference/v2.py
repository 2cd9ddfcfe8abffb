"""The Open Inference Protocol v2 over HTTP, JSON and its extension for binary tensors.

The input of a model is one tensor whose first dimension is the batch; outputs are all of the model's, or those asked
for by name. Errors are problem documents that carry the protocol's `error` member too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
from msgspec import UNSET, Raw, Struct, UnsetType, field

from inference.errors import Refused
from inference.model import Model
from inference.wire import Array, Outputs, RowsReader, Signature, nested, not_finite

DATATYPES = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "bool": "BOOL",
}
LENGTH_HEADER = "inference-header-content-length"
EXTENSIONS = ["binary_tensor_data", "model_repository"]


class _Input(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Raw | UnsetType = UNSET
    parameters: dict[str, Any] = field(default_factory=dict)


class _Output(Struct):
    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


class _Request(Struct):
    inputs: list[_Input]
    id: str | UnsetType = UNSET
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: list[_Output] = field(default_factory=list)


class Binary(NamedTuple):
    """An answer with tensors behind its JSON part of `json_bytes` bytes."""

    body: bytes
    json_bytes: int


Encode = Callable[[Outputs, int, int], bytes | Binary]
_DECODE = msgspec.json.Decoder(_Request).decode


class Inference:
    """Reads requests to `/v2/models/{model}/infer` for one model and writes its answers."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._signature = model.signature
        self._pack = RowsReader(model.signature).pack
        leaf = {"b": bool, "f": float}.get(np.dtype(self._signature.dtype).kind, int)
        self._flat = msgspec.json.Decoder(nested(1, leaf)).decode
        self._nested = msgspec.json.Decoder(nested(len(self._signature.row_shape) + 1, leaf)).decode
        self._places = {name: i for i, (name, _, _) in enumerate(self._signature.outputs)}

    def read(self, body: bytes, json_bytes: int | None = None) -> tuple[bytes, int, Encode]:
        """Packed rows, their number and the encoder of the answer; raises Refused with the path of what is wrong."""
        head = body if json_bytes is None else body[:json_bytes]
        if json_bytes is not None and not 0 < json_bytes <= len(body):
            raise Refused(400, f"The header {LENGTH_HEADER} is {json_bytes}, but the body has {len(body)} bytes.")
        try:
            request = _DECODE(head)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(400, f"The body is not as expected: {error}") from None
        rows = self._check(request)
        binary = body[len(head) :]
        given = request.inputs[0]
        if "binary_data_size" in given.parameters:
            payload = self._binary(given, binary, rows)
        elif binary or given.data is UNSET:
            raise Refused(400, "Neither `data` nor `parameters.binary_data_size` - at `$.inputs[0]`")
        else:
            payload = self._json(given.data, rows)
        return payload, rows, self._encoder(request)

    def _check(self, request: _Request) -> int:
        signature = self._signature
        if len(request.inputs) != 1:
            raise Refused(400, f"The model takes one input, {len(request.inputs)} given - at `$.inputs`")
        given = request.inputs[0]
        wanted = DATATYPES[signature.dtype]
        if given.name != signature.input_name:
            raise Refused(
                400, f"The input is called {signature.input_name!r}, not {given.name!r} - at `$.inputs[0].name`"
            )
        if given.datatype != wanted:
            raise Refused(400, f"The model takes {wanted}, not {given.datatype!r} - at `$.inputs[0].datatype`")
        if tuple(given.shape[1:]) != signature.row_shape or not given.shape or not 1 <= given.shape[0] <= MOST_ROWS:
            shape = [-1, *signature.row_shape]
            raise Refused(400, f"The shape must be {shape}, not {given.shape} - at `$.inputs[0].shape`")
        for i, output in enumerate(request.outputs):
            if output.name not in self._places:
                raise Refused(400, f"There is no output {output.name!r} - at `$.outputs[{i}].name`")
        return given.shape[0]

    def _binary(self, given: _Input, binary: bytes, rows: int) -> bytes:
        size, needed = given.parameters["binary_data_size"], rows * self._signature.row_bytes
        at = "at `$.inputs[0].parameters.binary_data_size`"
        if given.data is not UNSET:
            raise Refused(400, "Either `data` or `parameters.binary_data_size`, not both - at `$.inputs[0]`")
        if type(size) is not int or size != needed:
            raise Refused(400, f"{needed} bytes needed for the shape {given.shape}, {size!r} given - {at}")
        if len(binary) != needed:
            raise Refused(400, f"{needed} bytes announced, {len(binary)} behind the JSON part - {at}")
        if self._signature.dtype == "bool" and binary.strip(b"\0\1"):
            raise Refused(400, "A BOOL is a byte 0 or 1 - at `$.inputs[0]`")
        return binary

    def _json(self, data: Raw | UnsetType, rows: int) -> bytes:
        """Flat data or rows as nested as the shape: the protocol allows both."""
        assert not isinstance(data, UnsetType)
        flat_first = not data_is_nested(bytes(data))
        try:
            found = self._flat(data) if flat_first else self._nested(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(400, f"The data is not as expected: {error} (below `$.inputs[0].data`)") from None
        if flat_first:
            row = self._signature.row_numbers
            if len(found) != rows * row:
                raise Refused(400, f"{rows * row} numbers needed, {len(found)} given - at `$.inputs[0].data`")
            found = [unflatten(found[at : at + row], self._signature.row_shape) for at in range(0, rows * row, row)]
        if len(found) != rows:
            raise Refused(400, f"{rows} rows needed, {len(found)} given - at `$.inputs[0].data`")
        return self._pack(found, "$.inputs[0].data")

    def _encoder(self, request: _Request) -> Encode:
        wanted = request.outputs or [_Output(name) for name in self._places]
        default = request.parameters.get("binary_data_output", False) is True
        places = [(self._places[out.name], out.parameters.get("binary_data", default) is True) for out in wanted]
        about: dict[str, Any] = {"model_name": self._model.name, "model_version": self._model.version}
        if request.id is not UNSET:
            about["id"] = request.id
        return lambda outputs, begin, end: encode(self._signature, about, places, outputs, begin, end)


MOST_ROWS = 2**24


def encode(
    signature: Signature, about: dict[str, Any], places: list[tuple[int, bool]], outputs: Outputs, begin: int, end: int
) -> bytes | Binary:
    """The answer for rows [begin, end); raises Refused where JSON cannot carry a number."""
    told: list[dict[str, Any]] = []
    tensors: list[bytes] = []
    for place, binary in places:
        name, dtype, _ = signature.outputs[place]
        array: Array = np.ascontiguousarray(outputs.arrays[place][begin:end])
        tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": DATATYPES[dtype]}
        if binary:
            tensors.append(array.tobytes())
            tensor["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise Refused(422, not_finite(array, f"$.outputs.{name}"))
            tensor["data"] = array.ravel()
        told.append(tensor)
    head = orjson.dumps({**about, "outputs": told}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Binary(b"".join([head, *tensors]), len(head)) if tensors else head


def data_is_nested(data: bytes) -> bool:
    """Whether the list holds lists: its second character that is no space opens one."""
    return data[1:].lstrip()[:1] == b"["


def unflatten(numbers: list[Any], shape: tuple[int, ...]) -> Any:
    """A row of `shape` made of numbers in their order."""
    if not shape:
        return numbers[0]
    if len(shape) == 1:
        return numbers
    step = math.prod(shape[1:])
    return [unflatten(numbers[at : at + step], shape[1:]) for at in range(0, len(numbers), step)]


def metadata(model: Model) -> dict[str, Any]:
    """The answer of `GET /v2/models/{model}`."""
    signature = model.signature
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": model.platform,
        "inputs": [
            {
                "name": signature.input_name,
                "datatype": DATATYPES[signature.dtype],
                "shape": [-1, *signature.row_shape],
            }
        ],
        "outputs": [
            {"name": name, "datatype": DATATYPES[dtype], "shape": [-1, *shape]}
            for name, dtype, shape in signature.outputs
        ],
    }
