"""`GET /openapi.json`: the routes as an OpenAPI 3.1 document, with the shapes of the models that are loaded."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import inference
from inference.service import Service
from inference.v2 import DATATYPES
from inference.wire import Signature

JSON = "application/json"
PROBLEMS = {
    "400": "The body or a header is wrong; `detail` holds the path of the value.",
    "404": "There is no such model.",
    "408": "The request was not complete in time.",
    "413": "The body is longer than MAX_BODY_BYTES.",
    "415": "The body is compressed.",
    "422": "The model's answer holds a number that JSON cannot carry.",
    "503": "The queue is full or the model still loads; see Retry-After.",
    "504": "The deadline of the request passed.",
}
STATS_NUMBERS = (
    "sequence", "at", "in_flight", "queued", "capacity", "arrivals_total", "completed_total", "failed_total",
    "rejected_total", "busy_seconds_total", "cpu", "memory_bytes",
)  # fmt: skip


def _rows(shape: tuple[int, ...], dtype: str, least: int) -> dict[str, Any]:
    """A list of at least `least` rows of `shape`."""
    kind = {"b": "boolean", "f": "number"}.get(dtype[0], "integer")
    inner: dict[str, Any] = {"type": kind}
    for size in reversed(shape):
        inner = {"type": "array", "items": inner, "minItems": size, "maxItems": size}
    return {"type": "array", "items": inner, "minItems": least}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required}


def _answer(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {JSON: {"schema": schema}}}


def _problems(*codes: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        code: {"description": PROBLEMS[code], "content": {"application/problem+json": {"schema": schema}}}
        for code in codes
    }


def _predict(signature: Signature) -> dict[str, Any]:
    _, dtype, shape = signature.outputs[0]
    given = _object({"data": _rows(signature.row_shape, signature.dtype, 1)})
    return {
        "post": {
            "summary": "Predictions for rows, one each",
            "requestBody": {"required": True, "content": {JSON: {"schema": given}}},
            "responses": {
                "200": _answer("The predictions.", _object({"predictions": _rows(shape, dtype, 1)})),
                **_problems(*PROBLEMS),
            },
        }
    }


def _tensor(extra: dict[str, Any], required: list[str]) -> dict[str, Any]:
    base = {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string", "enum": sorted(DATATYPES.values())},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    }
    return _object(base | extra, required)


def _infer(signature: Signature) -> dict[str, Any]:
    fixed = {"name": {"const": signature.input_name}, "datatype": {"const": DATATYPES[signature.dtype]}}
    given = _object(
        {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {
                "type": "array",
                "items": _tensor(fixed, ["name", "shape", "datatype"]),
                "minItems": 1,
                "maxItems": 1,
            },
            "outputs": {"type": "array", "items": _object({"name": {"type": "string"}})},
        },
        ["inputs"],
    )
    said = _object(
        {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": _tensor({}, ["name", "shape", "datatype"])},
        },
        ["model_name", "outputs"],
    )
    binary = {"schema": {"type": "string", "format": "binary"}}
    answer = _answer("The tensors.", said)
    answer["content"]["application/octet-stream"] = binary
    return {
        "post": {
            "summary": "Open Inference Protocol v2: inference",
            "requestBody": {"required": True, "content": {JSON: {"schema": given}, "application/octet-stream": binary}},
            "responses": {"200": answer, **_problems(*PROBLEMS)},
        }
    }


def _get(summary: str, schema: dict[str, Any] | None = None, *codes: str, secured: bool = False) -> dict[str, Any]:
    said = _answer("As asked.", schema or {"type": "object"})
    answers = {"200": said, **_problems(*codes)}
    if secured:
        answers["401"] = {"description": "The replica's token is missing."}
    return {"summary": summary, "responses": answers} | ({"security": [{"token": []}]} if secured else {})


def _stats() -> dict[str, Any]:
    maybe = {"type": ["number", "null"]}
    gpu = {key: {"type": "number"} for key in ("utilization", "memory_used_bytes", "memory_total_bytes")}
    return _object(
        {
            "replica": {"type": "string"},
            "start_id": {"type": "string"},
            "phase": {"enum": ["starting", "ready", "draining"]},
            **{name: {"type": "number"} for name in STATS_NUMBERS},
            "latency_s": _object({"p50": maybe, "p95": maybe, "p99": maybe}),
            "gpu": {"type": "array", "items": _object(gpu)},
            "load_s": maybe,
        }
    )


def build(service: Service) -> dict[str, Any]:
    """The document for the models loaded now."""
    secured = bool(service.settings.token)
    phase = _object({"phase": {"enum": ["starting", "ready", "draining"]}})
    paths: dict[str, Any] = {
        "/": {"get": _get("What this replica is")},
        "/healthz": {"get": _get("Whether the process lives")},
        "/readyz": {"get": _get("Whether it should get requests", None, "503")},
        "/stats": {"get": _get("Counts and times", _stats(), secured=secured)},
        "/drain": {
            "post": _get("Stop being ready", phase, secured=secured),
            "delete": _get("Be ready again", phase, secured=secured),
        },
        "/v2": {"get": _get("Open Inference Protocol v2: the server")},
        "/v2/health/live": {"get": _get("Whether the process lives")},
        "/v2/health/ready": {"get": _get("Whether all models are ready", None, "503")},
        "/v2/repository/index": {"post": _get("The models", {"type": "array"})},
    }
    for name, served in service.served.items():
        signature = served.model.signature
        if name == service.default():
            paths["/predict"] = _predict(signature)
        paths[f"/models/{name}/predict"] = _predict(signature)
        paths[f"/v2/models/{name}"] = {"get": _get("What the model takes and gives")}
        paths[f"/v2/models/{name}/ready"] = {"get": _get("Whether the model is ready", None, "503")}
        paths[f"/v2/models/{name}/infer"] = _infer(signature)
    problem = {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Replica", "version": inference.VERSION},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _object(problem)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


async def document(service: Service, request: Request) -> Response:
    return JSONResponse(build(service))
