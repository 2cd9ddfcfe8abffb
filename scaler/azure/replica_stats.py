"""The replicas themselves, asked over HTTP: ``GET /stats`` and ``POST`` or ``DELETE /drain``.

A replica's answer is not trusted: its size and time are bounded, redirects are not followed, and whatever is not as
agreed is ``Unavailable``. So is a replica that answers under another replica's name: its address was given away.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec

from scaler.authority import name_of_replica
from scaler.errors import Unavailable
from scaler.model import Replica, Stats
from scaler.ports import outgoing

CONNECT_LIMIT_S = 2.0
ANSWER_LIMIT_S = 4.0
LARGEST_ANSWER_BYTES = 64 * 1024
_WRONG_CERTIFICATE = "who answers there has no certificate of this replica by this deployment's authority"


class ReplicaStats:
    """``ports.Replicas`` over one connection pool. ``token`` is sent as bearer token where it is not empty. A
    replica that was made to serve TLS has to prove that it is the one, by a certificate that ``trusted`` (PEM) stands
    for, before it is sent anything.
    """

    def __init__(
        self, token: str = "", trusted: str = "", session: Callable[[], aiohttp.ClientSession] | None = None
    ) -> None:
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = ssl.create_default_context(cadata=trusted) if trusted else None
        self._make_session = session or _session
        self._session: aiohttp.ClientSession | None = None

    async def stats(self, replica: Replica) -> Stats:
        with outgoing("stats"):
            body = await self._ask("GET", replica, "/stats")
        try:
            stats = msgspec.json.decode(body, type=Stats)
        except msgspec.DecodeError as error:
            raise Unavailable(f"replica {replica.name}: /stats is not as agreed: {error}") from error
        if stats.replica != replica.name:
            raise Unavailable(f"replica {replica.name}: {stats.replica[:80]!r} answers at its address")
        if problem := _implausible(stats):
            raise Unavailable(f"replica {replica.name}: /stats says {problem}")
        return stats

    async def drain(self, replica: Replica, *, draining: bool) -> None:
        with outgoing("drain"):
            await self._ask("POST" if draining else "DELETE", replica, "/drain")

    async def close(self) -> None:
        """Close the connections. Calling it twice is calling it once."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _ask(self, method: str, replica: Replica, path: str) -> bytes:
        if replica.serves_tls and self._tls is None:
            raise Unavailable(f"replica {replica.name}: it serves TLS, and REPLICA_AUTHORITY is not set any more")
        url = f"{'https' if replica.serves_tls else 'http'}://{_host(replica)}:{replica.port}{path}"
        how: dict[str, Any] = {"headers": self._headers, "allow_redirects": False}
        if replica.serves_tls:
            how |= {"ssl": self._tls, "server_hostname": name_of_replica(replica.name)}
        if self._session is None:
            self._session = self._make_session()  # here, for it belongs to the loop that runs now
        try:
            async with (
                asyncio.timeout(ANSWER_LIMIT_S),
                self._session.request(method, url, **how) as answer,
            ):
                body = await answer.content.read(LARGEST_ANSWER_BYTES + 1) if answer.status == 200 else b""
                while 0 < len(body) <= LARGEST_ANSWER_BYTES and (
                    more := await answer.content.read(LARGEST_ANSWER_BYTES)
                ):
                    body += more
                status = answer.status
        except TimeoutError as error:
            raise Unavailable(
                f"replica {replica.name}: no answer to {method} {path} within {ANSWER_LIMIT_S:.0f} s"
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unavailable(f"replica {replica.name}: {method} {path}: {_WRONG_CERTIFICATE}") from error
        except aiohttp.ClientError as error:
            raise Unavailable(f"replica {replica.name}: {method} {path}: {type(error).__name__}") from error
        if status != 200:
            raise Unavailable(f"replica {replica.name}: {method} {path} was answered with {status}")
        if len(body) > LARGEST_ANSWER_BYTES:
            raise Unavailable(f"replica {replica.name}: {method} {path}: the answer is larger than 64 KiB")
        return body


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=ANSWER_LIMIT_S, connect=CONNECT_LIMIT_S),
        connector=aiohttp.TCPConnector(limit=128, limit_per_host=2, ttl_dns_cache=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # a small answer must not unfold into a large one
        trust_env=False,
    )


def _host(replica: Replica) -> str:
    """The address as it stands in a URL. Raises ``Unavailable`` for what is neither an IP address nor a host name."""
    address = replica.address or ""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        if address and all(part and part.replace("-", "").isalnum() for part in address.split(".")):
            return address
        raise Unavailable(f"replica {replica.name}: {address[:80]!r} is no address") from None
    return f"[{ip}]" if ip.version == 6 else str(ip)


def _implausible(stats: Stats) -> str:
    """Counts below zero would turn into arrivals and seconds that never were."""
    numbers = {
        "in_flight": stats.in_flight,
        "queued": stats.queued,
        "arrivals_total": stats.arrivals_total,
        "completed_total": stats.completed_total,
        "failed_total": stats.failed_total,
        "busy_seconds_total": stats.busy_seconds_total,
        "memory_bytes": stats.memory_bytes,
        "cpu": stats.cpu or 0.0,
    }
    return next((f"{name} = {value}" for name, value in numbers.items() if value < 0), "")
