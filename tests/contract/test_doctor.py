"""``doctor`` against Azurite and the stand-in: what is well, and each thing that can be wrong with its remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scaler.azure.replica_stats import ReplicaStats
from scaler.azure.table_state import TableState
from scaler.conditions import condition
from scaler.doctor import Check, examine_service
from scaler.errors import Unavailable
from scaler.model import Phase, Replica
from scaler.ports import Stored
from scaler.settings import Settings
from scaler.template import Template
from scaler.tick.scaler import Scaler
from tests.azurite import Azurite, StaticCredential
from tests.deployment import deployed
from tests.stand_in import GROUP, ROLES, SUBSCRIPTION, StandIn, start_stand_in

ROOT = Path(__file__).resolve().parents[2]
PLACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
IDENTITY = f"{PLACE}/Microsoft.ManagedIdentity/userAssignedIdentities/id-replica"
SUBNET = f"{PLACE}/Microsoft.Network/virtualNetworks/vnet/subnets/groups"
ZONE = f"{PLACE}/Microsoft.Network/privateDnsZones/aci-autoscaler.internal"
TEMPLATE = f"""
properties:
  containers:
  - name: server
    properties:
      image: 127.0.0.1:9/replica:0123abc
      ports: [{{port: 8000}}]
      resources: {{requests: {{cpu: 1.0, memoryInGB: 1.5}}}}
  imageRegistryCredentials: [{{server: '127.0.0.1:9', identity: '{IDENTITY}'}}]
  ipAddress: {{type: Private, ports: [{{port: 8000}}]}}
  subnetIds: [{{id: '{SUBNET}'}}]
identity: {{type: UserAssigned, userAssignedIdentities: {{'{IDENTITY}': {{}}}}}}
"""
PUBLIC = TEMPLATE.replace("Private", "Public").replace(f"  subnetIds: [{{id: '{SUBNET}'}}]\n", "")
CONFIG = "services: {examined: {template: replica.yaml, regions: [westeurope], replicas: {max: 4}}}\n"
Doctor = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def doctor(azurite: Azurite, tmp_path: Path) -> Doctor:
    """Runs `python -m scaler doctor --json` as a program of its own; gives its checks by name."""

    def run(stand_in: StandIn, template: str = TEMPLATE, config: str = CONFIG, **env: str) -> dict[str, dict[str, Any]]:
        signals = {"AUTOSCALER_LOGS_ENDPOINT": stand_in.arm, "AUTOSCALER_LOGS_WORKSPACE": SUBSCRIPTION}
        environment = deployed(tmp_path, azurite, stand_in, config, template, FRONT_ZONE=ZONE, **signals | env)
        ran = subprocess.run(
            [sys.executable, "-m", "scaler", "doctor", "--json"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert ran.returncode in (0, 1), ran.stderr
        assert "planted-secret" not in ran.stdout + ran.stderr
        told = json.loads(ran.stdout)
        assert (ran.returncode == 0) == told["ok"]
        assert all(c["remedy"] for c in told["checks"] if c["ok"] is False)
        return {c["name"].removeprefix("examined: "): c for c in told["checks"]}

    return run


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with start_stand_in(tmp_path_factory.mktemp("arm"), *place(ROLES)) as running:
        yield running


def place(roles: Path) -> tuple[str, ...]:
    return ("--subscription", SUBSCRIPTION, "--resource-group", GROUP, "--authorization", str(roles))


def test_what_is_well_is_said_and_nothing_is_left_behind(doctor: Doctor, allowed: StandIn) -> None:
    checks = doctor(allowed)
    assert checks["rights to make and delete"]["detail"] == "make: allowed; delete: allowed"
    wrong = {name for name, c in checks.items() if c["ok"] is False}
    assert wrong == {"front"}, "none runs here"
    assert checks["image 127.0.0.1:9/replica:0123abc"]["ok"] is None, "container groups may reach what we do not"
    assert checks["rights to make and delete"]["detail"] == "make: allowed; delete: allowed"
    assert checks["subnet"]["detail"] == "groups, 10.90.1.0/24, delegated to container groups"
    assert checks["state table"]["detail"].startswith("a row was written and removed; no tick of this service yet")
    assert "ContainerGroups 0 of 100" in checks["quota in westeurope"]["detail"]
    assert checks["clock"]["ok"] is True
    assert doctor(allowed)["container groups"]["detail"] == "0 of ours, 0 of others that are left alone"


@pytest.mark.verify
@pytest.mark.parametrize(
    ("role", "action", "check"),
    [
        ("groups", "containerGroups/read", "container groups"),
        ("groups", "containerGroups/write", "rights to make and delete"),
        ("groups", "containerGroups/delete", "rights to make and delete"),
        ("identities", "userAssignedIdentities/assign/action", "rights to make and delete"),
        ("subnets", "subnets/join/action", "rights to make and delete"),
        ("subnets", "subnets/read", "subnet"),
        ("regions", "locations/usages/read", "quota in westeurope"),
        ("regions", "locations/capabilities/read", "what westeurope offers"),
        ("regions", "Insights/metrics/read", "right to read metrics"),
        ("logs", "workspaces/query/read", "right to ask logs"),
        ("identities", "userAssignedIdentities/read", "identity of replicas"),
        ("records", "privateDnsZones/A/write", "record of the front"),
        ("records", "privateDnsZones/A/read", "record of the front"),
    ],
)
def test_a_right_that_is_missing_is_named(doctor: Doctor, tmp_path: Path, role: str, action: str, check: str) -> None:
    roles = json.loads(ROLES.read_text(encoding="utf-8"))
    roles[role]["actions"] = [a for a in roles[role]["actions"] if not a.endswith(action)]
    (tmp_path / "arm").mkdir()
    (tmp_path / "roles.json").write_text(json.dumps(roles))
    with start_stand_in(tmp_path / "arm", *place(tmp_path / "roles.json")) as lacking:
        found = doctor(lacking)[check]
    assert found["ok"] is False
    assert action in found["detail"]


@pytest.mark.verify
@pytest.mark.parametrize(
    ("changed", "check", "said"),
    [
        ({"template": TEMPLATE.replace("subnets/groups", "subnets/missing")}, "subnet", "ResourceNotFound"),
        ({"template": TEMPLATE.replace("cpu: 1.0", "cpu: 40")}, "what westeurope offers", "at most 31 cores"),
        ({"template": TEMPLATE.replace("cpu: 1.0", "gpu: {count: 1, sku: V100}, cpu: 1")}, "what westeurope offers",
         "retired GPUs on Container Instances on 2025-07-14"),
        ({"template": TEMPLATE.replace(":0123abc", ":latest")}, "image 127.0.0.1:9/replica:latest", "latest"),
        ({"config": CONFIG.replace("max: 4", "max: 101")}, "quota in westeurope", "room for 100 more replicas"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_before_azure_says_it(
    doctor: Doctor, allowed: StandIn, changed: dict[str, str], check: str, said: str
) -> None:
    found = doctor(allowed, **changed)[check]
    assert found["ok"] is False
    assert said in found["detail"]


Examined = Callable[..., Awaitable[dict[str, Check]]]
SECRET, BEFORE = "planted-secret", "planted-secret-before"
CERTIFICATES = "certificates of replicas"


@pytest.fixture
def examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examined:
    """Every check by name, asked in this process: the rows are these, whose replicas answer, and nobody else does."""

    async def answers(_: ReplicaStats, replica: Replica) -> None:
        if replica.address is None:
            raise Unavailable(f"replica {replica.name}: no answer")

    async def run(template: str, env: dict[str, str], *ready: Replica) -> dict[str, Check]:
        async def load(_: TableState, service: str) -> Stored:
            return Stored(service=service, replicas=ready)

        monkeypatch.setattr(TableState, "load", load)
        monkeypatch.setattr(ReplicaStats, "stats", answers)
        monkeypatch.setattr("scaler.azure._credential", lambda _: StaticCredential())  # none waits for a token
        (tmp_path / "replica.yaml").write_text(template)
        (tmp_path / "autoscaler.yaml").write_text(CONFIG)
        nobody = "https://127.0.0.1:9"
        environment = {
            "AUTOSCALER_CONFIG": str(tmp_path / "autoscaler.yaml"),
            "AUTOSCALER_DEPLOYMENT_ID": "doctor-test",
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AUTOSCALER_RESOURCE_GROUP": GROUP,
            "AUTOSCALER_TABLE_ENDPOINT": nobody,
            "AUTOSCALER_ARM_ENDPOINT": nobody,
        }
        return {c.name: c for c in await examine_service(Settings.read(environment | env), "examined")}

    return run


def ready(version: str, address: str | None = "127.0.0.1") -> Replica:
    return Replica(
        name="examined-1",
        phase=Phase.READY,
        region="westeurope",
        template=version,
        intended_at=0.0,
        phase_at=0.0,
        address=address,
    )


@pytest.mark.parametrize(
    ("template", "env", "ok", "said"),
    [
        (TEMPLATE, {}, True, "private addresses"),
        (PUBLIC, {}, False, "requests and the token go to them unencrypted"),
        (PUBLIC, {"REPLICA_TLS": "false"}, None, "requests and the token go to them unencrypted"),
        (PUBLIC, {"REPLICA_AUTHORITY": SECRET}, True, "signs; a certificate made now holds until 20"),
        (PUBLIC, {"REPLICA_AUTHORITY": f"{SECRET} {BEFORE}"}, True, "no replica is left that needs the older secrets"),
    ],
)
async def test_whether_what_goes_to_replicas_is_safe_is_said(
    examined: Examined, template: str, env: dict[str, str], ok: bool | None, said: str
) -> None:
    found = (await examined(template, env))[CERTIFICATES]
    assert (found.ok, said in found.detail) == (ok, True), found
    assert bool(found.remedy) == (ok is not True)
    assert "planted" not in repr(found)


async def test_replicas_with_older_certificates_are_counted(examined: Examined) -> None:
    found = await examined(PUBLIC, {"REPLICA_AUTHORITY": f"{SECRET} {BEFORE}"}, ready("another-tls"))
    assert "of another version until they are replaced: 1" in found[CERTIFICATES].detail
    assert found["replicas"].detail == "1 ready, and all answer; by TLS, with a certificate of their own: 1"


async def test_a_certificate_that_does_not_hold_is_said(examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaler.doctor.time.time", lambda: 3.5e9)  # after the authority's end
    found = (await examined(PUBLIC, {"REPLICA_AUTHORITY": SECRET}))[CERTIFICATES]
    assert (found.ok, "does not hold" in found.detail) == (False, True), found


async def test_replicas_that_are_ready_prove_the_image_and_those_that_do_not_answer_are_said(
    examined: Examined,
) -> None:
    version = Template.read(TEMPLATE, "replica.yaml").hash
    found = await examined(TEMPLATE, {}, ready(version), ready(version, None))
    image = found["image 127.0.0.1:9/replica:0123abc"]
    assert (image.ok, image.detail) == (True, "was pulled; ready replicas of this version: 2")
    assert found["replicas"].ok is False
    assert found["replicas"].detail.startswith("1 of 2 that are ready do not answer: replica examined-1")


async def test_an_image_that_could_not_be_pulled_is_said(examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    async def memory(_: Scaler, __: str) -> SimpleNamespace:
        return SimpleNamespace(conditions=(condition("image_pull", 0.0, about="examined-1", said="no such tag"),))

    monkeypatch.setattr(Scaler, "memory", memory)
    found = (await examined(TEMPLATE, {}))["image 127.0.0.1:9/replica:0123abc"]
    assert (found.ok, "no such tag" in found.detail) == (False, True), found
    assert "az acr repository show-tags" in found.remedy


def test_signals_are_read(doctor: Doctor, allowed: StandIn, azurite: Azurite) -> None:
    queries = ", ".join(f"{{log_query: '{query}', per_replica: 10}}" for query in ("print value = 7", "Nobody | count"))
    signals = f"max: 4}}, signals: [{queries}, {{storage_queue: none, per_replica: 1}}]"
    checks = doctor(allowed, config=CONFIG.replace("max: 4}", signals), AUTOSCALER_QUEUE_ENDPOINT=azurite.queue)
    told = [(c["ok"], c["detail"]) for name, c in checks.items() if name.startswith("signal ")]
    assert told == [(True, "is 7"), *[(False, "cannot be read; the log says why")] * 2]


def test_a_private_front_with_public_replicas_is_said(doctor: Doctor, allowed: StandIn) -> None:
    found = doctor(allowed, template=PUBLIC, FRONT_SUBNET=SUBNET)["subnet"]
    assert (found["ok"], "the front is private" in found["detail"]) == (False, True)


@pytest.mark.verify
def test_without_azure_each_check_ends_and_says_so(doctor: Doctor, allowed: StandIn) -> None:
    checks = doctor(
        allowed, AUTOSCALER_ARM_ENDPOINT="https://127.0.0.1:9", AUTOSCALER_TABLE_ENDPOINT="https://127.0.0.1:9"
    )
    assert {c["ok"] for n, c in checks.items() if n in ("state table", "container groups", "clock")} == {False}
