"""The command line against a served admin API."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from scaler.cli.app import app
from tests.cli.served import KEY, Served, serve

Run = Callable[..., Result]


@pytest.fixture
def served() -> Iterator[Served]:
    with serve() as made:
        yield made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in an environment of its own."""
    for name in ("AUTOSCALER_URL", "AUTOSCALER_KEY", "AUTOSCALER_CONFIG", "AUTOSCALER_TABLE_ENDPOINT", "USER"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*words: str, env: dict[str, str] | None = None, text: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(words), env=env or {}, input=text)

    return invoke


@pytest.fixture
def scaler(served: Served, run: Run) -> Run:
    """Runs a command line that knows the served API and its key."""
    env = {"AUTOSCALER_URL": served.url, "AUTOSCALER_KEY": KEY}
    return lambda *words: run(*words, env=env)
