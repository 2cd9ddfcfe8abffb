"""``connect``: all adapters at once over Azurite, the stand-in and its identity endpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scaler.azure import connect, mint, open_store
from scaler.errors import BadSetting
from scaler.settings import Settings
from tests.azurite import Azurite
from tests.deployment import TEMPLATE, deployed
from tests.stand_in import GROUP, SUBSCRIPTION, StandIn

ROOT = Path(__file__).resolve().parents[2]
METRIC = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerInstance/containerGroups/none"
    "/Microsoft.ContainerInstance/containerGroups/CpuUsage"
)
CONFIG = f"""
services:
  connected:
    template: replica.yaml
    regions: [westeurope]
    replicas: {{min: 2, max: 4}}
    target: {{concurrency: 2}}
    signals:
      - {{storage_queue: depth-of-connect, per_replica: 5}}
      - {{log_query: "Jobs | count", per_replica: 5, name: log}}
      - {{metric: {METRIC}, per_replica: 5, name: cpu}}
"""
SETTINGS = Settings(
    deployment_id="connect-test",
    subscription_id=SUBSCRIPTION,
    resource_group=GROUP,
    table_endpoint="https://127.0.0.1:9/devstoreaccount1",
    queue_endpoint="https://127.0.0.1:9/devstoreaccount1",
    logs_workspace="00000000-0000-4000-8000-000000000002",
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "replica.yaml").write_text(TEMPLATE)
    (tmp_path / "autoscaler.yaml").write_text(CONFIG)
    return tmp_path / "autoscaler.yaml"


def run(config: Path, azurite: Azurite, stand_in: StandIn, times: int) -> dict[str, Any]:
    """What the ticking program tells; it must end by itself and leave nothing open."""
    environment = deployed(
        config.parent,
        azurite,
        stand_in,
        CONFIG,
        AUTOSCALER_DEPLOYMENT_ID="connect-test",
        AUTOSCALER_QUEUE_ENDPOINT=azurite.queue,
        AUTOSCALER_METRICS_ENDPOINT=stand_in.arm,
        AUTOSCALER_LOGS_ENDPOINT=stand_in.arm,
        AUTOSCALER_LOGS_WORKSPACE="00000000-0000-4000-8000-000000000002",
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.contract.ticking", str(times)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "unclosed" not in ran.stderr.lower(), ran.stderr
    assert "planted-secret" not in ran.stdout + ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def test_a_connected_scaler_creates_what_is_asked_for(config: Path, azurite: Azurite, stand_in: StandIn) -> None:
    stand_in.mend()
    told = run(config, azurite, stand_in, 2)
    assert told["outcomes"] == ["saved", "saved"]
    ours = [g for g in told["groups"] if g["tags"].get("aci-autoscaler") == "connect-test"]
    assert len(ours) == 2, told["actions"]
    assert all(g["tags"]["service"] == "connected" and g["region"] == "westeurope" for g in ours)
    assert sorted(told["phases"]) == ["starting", "starting"]
    first, second = told["calls"][-1], told["calls"][-2]
    assert first["create"] == 2
    assert "create" not in second
    assert second["table"] == 3, "a tick that changes nothing: one query, one transaction, one insert"
    # The queue is not there, the log query has no answer, the metric is of no group: none of them is zero.
    assert told["signals"] == {"depth-of-connect": None, "log": None, "cpu": None}
    assert told["unwanted"] == []


def test_importing_the_package_imports_no_sdk() -> None:
    code = (
        "import sys, scaler.azure, scaler.settings, scaler.tick.scaler\n"
        "print([m for m in sys.modules if m.startswith(('azure.', 'aiohttp', 'torch', 'sklearn'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def settings(config: Path, **changes: Any) -> Settings:
    known = {name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__}
    return Settings(**(known | {"config_file": str(config)} | changes))


async def test_building_a_scaler_sends_nothing_and_closing_it_twice_is_closing_it_once(config: Path) -> None:
    scaler = connect(settings(config))
    await scaler.world.close()  # type: ignore[attr-defined]
    await scaler.world.close()  # type: ignore[attr-defined]


async def test_discovery_has_the_state_table_alone(config: Path) -> None:
    async with open_store(settings(config)) as store:
        assert store is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"queue_endpoint": ""}, "autoscaler.yaml: services.connected.signals[0].storage_queue: set AUTOSCALER_QUEUE_"),
        ({"logs_workspace": ""}, "autoscaler.yaml: services.connected.signals[1].log_query: set AUTOSCALER_LOGS_WORK"),
    ],
)
def test_a_signal_that_lacks_a_setting_is_said(config: Path, changes: dict[str, str], said: str) -> None:
    with pytest.raises(BadSetting) as raised:
        connect(settings(config, **changes))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("depth-of-connect", "No_Queue", "signals[0].storage_queue: 'No_Queue' is no queue name"),
        (METRIC, "CpuUsage", "signals[2].metric: metric 'CpuUsage': expected /subscriptions/"),
        ("template: replica.yaml", "template: nowhere.yaml", "nowhere.yaml: cannot be read: No such file"),
        ("template: replica.yaml", "template: .", "cannot be read: Is a directory"),
        ("min: 2", "min: 9", "services.connected.replicas: min 9 is above max 4"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_sentence(config: Path, old: str, new: str, said: str) -> None:
    config.write_text(CONFIG.replace(old, new))
    with pytest.raises(BadSetting) as raised:
        connect(settings(config))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_standby_pool_and_certificates_exclude_each_other(config: Path) -> None:
    of = "/subscriptions/s/resourceGroups/g/providers"
    pool = f"{of}/Microsoft.StandbyPool/standbyContainerGroupPools/p"
    profile = f"{of}/Microsoft.ContainerInstance/containerGroupProfiles/p"
    template = "template: replica.yaml"
    config.write_text(CONFIG.replace(template, f"{template}\n    standby_pool: {{pool: {pool}, profile: {profile}}}"))
    connect(settings(config))
    with pytest.raises(BadSetting, match=r"services\.connected\.standby_pool: replicas of a pool get no certificate"):
        connect(settings(config, replica_authority="the-secret-of-the-authority"))


def test_switching_tls_or_its_signer_is_another_version_of_the_template(config: Path) -> None:
    """And so a rollout, which leaves running replicas in sight until they are replaced."""

    def version(**given: object) -> str:
        (managed,) = connect(settings(config, **{"replica_token": "test-token-1234", **given})).managed.values()
        assert managed.template is not None
        return managed.template.hash

    first, second = "the-first-of-the-secrets", "the-second-of-the-secrets"
    plain, by_first, by_second = version(), version(replica_authority=first), version(replica_authority=second)
    assert len({plain, by_first, by_second}) == 3
    assert [v.endswith("-tls") for v in (plain, by_first, by_second)] == [False, True, True]
    assert not version(replica_authority=first, replica_tls=False).endswith("-tls")
    assert version(replica_authority=f"{second} {first}") == by_second
    assert version(replica_authority=second, replica_token="test-token-5678") != by_second
    assert version(replica_token="test-token-5678") != plain


def test_a_configuration_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="cannot be read: No such file or directory; set AUTOSCALER_CONFIG"):
        connect(settings(tmp_path / "autoscaler.yaml"))


def test_names_are_new_each_time_and_fit_azure() -> None:
    names = {mint("a" * 40) for _ in range(1000)}
    assert len(names) == 1000
    assert all(len(name) <= 63 and name.replace("-", "").isalnum() and name == name.lower() for name in names)
