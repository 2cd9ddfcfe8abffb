"""The Bicep files, as far as they can be looked at without Azure and without its compiler."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pycep
import pytest

from scaler.settings import Settings
from scaler.web.access import Access
from tests.infra.azure.bicep import (
    FILES,
    INFRA,
    app_settings,
    declared,
    decorators,
    has_default,
    nodes,
    pairs,
    text,
    tree,
)

MAIN = INFRA / "main.bicep"
PARAMETERS = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
DOCS = (INFRA.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
SHARED = Path(os.environ.get("BICEP_CHECK", INFRA.parents[2] / "shared" / "bicep" / "check.py"))
BY_FILE = pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)

# What the host reads, not we.
OF_THE_HOST = {
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__tableServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
}
# What we read, and a function app on Azure is not given, with the reason.
NOT_DEPLOYED = {
    "AUTOSCALER_CONFIG": "the file lies in the package",
    "AUTOSCALER_ARM_ENDPOINT": "Azure's own is the default; a laptop has a stand-in",
    "AUTOSCALER_LOGS_ENDPOINT": "likewise",
    "AUTOSCALER_PLACES": "other subscriptions, whose rights this deployment cannot give",
    "AUTOSCALER_URL": "for the command line",
    "AUTOSCALER_KEY": "for the command line",
    "DISCOVERY_HOST": "for discovery",
    "DISCOVERY_PORT": "for discovery",
    "IDENTITY_ENDPOINT": "set by the platform",
    "WEBSITE_AUTH_ENABLED": "set by the platform",
}


class Recording(Mapping[str, str]):
    """An environment that remembers which names were looked up."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values_given, self.read = values, set[str]()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return self.values_given[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_given)

    def __len__(self) -> int:
        return len(self.values_given)


def read_names() -> set[str]:
    guid = "00000000-0000-4000-8000-000000000001"
    environment = Recording(
        {
            "AUTOSCALER_DEPLOYMENT_ID": "d",
            "AZURE_SUBSCRIPTION_ID": guid,
            "AUTOSCALER_RESOURCE_GROUP": "rg",
            "AUTOSCALER_TABLE_ENDPOINT": "https://a.table.core.windows.net",
        }
    )
    Settings.read(environment)
    Access.read(environment)
    return environment.read


@BY_FILE
def test_the_syntax_is_sound_to_two_parsers(file: Path) -> None:
    root = tree(file)
    wrong = [n.start_point.row + 1 for n in nodes(root) if n.type == "ERROR" or n.is_missing]
    assert not wrong, f"{file.name}: lines {wrong}"
    assert pycep.BicepParser().parse(file_path=file)


@BY_FILE
def test_only_native_resources_and_modules_of_this_folder(file: Path) -> None:
    for module in declared(file, "module").values():
        path = text(next(nodes(module, "string_content")))
        assert (file.parent / path).is_file(), path


@pytest.mark.parametrize("name", list(declared(MAIN, "module")))
def test_a_module_is_given_what_it_declares(name: str) -> None:
    module = declared(MAIN, "module")[name]
    file = MAIN.parent / text(next(nodes(module, "string_content")))
    wanted = declared(file, "parameter")
    given = set(pairs(pairs(next(nodes(module, "object")))["params"]))
    assert given <= set(wanted), given - set(wanted)
    assert {n for n, p in wanted.items() if not has_default(p)} <= given


def test_outputs_that_are_read_exist() -> None:
    modules = declared(MAIN, "module")
    for name, output in re.findall(r"\b(\w+)\.outputs\.(\w+)", text(tree(MAIN))):
        file = MAIN.parent / text(next(nodes(modules[name], "string_content")))
        assert output in declared(file, "output"), f"{name}.outputs.{output}"


def test_no_output_holds_a_secret() -> None:
    for file in FILES:
        secure = {n for n, p in declared(file, "parameter").items() if "@secure()" in decorators(p)}
        for name, output in declared(file, "output").items():
            expression = text(output)
            assert not re.search(r"\blist\w*\(|\.getSecret\(|connectionString", expression, re.IGNORECASE), name
            assert not secure & {text(i) for i in nodes(output, "identifier")}, name


def test_secrets_reach_modules_only_as_secure_parameters() -> None:
    takers = [f.name for f in FILES if "replicaToken" in declared(f, "parameter")]
    assert takers == ["main.bicep", "vault.bicep"]
    for file in FILES:
        if token := declared(file, "parameter").get("replicaToken"):
            assert "@secure()" in decorators(token)


@pytest.mark.parametrize(("name", "parameter"), list(declared(MAIN, "parameter").items()), ids=lambda v: str(v)[:20])
def test_a_parameter_says_what_it_does_to_the_price(name: str, parameter: object) -> None:
    said = decorators(declared(MAIN, "parameter")[name])
    assert "@description(" in said
    assert re.search(r"price|free|month|cost", said), said


def test_every_parameter_is_told_by_azd_or_has_a_default() -> None:
    parameters = declared(MAIN, "parameter")
    assert set(PARAMETERS) <= set(parameters)
    assert {n for n, p in parameters.items() if not has_default(p)} <= set(PARAMETERS)


def test_the_settings_in_bicep_are_those_that_are_read() -> None:
    given, read = set(app_settings()), read_names()
    templates = {n for n in given if n.startswith("TEMPLATE_")}
    assert given - OF_THE_HOST - templates <= read, "given and never read"
    assert read - given == set(NOT_DEPLOYED), "read and neither given nor excused"


@pytest.mark.parametrize("name", sorted({*app_settings(), *NOT_DEPLOYED} - {"IDENTITY_ENDPOINT"}))
def test_every_setting_is_in_the_docs(name: str) -> None:
    assert f"`{name}`" in DOCS


def test_what_the_template_that_ships_leaves_open_is_given() -> None:
    lines = (INFRA.parent / "replica.yaml").read_text(encoding="utf-8").splitlines()
    written = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    open_names = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)\}", written))
    assert open_names
    assert open_names <= {n.removeprefix("TEMPLATE_") for n in app_settings() if n.startswith("TEMPLATE_")}


def test_no_account_key_and_no_password_is_used_anywhere() -> None:
    source = "\n".join(f.read_text(encoding="utf-8") for f in FILES)
    assert "allowSharedKeyAccess: false" in source
    assert "adminUserEnabled: false" in source
    assert source.count("disableLocalAuth: true".casefold()) + source.casefold().count("disablelocalauth: true") >= 2
    assert not re.search(r"listKeys|listCredentials|AccountKey=", source)


def test_a_finding_of_checkov_that_is_skipped_has_a_reason() -> None:
    skips = [line for f in FILES for line in f.read_text(encoding="utf-8").splitlines() if "checkov:skip" in line]
    assert skips
    for line in skips:
        assert re.fullmatch(r"\s*// checkov:skip=CKV_AZURE_\d+: .{20,}", line), line


@pytest.mark.skipif(not SHARED.is_file(), reason="the types of Azure's resources are not here; BICEP_CHECK names them")
def test_the_types_of_azure_have_nothing_to_say() -> None:
    ran = subprocess.run(
        [sys.executable, str(SHARED), *map(str, FILES)], capture_output=True, text=True, timeout=60, check=False
    )
    findings = [line for line in ran.stdout.splitlines() if not line.startswith("note:")]
    assert (ran.returncode, findings) == (0, []), ran.stdout + ran.stderr


@pytest.mark.skipif(importlib.util.find_spec("checkov") is None, reason="checkov is not installed here")
def test_checkov_finds_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "checkov.main", "-d", str(INFRA), "--framework", "bicep", "--compact", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    summary = json.loads(ran.stdout)["summary"]
    assert (summary["failed"], summary["parsing_errors"]) == (0, 0)


@pytest.mark.parametrize("role", json.loads((INFRA / "app" / "roles.json").read_text(encoding="utf-8")))
def test_every_custom_role_is_made_and_given(role: str) -> None:
    made = (INFRA / "app" / "roles.bicep").read_text(encoding="utf-8")
    assert f"actions: roles.{role}.actions" in made
    given = (INFRA / "app" / "rights.bicep").read_text(encoding="utf-8") + MAIN.read_text(encoding="utf-8")
    assert f"roleDefinitionId: roles.{role}," in given or f"roleId: roles.outputs.{role}Id" in given
