"""The Starlette application: every route of the replica, and the way for every request that is in any way unusual."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inference import metrics, openapi, v2_routes
from inference.doors import predictions
from inference.errors import BROKEN, Refused
from inference.handling import Waiting, arrive, authorise, compute, problem
from inference.service import Service

Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Service, Request], Awaitable[Response]]


async def predict(service: Service, request: Request) -> Response:
    served = service.find(request.path_params.get("model", service.default()))
    body = await arrive(service, request, served)
    try:
        payload, rows = served.model.reader.read(body)
    except Exception:  # refused, or a fault of the reader: counted either way
        service.meter.failed += 1
        raise
    answer = await compute(service, request, served, Waiting(payload, rows, predictions))
    return Response(answer, media_type="application/json")


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
        {"replica": service.settings.replica, "phase": service.spoken, "models": models, "links": links}
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
    service.drain(request.method == "POST")
    return JSONResponse({"phase": service.spoken})


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
    return problem(Refused(500, BROKEN))


def routes() -> list[tuple[str, list[str], Handler]]:
    """Path, methods and handler of every route."""
    return [
        ("/", ["GET"], home),
        ("/predict", ["POST"], predict),
        ("/models/{model}/predict", ["POST"], predict),
        ("/healthz", ["GET"], healthz),
        ("/readyz", ["GET"], readyz),
        ("/stats", ["GET"], stats),
        ("/metrics", ["GET"], metrics.metrics),
        ("/drain", ["POST", "DELETE"], drain),
        ("/openapi.json", ["GET"], openapi.document),
        ("/v2", ["GET"], v2_routes.server),
        ("/v2/health/live", ["GET"], v2_routes.live),
        ("/v2/health/ready", ["GET"], v2_routes.ready),
        ("/v2/repository/index", ["POST"], v2_routes.index),
        *[
            ("/v2/models/{model}" + version + path, methods, handler)
            for version in ("", "/versions/{version}")
            for path, methods, handler in (
                ("", ["GET"], v2_routes.model),
                ("/ready", ["GET"], v2_routes.model_ready),
                ("/infer", ["POST"], v2_routes.infer),
            )
        ],
    ]


def build(service: Service) -> Starlette:
    """The application around one service."""

    def endpoint(path: str, handler: Handler) -> Endpoint:
        async def handle(request: Request) -> Response:
            with service.telemetry.span(f"{request.method} {path}", dict(request.headers)):
                return await handler(service, request)

        return handle

    return Starlette(
        routes=[Route(path, endpoint(path, handler), methods=methods) for path, methods, handler in routes()],
        exception_handlers={
            Refused: _refused,
            HTTPException: _http,
            ClientDisconnect: _left,
            Exception: _broken,
        },
    )
