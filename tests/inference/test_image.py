"""What can be said of the image without building it: its recipe, and that the server needs nothing to write on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inference.settings import READERS
from tests.inference.process import ROOT, Replica, until

RECIPE = (ROOT / "inference" / "Dockerfile").read_text(encoding="utf-8")
LINES = [line for line in re.sub(r"\\\n\s*", " ", RECIPE).splitlines() if line and not line.startswith("#")]


def told(word: str) -> list[str]:
    """The arguments of every instruction `word`."""
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{word} ")]


def test_every_version_is_pinned() -> None:
    lines = (ROOT / "inference" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    loose = [line for line in lines if line and not line.startswith("#") and not re.fullmatch(r"[\w-]+==[\w.]+", line)]
    assert loose == []
    assert re.fullmatch(r"\d+\.\d+\.\d+-slim-\w+", next(a.partition("=")[2] for a in told("ARG") if a[:7] == "PYTHON="))


def test_two_stages_and_the_last_runs_without_rights() -> None:
    assert len(told("FROM")) == 2
    last = LINES[max(i for i, line in enumerate(LINES) if line.startswith("FROM")) :]
    users = [line.split()[1] for line in last if line.startswith("USER")]
    assert users
    assert int(users[-1]) > 0
    assert not any("pip" in line for line in last)


def test_what_it_copies_is_here_and_what_it_sets_is_a_setting() -> None:
    for words in (copy.split() for copy in told("COPY") if not copy.startswith("--from")):
        assert all((ROOT / source).exists() for source in words[:-1])
    names = {pair.partition("=")[0] for line in told("ENV")[1:] for pair in line.split()}
    assert names - {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"} <= set(READERS)


def test_the_health_check_is_the_servers_own(replica: Replica) -> None:
    (check,) = told("HEALTHCHECK")
    words = re.findall(r'"([^"]+)"', check)
    assert words == ["python", "-m", "inference", "--check"]
    for port, code in ((str(replica.port), 0), ("1", 1)):
        env = {"HOST": "0.0.0.0", "PORT": port, "MODEL_PATH": replica.model_path, "PATH": os.environ["PATH"]}
        assert (
            subprocess.run([sys.executable, *words[1:]], cwd=ROOT, env=env, timeout=30, check=False).returncode == code
        )


@pytest.mark.verify
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root for a mount of its own")
def test_it_serves_from_a_read_only_file_system(models: Path) -> None:
    try_out = ["unshare", "-m", "sh", "-c", "mount -o remount,ro,bind / && ! touch /read-only"]
    if subprocess.run(try_out, capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mounts")
    inside = f"mount -o remount,ro,bind / && exec {sys.executable} -m inference"
    one = Replica("unshare", "-m", "sh", "-c", inside, MODEL_PATH=str(models / "iris.safetensors")).ready()
    try:
        assert one.predict([[5.1, 3.5, 1.4, 0.2]]) == (200, {"predictions": [0]})
        one.process.send_signal(signal.SIGTERM)
        until(lambda: one.process.poll() is not None, "it left")
        assert one.process.returncode == 0
    finally:
        one.end()
