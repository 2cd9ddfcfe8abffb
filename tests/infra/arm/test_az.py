"""The real ``az`` against the stand-in: `pip install azure-cli` somewhere, then `AZ=…/bin/az pytest -m azcli`."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.arm.arm import RECORDED
from tests.infra.arm.standin import StandIn, serving, until

AZ = os.environ.get("AZ", "")
CALL_LIMIT_S = 60.0
IMAGE = "registry.example/server:1"  # az wants credentials for *.azurecr.io

pytestmark = [
    pytest.mark.azcli,
    pytest.mark.skipif(not AZ, reason="AZ names no az; pip install azure-cli in an environment of its own"),
    pytest.mark.timeout(300),
]


class Az:
    """``az`` with a configuration of its own, logged in with the stand-in's identity."""

    def __init__(self, folder: Path, standin: StandIn) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.endswith(("_CA_BUNDLE", "_proxy", "_PROXY"))}
        self._environment = clean | {
            "AZURE_CONFIG_DIR": str(folder / "az"),
            "AZURE_CORE_COLLECT_TELEMETRY": "no",
            "AZURE_CORE_ONLY_SHOW_ERRORS": "yes",
            "REQUESTS_CA_BUNDLE": str(standin.ca),
            **standin.identity,
        }

    def __call__(self, *words: str) -> Any:
        """What it prints, decoded. Fails with what it complains about."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [AZ, *words, "--output", "json"],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=CALL_LIMIT_S,
            check=False,
        )


@pytest.fixture(scope="module")
def az(tmp_path_factory: pytest.TempPathFactory, tls: Path) -> Iterator[Az]:
    folder = tmp_path_factory.mktemp("az")
    with serving(folder, tls) as standin:
        made = Az(folder, standin)
        made("cloud", "register", "--name", "StandIn", "--endpoint-resource-manager", standin.base)
        made("cloud", "set", "--name", "StandIn")
        made("login", "--identity")
        yield made


def create(az: Az, name: str, *words: str) -> Any:
    size = ("--cpu", "1", "--memory", "1", "--os-type", "Linux", "--ports", "8000", "--ip-address", "Public")
    return az("container", "create", "-g", "work", "-n", name, "--image", IMAGE, "-l", "westeurope", *size, *words)


def created(az: Az, name: str) -> Any:
    """A running group; az itself looks only every 30 seconds."""
    create(az, name, "--no-wait")
    return settled(az, name)


def settled(az: Az, name: str) -> Any:
    def look() -> Any:
        shown = az("container", "show", "-g", "work", "-n", name)
        return shown if shown["provisioningState"] == "Succeeded" else None

    return until(look, f"{name} to settle", limit_s=CALL_LIMIT_S)


def test_login_finds_the_subscription(az: Az) -> None:
    assert az("account", "show")["id"] == RECORDED


def test_a_container_group_can_be_created_shown_listed_read_and_deleted(az: Az) -> None:
    made = create(az, "az-1", "--secure-environment-variables", "TOKEN=hidden")
    assert made["provisioningState"] == "Succeeded"
    assert "hidden" not in json.dumps(made)
    shown = az("container", "show", "-g", "work", "-n", "az-1")
    assert shown["instanceView"]["state"] == "Running"
    assert shown["ipAddress"]["ip"].startswith("127.64.")
    assert [g["name"] for g in az("container", "list", "-g", "work")] == ["az-1"]
    logs = az.run("container", "logs", "-g", "work", "-n", "az-1")
    assert "hello from 127.64." in logs.stdout
    az("container", "delete", "-g", "work", "-n", "az-1", "--yes")
    assert az("container", "list", "-g", "work") == []


def test_stop_start_and_restart_are_understood(az: Az) -> None:
    created(az, "az-2")
    az("container", "stop", "-g", "work", "-n", "az-2")
    assert az("container", "show", "-g", "work", "-n", "az-2")["instanceView"]["state"] == "Stopped"
    az("container", "start", "-g", "work", "-n", "az-2", "--no-wait")
    settled(az, "az-2")
    az("container", "restart", "-g", "work", "-n", "az-2", "--no-wait")
    assert settled(az, "az-2")["instanceView"]["state"] == "Running"
    az("container", "delete", "-g", "work", "-n", "az-2", "--yes")


def test_an_exported_group_can_be_created_again_from_its_file(az: Az, tmp_path: Path) -> None:
    created(az, "az-3")
    file = tmp_path / "replica.yaml"
    az("container", "export", "-g", "work", "-n", "az-3", "--file", str(file))
    az("container", "delete", "-g", "work", "-n", "az-3", "--yes")
    az("container", "create", "-g", "work", "--file", str(file), "--no-wait")
    assert settled(az, "az-3")["instanceView"]["state"] == "Running"
    az("container", "delete", "-g", "work", "-n", "az-3", "--yes")


def test_any_request_goes_through_az_rest(az: Az) -> None:
    path = "/subscriptions/{subscriptionId}/providers/Microsoft.ContainerInstance/locations/westeurope/usages"
    usages = az("rest", "--method", "get", "--url", f"{path}?api-version=2023-05-01")
    assert {u["name"]["value"] for u in usages["value"]} == {"ContainerGroups", "StandardCores"}


def test_metrics_are_listed(az: Az) -> None:
    created(az, "az-4")
    resource = (
        f"/subscriptions/{RECORDED}/resourceGroups/work/providers/Microsoft.ContainerInstance/containerGroups/az-4"
    )
    answer = az("monitor", "metrics", "list", "--resource", resource, "--metric", "CpuUsage", "--interval", "PT1M")
    assert answer["value"][0]["name"]["value"] == "CpuUsage"
    az("container", "delete", "-g", "work", "-n", "az-4", "--yes")


def test_errors_reach_the_user(az: Az) -> None:
    missing = az.run("container", "show", "-g", "work", "-n", "nowhere")
    assert missing.returncode != 0
    assert "was not found" in missing.stderr
