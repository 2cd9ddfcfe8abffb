"""``replay``: a trace, or the service's own record, under this policy and others."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, to_builtins

from scaler.budget import prices_of
from scaler.cli import show
from scaler.cli.contenders import contender
from scaler.cli.replay_input import Chosen, Material, Options, from_file, from_rows, picked, read_rows
from scaler.config import Budget, Service
from scaler.errors import BadSetting
from scaler.replay.picture import picture
from scaler.replay.plant import World
from scaler.replay.record import Recorded
from scaler.replay.score import Interval, Price
from scaler.replay.starts import draws
from scaler.replay.study import Played, Setting, play
from scaler.replay.trace import per_second

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Json = dict[str, Any]
FIRST_S = 600  # the count at the beginning is what so many seconds need


class Report(Struct, frozen=True, kw_only=True):
    """A replay with all that is to be said about it."""

    service: str
    material: Material
    setting: Setting
    played: list[Played]
    notes: tuple[str, ...]


def answer(options: Options, trace: Path | None, plot: Path | None, *, recorded: bool, as_json: bool) -> None:
    """Play what is asked for and tell what came of it. Raises ``BadSetting``, ``Unavailable``."""
    if (trace is None) != recorded:
        raise BadSetting("replay: give a trace file, or --recorded for the service's own record; one of both")
    if plot is not None and plot.suffix != ".svg":
        raise BadSetting(f"--plot: {plot}: pictures are SVG; name a file that ends with .svg")
    with progress() as told:
        material = from_file(trace, options) if trace else from_rows(read_rows(options), options)
        report = replayed(material, options, told)
    if plot is not None:
        write_plot(plot, report)
    show.told(body_of(report) if as_json else None, as_json=as_json, view=None if as_json else shown(report))


def write_plot(file: Path, report: Report) -> None:
    """The picture of a report. Raises ``BadSetting``."""
    try:
        file.write_text(picture(report.setting, report.played, _title(report)), encoding="utf-8")
    except OSError as error:
        raise BadSetting(f"--plot: {file}: cannot be written: {error.strerror or error}") from error


def replayed(material: Material, options: Options, told: Callable[[float], None] = lambda _: None) -> Report:
    """The replay that the options ask for. Raises ``BadSetting``."""
    chosen = picked(options.config, options.service)
    setting = setting_of(chosen, material, options)
    contenders, notes = [], []
    for text in (str(options.config), *options.against):
        one, said = contender(text, chosen, setting, material, options)
        contenders.append(one)
        notes += [f"{text}: {note}" for note in said]
    played = play(setting, contenders, told=told)
    return Report(service=chosen.name, material=material, setting=setting, played=played, notes=tuple(notes))


def setting_of(chosen: Chosen, material: Material, options: Options) -> Setting:
    """What every contender meets. Raises ``BadSetting``."""
    service = chosen.service
    world = _world(service, chosen.path, material.recorded, options)
    arrivals = tuple(per_second(material.trace, options.seed).tolist())
    priced = prices_of(service.budget, chosen.size, drain_deadline_s=0.0, timezone="UTC")
    return Setting(
        arrivals=arrivals,
        world=world,
        price=Price(
            lateness=service.lateness_price,
            replica_hour=options.replica_hour
            if options.replica_hour is not None or not priced
            else priced.replica_hour,
            currency=(service.budget or Budget()).currency,
        ),
        ready=_first_count(arrivals, world, service),
        seed=options.seed,
    )


def _first_count(arrivals: Sequence[float], world: World, service: Service) -> int:
    first = arrivals[:FIRST_S]
    need = math.ceil(sum(first) / len(first) / world.rate)
    return min(service.replicas.max, max(service.replicas.min, need))


def _world(service: Service, path: str, recorded: Recorded | None, options: Options) -> World:
    target = service.target
    both = target.concurrency and target.requests_per_second
    request_s = options.request_s or (recorded.request_s if recorded else None)
    if request_s is None and target.requests_per_second:
        request_s = (target.concurrency if both and target.concurrency else 1.0) / target.requests_per_second
    rate = options.rate or target.requests_per_second
    if rate is None and target.concurrency and request_s:
        rate = target.concurrency / request_s
    if rate is None or request_s is None:
        raise BadSetting(
            f"{path}.target: does not say how many requests per second a replica carries; "
            "say it with --rate, and with --request-s how many seconds one request takes"
        )
    expected_s = options.cold_start_s or service.start.expected_s
    seen_s = recorded.starts_s if recorded and options.cold_start_s is None else ()
    return World(
        rate=rate,
        request_s=request_s,
        slo_wait_s=service.slo_wait_s,
        patience_s=options.patience_s,
        leaving_s=options.leaving_s,
        starts_s=draws(seen_s, expected_s, options.seed),
    )


@contextmanager
def progress() -> Iterator[Callable[[float], None]]:
    """A bar on a terminal's stderr; nothing elsewhere."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("replay"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("replay", total=1.0)
        yield lambda share: bar.update(task, completed=share)


def body_of(report: Report) -> Json:
    """The report for programs."""
    setting, material = report.setting, report.material
    world = to_builtins(setting.world)
    starts = sorted(world.pop("starts_s"))
    return {
        "service": report.service,
        "trace": {
            "source": material.source,
            "begins_at": datetime.fromtimestamp(material.begins_at, UTC).isoformat(),
            "seconds": len(setting.arrivals),
            "requests": sum(setting.arrivals),
            "filled_s": material.recorded.filled_s if material.recorded else 0.0,
        },
        "world": world | {"cold_start_s": {f"p{q}": round(starts[len(starts) * q // 100], 1) for q in (10, 50, 90)}},
        "price": to_builtins(setting.price),
        "ready_at_the_beginning": setting.ready,
        "seed": setting.seed,
        "notes": list(report.notes),
        "results": [result(p) for p in report.played],
    }


def result(p: Played) -> Json:
    """One contender for programs."""
    return {
        **to_builtins(p.score),
        "late_share": p.score.late_share,
        "settings_tried": p.tried,
        "against_first": to_builtins(p.against_first) if p.against_first else None,
    }


def shown(report: Report) -> RenderableType:
    """The report for people."""
    from rich.console import Group  # noqa: PLC0415

    told = [sentence(report.played[0], p) for p in report.played[1:]]
    made = results(report.played, report.setting.price, _title(report))
    return Group(made, *(show.plain(line) for line in (*told, *report.notes)))


def results(played: Sequence[Played], price: Price, title: str) -> Table:
    """A row for each contender."""
    money = (f"{price.currency}:r",) if price.replica_hour is not None else ()
    made = show.table(
        "", "replica hours:r", *money, "late:r", "lost:r", "late share:r", "refused:r", "cold starts:r", "changes:r",
        "most:r", "economic cost:r", title=show.plain(title),
    )  # fmt: skip
    for p in played:
        s = p.score
        cost = (f"{s.money:.2f}",) if s.money is not None else ()
        made.add_row(
            show.plain(_name(p)), f"{s.replica_hours:.1f}", *cost, f"{s.late:.0f}", f"{s.lost:.0f}",
            f"{s.late_share:.2%}", f"{s.refused:.0f}", str(s.cold_starts), str(s.changes), str(s.most_ready),
            f"{s.cost:.1f}",
        )  # fmt: skip
    return made


def _name(p: Played) -> str:
    return p.score.name if p.tried == 1 else f"{p.score.name} (best of {p.tried}, in hindsight)"


def _title(report: Report) -> str:
    hours = len(report.setting.arrivals) / 3600
    requests = sum(report.setting.arrivals)
    return f"{report.service}: {report.material.source}, {hours:.1f} hours, {requests:.0f} requests"


def sentence(first: Played, other: Played) -> str:
    """How another contender stands to the first, and how sure that is."""
    found = other.against_first
    assert found is not None
    more = "more" if found.difference >= 0 else "less"
    share = f" ({abs(found.difference) / found.of:.1%})" if found.of > 0 else ""
    head = f"{other.score.name} costs {abs(found.difference):.1f} replica hours{share} {more} than {first.score.name}"
    return f"{head}; {_how_sure(found, first, other)}"


def _how_sure(found: Interval, first: Played, other: Played) -> str:
    if found.low is None or found.high is None:
        return "too few hours were played to say how sure that is."
    span = f"95 % interval {found.low:+.1f} to {found.high:+.1f}"
    if not found.is_sure:
        return f"{span}: which of them is cheaper cannot be told from this trace."
    cheaper = first if found.difference > 0 else other
    return f"{span}: {cheaper.score.name} is the cheaper one."
