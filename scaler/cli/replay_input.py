"""What a replay is made from: the options, a trace file, or the service's own record in Table Storage."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from scaler.budget import Size
from scaler.cli.deciding import read_config
from scaler.config import Service, load
from scaler.errors import BadSetting
from scaler.ports import DecisionRow, Store
from scaler.replay.product import Signals
from scaler.replay.record import Recorded, recorded, watched
from scaler.replay.trace import LARGEST_FILE_BYTES, LONGEST_S, Trace, first_days, parse
from scaler.settings import Settings
from scaler.template import Template

EPOCH_S = 1e9  # a trace whose times are larger than this has epoch seconds
A_MONDAY = datetime(2026, 3, 2)  # noqa: DTZ001 - local time of whatever time zone the schedule is meant in
DAY_S, HOUR_S = 86_400.0, 3600.0
RECORD_DAYS = 7.0
HOURS_AT_ONCE = 8
TICKS_AN_HOUR = 5000


class Options(Struct, frozen=True, kw_only=True):
    """What the command line says; None: learned from the record, or from the configuration."""

    config: Path
    service: str | None = None
    against: tuple[str, ...] = ()
    days: float | None = None
    seed: int = 7
    rate: float | None = None
    request_s: float | None = None
    cold_start_s: float | None = None
    patience_s: float = 60.0
    leaving_s: int = 15
    tick_s: int = 15
    begins: str | None = None
    replica_hour: float | None = None

    @property
    def record_days(self) -> float:
        """How much of a record is read."""
        return RECORD_DAYS if self.days is None else self.days


class Material(Struct, frozen=True, kw_only=True):
    """What is played: the trace in seconds from ``begins_at`` (epoch seconds), and what a record taught beside it."""

    source: str
    trace: Trace
    begins_at: float
    recorded: Recorded | None = None

    @property
    def signals(self) -> Signals:
        return self.recorded.signals if self.recorded else ()


class Chosen(Struct, frozen=True, kw_only=True):
    """One service of a configuration file. ``size`` is what a replica of its template is made of; None: not known."""

    file: Path
    name: str
    service: Service
    size: Size | None

    @property
    def path(self) -> str:
        """Where its settings stand."""
        return f"{self.file}: services.{self.name}"


def picked(file: Path, name: str | None, *, only_one: bool = False) -> Chosen:
    """The named service of a file, or its only one: if no name is given, or if ``only_one`` and it has another name.
    Raises ``BadSetting``."""
    services = load(read_config(file), str(file)).services
    if only_one and len(services) == 1:
        name = None
    if name is None and len(services) > 1:
        raise BadSetting(f"{file}: holds several services; say with --service which: {', '.join(sorted(services))}")
    name = next(iter(services)) if name is None else name
    if name not in services:
        names = ", ".join(sorted(services))
        raise BadSetting(f"{file}: services.{name}: there is no such service; there is: {names}")
    return Chosen(file=file, name=name, service=services[name], size=_size(file, services[name]))


def _size(file: Path, service: Service) -> Size | None:
    """Of the template, if it is there: a replay does without."""
    beside = file.parent / (service.template or "")
    return Template.read(read_config(beside), str(beside)).size if service.template and beside.exists() else None


def from_file(file: Path, options: Options) -> Material:
    """A trace file. Raises ``BadSetting``."""
    service = picked(options.config, options.service).service
    try:
        with file.open("rb") as opened:
            trace = parse(opened.read(LARGEST_FILE_BYTES + 1), str(file))
    except OSError as error:
        raise BadSetting(
            f"{file}: cannot be read: {error.strerror or error}; give a file of lines t_s,requests"
        ) from error
    if options.days is not None:
        trace = first_days(trace, options.days)
    if trace.span_s > LONGEST_S:
        raise BadSetting(
            f"{file}: lasts {trace.span_s / 86_400:.0f} days; up to {LONGEST_S // 86_400} can be played: --days"
        )
    return Material(source=str(file), trace=trace, begins_at=_begins_at(trace, options.begins, service))


def _begins_at(trace: Trace, text: str | None, service: Service) -> float:
    """The instant of the first bin. Without a word about it: what the trace says, or a Monday."""
    first = trace.starts_s[0]
    zone = ZoneInfo(service.schedule.timezone)
    if text is None:
        return first if first >= EPOCH_S else A_MONDAY.replace(tzinfo=zone).timestamp() + first
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadSetting(f"--begins: {text!r} is no time; write 2026-03-02T00:00") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()


def read_rows(options: Options) -> list[DecisionRow]:
    """The rows of the service's own record, oldest first. Raises ``BadSetting``, ``Unavailable``."""
    name = picked(options.config, options.service).name
    settings = Settings.read(os.environ, "discovery")
    until = time.time()

    async def read() -> list[DecisionRow]:
        from scaler.azure import open_store  # noqa: PLC0415 - takes most of a second

        async with open_store(settings) as store:
            return await rows_of(store, name, until - options.record_days * DAY_S, until)

    return asyncio.run(read())


def from_rows(rows: Sequence[DecisionRow], options: Options) -> Material:
    """The record that rows hold, oldest first. Raises ``BadSetting``."""
    name = picked(options.config, options.service).name
    found = recorded((tick for row in rows if (tick := watched(row)) is not None), name)
    source = f"its record of {options.record_days:g} days"
    return Material(source=source, trace=found.trace, begins_at=found.trace.starts_s[0], recorded=found)


async def rows_of(store: Store, service: str, since: float, until: float) -> list[DecisionRow]:
    """The decisions of a span, oldest first, without the large parts of them; read hour by hour, some at once. Raises
    ``Unavailable``."""
    gate = asyncio.Semaphore(HOURS_AT_ONCE)

    async def hour(start: float) -> list[DecisionRow]:
        async with gate:
            end = min(until, start + HOUR_S)
            rows = await store.decisions(service, since=start, until=end, limit=TICKS_AN_HOUR)
        last = end >= until
        return [replace(row, state_before=b"") for row in reversed(rows) if row.at < end or last]

    starts = [since + HOUR_S * i for i in range(max(1, math.ceil((until - since) / HOUR_S)))]
    return [row for rows in await asyncio.gather(*(hour(s) for s in starts)) for row in rows]
