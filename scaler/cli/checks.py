"""``validate`` and the offline ``schedule``: what a configuration means, without asking anybody."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from scaler.cli.deciding import read_config
from scaler.config import Config, Service, load
from scaler.errors import BadSetting
from scaler.files import read_services
from scaler.schedule import compile_schedule, preview
from scaler.web.views import period_view

if TYPE_CHECKING:
    from rich.table import Table

Json = dict[str, Any]


def config_of(file: Path) -> Config:
    """The configuration in a file. Raises ``BadSetting``."""
    return load(read_config(file), str(file))


def validate_file(file: Path) -> Json:
    """Every service with what its settings compile to. Raises ``BadSetting`` with the first thing that is wrong."""
    logging.getLogger("scaler.files").addHandler(logging.NullHandler())  # its warnings are shown as notes
    _, managed = read_services(str(file))
    lines = [
        {
            "service": m.name,
            **_summary(m.service),
            "replica": {"cpu": m.template.cpu, "memory_gb": m.template.memory_gb} if m.template else None,
            "notes": [*_notes(m.service), *(m.template.warnings if m.template else ())],
        }
        for m in managed
    ]
    return {"file": str(file), "ok": True, "services": lines}


def _summary(service: Service) -> Json:
    return {
        "min": service.replicas.min,
        "max": service.replicas.max,
        "template": service.template,
        "regions": service.regions,
        "timezone": service.schedule.timezone,
        "rules": len(service.schedule.rules),
    }


def _notes(service: Service) -> list[str]:
    """What is allowed, and still worth a thought."""
    notes = []
    if service.template is None:
        notes.append("no template: nothing can be created; `decide` and `replay` work")
    if not service.regions:
        notes.append("no regions: nothing can be created")
    target = service.target
    if all(t is None for t in (target.concurrency, target.requests_per_second, target.cpu, target.memory, target.gpu)):
        notes.append("no target: only the schedule, signals and pins move the count")
    if service.replicas.min > 0 and any(rule.off for rule in service.schedule.rules):
        notes.append("min is above 0, and still an off rule means none at all")
    return notes


def validated(body: Json) -> Table:
    """What `validate` shows."""
    from scaler.cli import show  # noqa: PLC0415

    made = show.table("service", "replicas", "template", "regions", "schedule", "notes", title=f"{body['file']}: ok")
    for s in body["services"]:
        calendar = f"{s['rules']} rules, {s['timezone']}" if s["rules"] else "-"
        made.add_row(
            s["service"],
            f"{s['min']}-{s['max']}",
            show.plain(s["template"] or "-"),
            ", ".join(s["regions"]) or "-",
            calendar,
            show.plain("; ".join(s["notes"])),
        )
    return made


def schedule_of(file: Path, service: str, days: int) -> Json:
    """The calendar of a service in a file, as the API shows it."""
    config = config_of(file)
    if service not in config.services:
        names = ", ".join(sorted(config.services))
        raise BadSetting(f"{file}: services.{service}: there is no such service; there is: {names}")
    text = config.services[service].schedule
    periods = preview(compile_schedule(text, f"{file}: services.{service}.schedule"), time.time(), float(days))
    zone = ZoneInfo(text.timezone)
    shown = [period_view(p, zone) for p in periods]
    return {"service": service, "timezone": text.timezone, "days": days, "periods": shown}
