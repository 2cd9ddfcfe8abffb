"""How quick the dashboard and its API are with a week of history: ``python -m bench.web [--json FILE]``.

The table is Azurite's, read by the real SDK over TLS; the page is opened by a real Chromium where there is one. All
numbers are of this machine and this moment; the ratios (to one query of a service's state) travel better. It takes
about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from azure.data.tables.aio import TableServiceClient
from msgspec.structs import replace
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from scaler.azure.table_state import TableState
from scaler.past import HOUR_S, minutes, newest_over, packed, ticks_of, unpacked
from scaler.ports import Changes
from scaler.tick.scaler import Scaler
from scaler.web.app import app
from tests.azurite import Azurite, start_azurite
from tests.web.browsing import browser
from tests.web.day import WEEK, play
from tests.web.doors import scaler_of
from tests.world import World

WEEK_HOURS, PLAYED_HOURS, RAW_HOURS = 7 * 24, 6, 2
COLD, WARM, PAGES = 15, 40, 9
PAGE_LIMIT_BYTES = 300_000
WEEK_PATH = "/api/services/iris/history?minutes=10080&points=400"
CHART_PATH = "/api/services/iris/chart?minutes=10080&points=400&width=1200"

Row = tuple[str, list[float], float | None]  # what, milliseconds, the limit that it has to keep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, start_azurite(Path(folder)) as azurite, Progress() as progress:
        rows, size = measured(azurite, progress)
    shown(rows, size)
    if options.json is not None:
        options.json.write_text(json.dumps({name: ms for name, ms, _ in rows} | {"page_bytes": size}, indent=1))


def measured(azurite: Azurite, progress: Progress) -> tuple[list[Row], int]:
    """Every figure, and the size of the page in bytes."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def wait(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(300)

    world = World()
    world.clock.at -= world.clock.at % 86_400 - 6 * HOUR_S
    scaler = scaler_of(world, WEEK)
    task = progress.add_task("a morning is played", total=PLAYED_HOURS)
    for _ in range(PLAYED_HOURS):
        wait(play(world, scaler, hours=1.0))
        progress.advance(task)
    client = TableServiceClient(azurite.table, credential=azurite.credential, connection_verify=str(azurite.ca))
    store = wait(_stored(client, world, progress))
    serving = replace(scaler.world, store=store)
    with served(lambda: Scaler(scaler.config, list(scaler.managed.values()), serving), world, loop) as (url, fresh):
        rows = _api(url, fresh, progress) + _pages(url, fresh, progress)
        size = len(httpx.get(f"{url}/api/dashboard").content)
    wait(client.close())
    return rows, size


async def _stored(client: TableServiceClient, world: World, progress: Progress) -> TableState:
    """What was played as the last hours of a week: packed hours before, ticks of the newest ones."""
    store = TableState(client, world.clock)
    last = newest_over(world.clock())
    played = [packed(minutes(await ticks_of(world.store, "iris", last - i))) for i in range(PLAYED_HOURS - 1)]
    for i in range(WEEK_HOURS + 1):
        like = i % len(played)
        await store.write_past("iris", last - i, _moved(played[like], HOUR_S * (like - i)))
    newest = world.clock() - RAW_HOURS * HOUR_S
    rows = [r for r in world.store.recorded.values() if r.service == "iris" and r.at > newest]
    task = progress.add_task("ticks are stored", total=len(rows))
    for row in rows:
        await store.record(row)
        progress.advance(task)
    for service in ("iris", "digits"):
        loaded = await world.store.load(service)
        assert loaded.row is not None
        await store.save(replace(loaded, etag=None, replicas=()), loaded.row, _changes(loaded.replicas))
    return store


def _moved(data: bytes, by_s: float) -> bytes:
    return packed([replace(p, at=p.at + by_s) for p in unpacked(data) or []])


def _changes(replicas: Any) -> Any:
    return Changes(written=tuple(replace(r, etag="") for r in replicas))


@contextmanager
def served(
    make: Callable[[], Scaler], world: World, loop: asyncio.AbstractEventLoop
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The app on a port; the second value makes it forget what it has read."""
    current: dict[str, Any] = {}

    def fresh() -> None:
        scaler = make()
        current["app"] = app(lambda: scaler, world.clock)

    async def latest(scope: Any, receive: Any, send: Any) -> None:
        await current["app"](scope, receive, send)

    fresh()
    server = uvicorn.Server(uvicorn.Config(latest, port=0, lifespan="off", log_level="error", access_log=False))
    running = asyncio.run_coroutine_threadsafe(server.serve(), loop)
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", fresh
    finally:
        server.should_exit = True
        running.result(10)


def _api(url: str, fresh: Callable[[], None], progress: Progress) -> list[Row]:
    task = progress.add_task("the API is asked", total=COLD + WARM)
    found: dict[str, list[float]] = {"state": [], "cold": [], "chart": [], "warm": []}
    with httpx.Client(base_url=url) as client:

        def timed(path: str) -> float:
            began = time.perf_counter()
            client.get(path).raise_for_status()
            return (time.perf_counter() - began) * 1e3

        timed("/api/services")  # connections are made
        for _ in range(COLD):
            found["state"].append(timed("/api/services/iris"))
            fresh()
            found["cold"].append(timed(WEEK_PATH))
            found["chart"].append(timed(CHART_PATH))
            progress.advance(task)
        for _ in range(WARM):
            found["warm"].append(timed(WEEK_PATH))
            progress.advance(task)
    return [
        ("state of one service (one query)", found["state"], None),
        ("7 days of history, first look of a process", found["cold"], 300.0),
        ("7 days of history, again", found["warm"], 300.0),
        ("7 days as a picture", found["chart"], 300.0),
    ]


def _pages(url: str, fresh: Callable[[], None], progress: Progress) -> list[Row]:
    """From opening the page to the first paint, and from the key to the pictures of a week."""
    task = progress.add_task("the page is opened", total=PAGES)
    painted, useful, pictured = [], [], []
    try:
        with browser() as chromium:
            for _ in range(PAGES):
                fresh()
                page = chromium.new_page(viewport={"width": 1280, "height": 900})
                page.goto(f"{url}/api/dashboard")
                painted.append(page.evaluate(_PAINTED))
                page.select_option("#span", "10080")
                page.fill("#key", "not asked for here")
                page.evaluate(_WATCH)
                page.click("#show")
                useful.append(page.evaluate("window.firstSentence"))
                pictured.append(page.evaluate("window.firstPicture"))
                page.close()
                progress.advance(task)
    except pytest.skip.Exception as missing:
        print(f"the page was not opened: {missing}")
        return []
    return [
        ("first paint of the page", painted, 500.0),
        ("from the key to what is and why", useful, 500.0),
        ("from the key to a week's picture", pictured, None),
    ]


_PAINTED = """() => new Promise((done) => new PerformanceObserver((list, watching) => {
  const found = list.getEntriesByName('first-contentful-paint');
  if (found.length) { watching.disconnect(); done(found[0].startTime); }
}).observe({ type: 'paint', buffered: true }))"""

_WATCH = """() => {
  let began = 0;
  document.getElementById('key-form').addEventListener('submit', () => { began = performance.now(); }, true);
  const shown = (what) => new Promise((done) => new MutationObserver((_, watching) => {
    if (document.querySelector(what)) {
      watching.disconnect();
      requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
    }
  }).observe(document.getElementById('services'), { childList: true, subtree: true }));
  window.firstSentence = shown('section .because');
  window.firstPicture = shown('#iris svg .area.ready');
}"""


def shown(rows: list[Row], size: int) -> None:
    """The figures as a table; a limit that does not hold is red."""
    table = Table(
        "what", "median", "least", "most", "times", "limit", "to one query", title="with a week of history, ms"
    )
    one = statistics.median(rows[0][1])
    for name, ms, limit in rows:
        median = statistics.median(ms)
        text = f"{median:.1f}" if limit is None or median <= limit else f"[red]{median:.1f}[/]"
        table.add_row(
            name,
            text,
            f"{min(ms):.1f}",
            f"{max(ms):.1f}",
            str(len(ms)),
            f"{limit:g}" if limit else "",
            f"{median / one:.1f}",
        )
    Console().print(table)
    Console().print(f"page: {size} bytes of at most {PAGE_LIMIT_BYTES}")


if __name__ == "__main__":
    main()
