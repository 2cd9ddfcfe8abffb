"""The whole system in a process of its own, as a person starts it: shared by the tests that need all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from infra.local.ledger import started
from infra.local.places import LOCAL, ROOT, read_ports
from tests.infra.local.trivial import free_port

START_LIMIT_S = 90.0
ANSWER_LIMIT_S = 60.0
BODY = json.dumps({"data": [[5.1, 3.5, 1.4, 0.2]]}).encode()


def eventually(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.1)


class Started:
    """``python -m infra.local …`` in a session of its own, as a terminal has it."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.base = free_port() % 20_000 + 20_000
        self.log = folder / "out.log"
        environment = os.environ | {"PORT_BASE": str(self.base), "CI": "true"}
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.local", *words],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def said(self, words: str) -> bool:
        assert self.process.poll() is None or words in self.log.read_text(), self.log.read_text()
        return words in self.log.read_text()

    def family(self) -> dict[int, int]:
        """Every process below it, replicas too, with the tick it was started at."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return {child.pid: ticks for child in below if (ticks := started(child.pid)) is not None}

    def pid_of(self, part: str) -> int:
        entries = [json.loads(line) for line in (LOCAL / "run" / "ledger").read_text().splitlines()]
        return next(int(entry["pid"]) for entry in reversed(entries) if entry["part"] == part)

    def predict(self) -> object:
        request = urllib.request.Request(f"http://127.0.0.1:{self.base}/predict", data=BODY)
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:
            return json.load(answer)

    def envoy(self, path: str) -> Any:
        """What Envoy's admin door says."""
        port = read_ports({"PORT_BASE": str(self.base)}).envoy_admin
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=ANSWER_LIMIT_S) as answer:
            return json.load(answer)

    def answers(self) -> bool:
        with suppress(urllib.error.URLError, OSError):
            return self.predict() == {"predictions": [0]}
        return False

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        subprocess.run([sys.executable, "-m", "infra.local", "down"], cwd=ROOT, check=True, timeout=60)
