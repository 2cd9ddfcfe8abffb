"""The dashboard of a running `make up`, as an operator uses it: load rises, a pin is set, honoured and taken away."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from infra.local.demo.day import BUILT_IN_PEAK, MAX_REPLICAS, REPLICAS_AT_PEAK
from infra.local.places import DEMO
from tests.azurite import needs_azurite
from tests.infra.local.running import BODY, Started, brought_up, exports
from tests.web.browsing import browser

pytestmark = [
    pytest.mark.verify,
    pytest.mark.timeout(600),
    needs_azurite,
]

LOAD_PER_S = 2.2 * BUILT_IN_PEAK / REPLICAS_AT_PEAK  # what three replicas carry
LOOKS = (("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light"))
PATIENCE_MS = 90_000


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with brought_up(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@contextmanager
def load(running: Started, per_s: float) -> Iterator[list[int]]:
    """Requests at the front, evenly, until the end of the block; gives the codes that came back."""
    codes: list[int] = []
    ended = threading.Event()

    def send() -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{running.base}/predict", data=BODY)
        with suppress(OSError), urllib.request.urlopen(request, timeout=60) as answer:
            codes.append(answer.status)

    def keep_sending() -> None:
        following = time.monotonic()
        while not ended.wait(max(0.0, following - time.monotonic())):
            following += 1 / per_s
            threading.Thread(target=send, daemon=True).start()

    sender = threading.Thread(target=keep_sending, daemon=True)
    sender.start()
    try:
        yield codes
    finally:
        ended.set()
        sender.join()


def count(page: Any, name: str) -> int:
    return int(page.inner_text(f"#iris dl.tiles div:has(dt:text-is('{name}')) dd >> nth=0"))


def opened(chromium: Any, url: str, key: str, width: int, scheme: str) -> Any:
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(f"{url}/api/dashboard")
    page.fill("#key", key)
    page.select_option("#span", "15")
    page.click("#show")
    page.wait_for_selector("#iris svg")
    return page


def until(page: Any, script: str, argument: object = None) -> None:
    page.wait_for_function(script, arg=argument, timeout=PATIENCE_MS)


READY = (
    "n => Number([...document.querySelectorAll('#iris dt')].find(d => d.textContent === 'ready')"
    ".nextSibling.textContent) {} n"
)


def test_an_operator_sees_load_arrive_pins_sees_it_honoured_and_unpins(up: Started, chromium: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    env = exports()
    page = opened(chromium, env["AUTOSCALER_URL"], env["AUTOSCALER_KEY"], 1280, "light")
    before = page.get_attribute("#iris svg", "aria-label")
    with load(up, LOAD_PER_S) as codes:
        until(page, READY.format(">="), 2)
        until(page, "() => (document.querySelector('#iris .area.load')?.getAttribute('d') ?? '').length > 40")
        assert page.get_attribute("#iris svg", "aria-label") != before
        ready = count(page, "ready")
        pinned = ready + 1 if ready < MAX_REPLICAS else ready - 1  # the forecast may have gone all the way already
        page.fill("#actor", "anna")
        page.fill("#pin-iris", str(pinned))
        page.click("#iris >> text=Pin…")
        page.wait_for_selector("dialog[open]")
        assert f"{pinned} desired" in page.inner_text("#confirm-change")
        page.fill("#reason", "launch")
        page.click("#confirm-send")
        until(page, "() => document.querySelector('#iris .pinned')?.textContent.includes('key (anna)')")
        until(page, READY.format("==="), pinned)
        page.wait_for_selector("#iris svg .band.pin")
        DEMO.mkdir(exist_ok=True)
        for name, width, scheme in LOOKS:
            look = opened(chromium, env["AUTOSCALER_URL"], env["AUTOSCALER_KEY"], width, scheme)
            look.screenshot(path=DEMO / f"dashboard-{name}.png", full_page=True)
            assert look.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
            assert grave(axe.Axe().run(look).response) == [], name
            look.context.close()
        page.click("#iris >> text=Unpin…")
        page.click("#confirm-send")
        until(page, "() => !document.querySelector('#iris .pinned')")
    until(page, READY.format("<"), pinned)
    assert codes.count(200) == len(codes) > 100
    assert env["AUTOSCALER_KEY"] not in page.content() + page.url
    page.context.close()


def grave(answer: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    """What axe calls serious or critical, and where."""
    found = (v for v in answer["violations"] if v["impact"] in ("serious", "critical"))
    return [(v["id"], [n["target"] for n in v["nodes"]]) for v in found]


def test_the_api_of_a_running_system_tells_what_the_picture_shows(up: Started) -> None:
    env = exports()
    request = urllib.request.Request(
        f"{env['AUTOSCALER_URL']}/api/services/iris/history?minutes=60&points=60",
        headers={"x-functions-key": env["AUTOSCALER_KEY"]},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        points = json.load(answer)["points"]
    assert max(v for v in points["arrivals_per_s"] if v is not None) > LOAD_PER_S / 4
    assert max(v for v in points["pin_max"] if v is not None) >= 3
    assert Path(DEMO / "dashboard-phone.png").stat().st_size > 10_000
