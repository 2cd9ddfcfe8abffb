"""The OpenAPI 3.1 document of the admin API."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from scaler.web.changing import ORIGIN as ORIGIN_PATTERN
from scaler.web.reading import CURSOR, HISTORY_MINUTES
from scaler.web.schemas import LINE, SCHEMAS

Json = dict[str, Any]

SERVICE = {"$ref": "#/components/parameters/service"}
ETAG = {"ETag": {"description": "Names this very pin; send it in If-Match.", "schema": {"type": "string"}}}


def _content(name: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _ok(name: str, description: str, **more: Any) -> Json:
    return {"description": description, "content": _content(name), **more}


def _problems(*statuses: int) -> Json:
    return {str(s): {"$ref": "#/components/responses/problem"} for s in (*statuses, 500, 503)}


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _header(name: str, description: str) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _body(name: str, *, required: bool) -> Json:
    return {"required": required, "content": _content(name)}


TIME = {"type": "string", "format": "date-time"}
IF_MATCH = _header("If-Match", "Only if the pin still is the one with this ETag.")
IF_NONE_MATCH = _header("If-None-Match", "`*`: only if there is no pin yet.")


PAST = [
    _query("minutes", "So long a span.", {"type": "integer", "minimum": 5, "maximum": HISTORY_MINUTES, "default": 360}),
    _query("points", "In so many points.", {"type": "integer", "minimum": 10, "maximum": 1000, "default": 240}),
    _query("until", "The end of the span; now when not given.", TIME),
]
WIDTH = _query("width", "So wide, in pixels.", {"type": "integer", "minimum": 300, "maximum": 2000, "default": 960})
DRY_RUN = _query("dry_run", "Only say what would come of it.", {"enum": ["true", "false"]})
ORIGIN = {
    "name": "WebHook-Request-Origin",
    "in": "header",
    "required": True,
    "description": "Who asks.",
    "schema": {"type": "string", "pattern": ORIGIN_PATTERN},
}


def _get(operation: str, summary: str, answer: Json, *problems: int, parameters: Sequence[Json] = ()) -> Json:
    """Reading one thing."""
    told: Json = {"operationId": operation, "summary": summary}
    if parameters:
        told["parameters"] = list(parameters)
    return {"get": told | {"responses": {"200": answer, **_problems(*problems)}}}


def _reads() -> Json:
    picture = {"description": "SVG.", "content": {"image/svg+xml": {"schema": {"type": "string"}}}}
    examined = "Every right, limit and neighbour that a tick needs, looked at with the app's own identity"
    decided = "The decision that was in force at a time, with every step and what was observed"
    expected = "Arrivals expected in the next half hour, a second: one path in ten is below `low`"
    drawn = "Load, replicas and what was in force, as equally wide points"
    at = _query("at", "The time asked about; now when not given.", TIME)
    days = _query("days", "So many.", {"type": "integer", "minimum": 1, "maximum": 366, "default": 14})
    points, band = _ok("History", "The points, column by column."), _ok("Forecast", "The band, in equally wide bins.")
    periods = _ok("Schedule", "The periods, without gaps.")
    reads: dict[str, Json] = {
        "": _get("showService", "What is, and why", _ok("Service", "The service."), 404),
        "/decisions": _get(
            "listDecisions",
            "Recorded ticks, newest first, page by page",
            _ok("Decisions", "One page."),
            404,
            422,
            parameters=_pages(),
        ),
        "/explain": _get("explain", decided, _ok("Explanation", "The decision."), 404, 422, parameters=[at]),
        "/doctor": _get("examine", examined, _ok("Examination", "The checks."), 404),
        "/schedule": _get(
            "previewSchedule", "What the calendar asks for in the next days", periods, 404, 422, parameters=[days]
        ),
        "/history": _get("history", drawn, points, 404, 422),
        "/chart": _get("chart", "The history as a picture", picture, 404, 422),
        "/forecast": _get("forecast", expected, band, 404),
    }
    more = {"/history": PAST, "/chart": (*PAST, WIDTH)}
    services = _get("listServices", "Every service, one line each", _ok("Services", "The services."))
    return {"/services": services} | {
        f"/services/{{service}}{path}": {"parameters": [SERVICE, *more.get(path, ())], **read}
        for path, read in reads.items()
    }


def _pages() -> list[Json]:
    """Which page of a list."""
    return [
        _query("since", "The oldest that is wanted; a day ago when not given.", TIME),
        _query("until", "The newest that is wanted.", TIME),
        _query("limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
        _query("cursor", "`next` of the page before.", {"type": "string", "pattern": CURSOR}),
    ]


def _pin() -> Json:
    told = {
        "200": _ok("PinEffect", "Done, and ticked.", headers=ETAG),
        "202": _ok("PinEffect", "Written; the next tick acts on it.", headers=ETAG),
    }
    gone = {
        "200": _ok("UnpinEffect", "Done, and ticked."),
        "202": _ok("UnpinEffect", "Done; the next tick acts on it."),
    }
    return {
        "/services/{service}/pin": {
            "parameters": [SERVICE],
            "get": {
                "operationId": "showPin",
                "summary": "The pin in force",
                "parameters": [_header("If-None-Match", "Answer 304 if it still is the one with this ETag.")],
                "responses": {
                    "200": _ok("PinShown", "The pin.", headers=ETAG),
                    "304": {"description": "It still is that pin.", "headers": ETAG},
                    **_problems(404),
                },
            },
            "put": {
                "operationId": "pin",
                "summary": "Hold a count, or keep it within a span, until a time",
                "parameters": [DRY_RUN, IF_MATCH, IF_NONE_MATCH, {"$ref": "#/components/parameters/actor"}],
                "requestBody": _body("PinBody", required=True),
                "responses": {**told, **_problems(400, 404, 412, 413, 415, 422)},
            },
            "delete": {
                "operationId": "unpin",
                "summary": "Take the pin away; without one nothing happens",
                "parameters": [DRY_RUN, IF_MATCH, {"$ref": "#/components/parameters/actor"}],
                "requestBody": _body("Reasoned", required=False),
                "responses": {**gone, **_problems(400, 404, 412, 413, 415, 422)},
            },
        }
    }


def _rollout() -> Json:
    return {
        "/services/{service}/rollout": {
            "parameters": [SERVICE],
            "get": {
                "operationId": "showRollout",
                "summary": "Which version of the template runs, which one should, and the versions there were",
                "responses": {"200": _ok("Rollout", "The versions."), **_problems(404)},
            },
            "post": {
                "operationId": "turnRollout",
                "summary": "Go back to an earlier version, or try the one of the template file once more",
                "parameters": [{"$ref": "#/components/parameters/actor"}],
                "requestBody": _body("RolloutBody", required=True),
                "responses": {
                    "200": _ok("RolloutEffect", "Done, and ticked."),
                    "202": _ok("RolloutEffect", "Written; the next tick acts on it."),
                    **_problems(400, 404, 409, 412, 413, 415, 422),
                },
            },
        }
    }


def _ticks() -> Json:
    def post(operation: str, summary: str) -> Json:
        return {
            "parameters": [SERVICE],
            "post": {
                "operationId": operation,
                "summary": summary,
                "parameters": [DRY_RUN, {"$ref": "#/components/parameters/actor"}],
                "requestBody": _body("Reasoned", required=False),
                "responses": {
                    "200": _ok("Ticked", "Ticked; this came of it."),
                    "202": _ok("Ticked", "Another tick has the turn just now; it does the same."),
                    **_problems(400, 404, 413, 415, 422),
                },
            },
        }

    return {
        "/services/{service}/tick": post("tick", "Tick this service now"),
        "/services/{service}/wake": post("wake", "A request waits and no replica is ready: tick this service now"),
    }


def _webhooks() -> Json:
    woken = {"202": _ok("Woken", "The services that were ticked, and how that ended."), **_problems(400, 413, 415, 422)}
    return {
        "/alerts": {
            "post": {
                "operationId": "alert",
                "summary": "Azure Monitor, common alert schema: causes a tick, decides nothing",
                "requestBody": _body("Alert", required=True),
                "responses": woken,
            }
        },
        "/events": {
            "post": {
                "operationId": "event",
                "summary": "Event Grid: its handshake, and events that cause a tick",
                "requestBody": _body("Events", required=True),
                "responses": {"200": _ok("Handshake", "The answer to the validation event."), **woken},
            },
            "options": {
                "operationId": "eventHandshake",
                "summary": "The handshake of CloudEvents webhooks",
                "parameters": [ORIGIN],
                "responses": {
                    "200": {
                        "description": "It may send.",
                        "headers": {"WebHook-Allowed-Origin": {"schema": {"type": "string"}}},
                    },
                    **_problems(400),
                },
            },
        },
    }


def _open() -> Json:
    text = {"schema": {"type": "string"}}
    return {
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "OpenMetrics of every service",
                "responses": {
                    "200": {"description": "The text.", "content": {"application/openmetrics-text": text}},
                    **_problems(),
                },
            }
        },
        "/health": {
            "get": {
                "operationId": "health",
                "summary": "Whether every service was ticked of late",
                "security": [{}],
                "responses": {
                    "200": _ok("Health", "Yes."),
                    "500": {"$ref": "#/components/responses/problem"},
                    "503": {
                        "description": "No, or it cannot be told.",
                        "content": {**_content("Health"), **_PROBLEM_CONTENT},
                    },
                },
            }
        },
        "/openapi.json": {
            "get": {
                "operationId": "openapi",
                "summary": "This document",
                "security": [{}],
                "responses": {
                    "200": {"description": "It.", "content": {"application/json": {"schema": {"type": "object"}}}}
                },
            }
        },
        "/dashboard": {
            "get": {
                "operationId": "dashboard",
                "summary": "The dashboard's page; it holds no data",
                "security": [{}],
                "responses": {"200": {"description": "The page.", "content": {"text/html": text}}},
            }
        },
    }


_PROBLEM_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@cache
def document() -> Json:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ACI Autoscaler",
            "version": "1",
            "description": "See it and steer it. Every refusal is an RFC 9457 problem document.",
        },
        "servers": [{"url": "/api"}],
        "security": [{"key": []}],
        "paths": {**_reads(), **_pin(), **_rollout(), **_ticks(), **_webhooks(), **_open()},
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "x-functions-key"}},
            "parameters": {
                "service": {
                    "name": "service",
                    "in": "path",
                    "required": True,
                    "description": "A service of autoscaler.yaml.",
                    "schema": {"type": "string"},
                },
                "actor": _header("x-actor", "Who you are; recorded beside the key. `actor` in the body goes before it.")
                | {"schema": LINE},
            },
            "responses": {
                "problem": {"description": "Refused, or failed: the document says why.", "content": _PROBLEM_CONTENT}
            },
            "schemas": SCHEMAS,
        },
    }
