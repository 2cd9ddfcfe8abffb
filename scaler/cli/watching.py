"""``watch``: the table of services, looked at again and again."""

from __future__ import annotations

import json
import time

from scaler.cli import show
from scaler.cli.client import Client, Unreachable


def watch_services(client: Client, every_s: float, count: int, *, as_json: bool) -> None:
    """``count`` looks (0: until Ctrl-C). A look without an answer is told and does not end it; a first one does."""
    if as_json:
        looks = 0
        while count == 0 or looks < count:
            looks += 1
            print(json.dumps(client.get("services"), ensure_ascii=False), flush=True)
            _rest(every_s, last=looks == count)
        return
    from rich.live import Live  # noqa: PLC0415

    view = show.services(client.get("services"))
    with Live(view, console=show.console(), auto_refresh=False, screen=False) as live:
        looks = 1
        while count == 0 or looks < count:
            _rest(every_s, last=False)
            looks += 1
            try:
                view = show.services(client.get("services"))
                view.caption = None
            except Unreachable as error:
                view.caption = f"[red]{show.plain(str(error))}[/]"
            live.update(view, refresh=True)


def _rest(every_s: float, *, last: bool) -> None:
    if not last:
        time.sleep(every_s)
