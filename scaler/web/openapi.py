"""The OpenAPI 3.1 document of the admin API."""

from __future__ import annotations

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


def _reads() -> Json:
    return {
        "/services": {
            "get": {
                "operationId": "listServices",
                "summary": "Every service, one line each",
                "responses": {"200": _ok("Services", "The services."), **_problems()},
            }
        },
        "/services/{service}": {
            "parameters": [SERVICE],
            "get": {
                "operationId": "showService",
                "summary": "What is, and why",
                "responses": {"200": _ok("Service", "The service."), **_problems(404)},
            },
        },
        "/services/{service}/decisions": {
            "parameters": [SERVICE],
            "get": {
                "operationId": "listDecisions",
                "summary": "Recorded ticks, newest first, page by page",
                "parameters": [
                    _query("since", "The oldest that is wanted; a day ago when not given.", TIME),
                    _query("until", "The newest that is wanted.", TIME),
                    _query(
                        "limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
                    ),
                    _query("cursor", "`next` of the page before.", {"type": "string", "pattern": CURSOR}),
                ],
                "responses": {"200": _ok("Decisions", "One page."), **_problems(404, 422)},
            },
        },
        "/services/{service}/explain": {
            "parameters": [SERVICE],
            "get": {
                "operationId": "explain",
                "summary": "The decision that was in force at a time, with every step and what was observed",
                "parameters": [_query("at", "The time asked about; now when not given.", TIME)],
                "responses": {"200": _ok("Explanation", "The decision."), **_problems(404, 422)},
            },
        },
        "/services/{service}/doctor": {
            "parameters": [SERVICE],
            "get": {
                "operationId": "examine",
                "summary": "Every right, limit and neighbour that a tick needs, looked at with the app's own identity",
                "responses": {"200": _ok("Examination", "The checks."), **_problems(404)},
            },
        },
        "/services/{service}/schedule": {
            "parameters": [SERVICE],
            "get": {
                "operationId": "previewSchedule",
                "summary": "What the calendar asks for in the next days",
                "parameters": [
                    _query("days", "So many.", {"type": "integer", "minimum": 1, "maximum": 366, "default": 14})
                ],
                "responses": {"200": _ok("Schedule", "The periods, without gaps."), **_problems(404, 422)},
            },
        },
        "/services/{service}/history": {
            "parameters": [SERVICE, *PAST],
            "get": {
                "operationId": "history",
                "summary": "Load, replicas and what was in force, as equally wide points",
                "responses": {"200": _ok("History", "The points, column by column."), **_problems(404, 422)},
            },
        },
        "/services/{service}/chart": {
            "parameters": [SERVICE, *PAST, WIDTH],
            "get": {
                "operationId": "chart",
                "summary": "The history as a picture",
                "responses": {
                    "200": {"description": "SVG.", "content": {"image/svg+xml": {"schema": {"type": "string"}}}},
                    **_problems(404, 422),
                },
            },
        },
        "/services/{service}/forecast": {
            "parameters": [SERVICE],
            "get": {
                "operationId": "forecast",
                "summary": "Arrivals expected in the next half hour, a second: one path in ten is below `low`",
                "responses": {"200": _ok("Forecast", "The band, in equally wide bins."), **_problems(404)},
            },
        },
    }


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
