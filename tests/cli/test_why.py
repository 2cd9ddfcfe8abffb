"""docs/why.md answers four questions with commands: each of them runs, and says what the page says it does."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from scaler.cli.app import app
from tests.cli.served import KEY, Served, serve
from tests.scaler.ticking import TEMPLATE
from tests.web.day import WEEK, play
from tests.web.doors import scaler_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "why.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip().partition("#")[0].strip().removeprefix("python -m scaler ")
    for line in PAGE.splitlines()
    if line.startswith("    python -m scaler ")
]
MAY_SAY_NO = ("status --check", "doctor")  # exit code 1 is an answer


@pytest.fixture(scope="module")
def week() -> Iterator[Served]:
    with serve() as made:
        made.scaler = scaler_of(made.world, WEEK)
        playing = play(made.world, made.scaler, hours=1.0)
        asyncio.run_coroutine_threadsafe(playing, made._loop).result(60)
        yield made


@pytest.fixture
def place(week: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with what the commands name, and an environment that names the served app."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "autoscaler.yaml").write_text(WEEK, encoding="utf-8")
    (tmp_path / "replica.yaml").write_text(TEMPLATE, encoding="utf-8")
    (tmp_path / "trace.csv").write_text(
        "t_s,requests\n" + "".join(f"{60 * i},{30 + i % 7}\n" for i in range(120)), encoding="utf-8"
    )
    monkeypatch.setenv("AUTOSCALER_URL", week.url)
    monkeypatch.setenv("AUTOSCALER_KEY", KEY)
    monkeypatch.setenv("AUTOSCALER_CONFIG", str(tmp_path / "autoscaler.yaml"))


def words(command: str) -> Result:
    return CliRunner().invoke(app, shlex.split(command))


def test_the_page_has_commands_for_each_of_its_four_questions() -> None:
    questions = PAGE.split("\n## ")[1:]
    assert len(questions) == 4
    for question in questions:
        assert "python -m scaler " in question
        assert "/issues/" in question


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_page_runs(week: Served, command: str) -> None:
    # The world of this test lives in September; "at 14:05 today" is after all of it, which is an answer too.
    shown = words(command + (" --service iris" if command.startswith("replay") else ""))
    allowed = (0, 1) if command.startswith(MAY_SAY_NO) else (0,)
    assert shown.exit_code in allowed, (shown.output, shown.exception)
    assert shown.stdout.strip()
    assert "pin" not in week.world.store.rows["iris"]
