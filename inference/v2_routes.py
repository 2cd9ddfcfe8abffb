"""The routes of the Open Inference Protocol v2."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import inference
from inference.errors import Refused
from inference.handling import Waiting, arrive, compute
from inference.service import Served, Service
from inference.v2 import EXTENSIONS, LENGTH_HEADER, Binary, Inference, metadata


def _served(service: Service, request: Request) -> Served:
    served = service.find(request.path_params["model"])
    version = request.path_params.get("version", served.model.version)
    if version != served.model.version:
        raise Refused(404, f"There is no version {version!r} of this model, only {served.model.version!r}.")
    return served


async def server(service: Service, request: Request) -> Response:
    return JSONResponse({"name": "replica", "version": inference.VERSION, "extensions": EXTENSIONS})


async def live(service: Service, request: Request) -> Response:
    return JSONResponse({"live": True})


async def ready(service: Service, request: Request) -> Response:
    reason = service.not_ready()
    if reason:
        raise Refused(503, reason, retry_after_s=1)
    return JSONResponse({"ready": True})


async def model_ready(service: Service, request: Request) -> Response:
    served = _served(service, request)
    reason = service.not_ready()
    if reason:
        raise Refused(503, reason, retry_after_s=1)
    return JSONResponse({"name": served.model.name, "ready": True})


async def model(service: Service, request: Request) -> Response:
    return JSONResponse(metadata(_served(service, request).model))


async def index(service: Service, request: Request) -> Response:
    models = [served.model for served in service.served.values()]
    return JSONResponse([{"name": m.name, "version": m.version, "state": "READY", "reason": ""} for m in models])


async def infer(service: Service, request: Request) -> Response:
    served = _served(service, request)
    body = await arrive(service, request, served)
    try:
        payload, rows, encode = Inference(served.model).read(body, _json_bytes(request))
    except Exception:  # refused, or a fault of the reader: counted either way
        service.meter.failed += 1
        raise
    answer = await compute(service, request, served, Waiting(payload, rows, encode))
    if isinstance(answer, Binary):
        headers = {LENGTH_HEADER: str(answer.json_bytes)}
        return Response(answer.body, headers=headers, media_type="application/octet-stream")
    return Response(answer, media_type="application/json")


def _json_bytes(request: Request) -> int | None:
    text = request.headers.get(LENGTH_HEADER)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise Refused(400, f"The header {LENGTH_HEADER} must be a whole number, not {text!r}.")
    return int(text)
