"""Which program stands for which image: a YAML file of patterns, and what a process is started with.

    "*/iris:*":
      command: [python, -m, inference]
      environment: {MODEL_PATH: model.pt}

The first pattern that fits decides. An image that none fits gets a process that only waits.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct, field

from infra.local.arm.groups import first_port
from infra.local.arm.state import Group, Json
from scaler.errors import BadSetting

IDLE = ("/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done")
CRASHING = ("/bin/sh", "-c", "echo 'crashed, as asked for' >&2; exit 1")
PASSED_ON = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


class Program(Struct, frozen=True, forbid_unknown_fields=True):
    """What runs in place of an image."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


class Launch(Struct, frozen=True, kw_only=True):
    """Everything a process is started with."""

    command: tuple[str, ...]
    environment: dict[str, str]
    folder: str  # working directory, from the project's root; empty: the root itself

    def __repr__(self) -> str:
        return f"Launch({self.command[0]} …)"


def load(file: Path) -> dict[str, Program]:
    """The image map. Raises ``BadSetting``."""
    try:
        return msgspec.yaml.decode(file.read_bytes(), type=dict[str, Program])
    except OSError as error:
        raise BadSetting(f"--images {file}: {error.strerror}; give a file that can be read") from error
    except msgspec.MsgspecError as error:
        problem = " ".join(str(error).split())
        form = "`pattern: {command: [program, …], environment: {NAME: value}}`, all of them text"
        raise BadSetting(f"--images {file}: {problem}; expected {form}") from error


def launch(images: dict[str, Program], group: Group, container: str, run: str) -> Launch:
    """How to start one container of a group: the command it names itself, else its image's, else one that waits."""
    spec = next(c for c in group.properties["containers"] if c["name"] == container)
    properties: Json = spec["properties"]
    program = next((p for pattern, p in images.items() if fnmatch.fnmatchcase(properties["image"], pattern)), None)
    command = tuple(properties.get("command") or (program.command if program else IDLE))
    if group.fate == "crash":
        command = CRASHING
    environment = _environment()
    environment |= program.environment if program else {}
    environment |= {"HOST": group.address or "127.0.0.1", "PORT": str(first_port(group.properties, spec))}
    for variable in properties.get("environmentVariables") or []:
        environment[variable["name"]] = str(variable.get("secureValue", variable.get("value", "")))
    environment[MARK] = run
    return Launch(command=command, environment=environment, folder="" if program else "scratch")


# A process can be found again by this variable even if the stand-in was killed before it could write its id down.
MARK = "ARM_STAND_IN_RUN"


def _environment() -> dict[str, str]:
    """As little of ours as possible: not the secrets, not the certificates, but the same ``python`` first."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return passed | {"PATH": path, "PYTHONUNBUFFERED": "1"}
