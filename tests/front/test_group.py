"""The front on Azure: what its container group is made from, that Envoy serves TLS by it, and who keeps it there."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trustme

from scaler import config
from scaler.errors import Refused
from scaler.front.group import front_request
from scaler.front.keep import FIRST_WAIT_S, Keeper
from scaler.model import Group
from scaler.ports import GroupRequest
from scaler.settings import FrontSettings, Settings
from tests.front.parts import Table as Rows
from tests.front.parts import discovery, envoy, layout, needs_envoy
from tests.world import Clock, MemoryFleet

IDENTITY = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-front"
SUBNET = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/groups"
PUBLIC = FrontSettings(
    envoy_image="cr.azurecr.io/envoy:1",
    discovery_image="cr.azurecr.io/discovery:abc",
    region="westeurope",
    identity=IDENTITY,
    client_id="00000000-0000-4000-8000-000000000001",
    dns_label="aci-autoscaler-x",
)


def settings(**changes: Any) -> Settings:
    values = {name: getattr(PUBLIC, name) for name in PUBLIC.__struct_fields__}
    return Settings(
        deployment_id="aci-x",
        table_endpoint="https://a.table.core.windows.net",
        queue_endpoint="https://a.queue.core.windows.net",
        replica_token="planted-secret",
        front=FrontSettings(**{**values, **changes}),
    )


def body(limits: dict[str, float] | None = None, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(front_request(settings(**changes), limits or {"iris": 300.0}).body)
    return found


def files(made: dict[str, Any]) -> dict[str, bytes]:
    (volume,) = made["properties"]["volumes"]
    return {name: base64.b64decode(text) for name, text in volume["secret"].items()}


def test_the_public_front_has_a_name_for_clients_and_an_identity_for_the_tables() -> None:
    made = body()
    assert made["properties"]["ipAddress"] == {
        "type": "Public",
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "dnsNameLabel": "aci-autoscaler-x",
    }
    assert list(made["identity"]["userAssignedIdentities"]) == [IDENTITY]
    assert made["tags"].keys() == {"aci-autoscaler", "role", "template"}
    assert "service" not in made["tags"], "a front is no replica of any service"


def test_the_private_front_is_in_the_subnet_and_has_no_public_name() -> None:
    made = body(subnet=SUBNET)
    assert made["properties"]["subnetIds"] == [{"id": SUBNET}]
    assert made["properties"]["ipAddress"] == {"type": "Private", "ports": [{"port": 8080, "protocol": "TCP"}]}


def test_discovery_can_read_what_it_is_given() -> None:
    made = body({"iris": 300.0, "digits": 20.0})
    read = config.load(files(made)["autoscaler.yaml"].decode(), "autoscaler.yaml")
    assert {name: s.hold_limit_s for name, s in read.services.items()} == {"iris": 300.0, "digits": 20.0}
    (_, container) = made["properties"]["containers"]
    env = {v["name"]: v["value"] for v in container["properties"]["environmentVariables"]}
    assert Settings.read(env, "discovery").queue_endpoint == "https://a.queue.core.windows.net"
    assert not any("KEY" in name or "TOKEN" in name for name in env), "discovery has an identity and no secret"


def test_a_front_knows_no_secret_but_its_certificate() -> None:
    assert "planted-secret" not in json.dumps(body())
    assert b"planted-secret" not in b"".join(files(body()).values())


def test_another_service_another_image_another_certificate_are_another_front() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\ny\n"
    made = [body(), body({"iris": 10.0}), body(discovery_image="cr.azurecr.io/discovery:def"), body(certificate=pem)]
    assert len({m["tags"]["template"] for m in made}) == 4
    assert body()["tags"] == made[0]["tags"]


@needs_envoy
async def test_envoy_serves_tls_with_key_and_chain_from_one_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    pem = tmp_path / "certificate.pem"
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    pem.write_bytes(issued.private_key_pem.bytes() + chain)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with (
        discovery(Rows("iris"), {"iris": 1.0}) as port,
        envoy(tmp_path / "envoy", layout(port, {"iris": 1.0}, certificate=str(pem))) as front,
    ):
        url = front.url.replace("http:", "https:")
        async with front.session.get(f"{url}/drain", ssl=trust) as answer:
            assert answer.status == 404, "Envoy itself answers, which is what the gateway's probe looks for"


# -- who keeps it there


class Records:
    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []

    async def keep(self, name: str, address: str) -> bool:
        self.kept.append((name, address))
        return True


class Refusing(MemoryFleet):
    async def create(self, request: GroupRequest) -> None:
        self.made[request.name] += 1
        raise Refused("no such image", code="InaccessibleImage")


def group(request: GroupRequest, state: str = "Succeeded", **tags: str) -> Group:
    own = json.loads(request.body)["tags"]
    return Group(
        name=request.name, region="westeurope", tags={**own, **tags}, provisioning_state=state, address="10.90.1.4"
    )


async def looks(keeper: Keeper, groups: Sequence[Group], *times: float) -> None:
    for now in times:
        await keeper.keep(groups, now)


async def test_a_front_that_is_gone_is_made_and_one_that_is_there_is_left_alone() -> None:
    fleet, request = MemoryFleet(Clock()), front_request(settings(), {"iris": 300.0})
    keeper = Keeper(fleet, request)
    await looks(keeper, [], 0.0)
    assert fleet.made[request.name] == 1
    await looks(keeper, [group(request, "Creating")], 15.0, 30.0)
    await looks(keeper, [group(request)], 45.0, 10_000.0)
    assert fleet.made[request.name] == 1
    await looks(keeper, [], 20_000.0)
    assert fleet.made[request.name] == 2


async def test_a_front_of_another_configuration_is_renewed_once() -> None:
    fleet, request = MemoryFleet(Clock()), front_request(settings(), {"iris": 300.0})
    keeper = Keeper(fleet, request)
    await looks(keeper, [group(request, template="old")], 0.0)
    await looks(keeper, [group(request, "Updating", template="old")], 15.0)
    await looks(keeper, [group(request)], 30.0)
    assert fleet.made[request.name] == 1


async def test_a_front_that_cannot_be_made_does_not_eat_the_budget_of_creations() -> None:
    fleet, request = Refusing(Clock()), front_request(settings(), {"iris": 300.0})
    keeper = Keeper(fleet, request)
    hour = [15.0 * i for i in range(240)]
    await looks(keeper, [], *hour)
    assert 5 <= fleet.made[request.name] <= 9
    assert FIRST_WAIT_S >= 30


async def test_the_name_of_a_private_front_follows_its_address() -> None:
    records, request = Records(), front_request(settings(subnet=SUBNET), {"iris": 300.0})
    keeper = Keeper(MemoryFleet(Clock()), request, records)
    there = group(request)
    await looks(keeper, [there], 0.0, 15.0)
    moved = Group(name=there.name, region="r", tags=there.tags, provisioning_state="Succeeded", address="10.90.1.9")
    await looks(keeper, [moved], 30.0)
    assert records.kept == [("front", "10.90.1.4"), ("front", "10.90.1.9")]
