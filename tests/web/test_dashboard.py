"""The dashboard in a real browser, on a served API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler.errors import Unavailable
from scaler.template import Template
from tests.cli.served import KEY, Served, serve
from tests.scaler.ticking import TEMPLATE
from tests.web.browsing import browser
from tests.web.day import WEEK
from tests.web.doors import scaler_of

pytestmark = pytest.mark.verify
SHOTS = Path(__file__).resolve().parents[2] / ".local" / "screenshots"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(open_paths=("/api/health", "/api/dashboard")) as made:
        made.world.clock.at -= made.world.clock.at % 86_400 - 10 * 3600  # ten in the morning, UTC
        made.tick(times=40)
        yield made


@pytest.fixture
def page(chromium: Any, served: Served) -> Iterator[Any]:
    opened = chromium.new_page(viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    opened.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda e: errors.append(str(e)))
    opened.goto(f"{served.url}/api/dashboard")
    yield opened
    opened.close()
    assert errors == []


def show(page: Any) -> None:
    page.fill("#key", KEY)
    page.click("#show")
    page.wait_for_selector("section svg")


def test_the_page_shows_nothing_before_a_key_and_keeps_it_nowhere(page: Any) -> None:
    assert page.locator("section").count() == 0
    show(page)
    assert page.locator("section").count() == 2
    assert page.input_value("#key") == ""
    assert KEY not in page.content()
    assert KEY not in page.url
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0


def test_a_pin_shows_its_effect_before_it_is_sent_and_then_is_honoured_and_taken_away(
    page: Any, served: Served
) -> None:
    show(page)
    page.fill("#actor", "anna")
    page.fill("#pin-iris", "5")
    page.click("section:has(#pin-iris) >> text=Pin…")
    page.wait_for_selector("dialog[open]")
    assert "5 desired" in page.inner_text("#confirm-change")
    assert "pinned by key (anna)" in page.inner_text("#confirm-effect")
    assert "pin" not in served.world.store.rows["iris"]
    page.fill("#reason", "launch <b>day</b>")
    page.click("#confirm-send")
    page.wait_for_selector(".pinned")
    assert "Pinned to 5" in page.inner_text(".pinned")
    assert "launch <b>day</b>" in page.inner_text(".pinned")
    assert served.world.store.rows["iris"]["pin"].value.actor == "key (anna)"
    page.click("section:has(#pin-iris) >> text=Unpin…")
    page.wait_for_selector("dialog[open]")
    page.click("#confirm-cancel")
    assert "pin" in served.world.store.rows["iris"]
    page.click("section:has(#pin-iris) >> text=Unpin…")
    page.click("#confirm-send")
    page.wait_for_selector(".pinned", state="detached")
    assert "pin" not in served.world.store.rows["iris"]


def test_the_picture_changes_as_time_goes_on(page: Any, served: Served) -> None:
    show(page)
    before = page.get_attribute("section:has(#pin-iris) svg", "data-until")
    served.tick(times=4)
    page.wait_for_function(
        "before => document.querySelector('section:has(#pin-iris) svg').dataset.until !== before", arg=before
    )


def test_the_scrubber_answers_why_then(page: Any) -> None:
    show(page)
    page.locator("#when-iris").fill("990")
    page.wait_for_selector("section:has(#pin-iris) .past table")
    assert "desired" in page.inner_text("section:has(#pin-iris) .past h3")


def test_a_wrong_key_is_told_and_shows_nothing(chromium: Any, served: Served) -> None:
    page = chromium.new_page()
    page.goto(f"{served.url}/api/dashboard")
    page.fill("#key", "wrong")
    page.click("#show")
    page.wait_for_function("document.getElementById('message').textContent.startsWith('401')")
    assert page.locator("section").count() == 0
    page.close()


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light")]
)
def test_it_fits_the_screen_and_axe_finds_no_serious_fault(
    chromium: Any, served: Served, name: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe: pip install axe-playwright-python"
    )
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(f"{served.url}/api/dashboard")
    show(page)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"dashboard-{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    found = axe.Axe().run(page).response["violations"]
    serious = [(v["id"], [n["target"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []
    context.close()


def test_the_page_is_small_and_asks_nobody_else(page: Any, served: Served) -> None:
    """How quick it is, ``bench/web.py`` measures."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    show(page)
    assert page.evaluate("performance.getEntriesByType('navigation')[0].transferSize") < 300_000
    assert [url for url in asked if not url.startswith((served.url, "data:"))] == []


def test_versions_are_listed_and_the_one_before_is_gone_back_to(page: Any, served: Served) -> None:
    first = Template.read(TEMPLATE, "replica.yaml")
    second = Template.read(TEMPLATE.replace("inference:1", "inference:2"), "replica.yaml")
    for template in (first, second):
        served.scaler = scaler_of(served.world, WEEK, template)
        served.tick(times=40)
    show(page)
    page.click("#iris summary")
    page.wait_for_selector("#iris h3:text-is('Versions')")
    assert second.hash in page.inner_text("#iris details")
    page.click("#iris >> text=Go back…")
    page.wait_for_selector("dialog[open]")
    assert "inference:1" in page.inner_text("#confirm-effect")
    page.fill("#reason", "wrong labels")
    page.click("#confirm-send")
    wanted = "hash => document.querySelector('#iris details').textContent.includes(hash + ' (wanted)')"
    page.wait_for_function(wanted, arg=first.hash)


def test_a_condition_is_shown_with_what_to_do_and_costs_against_their_budget(page: Any, served: Served) -> None:
    served.scaler = scaler_of(served.world, WEEK)
    served.tick(times=40)
    served.world.faults.add("list", Unavailable("no answer"), times=None)
    served.tick()
    show(page)
    condition = page.inner_text("#iris .condition")
    told = served.world.store.rows["iris"]["service"].value
    assert "doctor" in condition
    assert "blind" in condition
    assert told.because in page.inner_text("#iris .because")
    money = page.inner_text("#iris .money")
    for word in ("cost today", "this month", "of 60 EUR", "month forecast", "cold start"):
        assert word in money, money
    page.wait_for_selector("#iris .whynot li")


def test_where_the_platform_lets_one_in_no_key_is_needed(chromium: Any) -> None:
    with serve(open_paths=("*",)) as made:
        made.tick()
        page = chromium.new_page()
        page.goto(f"{made.url}/api/dashboard")
        page.click("#show")
        page.wait_for_selector("section svg")
        page.click("#forget")
        page.wait_for_selector("section", state="detached")
        page.close()
