"""The pages about the API and the command line keep in step with both."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main

from scaler.cli.app import app as command_line
from scaler.web.openapi import document

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROUTES = [
    (path, method.upper()) for path, item in document()["paths"].items() for method in item if method != "parameters"
]


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_every_door_is_in_the_docs(path: str, method: str) -> None:
    lines = (DOCS / "api.md").read_text(encoding="utf-8").splitlines()
    assert any(f"`{path}`" in line and method in line.split("|")[1] for line in lines if line.count("|") > 3)


def test_every_verb_is_in_the_docs() -> None:
    group = typer.main.get_command(command_line)
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    missing = [name for name in group.commands if f"`{name}" not in text]  # type: ignore[attr-defined]
    assert missing == []
