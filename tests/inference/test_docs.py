"""docs/inference.md keeps in step with the settings, the routes and the phases."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.lifecycle import TABLE, Event, Phase
from inference.settings import READERS, SUFFIXES, Settings, cores
from tests.inference.process import Replica

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "inference.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]
SPOKEN = {"REPLICA": "the host's name", "MODEL_FACTORY": "in the file"}


def told(variable: str) -> str:
    """What the settings table says is the default of a variable."""
    for names, default, *_ in (row for row in ROWS if len(row) == 3):
        if variable in (found := re.findall(r"`([A-Z_]+)`", names)):
            return default.split(", ")[found.index(variable)].strip("`")
    raise AssertionError(f"{variable} is not in docs/inference.md")


def said(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value or "none") if value != 0 else "0"


@pytest.mark.parametrize("variable", list(READERS))
def test_every_setting_is_in_the_docs_with_its_default(variable: str) -> None:
    name = READERS[variable][0]
    assert told(variable) == SPOKEN.get(variable, said(getattr(Settings(models=()), name)))


def test_the_docs_name_no_setting_that_is_none() -> None:
    table = TEXT[TEXT.index("## Settings") : TEXT.index("## Formats")]
    names = {name for row in re.findall(r"^\|([^|]*)\|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert names == set(READERS) | {"MODEL_PATH"}


def test_the_docs_name_every_kind_of_model_file() -> None:
    assert [row[0].strip("`") for row in ROWS if row[0].startswith("`.")] == list(SUFFIXES)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.STOPPED])
def test_the_docs_show_the_life_as_it_is(phase: Phase) -> None:
    (row,) = [row for row in ROWS if row[0] == phase.value]
    events = (Event.LOADED, Event.DRAIN, Event.UNDRAIN, Event.STOP)
    assert row[1:] == [TABLE[phase, event].value if (phase, event) in TABLE else "" for event in events]


@pytest.mark.parametrize(
    ("quota", "wanted"), [("max 100000", None), ("50000 100000", 1), ("150000 100000", 2), ("", None), ("0 0", None)]
)
def test_a_containers_quota_counts_as_cores(tmp_path: Path, quota: str, wanted: int | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    everything = cores(tmp_path / "nothing")
    assert cores(file) == min(everything, wanted or everything)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
@pytest.mark.usefixtures("models")
def test_the_commands_of_the_page_serve_a_model_and_ask_it(start: Callable[..., Replica]) -> None:
    serve, ask = re.findall(r"^ {4}(\S.*)$", TEXT.partition("## ")[0], re.MULTILINE)
    replica = start("bash", "-c", f"exec env {serve.replace('PORT=8000', 'PORT=0')}").ready()
    command, _, answer = ask.replace(":8000/", f":{replica.port}/").partition("#")
    told = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(told.stdout) == json.loads(answer.partition(", once")[0])
