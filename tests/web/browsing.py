"""A real browser, where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HINT = "no Chromium here: apt-get install -y --no-install-recommends chromium fonts-dejavu-core"


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium through Playwright; skips, with the line that installs it, where there is none."""
    if CHROMIUM is None:
        pytest.skip(HINT)
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield opened
        finally:
            opened.close()
