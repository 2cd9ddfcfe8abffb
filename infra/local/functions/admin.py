"""What the host tells and does for the holder of the master key, below ``/admin``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from azure.functions.decorators.utils import StringifyEnumJsonEncoder
from azure.functions.http import HttpRequest

from infra.local.functions.app import App, Function, HttpTrigger, QueueTrigger, TimerTrigger
from infra.local.functions.http import Refused, Request, Response
from infra.local.functions.keys import Level
from infra.local.functions.queues import queue_message
from infra.local.functions.timers import timer_argument


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Answers ``/admin``. ``start`` begins an invocation in the background."""

    app: App
    host_id: str
    began_at: float
    start: Callable[[Function, object], asyncio.Task[None]]

    async def __call__(self, request: Request, level: Level, body: Callable[[], Awaitable[bytes]]) -> Response:
        match [part for part in request.path.lower().split("/") if part][1:]:
            case ["host", "ping"]:
                return Response(status=200)
            case _ if level < Level.ADMIN:
                raise Refused(401)
            case ["host", "status"]:
                _want(request, "GET")
                return _json(self._status())
            case ["functions"]:
                _want(request, "GET")
                return _json([self._describe(function, request) for function in self.app.functions])
            case ["functions", name]:
                function = self._function(name)
                if request.method == "GET":
                    return _json(self._describe(function, request))
                _want(request, "POST")
                self.start(function, _argument(function, request, _input(await body())))
                return Response(status=202)
            case ["functions", name, "status"]:
                _want(request, "GET")
                return _json({"isDisabled": self._function(name).is_disabled})
            case _:
                raise Refused(404)

    def _function(self, name: str) -> Function:
        function = self.app.named(name)
        if function is None:
            raise Refused(404)
        return function

    def _status(self) -> dict[str, Any]:
        return {
            "id": self.host_id,
            "state": "Running",
            "version": f"local, azure-functions {version('azure-functions')}",
            "processUptime": round((time.time() - self.began_at) * 1000),
            "functionCount": len(self.app.functions),
        }

    def _describe(self, function: Function, request: Request) -> dict[str, Any]:
        trigger = function.trigger
        template = f"{request.origin}/{trigger.route.template}" if isinstance(trigger, HttpTrigger) else None
        return {
            "name": function.name,
            "href": f"{request.origin}/admin/functions/{function.name}",
            "invoke_url_template": template,
            "language": "python",
            "isDisabled": function.is_disabled,
            "config": {"bindings": list(function.bindings)},
        }


def _want(request: Request, method: str) -> None:
    if request.method != method:
        raise Refused(405, f"This address answers {method} only.")


def _input(body: bytes) -> str:
    """The ``input`` of a call by hand."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("input", ""), str | None):
        raise Refused(400, 'Send a JSON object, {} or {"input": "text for the function"}.')
    return content.get("input") or ""


def _argument(function: Function, request: Request, text: str) -> object:
    """What a function is given when it is called by hand."""
    match function.trigger:
        case TimerTrigger():
            return timer_argument(function, False)
        case QueueTrigger() if function.annotation in (str, bytes):
            return text if function.annotation is str else text.encode()
        case QueueTrigger():
            return queue_message(id="", body=text, dequeue_count=1)
        case HttpTrigger():
            return HttpRequest(
                method="POST",
                url=request.url,
                headers={"content-type": "application/json"},
                params={},
                route_params={},
                body_type="bytes",
                body=text.encode(),
            )


def _json(content: object) -> Response:
    body = json.dumps(content, cls=StringifyEnumJsonEncoder).encode()
    return Response(status=200, headers=[("content-type", "application/json; charset=utf-8")], body=body)
