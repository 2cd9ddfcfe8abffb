"""Every error of the admin API as an RFC 9457 problem document."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from scaler.errors import BadSetting, Conflict, Unavailable

log = logging.getLogger("scaler.web")

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is a refusal: ``name`` is the last part of its type, ``detail`` one sentence for a person."""

    def __init__(self, status: int, name: str, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.headers = headers or {}


def document(problem: Problem) -> Response:
    """The problem as a response."""
    body = {
        "type": f"urn:aci-autoscaler:problem:{problem.name}",
        "title": problem.name.replace("-", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
    }
    headers = {"cache-control": "no-store", **problem.headers}
    return Response(msgspec.json.encode(body), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


async def on_problem(_: Request, error: Exception) -> Response:
    """Handler for `Problem`."""
    assert isinstance(error, Problem)
    return document(error)


async def on_http(request: Request, error: Exception) -> Response:
    """Handler for what the router itself refuses: an unknown route, or a method that the route does not have."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {_shown(request.url.path)}; /api/openapi.json lists what there is."
        return document(Problem(404, "unknown-route", detail))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = headers.get("Allow", "")
        detail = f"{_shown(request.method)} is not possible at {_shown(request.url.path)}; possible: {allowed}."
        return document(Problem(405, "method-not-allowed", detail, headers=headers))
    name = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return document(Problem(error.status_code, name, error.detail, headers=headers))


async def on_bad_setting(_: Request, error: Exception) -> Response:
    """Handler for a configuration that cannot be used: the sentence says what to mend."""
    log.error("the configuration cannot be used", extra={"error": str(error)})
    return document(Problem(500, "bad-setting", str(error)))


async def on_unavailable(_: Request, error: Exception) -> Response:
    """Handler for a store, or Azure, that gave no answer."""
    assert isinstance(error, Unavailable)
    log.warning("a request could not be answered", extra={"error": str(error)})
    wait_s = max(1, round(error.retry_after_s)) if error.retry_after_s is not None else 5
    return document(Problem(503, "unavailable", f"{error}", headers={"retry-after": str(wait_s)}))


async def on_conflict(_: Request, __: Exception) -> Response:
    """Handler for a row that somebody else changed first."""
    return document(Problem(412, "changed-meanwhile", "Somebody changed it meanwhile: read it again, then decide."))


async def on_anything(_: Request, error: Exception) -> Response:
    """Handler for a fault of ours: logged with its trace, told without it."""
    return document(
        Problem(500, "internal-error", f"A fault of the autoscaler ({type(error).__name__}); its log has more.")
    )


HANDLERS: dict[Any, Any] = {
    Problem: on_problem,
    HTTPException: on_http,
    BadSetting: on_bad_setting,
    Unavailable: on_unavailable,
    Conflict: on_conflict,
    Exception: on_anything,
}


def _shown(text: str, limit: int = 80) -> str:
    """Text of a stranger, fit for one line."""
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return printable if len(printable) <= limit else f"{printable[:limit]}…"
