"""``shadow``: what the shadow policy decided beside the live one, and what it would have come to."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct, to_builtins

from scaler.cli import show
from scaler.cli.replay_input import Options, from_rows, picked, read_rows
from scaler.cli.replaying import progress, result, results, sentence, setting_of
from scaler.ports import DecisionRow
from scaler.replay.beside import Comparison, Pair, compared, followed, pairs
from scaler.replay.score import Price
from scaler.replay.study import Played, play

if TYPE_CHECKING:
    from rich.console import RenderableType

Json = dict[str, Any]


class Beside(Struct, frozen=True, kw_only=True):
    """The comparison of a service's two policies, and both followed through one plant."""

    service: str
    days: float
    comparison: Comparison
    played: list[Played]
    price: Price


def answer(options: Options, *, as_json: bool) -> None:
    """Read the record, compare, and tell. Raises ``BadSetting``, ``Unavailable``."""
    with progress() as told:
        found = beside(read_rows(options), options, told)
    show.told(body_of(found) if as_json else None, as_json=as_json, view=None if as_json else shown(found))


def beside(rows: list[DecisionRow], options: Options, told: Any = lambda _: None) -> Beside:
    """What the rows say of both policies. Raises ``BadSetting``."""
    chosen = picked(options.config, options.service)
    both = pairs(rows, chosen.name)
    material = from_rows([row for row in rows if row.at >= both[0].at], options)
    setting = setting_of(chosen, material, options)
    live, shadow = followed(both, material.begins_at)
    return Beside(
        service=chosen.name,
        days=options.record_days,
        comparison=compared(both),
        played=play(setting, [(live,), (shadow,)], told=told),
        price=setting.price,
    )


def body_of(found: Beside) -> Json:
    """The comparison for programs."""
    return {
        "service": found.service,
        "days": found.days,
        "decided": to_builtins(found.comparison),
        "followed": [result(p) for p in found.played],
    }


def shown(found: Beside) -> RenderableType:
    """The comparison for people."""
    from rich.console import Group  # noqa: PLC0415

    c = found.comparison
    decided = show.table("", "replica hours asked for:r", "limited by", title=show.plain(_title(found)))
    decided.add_row("live", f"{c.live_hours:.1f}", show.plain(_limits(c.live_limits)))
    decided.add_row("shadow", f"{c.shadow_hours:.1f}", show.plain(_limits(c.shadow_limits)))
    apart = show.table("where they differ most", "live:r", "shadow:r", "live because", "shadow because")
    for pair in c.most_apart:
        apart.add_row(
            _local(pair),
            str(pair.live),
            str(pair.shadow),
            show.plain(pair.live_because),
            show.plain(pair.shadow_because),
        )
    title = "both followed through the same simulated replicas, on the recorded arrivals"
    told = show.plain(sentence(found.played[0], found.played[1]))
    return Group(decided, *((apart,) if c.most_apart else ()), results(found.played, found.price, title), told)


def _title(found: Beside) -> str:
    c = found.comparison
    return (
        f"{found.service}: {c.ticks} ticks, the same count in {c.same / c.ticks:.1%}, "
        f"the shadow asked for more in {c.shadow_more} and for fewer in {c.shadow_fewer}"
    )


def _limits(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda c: -c[1])) or "-"


def _local(pair: Pair) -> str:
    return show.local(datetime.fromtimestamp(pair.at).astimezone().isoformat())
