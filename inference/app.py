"""The Starlette application: every route of the replica, and the way for every request that is in any way unusual."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inference import metrics
from inference.errors import Refused
from inference.handling import Waiting, arrive, authorise, compute, problem
from inference.lifecycle import Event
from inference.service import Service
from inference.wire import Outputs

Handler = Callable[[Service, Request], Awaitable[Response]]


def predictions(outputs: Outputs, begin: int, end: int) -> bytes:
    """The body of an answer of /predict."""
    return b'{"predictions":' + outputs.text(begin, end) + b"}"


async def predict(service: Service, request: Request) -> Response:
    body, served = await arrive(service, request, service.default())
    try:
        job = Waiting(*served.model.reader.read(body), encode=predictions)
    except Refused:
        service.meter.failed += 1
        raise
    return Response(await compute(service, request, served, job), media_type="application/json")


async def home(service: Service, request: Request) -> Response:
    models = {
        name: {
            "platform": served.model.platform,
            "input": served.model.signature.row_shape,
            "version": served.model.version,
        }
        for name, served in service.served.items()
    }
    links = ["/predict", "/healthz", "/readyz", "/stats", "/metrics", "/v2", "/openapi.json"]
    return JSONResponse(
        {"replica": service.settings.replica, "phase": service.phase.spoken, "models": models, "links": links}
    )


async def healthz(service: Service, request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def readyz(service: Service, request: Request) -> Response:
    reason = service.not_ready()
    if reason:
        raise Refused(503, reason, retry_after_s=1)
    return JSONResponse({"status": "ready"})


async def stats(service: Service, request: Request) -> Response:
    authorise(service, request)
    return JSONResponse(service.stats())


async def drain(service: Service, request: Request) -> Response:
    authorise(service, request)
    phase = service.lifecycle.on(Event.DRAIN if request.method == "POST" else Event.UNDRAIN)
    return JSONResponse({"phase": phase.spoken})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem(error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = {404: f"There is nothing at {request.url.path!r}.", 405: f"{request.method} does not work here."}
    response = problem(Refused(error.status_code, detail.get(error.status_code, str(error.detail))))
    response.headers.update(error.headers or {})
    return response


async def _left(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _broken(request: Request, error: Exception) -> Response:
    return problem(Refused(500, "The server failed on this request; its log says why."))


def routes() -> list[tuple[str, list[str], Handler]]:
    """Path, methods and handler of every route."""
    return [
        ("/", ["GET"], home),
        ("/predict", ["POST"], predict),
        ("/healthz", ["GET"], healthz),
        ("/readyz", ["GET"], readyz),
        ("/stats", ["GET"], stats),
        ("/metrics", ["GET"], metrics.metrics),
        ("/drain", ["POST", "DELETE"], drain),
    ]


def build(service: Service) -> Starlette:
    """The application around one service."""
    return Starlette(
        routes=[Route(path, partial(handler, service), methods=methods) for path, methods, handler in routes()],
        exception_handlers={
            Refused: _refused,
            HTTPException: _http,
            ClientDisconnect: _left,
            Exception: _broken,
        },
    )
