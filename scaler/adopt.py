"""From a container group that exists to the template of a scaled service. Pure.

No secret is taken over, wherever it stood: each becomes ``${NAME}``, to be given to the function app as TEMPLATE_NAME.
A GET of Azure tells none anyway; a file may, and there are those in plain text: in variables whose name sounds like it,
in connection strings and signed addresses, in commands and headers. Rather one too many is taken for a secret.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import yaml
from msgspec import Struct

from scaler.errors import BadSetting
from scaler.model import Json
from scaler.template import Template, decoded, stripped
from scaler.template_check import OWN_VARIABLES
from scaler.template_values import PLACE

WORDS = r"secret|passw(?:or)?d?|pwd|token|api[_-]?key|access[_-]?key|account[_-]?key|connection[_-]?string|credential"
SOUNDS_SECRET = re.compile(rf"(?i){WORDS}|authorization")
AN_OPTION = rf"--?[\w-]*(?:{WORDS})[\w-]*"  # of a command: what follows it is a secret
OPTION = re.compile(rf"(?i){AN_OPTION}")
HOLDS_SECRET = re.compile(
    rf"(?i)(?:{WORDS}|\bsig|signature)\s*[=:]\s*[^\s;&]"  # as in connection strings and signed addresses
    rf"|{AN_OPTION}\s+[^\s-]"
    r"|://[^/\s:@]*:[^/\s@]+@"  # an address with a password
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b(?:bearer|basic)\s+[\w+/.=-]{8}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\."  # a signed token
)
NAME = re.compile(r"[^A-Z0-9]+")


class Adopted(Struct, frozen=True, kw_only=True):
    """``template`` is the text of the file; ``settings`` what the function app has to be given for it, with what each
    one is; ``notes`` what is worth a thought."""

    template: str
    region: str
    settings: dict[str, str]
    notes: tuple[str, ...]


def adopt(text: str | bytes, source: str, taken: Collection[str] = ()) -> Adopted:
    """``text`` is what ``az container export`` writes, or what a GET of the group answers (JSON is YAML). ``taken`` are
    names that settings have already: none of them gets a second meaning. Raises ``BadSetting``."""
    raw = decoded(text, source)
    _check_shape(raw, source)
    adopter = _Adopter(taken)
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
    def __init__(self, taken: Collection[str]) -> None:
        self._taken = taken
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
                    self._variables(others, str(container.get("name", "")))
            for container in properties.get(key) or []:
                self._spoken(container.get("properties", {}), str(container.get("name", "")))
        for credential in properties.get("imageRegistryCredentials") or []:
            if "identity" not in credential:
                server = str(credential.get("server", ""))
                credential["password"] = self._place(f"REGISTRY_{server}", f"password of the registry {server}")
        for volume in properties.get("volumes") or []:
            self._volume(volume)
        if properties.pop("networkProfile", None) is not None:
            self.notes.append("networkProfile: Azure takes none any more; name the subnet: `subnetIds: [{id: …}]`")
        workspace = _mapping(properties.get("diagnostics")).get("logAnalytics")
        if isinstance(workspace, dict):
            workspace["workspaceKey"] = self._place("WORKSPACE_KEY", "key of the Log Analytics workspace")
            self.notes.append(
                "diagnostics.logAnalytics: this way of logging ended on 2026-09-14; use diagnostic settings"
            )
        return escaped

    def _variables(self, variables: list[Json], container: str) -> None:
        for variable in variables:
            name = str(variable.get("name", ""))
            plain = variable.get("value")
            if plain is not None and (SOUNDS_SECRET.search(name) or HOLDS_SECRET.search(str(plain))):
                self.notes.append(f"{name}: was in plain text, and seems to be a secret; it is one now")
                plain = None
            if plain is None:
                variable.pop("value", None)
                variable["secureValue"] = self._place(name, f"variable {name} of container {container}")

    def _spoken(self, container: Json, name: str) -> None:
        """Secrets in commands and in headers of probes. Azure has no secret form of these, so they stay in plain text
        there, which is worth a note."""
        found = len(self.settings)
        probes = [_mapping(container.get(kind)) for kind in ("livenessProbe", "readinessProbe")]
        for holder in (container, *(_mapping(p.get("exec")) for p in probes)):
            if isinstance(command := holder.get("command"), list):
                holder["command"] = [self._argument(a, b, name) for a, b in zip(["", *command], command, strict=False)]
        for header in (_mapping(h) for p in probes for h in _headers(_mapping(p.get("httpGet")))):
            key, value = str(header.get("name", "")), str(header.get("value", ""))
            if value and (SOUNDS_SECRET.search(key) or HOLDS_SECRET.search(value)):
                header["value"] = self._place(f"{name}_{key}", f"header {key} of a probe of container {name}")
        if len(self.settings) > found:
            self.notes.append(
                f"{name}: a command or a header of a probe holds a secret, which whoever may read the group sees"
            )

    def _argument(self, before: object, argument: object, name: str) -> object:
        follows = isinstance(before, str) and OPTION.fullmatch(before)
        if not isinstance(argument, str) or not (follows or HOLDS_SECRET.search(argument)):
            return argument
        return self._place(f"{name}_COMMAND_{len(self.settings)}", f"a part of a command of container {name}")

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
        repository = volume.get("gitRepo")
        if isinstance(repository, dict) and HOLDS_SECRET.search(str(repository.get("repository", ""))):
            repository["repository"] = self._place(f"{name}_REPOSITORY", f"address of the repository of volume {name}")
        share = volume.get("azureFile")
        if isinstance(share, dict) and "userAssignedIdentityClientId" not in share:
            account = str(share.get("storageAccountName", name))
            share["storageAccountKey"] = self._place(f"STORAGE_{account}", f"key of the storage account {account}")

    def _place(self, name: str, meaning: str) -> str:
        short = NAME.sub("_", name.upper()).strip("_") or "VALUE"
        short = short if short[0].isalpha() else f"V_{short}"
        free = short
        while free in self._taken or self.settings.get(f"TEMPLATE_{free}", meaning) != meaning:
            free += "_OTHER" if free == short else "_"
        self.settings[f"TEMPLATE_{free}"] = meaning
        return f"${{{free}}}"


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _headers(request: Json) -> list[object]:
    return found if isinstance(found := request.get("httpHeaders"), list) else []


def _escaped(value: object) -> object:
    if isinstance(value, dict):
        return {_escaped(k): _escaped(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_escaped(v) for v in value]
    return PLACE.sub(lambda found: "$" + found[0], value) if isinstance(value, str) else value
