"""The doors: Resource Manager with Monitor over TLS, the identity endpoint over plain http, faults if asked for."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from infra.local.arm.errors import gateway_timeout
from infra.local.arm.http import Answer, Request
from infra.local.arm.keeper import Keeper
from infra.local.arm.tokens import issue

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY_BYTES = 4 * 1024 * 1024
FAULTS_PATH, ACTIONS_PATH = "/stand-in/faults", "/stand-in/actions"
SYSTEM_ASSIGNED = "00000000-0000-4000-8000-00000000a551"


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket. IPPROTO_TCP lets asyncio set TCP_NODELAY: without it every answer waits 40 ms."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound


def arm_door(keeper: Keeper, *, faults: bool) -> App:
    """Everything that wants TLS and a token."""

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        body = await read_body(receive)
        if body is None:
            await reply(send, Answer(status=413, body=_envelope("RequestContentTooLarge", "The body is too large.")))
            return
        request = request_of(scope, body)
        if faults and request.clean_path in (FAULTS_PATH, ACTIONS_PATH):
            await reply(send, administer(keeper, request))
            return
        answer = keeper.answer(request)
        if answer.hang_s is not None:
            if await gave_up(receive, answer.hang_s):
                return
            timeout = gateway_timeout()
            answer = Answer(status=timeout.status, body=timeout.body(), headers=timeout.headers)
        await reply(send, answer, bare=request.method == "HEAD")

    return door


def administer(keeper: Keeper, request: Request) -> Answer:
    """Queue a fault, see what is queued, clear the queue; or see which actions were asked for so far."""
    faults = keeper.arm.faults
    if request.clean_path == ACTIONS_PATH:
        return Answer(body={"value": sorted(keeper.arm.used)})
    if request.method == "DELETE":
        faults.queued.clear()
        return Answer(status=204)
    if request.method == "GET":
        return Answer(body={"value": msgspec.to_builtins(faults.queued)})
    if request.method != "POST":
        return Answer(status=405, body=_envelope("HttpMethodNotAllowed", "Use GET, POST or DELETE."))
    try:
        fault = faults.add(request.body)
    except msgspec.MsgspecError as error:
        return Answer(
            status=400, body=_envelope("InvalidFault", f'{error}; expected an object like {{"fault": "quota"}}')
        )
    met = keeper.inflict(fault) if fault not in faults.queued else 0
    return Answer(status=201, body={"fault": fault.fault, "groups": met})


def identity_door(header: str, clock: Callable[[], float], client_ids: frozenset[str] | None) -> App:
    """The identity endpoint of App Service, at any path."""

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        await read_body(receive)
        await reply(send, token_answer(request_of(scope, b""), header, clock(), client_ids))

    return door


def token_answer(request: Request, header: str, now: float, client_ids: frozenset[str] | None) -> Answer:
    """A token for the audience asked for, or App Service's refusal."""
    if request.headers.get("x-identity-header") != header:
        return Answer(status=401, body={"statusCode": 401, "message": "X-IDENTITY-HEADER is missing or wrong."})
    resource = request.query.get("resource")
    if not resource or not request.query.get("api-version"):
        return Answer(status=400, body={"statusCode": 400, "message": "resource and api-version are required."})
    client_id = request.query.get("client_id") or request.query.get("principal_id") or ""
    resource_id = request.query.get("mi_res_id") or ""
    if client_id and client_ids is not None and client_id.lower() not in client_ids:
        message = "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
        return Answer(status=400, body={"statusCode": 400, "message": message})
    actor = client_id or resource_id or SYSTEM_ASSIGNED
    token, ends_at = issue(resource, actor, now, resource_id=resource_id)
    body = {"access_token": token, "expires_on": str(ends_at), "resource": resource, "token_type": "Bearer"}
    return Answer(body=body | {"client_id": actor}, headers={"cache-control": "no-store"})


async def read_body(receive: Receive) -> bytes | None:
    """The whole body; None when it is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def request_of(scope: Scope, body: bytes) -> Request:
    headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    host = headers.get("host") or "{}:{}".format(*scope["server"])
    return Request(
        method=scope["method"],
        path=urlsplit(scope["path"]).path if "://" in scope["path"] else scope["path"],
        query={name.lower(): value for name, value in query},
        headers=headers,
        body=body,
        base=f"{scope['scheme']}://{host}",
    )


async def reply(send: Send, answer: Answer, *, bare: bool = False) -> None:
    raw = b"" if answer.body is None or bare else json.dumps(answer.body, separators=(",", ":")).encode()
    headers = dict(answer.headers)
    if answer.body is not None:
        headers["content-type"] = "application/json; charset=utf-8"
    if answer.status != 204:
        headers["content-length"] = str(len(raw))
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
    await send({"type": "http.response.body", "body": raw})


async def gave_up(receive: Receive, seconds: float) -> bool:
    """Leave the client without an answer for so long; whether it closed the connection meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


def _envelope(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
