"""``doctor``: one line for each thing that has to work, with what to do where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, to_builtins

from scaler.cli.checks import validate_file
from scaler.cli.client import Client, Refusal, Unreachable
from scaler.errors import BadSetting, Refused, Unavailable
from scaler.settings import NEEDED, Settings

if TYPE_CHECKING:
    from rich.table import Table

    from scaler.tick import Scaler

Json = dict[str, Any]
PATIENCE_S = 20.0


class Check(Struct, frozen=True, kw_only=True):
    """One thing looked at. ``ok`` None: it could not be looked at from here, which is no fault."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


def examine(env: Mapping[str, str]) -> Json:
    """Every check that can be made from here."""
    try:
        settings = Settings.read(env, "cli")
    except BadSetting as error:
        checks = [Check(name="environment", ok=False, detail=str(error), remedy="Mend this first.")]
    else:
        checks = [_configuration(settings), *_admin_api(settings), *_azure(env), _discovery(settings)]
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
        client = Client(settings.url, settings.key, timeout_s=PATIENCE_S)
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


def _azure(env: Mapping[str, str]) -> list[Check]:
    """State table, container groups and quota, as the function app reaches them."""
    missing = [name for name in NEEDED["function"] if not env.get(name, "").strip()]
    if missing:
        return [Check(name="Azure", ok=None, detail=f"{missing[0]} is not set here, so Azure is not asked directly")]
    try:
        settings = Settings.read(env)
        from scaler.azure import connect  # noqa: PLC0415 - takes most of a second

        return asyncio.run(_asked(lambda: connect(settings)))
    except BadSetting as error:
        return [Check(name="Azure", ok=False, detail=str(error), remedy="Mend the environment or the configuration.")]


async def _asked(build: Callable[[], Scaler]) -> list[Check]:
    async with AsyncExitStack() as stack:
        scaler = build()
        if (close := getattr(scaler.world, "close", None)) is not None:
            stack.push_async_callback(close)
        found = [await _one("state table", _table(scaler), "The identity needs Storage Table Data Contributor.")]
        groups = _groups(scaler)
        found.append(await _one("container groups", groups, "The identity needs to read and write container groups."))
        regions = sorted({r for s in scaler.config.services.values() for r in s.regions})
        quotas = (_one(f"quota in {r}", _quota(scaler, r), "Ask Azure for more quota.") for r in regions)
        return [*found, *await asyncio.gather(*quotas)]


async def _one(name: str, looked: Awaitable[str], remedy: str) -> Check:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return Check(name=name, ok=True, detail=await looked)
    except TimeoutError:
        return Check(name=name, ok=False, detail=f"no answer within {PATIENCE_S:.0f} s", remedy=remedy)
    except (Unavailable, Refused) as error:
        return Check(name=name, ok=False, detail=str(error), remedy=remedy)


async def _table(scaler: Scaler) -> str:
    stored = [await scaler.store.load(name) for name in scaler.config.services]
    return f"{sum(s.row is not None for s in stored)} of {len(stored)} services have a row"


async def _groups(scaler: Scaler) -> str:
    groups = await scaler.world.fleet.list()
    own = sum(g.tags.get("aci-autoscaler") == scaler.world.deployment_id for g in groups)
    return f"{own} of ours, {len(groups) - own} of others that are left alone"


async def _quota(scaler: Scaler, region: str) -> str:
    lines = await scaler.world.fleet.usage(region)
    told = [f"{line.name} {line.used:g} of {line.limit:g}" for line in lines]
    full = [line.name for line in lines if line.used >= line.limit > 0 and "Gpu" not in line.name]
    if full:
        raise Unavailable(f"used up: {', '.join(full)}")
    return ", ".join(told) or "none given"


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
