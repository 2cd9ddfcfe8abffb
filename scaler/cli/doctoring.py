"""``doctor``: one line for each thing that has to work, with what to do where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import convert, to_builtins
from msgspec.structs import replace

from scaler.cli.checks import config_of, validate_file
from scaler.cli.client import Client, Refusal, Unreachable
from scaler.doctor import PATIENCE_S, Check, examine_service
from scaler.errors import BadSetting
from scaler.settings import NEEDED, Settings

if TYPE_CHECKING:
    from rich.table import Table

Json = dict[str, Any]
IN_THE_APP = "app, "  # begins the name of what the function app examined


def examine(env: Mapping[str, str]) -> Json:
    """Every check that can be made from here."""
    try:
        settings = Settings.read(env, "cli")
    except BadSetting as error:
        checks = [Check(name="environment", ok=False, detail=str(error), remedy="Mend this first.")]
    else:
        told = _admin_api(settings)
        checks = [_configuration(settings), *told, *_azure(env, told), _discovery(settings)]
    return {"ok": all(c.ok is not False for c in checks), "checks": to_builtins(checks)}


def examined(body: Json) -> Table:
    """What `doctor` shows."""
    from scaler.cli import show  # noqa: PLC0415

    made = show.table("", "what", "how it is", "what to do")
    for c in body["checks"]:
        mark = {True: "[green]ok[/]", False: "[red]no[/]", None: "[dim]-[/]"}[c["ok"]]
        made.add_row(mark, c["name"], show.plain(c["detail"]), show.plain(c["remedy"]))
    return made


def _configuration(settings: Settings) -> Check:
    try:
        body = validate_file(Path(settings.config_file))
    except BadSetting as error:
        return Check(
            name="configuration", ok=False, detail=str(error), remedy="Mend the file; `validate` checks again."
        )
    names = ", ".join(s["service"] for s in body["services"])
    return Check(name="configuration", ok=True, detail=f"{settings.config_file}: {names}")


def _admin_api(settings: Settings) -> list[Check]:
    if not settings.url:
        skipped = "AUTOSCALER_URL is not set"
        return [Check(name="admin API", ok=None, detail=skipped, remedy="Set it, and AUTOSCALER_KEY, to check it.")]
    try:
        client = Client(settings.url, settings.key, timeout_s=2 * PATIENCE_S)
        told = client.get("services")
    except (Refusal, BadSetting) as error:
        return [Check(name="admin API", ok=False, detail=str(error), remedy="Check AUTOSCALER_URL and AUTOSCALER_KEY.")]
    except Unreachable as error:
        remedy = "Does the function app run? Its log says why not; on a laptop `make up` starts it."
        return [Check(name="admin API", ok=False, detail=str(error), remedy=remedy)]
    found = [Check(name="admin API", ok=True, detail=f"{settings.url}: {len(told['services'])} services")]
    try:
        client.get("health")
        found.append(Check(name="timer", ok=True, detail="every service was ticked of late"))
    except (Refusal, Unreachable):
        remedy = "Is the function `tick` enabled, and AUTOSCALER_TICK_SCHEDULE a schedule of six fields?"
        found.append(Check(name="timer", ok=False, detail="a service was not ticked of late", remedy=remedy))
    for s in told["services"]:
        found += _in_the_app(client, s["service"])
        if s["conditions"]:
            found += _conditions(client, s["service"])
    return found


def _conditions(client: Client, service: str) -> list[Check]:
    """What is the matter with a service, with what to do; advice alone is no fault."""
    try:
        conditions = client.get("services", service)["conditions"]
    except (Refusal, Unreachable) as error:
        return [Check(name=f"service {service}", ok=False, detail=str(error))]
    return [
        Check(
            name=f"service {service}",
            ok=None if c["severity"] == "info" else False,
            detail=f"{c['name']}: {c['message']}",
            remedy=c["remedy"],
        )
        for c in conditions
    ]


def _in_the_app(client: Client, service: str) -> list[Check]:
    """The same questions, answered by the function app: with its identity, from its network."""
    try:
        told = client.get("services", service, "doctor")
    except (Refusal, Unreachable) as error:
        return [
            Check(name=f"{IN_THE_APP}{service}", ok=None, detail=f"the function app did not examine itself: {error}")
        ]
    return [replace(c, name=f"{IN_THE_APP}{service}: {c.name}") for c in convert(told["checks"], list[Check])]


def _azure(env: Mapping[str, str], told: Sequence[Check]) -> list[Check]:
    """What the function app needs of Azure, asked with the login of this desk, unless the app itself has told: it has
    the identity, the network and the settings that matter."""
    if any(c.name.startswith(IN_THE_APP) and c.ok is not None for c in told):
        return []
    missing = [name for name in NEEDED["function"] if not env.get(name, "").strip()]
    if missing:
        return [Check(name="Azure", ok=None, detail=f"{missing[0]} is not set here, so Azure is not asked from here")]
    try:
        settings = Settings.read(env)
        services = list(config_of(Path(settings.config_file)).services)
        return [c for name in services for c in _named(name, asyncio.run(examine_service(settings, name)))]
    except BadSetting as error:
        return [Check(name="Azure", ok=False, detail=str(error), remedy="Mend the environment or the configuration.")]


def _named(service: str, checks: Sequence[Check]) -> list[Check]:
    return [replace(c, name=f"{service}: {c.name}") for c in checks]


def _discovery(settings: Settings) -> Check:
    address = f"http://{settings.discovery_host}:{settings.discovery_port}"
    from urllib.request import ProxyHandler, build_opener  # noqa: PLC0415

    try:
        with build_opener(ProxyHandler({})).open(f"{address}/healthz", timeout=2) as response:
            return Check(name="discovery", ok=True, detail=f"{address}: {response.status}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        detail = f"{address}: no answer from here ({reason}); on Azure it runs beside Envoy, out of sight"
        return Check(name="discovery", ok=None, detail=detail)
