"""How often one caller may come: token buckets in this process, so a limit an instance, which is what protects it."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from scaler.web.access import PRINCIPAL_NAME
from scaler.web.problems import Problem, document

CALLERS = 1000  # remembered at once; the one that was away longest is forgotten first


class Rate(Struct, frozen=True):
    """``per_s`` on the average, ``burst`` at once."""

    per_s: float
    burst: float


READS, CHANGES, WAKES = Rate(50, 200), Rate(5, 40), Rate(20, 100)


class _Bucket(Struct):
    tokens: float
    at: float


class Limiter:
    """Answers 429 to a caller that comes too often. Reading, changing and waking are counted apart."""

    def __init__(self, inner: ASGIApp, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            kind, rate = _kind(request)
            wait_s = self._take(kind, _caller(request), rate)
            if wait_s > 0:
                wait = max(1, math.ceil(wait_s))
                detail = f"Too many requests: {rate.per_s:g} a second are answered; come again in {wait} s."
                refusal = Problem(429, "too-many-requests", detail, headers={"retry-after": str(wait)})
                await document(refusal)(scope, receive, send)
                return
        await self._inner(scope, receive, send)

    def _take(self, kind: str, caller: str, rate: Rate) -> float:
        """0 when there was a token, else the seconds until there is one."""
        now = self._clock()
        bucket = self._buckets.pop((kind, caller), None) or _Bucket(rate.burst, now)
        # A clock that was set back gives nothing and takes nothing.
        tokens = min(rate.burst, bucket.tokens + max(0.0, now - bucket.at) * rate.per_s)
        enough = tokens >= 1
        self._buckets[kind, caller] = _Bucket(tokens - 1 if enough else tokens, now)
        while len(self._buckets) > CALLERS:
            self._buckets.popitem(last=False)
        return 0.0 if enough else (1 - tokens) / rate.per_s


def _kind(request: Request) -> tuple[str, Rate]:
    path = request.url.path
    if request.method in ("GET", "HEAD"):
        return "read", READS
    if path.endswith("/wake") or path in ("/api/alerts", "/api/events"):
        return f"wake {path}", WAKES  # a service that is woken often keeps no other from being woken
    return "change", CHANGES


def _caller(request: Request) -> str:
    """Whom a bucket belongs to; a key only as its digest."""
    said = request.headers.get("x-functions-key") or request.headers.get(PRINCIPAL_NAME) or ""
    return hashlib.sha256(said.encode()).hexdigest()[:16]
