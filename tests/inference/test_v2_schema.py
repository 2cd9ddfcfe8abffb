"""The Open Inference Protocol's own schemas of answers, and a real replica held to them.

The schemas say what the protocol's REST specification (kserve/open-inference-protocol) says of each answer.
"""

from __future__ import annotations

import itertools
import json
import struct
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from tests.inference.process import Replica

DATATYPES = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip


def fields(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "properties": required | optional, "required": list(required)}


def many(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


TEXT, YES = {"type": "string"}, {"type": "boolean"}
DATATYPE = {"enum": DATATYPES}
METADATA = many(fields({"name": TEXT, "datatype": DATATYPE, "shape": many({"type": "integer", "minimum": -1})}))
PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
TENSOR = fields(
    {"name": TEXT, "shape": many({"type": "integer", "minimum": 0}), "datatype": DATATYPE},
    parameters=PARAMETERS,
    data={"type": "array"},
)
SCHEMAS = {
    "server": fields({"name": TEXT, "version": TEXT, "extensions": many(TEXT)}),
    "live": fields({"live": YES}),
    "ready": fields({"ready": YES}),
    "model ready": fields({"name": TEXT, "ready": YES}),
    "model": fields({"name": TEXT, "platform": TEXT, "inputs": METADATA, "outputs": METADATA}, versions=many(TEXT)),
    "inference": fields(
        {"model_name": TEXT, "outputs": many(TENSOR)}, model_version=TEXT, id=TEXT, parameters=PARAMETERS
    ),
    "error": fields({"error": TEXT}),
}
VALIDATORS = {name: Draft202012Validator(schema) for name, schema in SCHEMAS.items()}
MODELS = ("iris", "scores", "iris-sklearn")
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]


def hold(schema: str, said: Any) -> None:
    VALIDATORS[schema].validate(said)


def test_the_schemas_refuse_what_is_wrong() -> None:
    for schema in SCHEMAS:
        assert not VALIDATORS[schema].is_valid({"name": 1})
    assert not VALIDATORS["inference"].is_valid({"model_name": "m", "outputs": [{"name": "x", "datatype": "FLOAT"}]})


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v2", "server"),
        ("/v2/health/live", "live"),
        ("/v2/health/ready", "ready"),
        *[(f"/v2/models/{name}/ready", "model ready") for name in MODELS],
        *[(f"/v2/models/{name}", "model") for name in MODELS],
    ],
)
def test_what_is_asked_for_is_as_the_protocol_says(replica: Replica, path: str, schema: str) -> None:
    status, said = replica.get(path)
    assert status == 200
    hold(schema, said)


@pytest.mark.parametrize("path", ["/v2/models/nix", "/v2/models/nix/ready", "/v2/models/iris/versions/0"])
def test_errors_are_as_the_protocol_says(replica: Replica, path: str) -> None:
    status, said = replica.get(path)
    assert status == 404
    hold("error", said)


@pytest.mark.parametrize(
    ("name", "binary_in", "binary_out"), [*itertools.product(MODELS, [False, True], [False, True])]
)
def test_an_inference_is_as_the_protocol_says(replica: Replica, name: str, binary_in: bool, binary_out: bool) -> None:
    about = replica.get(f"/v2/models/{name}")[1]
    given = {"name": about["inputs"][0]["name"], "datatype": about["inputs"][0]["datatype"], "shape": [2, 4]}
    code = {"FP32": "f", "FP64": "d"}[given["datatype"]]
    tail = struct.pack(f"<8{code}", *ROWS[0], *ROWS[1]) if binary_in else b""
    extra = {"parameters": {"binary_data_size": len(tail)}} if binary_in else {"data": ROWS}
    document = {"id": "i", "inputs": [given | extra], "parameters": {"binary_data_output": binary_out}}
    head = json.dumps(document).encode()
    headers = {"inference-header-content-length": str(len(head))} if binary_in else {}
    status, told, body = replica.ask("POST", f"/v2/models/{name}/infer", head + tail, headers)
    assert status == 200
    cut = int(told.get("inference-header-content-length", len(body)))
    said = json.loads(body[:cut])
    hold("inference", said)
    (output,), (promised,) = said["outputs"], about["outputs"]
    assert (output["name"], output["datatype"]) == (promised["name"], promised["datatype"])
    assert output["shape"] == [2, *promised["shape"][1:]]
    assert ("data" in output) is not binary_out
    if binary_out:
        assert output["parameters"]["binary_data_size"] == len(body) - cut
    wanted = replica.predict(ROWS, f"/models/{name}/predict")[1]["predictions"]
    assert (flat(wanted) == output["data"]) if not binary_out else len(body) > cut


def flat(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in flat(part)] if isinstance(value, list) else [value]
