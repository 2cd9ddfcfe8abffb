"""`infra/ship.py` with programs in the place of az, azd and git that write down how they were called."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
RECORDER = """#!{python}
import json, os, sys
words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with open({calls!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
answers = json.load(open({answers!r}))
line = " ".join(words)
for start, (code, text) in answers.items():
    if line.startswith(start):
        print(text)
        sys.exit(code)
"""
DEPLOYED = {
    "AZURE_CONTAINER_REGISTRY_NAME": "crx",
    "AZURE_CONTAINER_REGISTRY_ENDPOINT": "crx.azurecr.io",
    "AZURE_RESOURCE_GROUP": "rg-x",
    "AUTOSCALER_APP": "func-x",
    "AUTOSCALER_DEPLOYMENT_ID": "aci-x",
    "BUDGET_START": "2026-11-01",
}
CLEAN = {"git rev-parse": [0, "0123456789ab"], "git status": [0, ""], "git diff": [0, ""]}
MISSING = {"az acr repository show": [3, ""]}


class Programs:
    def __init__(self, folder: Path) -> None:
        self.folder, self.calls_file = folder, folder / "calls"
        for name in ("az", "azd", "git"):
            program = folder / name
            answers = str(folder / "answers.json")
            program.write_text(RECORDER.format(python=sys.executable, calls=str(self.calls_file), answers=answers))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def ship(self, verb: str, answers: dict[str, list[object]], **env: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "answers.json").write_text(json.dumps(answers))
        return subprocess.run(
            [sys.executable, str(ROOT / "infra" / "ship.py"), verb],
            env={"PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}", **env},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        if not self.calls_file.exists():
            return []
        lines = [" ".join(json.loads(line)) for line in self.calls_file.read_text().splitlines()]
        return [line for line in lines if not line.startswith("git")]


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def test_images_are_built_before_anybody_is_told_of_them(programs: Programs) -> None:
    ran = programs.ship("images", CLEAN | MISSING, **DEPLOYED)
    assert ran.returncode == 0, ran.stderr
    verbs = [" ".join(c.split()[1:4]) for c in programs.calls if "repository show" not in c]
    assert verbs == [
        "acr build --registry",
        "acr build --registry",
        "acr import --name",
        "acr task create",
        "functionapp config appsettings",
        "env set IMAGE_TAG",
    ]
    told = next(c for c in programs.calls if "appsettings set" in c)
    assert "TEMPLATE_REPLICA_IMAGE=crx.azurecr.io/replica:0123456789ab" in told
    assert "FRONT_DISCOVERY_IMAGE=crx.azurecr.io/discovery:0123456789ab" in told
    assert told.endswith("--output none"), "it would print every setting, secrets too"


def test_what_is_in_the_registry_is_not_built_again(programs: Programs) -> None:
    assert programs.ship("images", CLEAN, **DEPLOYED).returncode == 0
    assert not [c for c in programs.calls if "acr build" in c or "acr import" in c]


def test_changes_that_are_not_committed_have_a_tag_of_their_own(programs: Programs) -> None:
    tags = set()
    for text in ("one", "two"):
        programs.ship("images", {**CLEAN, **MISSING, "git diff": [0, text]}, **DEPLOYED)
        tags.add(programs.calls[-1].rpartition(" ")[2])
    assert len(tags) == 2
    assert all(tag.startswith("0123456789ab-") for tag in tags)


def test_a_build_that_fails_is_told_and_nobody_hears_of_the_image(programs: Programs) -> None:
    ran = programs.ship("images", {**CLEAN, **MISSING, "az acr build": [1, ""]}, **DEPLOYED)
    assert ran.returncode == 1
    assert ran.stderr == "error: `az acr build --registry …` ended with 1; what it printed says why\n"
    assert not [c for c in programs.calls if "appsettings" in c]


def test_before_provisioning_it_says_what_is_missing(programs: Programs) -> None:
    ran = programs.ship("images", CLEAN)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: AZURE_CONTAINER_REGISTRY_NAME is not set; run `azd provision` first")


def test_the_budgets_month_is_settled_once(programs: Programs) -> None:
    assert programs.ship("prepare", CLEAN).returncode == 0
    assert programs.calls[0].startswith("azd env set BUDGET_START 20")
    assert programs.calls[0].endswith("-01")
    programs.calls_file.unlink()
    assert programs.ship("prepare", CLEAN, BUDGET_START="2026-11-01").returncode == 0
    assert programs.calls == []


def test_provisioning_again_keeps_the_images_that_run(programs: Programs) -> None:
    answers = {**CLEAN, "az functionapp config appsettings list": [0, "crx.azurecr.io/replica:feedbeef"]}
    assert programs.ship("prepare", answers, **DEPLOYED).returncode == 0
    assert programs.calls[-1] == "azd env set IMAGE_TAG feedbeef"


def test_emptying_stops_the_autoscaler_first_and_deletes_only_its_own(programs: Programs) -> None:
    ids = [
        f"/subscriptions/s/resourceGroups/rg-x/providers/Microsoft.ContainerInstance/containerGroups/g{i}"
        for i in (1, 2)
    ]
    ran = programs.ship("empty", {**CLEAN, "az container list": [0, json.dumps(ids)]}, **DEPLOYED)
    assert ran.returncode == 0, ran.stderr
    stop, listing, *deletions = programs.calls
    assert stop.startswith("az functionapp stop")
    assert "tags.\"aci-autoscaler\"=='aci-x'" in listing
    assert [d.split()[4] for d in deletions] == ids


def test_emptying_what_was_never_deployed_does_nothing(programs: Programs) -> None:
    assert programs.ship("empty", CLEAN).returncode == 0
    assert programs.calls == []


def test_leaving_takes_the_roles_back_after_the_groups_and_no_other_role(programs: Programs) -> None:
    answers = {
        **CLEAN,
        "az role definition list": [0, '["one", "two"]'],
        "az role assignment list --all --role one": [0, '["/assignments/a", "/assignments/b"]'],
        "az role assignment list --all --role two": [0, "[]"],
    }
    ran = programs.ship("leave", answers, **DEPLOYED)
    assert ran.returncode == 0, ran.stderr
    listing = next(c for c in programs.calls if "role definition list" in c)
    assert "[?starts_with(roleName, 'ACI Autoscaler ') && ends_with(roleName, ' x')].name" in listing
    assert "--custom-role-only true" in listing
    assert [" ".join(c.split()[1:]) for c in programs.calls if " delete " in c] == [
        "role assignment delete --ids /assignments/a",
        "role assignment delete --ids /assignments/b",
        "role definition delete --name one",
        "role definition delete --name two",
    ]
    assert programs.calls[0].startswith("az functionapp stop"), "or it would make anew what is deleted"


def test_the_roles_that_are_left_are_those_that_were_made() -> None:
    made = re.findall(r"roleName: '([^']+)'", (ROOT / "infra" / "app" / "roles.bicep").read_text(encoding="utf-8"))
    assert len(made) == 6
    assert all(name.startswith("ACI Autoscaler ") and name.endswith(" ${suffix}") for name in made)
    assert "var deploymentId = 'aci-${suffix}'" in (ROOT / "infra" / "main.bicep").read_text(encoding="utf-8")


def test_the_hooks_of_azd_call_what_there_is() -> None:
    described = yaml.safe_load((ROOT / "azure.yaml").read_text(encoding="utf-8"))
    for name, verb in (("preprovision", "prepare"), ("postprovision", "images"), ("predown", "leave")):
        for system in ("posix", "windows"):
            assert described["hooks"][name][system]["run"].endswith(f"infra/ship.py {verb}")
    assert described["workflows"]["up"]["steps"] == [{"azd": "provision"}, {"azd": "deploy --all"}]


def test_the_workflows_hold_no_secret_and_sign_in_by_federation() -> None:
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = file.read_text(encoding="utf-8")
        assert yaml.safe_load(text)["jobs"]
        assert "secrets." not in text
        assert "azd provision" not in text.partition("jobs:")[2], "parameters that a desk has given would be taken away"
    assert "id-token: write" in (ROOT / ".github" / "workflows" / "ship.yml").read_text(encoding="utf-8")
