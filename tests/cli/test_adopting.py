"""`adopt`: a group that exists becomes a service, and no secret of it gets into a file or onto the screen."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler import config
from scaler.adopt import added, adopt, entry
from scaler.errors import BadSetting
from scaler.template import Template
from tests.cli.conftest import Run
from tests.stand_in import GROUP, ROLES, SUBSCRIPTION, start_stand_in

ROOT = Path(__file__).resolve().parents[2]
# As `az container export` writes it: nulls and all, here with the secrets that somebody filled in.
EXPORTED = """
additional_properties: {}
apiVersion: '2021-10-01'
identity: null
location: northeurope
name: iris-by-hand
properties:
  containers:
  - name: server
    properties:
      environmentVariables:
      - {name: MODEL_PATH, value: /models/iris.safetensors}
      - {name: PATTERN, value: 'a${B}c'}
      - {name: DB_PASSWORD, secureValue: planted-1}
      - {name: API_KEY, value: planted-2}
      - {name: EMPTY_SECRET, secureValue: null}
      - {name: REPLICA_TOKEN, secureValue: planted-3}
      image: example.azurecr.io/iris:7
      instanceView: {restartCount: 0}
      ports: [{port: 8000, protocol: TCP}]
      resources: {requests: {cpu: 1.0, memoryInGB: 1.5}}
  imageRegistryCredentials: [{server: example.azurecr.io, username: iris, password: planted-4}]
  initContainers: []
  instanceView: {state: Running}
  ipAddress: {dnsNameLabel: iris, fqdn: iris.example, ip: 20.1.2.3, ports: [{port: 8000}], type: Public}
  osType: Linux
  provisioningState: Succeeded
  volumes:
  - {name: models, azureFile: {shareName: models, storageAccountName: irismodels, storageAccountKey: planted-5}}
  - {name: certs, secret: {cert.pem: cGxhbnRlZC02}}
  - {name: lost, secret: null}
tags: {team: ml}
type: Microsoft.ContainerInstance/containerGroups
"""
SECRETS = [*(f"planted-{i}" for i in range(1, 7)), "cGxhbnRlZC02"]
SETTINGS = {
    "TEMPLATE_DB_PASSWORD",
    "TEMPLATE_API_KEY",
    "TEMPLATE_EMPTY_SECRET",
    "TEMPLATE_REGISTRY_EXAMPLE_AZURECR_IO",
    "TEMPLATE_STORAGE_IRISMODELS",
    "TEMPLATE_CERTS_CERT_PEM",
    "TEMPLATE_LOST",
}


SPOKEN = {
    "a connection string": ("value", "Endpoint=sb://x;SharedAccessKey=planted-9="),
    "an account": ("value", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=planted-9"),
    "a signed address": ("value", "https://x.blob.core.windows.net/c?sv=1&sig=planted-9"),
    "an address with a password": ("value", "postgres://user:planted-9@host/db"),
    "a key": ("value", "-----BEGIN PRIVATE KEY-----\nplanted-9\n-----END PRIVATE KEY-----"),
    "an option": ("command", ["serve", "--token=planted-9"]),
    "an option and its value": ("command", ["serve", "--api-key", "planted-9", "--port", "8000"]),
    "a line of a shell": ("command", ["sh", "-c", "serve --password planted-9"]),
    "a header of a probe": ("header", {"name": "Authorization", "value": "Bearer planted-9"}),
    "a repository": ("repository", "https://user:planted-9@github.com/a/b"),
}


@pytest.mark.parametrize("where", SPOKEN)
def test_a_secret_in_plain_text_is_not_copied_wherever_it_stands(where: str) -> None:
    kind, secret = SPOKEN[where]
    body = yaml.safe_load(EXPORTED)
    server = body["properties"]["containers"][0]["properties"]
    if kind == "value":
        server["environmentVariables"].append({"name": "PLAIN", "value": secret})
    elif kind == "command":
        server["command"] = secret
    elif kind == "header":
        server["readinessProbe"] = {"httpGet": {"path": "/readyz", "port": 8000, "httpHeaders": [secret]}}
    else:
        body["properties"]["volumes"].append({"name": "code", "gitRepo": {"repository": secret}})
    made = adopt(yaml.safe_dump(body), "export.yaml")
    assert "planted" not in repr(made)
    assert len(made.settings) == len(SETTINGS) + 1
    values = {n.removeprefix("TEMPLATE_"): "given" for n in made.settings}
    assert b"given" in Template.read(made.template, "iris.yaml", values).body


def test_what_is_no_secret_stays_as_it_is() -> None:
    body = yaml.safe_load(EXPORTED)
    server = body["properties"]["containers"][0]["properties"]
    server["command"] = ["python", "-m", "inference", "--port", "8000", "--tokenizer=bert"]
    server["environmentVariables"] += [{"name": "MODEL_URL", "value": "https://example.org/models/iris?version=2"}]
    made = adopt(yaml.safe_dump(body), "export.yaml")
    assert set(made.settings) == SETTINGS
    assert "--tokenizer=bert" in made.template
    assert "https://example.org/models/iris?version=2" in made.template


def test_no_setting_gets_two_meanings(run: Run, place: Path) -> None:
    """Neither one of the deployment's own, nor one that another template has, nor one of two containers."""
    body = yaml.safe_load(EXPORTED)
    containers = body["properties"]["containers"]
    variables = [{"name": name, "secureValue": None} for name in ("DB_PASSWORD", "REGISTRY")]
    resources = {"requests": {"cpu": 0.5, "memoryInGB": 0.5}}
    sidecar = {"image": "r.azurecr.io/log:1", "resources": resources, "environmentVariables": variables}
    containers.append({"name": "log", "properties": sidecar})
    (place / "two.yaml").write_text(yaml.safe_dump(body))
    names = []
    for service, file in (("iris", "export.yaml"), ("both", "two.yaml")):
        told = run("adopt", str(place / file), "--service", service, "-c", str(place / "autoscaler.yaml"), "--json")
        assert told.exit_code == 0, told.output
        names.append(set(json.loads(told.stdout)["settings"]))
    assert names[0] == SETTINGS
    assert not names[0] & names[1]
    assert "TEMPLATE_REGISTRY" not in names[1]
    assert len([n for n in names[1] if "DB_PASSWORD" in n]) == 2


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "export.yaml").write_text(EXPORTED)
    return tmp_path


def test_an_exported_group_becomes_a_service_in_one_command(run: Run, place: Path) -> None:
    told = run("adopt", str(place / "export.yaml"), "--service", "iris", "--config", str(place / "autoscaler.yaml"))
    assert told.exit_code == 0, told.output
    assert not [s for s in SECRETS if s in told.output]
    for name in SETTINGS:
        assert name in told.output
    written = (place / "iris.yaml").read_text()
    assert not [s for s in SECRETS if s in written]
    (service,) = config.load((place / "autoscaler.yaml").read_text(), "autoscaler.yaml").services.items()
    assert (service[0], service[1].template, service[1].regions) == ("iris", "iris.yaml", ["northeurope"])
    assert run("validate", str(place / "autoscaler.yaml")).exit_code == 0


def test_with_its_settings_it_is_the_group_that_it_was() -> None:
    made = adopt(EXPORTED, "export.yaml")
    assert set(made.settings) == SETTINGS
    values = {n.removeprefix("TEMPLATE_"): f"given-{i}" for i, n in enumerate(sorted(made.settings))}
    body = json.loads(Template.read(made.template, "iris.yaml", values).body)
    variables = {v["name"]: v for v in body["properties"]["containers"][0]["properties"]["environmentVariables"]}
    assert variables["PATTERN"]["value"] == "a${B}c"
    assert variables["MODEL_PATH"]["value"] == "/models/iris.safetensors"
    assert variables["API_KEY"] == {"name": "API_KEY", "secureValue": values["API_KEY"]}
    assert body["properties"]["imageRegistryCredentials"][0]["username"] == "iris"
    assert not {"ip", "fqdn", "dnsNameLabel"} & set(body["properties"]["ipAddress"])
    assert Template.read(made.template, "iris.yaml", values).tags == {"team": "ml"}


def test_what_stands_in_the_configuration_stays_as_it_is(run: Run, place: Path) -> None:
    before = "# ours\nservices:\n  digits:   # the first\n    regions: [westeurope]\n\n  # last\n"
    (place / "autoscaler.yaml").write_text(before)
    told = run("adopt", str(place / "export.yaml"), "--service", "iris", "-c", str(place / "autoscaler.yaml"))
    assert told.exit_code == 0, told.output
    after = (place / "autoscaler.yaml").read_text()
    assert after.startswith(before.rstrip("\n"))
    assert list(config.load(after, "autoscaler.yaml").services) == ["digits", "iris"]


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("services: {iris: {}}\n", "no line `services:` to add to"),
        ("services:\n  iris: {}\n", "services.iris: is there already"),
    ],
)
def test_what_cannot_be_added_to_leaves_nothing(run: Run, place: Path, before: str, said: str) -> None:
    (place / "autoscaler.yaml").write_text(before)
    told = run("adopt", str(place / "export.yaml"), "--service", "iris", "-c", str(place / "autoscaler.yaml"))
    assert told.exit_code == 2
    assert said in told.stderr
    assert not (place / "iris.yaml").exists()
    assert (place / "autoscaler.yaml").read_text() == before


def test_a_template_that_is_there_is_not_written_over(run: Run, place: Path) -> None:
    (place / "iris.yaml").write_text("mine")
    told = run("adopt", str(place / "export.yaml"), "--service", "iris", "-c", str(place / "autoscaler.yaml"))
    assert (told.exit_code, (place / "iris.yaml").read_text()) == (2, "mine")


def test_without_a_file_and_without_azure_it_says_what_is_missing(run: Run, place: Path) -> None:
    told = run("adopt", "iris-by-hand", "-c", str(place / "autoscaler.yaml"))
    assert told.exit_code == 2
    assert "set AZURE_SUBSCRIPTION_ID and AUTOSCALER_RESOURCE_GROUP" in told.stderr


@settings(deadline=None, max_examples=30)  # each reads a whole template three times
@given(st.text(max_size=200))
def test_any_text_is_adopted_or_refused_in_a_sentence(text: str) -> None:
    for source in (text, EXPORTED.replace("type: Public", text), EXPORTED[len(text) :]):
        with contextlib.suppress(BadSetting):
            assert adopt(source, "export.yaml").template


@given(
    st.sampled_from(["containers", "volumes", "imageRegistryCredentials", "ipAddress"]),
    st.sampled_from([[1], "x", 5, {}]),
)
def test_a_group_of_another_shape_is_refused_in_a_sentence(key: str, value: object) -> None:
    body = {"properties": {"containers": [], "ipAddress": {}, key: value}}
    with pytest.raises(BadSetting):
        adopt(json.dumps(body), "export.json")


def test_an_entry_comes_before_what_follows_the_services() -> None:
    text = added("services:\n  a: {}\nversion: 1\n", entry("b", "b.yaml", "westeurope"))
    assert text.index("  b:") < text.index("version: 1")


def test_a_group_that_runs_is_adopted_by_its_name(tmp_path: Path) -> None:
    """Over the real SDK and the stand-in, under the roles of the deployment."""
    place = ("--subscription", SUBSCRIPTION, "--resource-group", GROUP, "--authorization", str(ROLES))
    with start_stand_in(tmp_path, *place) as stand_in:
        made = Template.read(
            EXPORTED.replace("{name: EMPTY_SECRET, secureValue: null}", "{name: E, value: e}").replace(
                "- {name: lost, secret: null}", ""
            ),
            "export.yaml",
        )
        request = made.request("iris-by-hand", service="x", deployment_id="d", region="westeurope")
        program = (
            "import asyncio, sys; from tests.cli.test_adopting import made; asyncio.run(made(sys.stdin.buffer.read()))"
        )
        env = {
            "PATH": os.environ["PATH"],
            "SSL_CERT_FILE": str(stand_in.ca),
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AUTOSCALER_RESOURCE_GROUP": GROUP,
            "AUTOSCALER_TABLE_ENDPOINT": "https://127.0.0.1:9",
            "AUTOSCALER_DEPLOYMENT_ID": "d",
            "AUTOSCALER_ARM_ENDPOINT": stand_in.arm,
            **stand_in.identity,
        }
        ran = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=env, input=request.body, check=False, timeout=30
        )
        assert ran.returncode == 0
        command = [sys.executable, "-m", "scaler", "adopt", "iris-by-hand", "-c", str(tmp_path / "autoscaler.yaml")]
        adopted = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert adopted.returncode == 0, adopted.stderr
    written = (tmp_path / "iris-by-hand.yaml").read_text() + adopted.stdout
    assert not [s for s in SECRETS if s in written]
    assert "TEMPLATE_DB_PASSWORD" in adopted.stdout


async def made(body: bytes) -> None:
    """Make a group by hand, as the person did who is adopting it now."""
    from scaler.azure import connect  # noqa: PLC0415 - in a process of its own, for its trust
    from scaler.ports import GroupRequest  # noqa: PLC0415
    from scaler.settings import Settings  # noqa: PLC0415

    scaler = connect(Settings.read(os.environ | {"AUTOSCALER_CONFIG": str(ROOT / "tests" / "cli" / "none.yaml")}))
    await scaler.world.fleet.create(GroupRequest(name="iris-by-hand", body=body))
    await scaler.world.close()  # type: ignore[attr-defined]
