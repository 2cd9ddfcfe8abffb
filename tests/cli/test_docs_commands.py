"""Every command of these pages is run here as it stands there, or is marked as needing Azure."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.served import KEY, Served
from tests.cli.test_adopting import EXPORTED

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("deploy.md", "runbook.md", "api.md", "cli.md", "monitoring.md")
PROSE = ("conditions.md", "configuration.md")  # what is indented there is no command
OURS = ".venv/bin/python -m scaler "
SAYS = "{"  # begins what a command answers
ONLY_NAMED = ("adopt", "decide", "validate")  # in running text, without what they are given
NEEDS_AZURE = re.compile(r"\s+# Azure$")


def commands() -> list[tuple[str, str]]:
    """Each indented line, and each command of ours in running text, with its page."""
    found = []
    for page in (*PAGES, *PROSE):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ").replace("|\n", "| ")
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        lines = re.findall(r"^ {4}(\S.*)$", prose, re.MULTILINE) if page in PAGES else []
        found += [(page, line.strip()) for line in lines]
        found += [(page, command) for command in re.findall(r"`((?:\.venv/bin/)?python -m scaler [^`]*)`", prose)]
    return list(dict.fromkeys(found))


def here() -> list[tuple[str, str]]:
    ours = [(page, line) for page, line in commands() if not NEEDS_AZURE.search(line) and not line.startswith(SAYS)]
    return [(page, re.sub(r"^python -m scaler ", OURS, line).replace("SERVICE", "iris")) for page, line in ours]


def test_there_are_commands_of_both_kinds() -> None:
    assert len(here()) > 6
    assert len(commands()) - len(here()) > 10


@pytest.mark.parametrize(("page", "line"), here())
def test_a_command_that_is_not_marked_works_as_it_stands(
    page: str, line: str, served: Served, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if line.startswith(("curl ", "echo ")):
        pytest.skip("run below")
    assert line.startswith(OURS), f"{page}: neither run here nor marked `# Azure`: {line}"
    for name in ("autoscaler.yaml", "replica.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "iris-export.yaml").write_text(EXPORTED)
    monkeypatch.chdir(tmp_path)
    served.tick()
    env = {"AUTOSCALER_URL": served.url, "AUTOSCALER_KEY": KEY, "AUTOSCALER_CONFIG": str(tmp_path / "autoscaler.yaml")}
    words = shlex.split(line.removeprefix(OURS))
    if len(words) == 1 and words[0] in ONLY_NAMED:
        words.append("--help")
    if words[0] == "unpin":
        run("pin", words[1], "1", env=env)
    told = run(*words, env=env)
    # The world behind is in memory: doctor says what lacks, and there is no version that could be tried again.
    accepted = {0, 1} if words[0] == "doctor" or "--retry" in words else {0}
    assert told.exit_code in accepted, told.output + told.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
@pytest.mark.parametrize("line", [line for _, line in here() if line.startswith("curl ")])
def test_each_curl_is_answered(line: str, served: Served) -> None:
    env = os.environ | {"AUTOSCALER_URL": served.url, "AUTOSCALER_KEY": KEY}
    served.tick()
    asked = ["bash", "-c", f"{line} -sS -o /dev/null -w '%{{http_code}}'"]
    told = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=30, check=True)
    assert told.stdout == "200"


def test_the_example_of_decide_says_what_the_page_says() -> None:
    (line,) = [line for _, line in here() if line.startswith("echo ")]
    (shown,) = [line for page, line in commands() if page == "cli.md" and line.startswith(SAYS)]
    python = shlex.quote(sys.executable)
    asked = ["bash", "-c", line.replace("python ", f"{python} ", 1)]
    told = json.loads(subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout)
    named = json.loads(shown.replace(",…}", "}").replace(":…", ":null"))
    assert set(named) <= set(told)
    assert (named["desired"], named["limited_by"]) == (told["desired"], told["limited_by"])
    assert [s["name"] for s in named["steps"]] == [s["name"] for s in told["steps"]][: len(named["steps"])]
