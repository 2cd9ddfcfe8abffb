#!/usr/bin/env python3
"""What surrounds `azd provision`: `prepare` before it, `images` after it, `leave` before `azd down`. Only the standard
library and the programs `az`, `azd` and `git` are needed.

    python3 infra/ship.py prepare    the month that the budget begins in, once
    python3 infra/ship.py images     build replica and discovery in the registry, mirror Envoy, tell the function app
    python3 infra/ship.py empty      stop the autoscaler and delete its container groups
    python3 infra/ship.py leave      that, and take its roles back: what `azd down` would leave in the subscription

A tag is the commit, and never means two things: with changes that are not committed their hash is added. The rollout
follows by itself: an image with another tag is another template.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVOY_SOURCE = "docker.io/envoyproxy"
KEPT_DAYS, KEPT_TAGS = 30, 10
PURGE = f"acr purge --filter 'replica:.*' --filter 'discovery:.*' --ago {KEPT_DAYS}d --keep {KEPT_TAGS} --untagged"
ROLES = "ACI Autoscaler "  # their names begin so, and end with the suffix of the deployment: infra/app/roles.bicep
IMAGES = {"replica": "inference/Dockerfile", "discovery": "infra/front/Dockerfile"}


class Failed(Exception):
    """One sentence on what went wrong, and what to do."""


def main(words: Sequence[str], env: Mapping[str, str]) -> int:
    """Exit code 0: done; 1: a program failed; 2: wrong call."""
    verbs = {"prepare": prepare, "images": images, "empty": empty, "leave": leave}
    if len(words) != 1 or words[0] not in verbs:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        verbs[words[0]](env)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(env: Mapping[str, str]) -> None:
    """A budget's first month cannot be changed, so it is settled once. The images are those that run now, whoever
    shipped them: provisioning writes all settings of the function app anew."""
    if not env.get("BUDGET_START"):
        run("azd", "env", "set", "BUDGET_START", time.strftime("%Y-%m-01"))
    group, app = env.get("AZURE_RESOURCE_GROUP"), env.get("AUTOSCALER_APP")
    if group and app:
        listing = ("az", "functionapp", "config", "appsettings", "list", "--resource-group", group, "--name", app)
        one = ("--query", "[?name=='TEMPLATE_REPLICA_IMAGE'].value | [0]", "--output", "tsv")
        if tag := output(*listing, *one).strip().rpartition(":")[2]:
            run("azd", "env", "set", "IMAGE_TAG", tag)


def images(env: Mapping[str, str]) -> None:
    """In this order: what is built is in the registry before anybody is told of it."""
    registry = needed(env, "AZURE_CONTAINER_REGISTRY_NAME")
    server = needed(env, "AZURE_CONTAINER_REGISTRY_ENDPOINT")
    group, app = needed(env, "AZURE_RESOURCE_GROUP"), needed(env, "AUTOSCALER_APP")
    tag = tag_of_the_tree()
    for name, file in IMAGES.items():
        if not in_registry(registry, f"{name}:{tag}"):
            step(f"building {name}:{tag} in {registry}, some minutes")
            run("az", "acr", "build", "--registry", registry, "--image", f"{name}:{tag}", "--file", file, ".")
    envoy = env.get("ENVOY_IMAGE") or "envoy:v1.40.0"
    if not in_registry(registry, envoy):
        step(f"mirroring {envoy}")
        run("az", "acr", "import", "--name", registry, "--source", f"{ENVOY_SOURCE}/{envoy}", "--image", envoy)
    purge(registry)
    step(f"telling {app}: replicas and front are rolled over to {tag}")
    told = (f"TEMPLATE_REPLICA_IMAGE={server}/replica:{tag}", f"FRONT_DISCOVERY_IMAGE={server}/discovery:{tag}")
    # Without --output none it prints every setting, secrets too.
    set_app = ("az", "functionapp", "config", "appsettings", "set", "--resource-group", group, "--name", app)
    run(*set_app, "--settings", *told, "--output", "none")
    if shutil.which("azd"):
        run("azd", "env", "set", "IMAGE_TAG", tag)  # so that the next `azd provision` says the same


def empty(env: Mapping[str, str]) -> None:
    """The autoscaler first, or it would make anew what is deleted."""
    group, app = env.get("AZURE_RESOURCE_GROUP"), env.get("AUTOSCALER_APP")
    deployment = env.get("AUTOSCALER_DEPLOYMENT_ID")
    if not (group and app and deployment):
        return
    run("az", "functionapp", "stop", "--resource-group", group, "--name", app, "--output", "none")
    query = f"[?tags.\"aci-autoscaler\"=='{deployment}'].id"
    found = json.loads(output("az", "container", "list", "--resource-group", group, "--query", query) or "[]")
    for resource in found:
        step(f"deleting {resource.rpartition('/')[2]}")
        run("az", "container", "delete", "--ids", resource, "--yes", "--output", "none")


def leave(env: Mapping[str, str]) -> None:
    """Roles are of the subscription, not of the resource group that `azd down` deletes. One that is still given to
    somebody cannot be deleted, and those who have it are about to go."""
    deployment = env.get("AUTOSCALER_DEPLOYMENT_ID")
    if not deployment:
        return
    empty(env)
    own = f"starts_with(roleName, '{ROLES}') && ends_with(roleName, ' {deployment.rpartition('-')[2]}')"
    listing = ("az", "role", "definition", "list", "--custom-role-only", "true", "--output", "json")
    for role in json.loads(output(*listing, "--query", f"[?{own}].name") or "[]"):
        given = ("az", "role", "assignment", "list", "--all", "--role", role, "--query", "[].id", "--output", "json")
        for assignment in json.loads(output(*given) or "[]"):
            run("az", "role", "assignment", "delete", "--ids", assignment)
        step(f"deleting the role {role}")
        run("az", "role", "definition", "delete", "--name", role)


def purge(registry: str) -> None:
    """Every night: images older than 30 days but for the newest ten of each. Making the task again changes nothing."""
    task = ("--name", "purge", "--registry", registry, "--schedule", "0 3 * * *", "--context", "/dev/null")
    run("az", "acr", "task", "create", *task, "--cmd", PURGE, "--output", "none")


def tag_of_the_tree() -> str:
    """The commit, and what was changed since."""
    commit = output("git", "rev-parse", "--short=12", "HEAD").strip()
    paths = ("inference", "scaler", "infra/front")
    changed = output("git", "status", "--porcelain", "--", *paths) + output("git", "diff", "HEAD", "--", *paths)
    return f"{commit}-{hashlib.sha256(changed.encode()).hexdigest()[:8]}" if changed.strip() else commit


def in_registry(registry: str, image: str) -> bool:
    """Whether the registry has this tag already."""
    shown = attempt("az", "acr", "repository", "show", "--name", registry, "--image", image, "--output", "none")
    return shown.returncode == 0


def needed(env: Mapping[str, str], name: str) -> str:
    """A value that `azd provision` has put into the environment."""
    if not env.get(name):
        raise Failed(f"{name} is not set; run `azd provision` first, or `azd env get-values` shows what there is")
    return env[name]


def step(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def run(*words: str) -> None:
    """Run a program whose output the user sees."""
    ran = subprocess.run([found(words[0]), *words[1:]], cwd=ROOT, check=False)
    if ran.returncode:
        raise Failed(f"`{' '.join(words[:4])} …` ended with {ran.returncode}; what it printed says why")


def output(*words: str) -> str:
    """What a program prints."""
    ran = attempt(*words)
    if ran.returncode:
        raise Failed(f"`{' '.join(words[:4])} …` ended with {ran.returncode}: {ran.stderr.strip()[:300]}")
    return ran.stdout


def attempt(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([found(words[0]), *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)


def found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Failed(f"{program} is not installed, or not on PATH")
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
