"""The day as it happens: a table that moves on a terminal, a line every few seconds where there is none."""

from __future__ import annotations

import os
import time
from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.local.demo.day import MAX_REPLICAS, Day
from infra.local.demo.player import Player
from infra.local.demo.watch import Sample, Watcher

PLAIN_EVERY_S = 5.0
SPARKS = " ▁▂▃▄▅▆▇█"
SHOWN_SECONDS = 60
SHOWN_EVENTS = 4


def is_plain(console: Console) -> bool:
    """Whether nothing may move: no terminal, or a CI that collects lines."""
    return not console.is_terminal or bool(os.environ.get("CI"))


class Screen:
    """Shows a day while it is played. ``say`` is for what happens beside it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._plain = is_plain(console)
        self._events: deque[str] = deque(maxlen=SHOWN_EVENTS)
        self._live: Live | None = None
        self._shown_at = 0.0
        self._because = ""

    def __enter__(self) -> Screen:
        if not self._plain:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)
            self._live = None

    def say(self, text: str) -> None:
        """A line worth knowing, under the table or between the lines."""
        if self._live is None:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            self._events.append(f"{time.strftime('%H:%M:%S')}  {text}")

    def show(self, day: Day, player: Player, watcher: Watcher) -> None:
        """Bring the picture up to date; call it a few times a second."""
        if self._live is not None:
            self._live.update(self._picture(day, player, watcher), refresh=True)
        elif time.monotonic() - self._shown_at >= PLAIN_EVERY_S:
            self._shown_at = time.monotonic()
            self._console.print(self._line(day, player, watcher), highlight=False, markup=False, soft_wrap=True)

    def _line(self, day: Day, player: Player, watcher: Watcher) -> str:
        now, counts, sample = time.time(), _counts(player), watcher.latest
        fleet = "fleet not known yet"
        if sample is not None:
            phases = f"{sample.ready} ready, {sample.starting} starting, {sample.draining} draining"
            fleet = f"{phases}, desired {sample.desired}"
        return (
            f"{now - day.starts_at:4.0f} s  {day.name_at(now):<10} {_rate(player, now):5.1f} requests/s  {fleet};  "
            f"{counts['ok']} ok, {counts['failed']} failed, {counts['refused_off_hours']} refused, "
            f"{player.sent - len(player.answers)} waiting"
        )

    def _picture(self, day: Day, player: Player, watcher: Watcher) -> Group:
        now, counts, sample = time.time(), _counts(player), watcher.latest
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right", min_width=9)
        table.add_column()
        passed = min(max(now - day.starts_at, 0.0), day.ends_at - day.starts_at)
        table.add_row("day", Text(f"{day.name_at(now)}  ({passed:.0f} of {day.ends_at - day.starts_at:.0f} s)", "bold"))
        table.add_row("", ProgressBar(total=day.ends_at - day.starts_at, completed=passed, width=SHOWN_SECONDS))
        table.add_row("load", Text(f"{_sparks(player, now)} {_rate(player, now):5.1f} requests/s", "cyan"))
        waiting = player.sent - len(player.answers)
        table.add_row("requests", _requests(counts, waiting))
        if sample is not None:
            table.add_row("replicas", _blocks(sample))
            table.add_row("desired", Text(f"{sample.desired}  {sample.because}"))
        for event in self._events:
            table.add_row("", Text(event, "yellow"))
        return Group(Text(day.title, "bold"), table)


def _counts(player: Player) -> dict[str, int]:
    counts = {"ok": 0, "failed": 0, "refused_off_hours": 0}
    for answer in player.answers:
        counts[answer.outcome] += 1
    return counts


def _requests(counts: dict[str, int], waiting: int) -> Text:
    return Text.assemble(
        (f"{counts['ok']} ok", "green"),
        "  ",
        (f"{counts['failed']} failed", "bold red" if counts["failed"] else "dim"),
        "  ",
        (f"{counts['refused_off_hours']} refused off-hours", "dim"),
        "  ",
        (f"{waiting} waiting", "yellow" if waiting else "dim"),
    )


def _blocks(sample: Sample) -> Text:
    free = max(MAX_REPLICAS - sample.ready - sample.starting, 0)
    return Text.assemble(
        ("■ " * sample.ready, "green"),
        ("□ " * sample.starting, "yellow"),
        ("· " * free, "dim"),
        (f" {sample.ready} ready", "green"),
        (f", {sample.starting} starting", "yellow" if sample.starting else "dim"),
        (f", {sample.draining} leaving", "dim"),
        (", off-hours" if sample.off else "", "bold"),
        (", pinned" if sample.pinned else "", "bold magenta"),
    )


def _rate(player: Player, now: float, over_s: float = 3.0) -> float:
    """Requests/s of the last seconds, those that still wait included as far as their answers are known."""
    return player.sent_since(now - over_s) / over_s


def _sparks(player: Player, now: float) -> str:
    """One character for each of the last seconds, tall where the load was high."""
    seconds = [player.sent_since(now - ago - 1) - player.sent_since(now - ago) for ago in range(SHOWN_SECONDS)][::-1]
    top = max(*seconds, 1)
    return "".join(SPARKS[round(count / top * (len(SPARKS) - 1))] for count in seconds)
