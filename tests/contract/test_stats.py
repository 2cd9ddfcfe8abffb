"""What a replica says of itself, read by the scaler: from the real server, and from those that do not keep to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from scaler.authority import Authority
from scaler.azure import replica_stats
from scaler.azure.replica_stats import ReplicaStats
from scaler.errors import Unavailable
from scaler.model import Phase, Replica
from scaler.ports import Calls
from tests.contract.answers import answering

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "test-token-1234"
NAME = "iris-7f3a"
PATIENCE_S = 50.0
STATS: dict[str, Any] = {
    "replica": NAME,
    "start_id": "a",
    "sequence": 1,
    "at": 1.79e9,
    "phase": "ready",
    "in_flight": 3,
    "queued": 1,
    "capacity": 8,
    "arrivals_total": 991,
    "completed_total": 987,
    "failed_total": 0,
    "rejected_total": 0,
    "busy_seconds_total": 301.2,
    "latency_s": {"p50": 0.02, "p95": None, "p99": None},
    "cpu": 0.63,
    "memory_bytes": 412_000_000,
    "gpu": [{"utilization": 0.71, "memory_used_bytes": 1, "memory_total_bytes": 2}],
}


def replica(url: str, name: str = NAME, *, tls: bool = False) -> Replica:
    where = urlsplit(url)
    return Replica(
        name=name,
        phase=Phase.READY,
        region="westeurope",
        template="t-tls" if tls else "t",
        intended_at=0.0,
        phase_at=0.0,
        address=where.hostname,
        port=where.port or 80,
    )


@pytest.fixture
async def reader() -> AsyncIterator[ReplicaStats]:
    reader = ReplicaStats(TOKEN)
    yield reader
    await reader.close()
    await reader.close()


def body(**changes: Any) -> bytes:
    """``...`` takes a key out."""
    return json.dumps({k: v for k, v in (STATS | changes).items() if v is not ...}).encode()


# ---------------------------------------------------------------- the real server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if find_spec("torch") is None or find_spec("inference.__main__") is None:
        pytest.skip("the replica's server needs torch; `make setup` installs it")
    with running(NAME) as url:
        yield url


@contextmanager
def running(name: str, certificate: str = "") -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "REPLICA": name,
        "REPLICA_TOKEN": TOKEN,
        "TLS_CERTIFICATE": certificate,
        "THREADS": "1",
        "TUNE_S": "0",
        "LOG_LEVEL": "warning",
    }
    with subprocess.Popen([sys.executable, "-m", "inference"], cwd=ROOT, env=environment) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)


async def ready(reader: ReplicaStats, at: Replica) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if (await reader.stats(at)).phase == "ready":
                return
        except Unavailable:
            assert time.monotonic() < deadline, "the server was never ready"
        await asyncio.sleep(0.1)


async def test_the_real_server_is_read_and_counts_what_it_was_asked(server: str, reader: ReplicaStats) -> None:
    at = replica(server)
    await ready(reader, at)
    before = await reader.stats(at)
    async with aiohttp.ClientSession() as session:
        for rows in ([[5.1, 3.5, 1.4, 0.2]], [[6.7, 3.0, 5.2, 2.3]], "nonsense"):
            async with session.post(f"{server}/predict", json={"data": rows}) as answer:
                assert answer.status in (200, 400)
    after = await reader.stats(at)
    assert (after.replica, after.start_id) == (NAME, before.start_id)
    assert after.sequence > before.sequence
    assert after.at >= before.at > 1.7e9
    assert after.completed_total == before.completed_total + 2
    assert 2 <= after.arrivals_total - before.arrivals_total <= 3
    assert (after.in_flight, after.queued) == (0, 0)
    assert after.busy_seconds_total > before.busy_seconds_total
    assert after.memory_bytes > 10_000_000
    assert after.capacity > 0


async def test_the_real_server_drains_and_serves_again(server: str, reader: ReplicaStats) -> None:
    at = replica(server)
    await ready(reader, at)
    for _ in range(2):
        await reader.drain(at, draining=True)
        assert (await reader.stats(at)).phase == "draining"
    for _ in range(2):
        await reader.drain(at, draining=False)
        assert (await reader.stats(at)).phase == "ready"


async def test_the_real_server_tells_nothing_without_the_token(server: str, reader: ReplicaStats) -> None:
    at = replica(server)
    await ready(reader, at)
    stranger = ReplicaStats()
    try:
        with pytest.raises(Unavailable, match="answered with 401"):
            await stranger.stats(at)
        with pytest.raises(Unavailable, match="answered with 401"):
            await stranger.drain(at, draining=True)
    finally:
        await stranger.close()


async def test_with_an_authority_only_the_replica_itself_is_asked() -> None:
    authority = Authority("the-secret-of-the-authority")
    pem = authority.certify("iris", NAME, time.time())
    reader, stranger = (ReplicaStats(TOKEN, a.trusted) for a in (authority, Authority("quite-another-secret")))
    try:
        with running(NAME, pem) as url:
            await ready(reader, replica(url, tls=True))
            await reader.drain(replica(url, tls=True), draining=True)
            assert (await reader.stats(replica(url, tls=True))).phase == "draining"
            for asked, name in ((reader, "iris-other"), (stranger, NAME)):
                with pytest.raises(Unavailable, match="no certificate of this replica by this deployment's authority"):
                    await asked.stats(replica(url, name, tls=True))
    finally:
        await reader.close()
        await stranger.close()


async def test_who_should_serve_tls_is_never_sent_the_token_in_plain_text() -> None:
    heard = bytearray()

    async def listens(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        heard.extend(await reading.read(65536))
        writing.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writing.close()

    reader = ReplicaStats(TOKEN, Authority("the-secret-of-the-authority").trusted)
    server = await asyncio.start_server(listens, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(Unavailable, match=f"^replica {NAME}: "):
            await reader.stats(replica(f"http://127.0.0.1:{port}", tls=True))
    await reader.close()
    assert heard[:1] == b"\x16", "the first thing it said was the hello of TLS"
    assert TOKEN.encode() not in heard


async def test_while_tls_is_switched_each_replica_is_asked_in_the_way_it_was_made(server: str) -> None:
    """On: those from before answer as before. Off, the authority gone too: no token goes to who cannot prove itself."""
    on, off = ReplicaStats(TOKEN, Authority("the-secret-of-the-authority").trusted), ReplicaStats(TOKEN)
    try:
        await ready(on, replica(server))
        with pytest.raises(Unavailable, match="it serves TLS, and REPLICA_AUTHORITY is not set any more"):
            await off.stats(replica(server, tls=True))
    finally:
        await on.close()
        await off.close()


# ---------------------------------------------------------------- servers that do not keep to it


async def test_keys_of_a_later_version_are_ignored(reader: ReplicaStats) -> None:
    async with answering(None, body(mood="good", latency_s={"p50": 1, "p95": 2, "p99": 3, "p100": 4})) as url:
        stats = await reader.stats(replica(url))
    assert (stats.in_flight, stats.latency_s.p99, stats.gpu[0].utilization) == (3, 3.0, 0.71)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (body(queued=...), "missing required field `queued`"),
        (body(queued=None), "got `null` - at `$.queued`"),
        (body(queued=1.5), "at `$.queued`"),
        (body(in_flight="3"), "at `$.in_flight`"),
        (body(phase="happy"), "at `$.phase`"),
        (body(in_flight=-1), "/stats says in_flight = -1"),
        (body(arrivals_total=-5), "/stats says arrivals_total = -5"),
        (body(replica="iris-other"), "'iris-other' answers at its address"),
        (b"[]", "not as agreed"),
        (b"", "not as agreed"),
        (b'{"replica": "iris', "not as agreed"),
        (b"\xff\xfe", "not as agreed"),
        (body(at=float("nan")), "not as agreed"),
        (body() + b" " * 70_000, "larger than 64 KiB"),
    ],
)
async def test_an_answer_that_is_not_as_agreed_teaches_nothing(reader: ReplicaStats, answer: bytes, said: str) -> None:
    async with answering(None, answer) as url:
        with pytest.raises(Unavailable, match=f"^replica {NAME}: ") as raised:
            await reader.stats(replica(url))
    assert said in str(raised.value)
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("503 Service Unavailable", "X: y"),
        ("401 Unauthorized", "X: y"),
        ("204 No Content", "X: y"),
        ("200 OK", "Content-Length: 5000"),
        ("200 OK", "Transfer-Encoding: chunked"),
        ("999 What", "X: y"),
        ("nonsense", "X: y"),
    ],
)
async def test_any_other_answer_teaches_nothing(reader: ReplicaStats, status: str, headers: str) -> None:
    async with answering(None, body(), status=status, headers=headers) as url:
        with pytest.raises(Unavailable, match=f"^replica {NAME}: "):
            await reader.stats(replica(url))
        if "OK" not in status:
            with pytest.raises(Unavailable, match=f"^replica {NAME}: "):
                await reader.drain(replica(url), draining=True)


async def test_a_redirect_is_not_followed_wherever_it_leads(reader: ReplicaStats) -> None:
    async with answering(None, body()) as good:
        headers = f"Location: {good}/stats"
        async with answering(None, b"", status="307 Temporary Redirect", headers=headers) as url:
            with pytest.raises(Unavailable, match="answered with 307"):
                await reader.stats(replica(url))


async def test_a_replica_that_is_not_there_is_given_up_at_once(reader: ReplicaStats) -> None:
    async with answering(None, b"") as url:
        pass  # the port is free again
    with pytest.raises(Unavailable):
        await reader.stats(replica(url))


async def test_a_replica_that_does_not_answer_is_given_up(
    reader: ReplicaStats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_stats, "ANSWER_LIMIT_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(Unavailable, match="no answer to GET /stats within"):
            await reader.stats(replica(f"http://127.0.0.1:{silent.getsockname()[1]}"))


@pytest.mark.parametrize("address", [None, "", "a b", "127.0.0.1/x", "user@host", "host:1", "..", "[::1]"])
async def test_what_is_no_address_is_not_asked(reader: ReplicaStats, address: str | None) -> None:
    at = Replica(name=NAME, phase=Phase.READY, region="r", template="t", intended_at=0.0, phase_at=0.0, address=address)
    with pytest.raises(Unavailable, match="is no address"):
        await reader.stats(at)


async def test_each_call_is_counted(reader: ReplicaStats) -> None:
    calls = Calls()
    async with answering(None, body()) as url:
        with calls.counting():
            await reader.stats(replica(url))
            await reader.drain(replica(url), draining=True)
    assert calls.counts() == {"stats": 1, "drain": 1}
