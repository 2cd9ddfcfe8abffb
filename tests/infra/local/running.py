"""The whole system in a process of its own, as a person starts it: shared by the tests that need all of it."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from infra.local.ledger import started
from infra.local.places import LOCAL, RESOURCE_GROUP, ROOT, read_ports
from tests.infra.local.trivial import free_port

START_LIMIT_S = 90.0
ANSWER_LIMIT_S = 60.0
TEMPLATE = """
properties:
  osType: Linux
  containers:
    - name: model
      properties:
        image: example.azurecr.io/IMAGE
        ports: [{port: 8000}]
        resources: {requests: {cpu: 1.0, memoryInGB: 1.0}}
  ipAddress: {type: Public, ports: [{port: 8000}]}
"""
EVERY_S, SENDERS = 0.1, 3
BODY = json.dumps({"data": [[5.1, 3.5, 1.4, 0.2]]}).encode()


def eventually(
    condition: Callable[[], bool],
    limit_s: float,
    what: str,
    *,
    every_s: float = 0.1,
    besides: Callable[[], str] = lambda: "",
) -> None:
    """Looks so often; ``besides`` says what else there is to know where it never comes."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}{besides()}"
        time.sleep(every_s)


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
        with suppress(urllib.error.URLError, OSError, HTTPException):
            return self.predict() == {"predictions": [0]}
        return False

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        subprocess.run([sys.executable, "-m", "infra.local", "down"], cwd=ROOT, check=True, timeout=60)


@contextmanager
def brought_up(folder: Path, *words: str) -> Iterator[Started]:
    """``python -m infra.local up …``, once everything is up; ended with the block."""
    running = Started(folder, "up", *words)
    try:
        eventually(lambda: running.said("Ctrl-C ends everything"), START_LIMIT_S, "everything is up")
        yield running
    finally:
        running.end()


class Request(NamedTuple):
    """One request of a load: epoch seconds, and what was wrong with the answer; "" where nothing was."""

    sent_at: float
    ended_at: float
    error: str


class Load:
    """A steady load from several senders while it is entered; every request is kept."""

    def __init__(self, running: Started) -> None:
        self.requests: list[Request] = []
        self._running, self._over = running, threading.Event()
        self._senders = [threading.Thread(target=self._send, daemon=True) for _ in range(SENDERS)]

    def __enter__(self) -> Load:
        for sender in self._senders:
            sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for sender in self._senders:
            sender.join(90)

    @property
    def lost(self) -> list[Request]:
        """Those that were not answered with 200 and a prediction."""
        return [r for r in self.requests if r.error]

    def _send(self) -> None:
        while not self._over.wait(EVERY_S):
            sent_at, error = time.time(), ""
            try:
                assert self._running.predict() == {"predictions": [0]}
            except (urllib.error.URLError, OSError, AssertionError, HTTPException) as problem:
                error = repr(problem)
            self.requests.append(Request(sent_at, time.time(), error))


def deploy_file(folder: Path, image: str) -> None:
    (folder / "replica.yaml").write_text(TEMPLATE.replace("IMAGE", image))


def admin(path: str, body: object = None) -> dict[str, Any]:
    """What the admin API says; empty while it does not answer. With a body it is a PUT."""
    here = exports()
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{here['AUTOSCALER_URL']}/api/{path}", data, method="PUT" if data else "GET")
    request.add_header("x-functions-key", here["AUTOSCALER_KEY"])
    request.add_header("content-type", "application/json")
    return _json(request)


def rollout() -> dict[str, Any]:
    return admin("services/iris/rollout")


def groups() -> dict[str, str] | None:
    """Address by name of the container groups in Azure's own list; None while Azure does not answer."""
    here = exports()
    token = urllib.request.Request(
        f"{here['IDENTITY_ENDPOINT']}?api-version=2019-08-01&resource=https://management.azure.com"
    )
    token.add_header("X-IDENTITY-HEADER", here["IDENTITY_HEADER"])
    scope = f"subscriptions/{here['AZURE_SUBSCRIPTION_ID']}/resourceGroups/{RESOURCE_GROUP}"
    path = f"{scope}/providers/Microsoft.ContainerInstance/containerGroups?api-version=2023-05-01"
    request = urllib.request.Request(f"{here['AUTOSCALER_ARM_ENDPOINT']}/{path}")
    request.add_header("Authorization", f"Bearer {_json(token).get('access_token', '')}")
    listed = _json(request, ssl.create_default_context(cafile=here["SSL_CERT_FILE"])).get("value")
    if listed is None:
        return None
    return {g["name"]: (g["properties"].get("ipAddress") or {}).get("ip") or "" for g in listed}


def within(limit_s: float, condition: Callable[[], bool], what: str) -> None:
    """Looks once a second: more often would be a load of its own, and the API limits who asks too often."""
    eventually(condition, limit_s, what, every_s=1.0, besides=lambda: f"; {rollout()}; {groups()}")


def settled(image: str, replicas: int) -> bool:
    """So many ready replicas of this version, nothing of another, no rollout under way, and no group beside them."""
    found, listed = rollout(), groups()
    versions = {v["image"].rpartition("/")[2]: (v["replicas"], v["ready"]) for v in found.get("versions", [])}
    own = versions.pop(image, None)
    alone = own == (replicas, replicas) and not any(count for count, _ in versions.values())
    return alone and found["phase"] == "steady" and listed is not None and len(listed) == replicas


def exports() -> dict[str, str]:
    """What `make up` gives a person's shell."""
    return dict(re.findall(r"export (\w+)='(.*)'", (LOCAL / "env").read_text()))


def _json(request: urllib.request.Request, trust: ssl.SSLContext | None = None) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (urllib.error.URLError, OSError, HTTPException):
        return {}
