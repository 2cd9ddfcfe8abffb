"""Envoy and replicas speak TLS: requests go to who proves to be a replica of this deployment, and to nobody else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from scaler.authority import Authority
from tests.front.parts import Table, discovery, envoy, layout, needs_envoy, ready, replica
from tests.inference.process import Replica

pytestmark = needs_envoy
IRIS = {"iris": 30.0}
BODY = b'{"data": [[5.1, 3.5, 1.4, 0.2]]}'
AUTHORITY, STRANGER = Authority("the-secret-of-the-authority"), Authority("quite-another-secret")


@pytest.mark.timeout(120)
async def test_a_request_reaches_the_real_replica_by_tls(tmp_path: Path) -> None:
    certificate = AUTHORITY.certify("iris", "iris-1", time.time()).replace("\n", "\\n")
    server = Replica(HOST="127.64.0.11", TUNE_S="0", TLS_CERTIFICATE=certificate)
    table = Table("iris")
    try:
        server.listening()
        async with (
            discovery(table, IRIS) as port,
            envoy(tmp_path, layout(port, IRIS, trusted=AUTHORITY.trusted)) as front,
        ):
            table.put("iris", ("127.64.0.11", server.port), tls=True)
            await front.until_hosts("iris", ("127.64.0.11", server.port))
            async with front.session.post(f"{front.url}/predict", data=BODY) as answer:
                assert (answer.status, await answer.json()) == (200, {"predictions": [0]})
            assert await front.stat("cluster.iris/replicas.ssl.handshake") > 0
    finally:
        server.end()


async def test_whoever_is_no_replica_of_the_service_is_sent_nothing(tmp_path: Path) -> None:
    certificates: Mapping[str, str] = {
        "ours": AUTHORITY.certify("iris", "iris-1", time.time()),
        "by-a-stranger": STRANGER.certify("iris", "iris-2", time.time()),
        "of-another-service": AUTHORITY.certify("other", "other-1", time.time()),
        "none": "",
    }
    table = Table("iris")
    async with AsyncExitStack() as stack:
        entered = {
            name: await stack.enter_async_context(replica(name, f"127.64.0.{20 + i}", certificate=certificate))
            for i, (name, certificate) in enumerate(certificates.items())
        }
        servers = {name: server for name, (server, _) in entered.items()}
        where = [address for _, address in entered.values()]
        port = await stack.enter_async_context(discovery(table, IRIS))
        config = layout(port, IRIS, trusted=AUTHORITY.trusted)
        front = await stack.enter_async_context(envoy(tmp_path, config))
        table.put("iris", *where, tls=True)
        await front.until_hosts("iris", *where)
        for _ in range(40):
            async with front.session.post(f"{front.url}/predict", data=BODY) as answer:
                assert (answer.status, (await answer.json())["replica"]) == (200, "ours")
        assert {name: len(server.paths) for name, server in servers.items()} == {
            "ours": 40, "by-a-stranger": 0, "of-another-service": 0, "none": 0,
        }  # fmt: skip


async def test_with_none_but_strangers_the_answer_is_503_and_a_replica_that_comes_is_asked(tmp_path: Path) -> None:
    table = Table("iris")
    wrong = STRANGER.certify("iris", "iris-2", time.time())
    right = AUTHORITY.certify("iris", "iris-1", time.time())
    async with (
        discovery(table, IRIS) as port,
        envoy(tmp_path, layout(port, IRIS, trusted=AUTHORITY.trusted)) as front,
        replica("stranger", "127.64.0.31", certificate=wrong) as (stranger, there),
        replica("ours", "127.64.0.32", certificate=right) as (_, here),
    ):
        table.put("iris", there, tls=True)
        await front.until_hosts("iris", there)
        async with front.session.post(f"{front.url}/predict", data=BODY) as answer:
            assert answer.status == 503, "after four replicas that were none it is not tried for ever"
        assert stranger.paths == []
        table.put("iris", here, tls=True)
        await front.until_hosts("iris", here)
        async with front.session.post(f"{front.url}/predict", data=BODY) as answer:
            assert (await answer.json())["replica"] == "ours"
        assert stranger.paths == []


async def test_while_tls_is_switched_on_both_kinds_are_served(tmp_path: Path) -> None:
    certificate = AUTHORITY.certify("iris", "iris-2", time.time())
    table = Table("iris")
    async with (
        discovery(table, IRIS) as port,
        envoy(tmp_path, layout(port, IRIS, trusted=AUTHORITY.trusted)) as front,
        replica("before", "127.64.0.41") as (before, there),
        replica("after", "127.64.0.42", certificate=certificate) as (after, here),
    ):
        table.write("iris", 1, (ready("iris-1", *there), ready("iris-2", *here, tls=True)))
        await front.until_hosts("iris", there, here)
        for _ in range(20):
            async with front.session.post(f"{front.url}/predict", data=BODY) as answer:
                assert answer.status == 200
        assert len(before.paths) + len(after.paths) == 20
        assert min(len(before.paths), len(after.paths)) > 0
