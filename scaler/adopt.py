"""From a container group that exists to the template of a scaled service. Pure.

No secret is taken over, wherever it stood: each becomes ``${NAME}``, to be given to the function app as TEMPLATE_NAME.
A GET of Azure tells none anyway; a file may, and a variable whose name sounds like one may hold one in plain text.
"""

from __future__ import annotations

import re

import yaml
from msgspec import Struct

from scaler.errors import BadSetting
from scaler.model import Json
from scaler.template import Template, decoded, stripped
from scaler.template_check import OWN_VARIABLES
from scaler.template_values import PLACE

SOUNDS_SECRET = re.compile(
    r"(?i)(secret|passw|pwd|token|api_?key|access_?key|account_?key|connection_?string|credential)"
)
NAME = re.compile(r"[^A-Z0-9]+")


class Adopted(Struct, frozen=True, kw_only=True):
    """``template`` is the text of the file; ``settings`` what the function app has to be given for it, with what each
    one is; ``notes`` what is worth a thought."""

    template: str
    region: str
    settings: dict[str, str]
    notes: tuple[str, ...]


def adopt(text: str | bytes, source: str) -> Adopted:
    """``text`` is what ``az container export`` writes, or what a GET of the group answers (JSON is YAML). Raises
    ``BadSetting``."""
    raw = decoded(text, source)
    _check_shape(raw, source)
    adopter = _Adopter(source)
    body = adopter.cleaned(stripped(raw))
    if isinstance(tags := raw.get("tags"), dict) and tags:
        body["tags"] = tags
    written = {"apiVersion": str(raw.get("apiVersion") or "2023-05-01"), **body}
    header = f"# Adopted from {source}. ${{NAME}} stands for the setting TEMPLATE_NAME of the function app.\n"
    template = header + yaml.safe_dump(written, sort_keys=False, width=110)
    checked = Template.read(template, source)
    notes = [w for w in checked.warnings if "filled in by settings" not in w]
    return Adopted(template=template, region=_region(raw), settings=adopter.settings, notes=(*adopter.notes, *notes))


def entry(service: str, template: str, region: str) -> str:
    """The lines of ``autoscaler.yaml``, indented below ``services:``."""
    return (
        f"  {service}:\n"
        f"    template: {template}\n"
        f"    regions: [{region}]\n"
        "    replicas: {min: 0, max: 4}\n"
        "    target: {concurrency: 4}          # what one replica carries: measure it\n"
    )


def added(configuration: str, lines: str) -> str:
    """``autoscaler.yaml`` with an entry more, everything else as it was. Raises ``BadSetting``."""
    if not configuration.strip():
        return f"services:\n{lines}"
    rows = configuration.rstrip("\n").splitlines()
    start = next((i for i, row in enumerate(rows) if re.match(r"services:\s*(#.*)?$", row)), None)
    if start is None:
        raise BadSetting(
            "autoscaler.yaml: no line `services:` to add to; write the services below one, indented by two"
        )
    end = next((i for i in range(start + 1, len(rows)) if re.match(r"[^\s#]", rows[i])), len(rows))
    return "\n".join([*rows[:end], *lines.rstrip("\n").splitlines(), *rows[end:]]) + "\n"


def _check_shape(raw: Json, source: str) -> None:
    """What all else here relies on; the rest is checked with the template."""
    properties = raw["properties"]
    for key in ("containers", "initContainers", "imageRegistryCredentials", "volumes"):
        found = properties.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise BadSetting(f"{source}: properties.{key}: expected a list of mappings")
    for container in (*properties.get("containers", []), *properties.get("initContainers", [])):
        variables = container.get("properties", {}) if isinstance(container.get("properties"), dict) else None
        listed = variables.get("environmentVariables", []) if variables is not None else None
        if not isinstance(listed, list) or not all(isinstance(v, dict) for v in listed):
            raise BadSetting(f"{source}: properties.containers: expected properties with environmentVariables")
    if not isinstance(properties.get("ipAddress"), dict):
        raise BadSetting(f"{source}: properties.ipAddress: missing; without an address nothing reaches a replica")


def _region(raw: Json) -> str:
    return str(raw.get("location") or "westeurope").replace(" ", "").lower()


class _Adopter:
    def __init__(self, source: str) -> None:
        self._source = source
        self.settings: dict[str, str] = {}
        self.notes: list[str] = []

    def cleaned(self, body: Json) -> Json:
        """Without secrets, and with what looks like one of our own places escaped."""
        escaped = _escaped(body)
        assert isinstance(escaped, dict)
        properties = escaped["properties"]
        for key in ("containers", "initContainers"):
            for container in properties.get(key) or []:
                inner = container.get("properties", {})
                if "environmentVariables" in inner:  # ours are set for each replica, whatever stands here
                    others = [v for v in inner["environmentVariables"] if v.get("name") not in OWN_VARIABLES]
                    inner["environmentVariables"] = others
                    self._variables(others)
        for credential in properties.get("imageRegistryCredentials") or []:
            if "identity" not in credential:
                server = str(credential.get("server", ""))
                credential["password"] = self._place(f"REGISTRY_{server}", f"password of the registry {server}")
        for volume in properties.get("volumes") or []:
            self._volume(volume)
        workspace = (properties.get("diagnostics") or {}).get("logAnalytics")
        if workspace is not None:
            workspace["workspaceKey"] = self._place("WORKSPACE_KEY", "key of the Log Analytics workspace")
            self.notes.append(
                "diagnostics.logAnalytics: this way of logging ended on 2026-09-14; use diagnostic settings"
            )
        return escaped

    def _variables(self, variables: list[Json]) -> None:
        for variable in variables:
            name = str(variable.get("name", ""))
            plain = variable.get("value")
            if plain is not None and SOUNDS_SECRET.search(name):
                self.notes.append(f"{name}: was in plain text, and sounds like a secret; it is one now")
                plain = None
            if plain is None:
                variable.pop("value", None)
                variable["secureValue"] = self._place(name, f"variable {name} of the container")

    def _volume(self, volume: Json) -> None:
        name = str(volume.get("name", "volume"))
        if "secret" in volume or set(volume) == {"name"}:  # an export leaves of a secret volume its name
            files = found if isinstance(found := volume.get("secret"), dict) else {}
            volume["secret"] = {
                file: self._place(f"{name}_{file}", f"file {file} of volume {name}, in base64") for file in files
            }
            if not files:
                self.notes.append(
                    f"volume {name}: Azure does not tell the names of its files; write them into the template"
                )
                volume["secret"] = {"FILE": self._place(name, f"a file of volume {name}, in base64")}
        share = volume.get("azureFile")
        if isinstance(share, dict) and "userAssignedIdentityClientId" not in share:
            account = str(share.get("storageAccountName", name))
            share["storageAccountKey"] = self._place(f"STORAGE_{account}", f"key of the storage account {account}")

    def _place(self, name: str, meaning: str) -> str:
        short = NAME.sub("_", name.upper()).strip("_") or "VALUE"
        short = short if short[0].isalpha() else f"V_{short}"
        self.settings[f"TEMPLATE_{short}"] = meaning
        return f"${{{short}}}"


def _escaped(value: object) -> object:
    if isinstance(value, dict):
        return {_escaped(k): _escaped(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_escaped(v) for v in value]
    return PLACE.sub(lambda found: "$" + found[0], value) if isinstance(value, str) else value
