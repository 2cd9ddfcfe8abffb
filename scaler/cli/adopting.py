"""``adopt``: an exported container group, or one that runs, becomes a service of ``autoscaler.yaml``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaler.adopt import Adopted, added, adopt, entry
from scaler.config import SERVICE_NAME, load
from scaler.errors import BadSetting
from scaler.settings import Settings
from scaler.template_values import PLACE

Json = dict[str, Any]
OF_THE_DEPLOYMENT = {"REPLICA_IMAGE", "REGISTRY", "REPLICA_IDENTITY", "SUBNET"}  # infra/app/function.bicep sets these


def adopt_into(source: str, service: str | None, config: Path, env: Mapping[str, str] = os.environ) -> Json:
    """``source`` is a file, or the name of a group in the resource group of the environment. Writes the template beside
    the configuration, then the entry; nothing at all where either could not be used. Raises ``BadSetting``,
    ``Unavailable``."""
    file = Path(source)
    text = _read(file) if file.exists() or file.suffix in (".yaml", ".yml", ".json") else _asked(source, env)
    name = service or _service_name(file.stem if file.exists() else source)
    if not SERVICE_NAME.fullmatch(name):
        raise BadSetting(f"--service: {name!r} is no name of a service: up to 40 lower-case letters, digits and dashes")
    made = adopt(text, file.name, _taken(config))
    template = config.parent / f"{name}.yaml"
    if template.exists():
        raise BadSetting(f"{template}: is there already; give another name with --service, or move it away")
    before = config.read_text(encoding="utf-8") if config.exists() else ""
    after = added(before, entry(name, template.name, made.region))
    _check(before, after, name, config)
    template.write_text(made.template, encoding="utf-8")
    config.write_text(after, encoding="utf-8")
    return {"service": name, "template": str(template), "config": str(config), **_told(made)}


def shown(body: Json) -> str:
    """What `adopt` shows."""
    lines = [f"{body['template']} is the template, {body['config']} has the service {body['service']}."]
    if body["settings"]:
        lines.append("Give the function app what was not copied, best from Key Vault:")
        lines += [f"  {name}   {meaning}" for name, meaning in body["settings"].items()]
    lines += [f"note: {note}" for note in body["notes"]]
    lines.append(
        "A replica has to answer /readyz and /stats (docs/inference.md), and with REPLICA_AUTHORITY set to serve TLS"
    )
    lines.append("(docs/front.md). Then: python -m scaler validate")
    return "\n".join(lines)


def _taken(config: Path) -> set[str]:
    """Names of settings that mean something already, to the templates beside the configuration."""
    beside = [f for f in config.parent.glob("*.yaml") if f != config]
    texts = [f.read_text(encoding="utf-8", errors="replace") for f in beside]
    return {name for text in texts for name in PLACE.findall(text) if name} | OF_THE_DEPLOYMENT


def _told(made: Adopted) -> Json:
    return {"settings": made.settings, "notes": list(made.notes)}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadSetting(f"{file}: cannot be read: {error.strerror}") from error


def _service_name(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")[:40]


def _check(before: str, after: str, name: str, config: Path) -> None:
    if before.strip() and name in load(before, str(config)).services:
        raise BadSetting(f"{config}: services.{name}: is there already; give another name with --service")
    load(after, str(config))


def _asked(group: str, env: Mapping[str, str]) -> bytes:
    """What Azure tells of a group that runs: no secret is in it."""
    settings = Settings.read(env, "cli")
    if not settings.subscription_id or not settings.resource_group:
        raise BadSetting(
            f"{group}: no such file; to ask Azure for a group of that name, set AZURE_SUBSCRIPTION_ID and "
            "AUTOSCALER_RESOURCE_GROUP"
        )
    return asyncio.run(_fetched(settings, group))


async def _fetched(settings: Settings, group: str) -> bytes:
    from scaler.azure import open_inspection  # noqa: PLC0415 - takes most of a second

    async with open_inspection(settings) as inspection:
        return await inspection.group(group)
