"""The stand-in as a program of its own, with TLS, on free ports: started, asked, killed, started again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from infra.local.arm.arm import RECORDED
from tests.infra.arm.world import API, PROVIDER, container, group

ROOT = Path(__file__).resolve().parents[3]
HEADER = "the identity header of the tests"
LIMIT_S = 20.0
T = TypeVar("T")

# A replica in one line: says who it is, answers on its own address, ends on SIGTERM.
SERVER = """\
import http.server, json, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"pid": os.getpid(), "token": os.environ.get("TOKEN", "")}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("hello from", os.environ["HOST"], flush=True)
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(99)"
)
IMAGES = {
    "*/server:*": {"command": [sys.executable, "-c", SERVER]},
    "*/stubborn:*": {"command": [sys.executable, "-c", STUBBORN]},
    "*/family:*": {"command": ["/bin/sh", "-c", "sleep 98 & echo child $!; wait"]},
    "*/missing:*": {"command": ["/does/not/exist"]},
}


class StandIn:
    """One data folder and, most of the time, one process on it."""

    def __init__(self, folder: Path, tls: Path, *options: str) -> None:
        self.data = folder / "data"
        self.ca = tls / "ca.pem"
        self.port = 0
        self.identity_port = 0
        self._options = options
        self._folder = folder
        self._tls = tls
        self._process: subprocess.Popen[str] | None = None
        (folder / "images.yaml").write_text(json.dumps(IMAGES))

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def identity(self) -> dict[str, str]:
        """The environment of a process with a managed identity."""
        url = f"http://127.0.0.1:{self.identity_port}/msi/token"
        return {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": HEADER}

    def start(self) -> None:
        assert self._process is None, "runs already"
        with (self._folder / "stand-in.log").open("a") as log:
            self._process = subprocess.Popen(
                [*self.command("--port", "0", "--identity-port", "0"), *self._options],
                cwd=ROOT,
                env={**os.environ, "IDENTITY_HEADER": HEADER},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], LIMIT_S)
        line = self._process.stdout.readline() if ready else ""
        assert line, f"did not start: {self.complaints()}"
        ports = json.loads(line)
        self.port, self.identity_port = ports["port"], ports["identity_port"]

    def command(self, *options: str) -> list[str]:
        files = ["--certificate", str(self._tls / "cert.pem"), "--key", str(self._tls / "key.pem")]
        images = ["--images", str(self._folder / "images.yaml"), "--data", str(self.data)]
        return [sys.executable, "-m", "infra.local.arm", *files, *images, *options]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the stand-in, not its processes; gives its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(LIMIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return code

    def reap(self) -> dict[str, Any]:
        """End everything that is recorded in the folder."""
        done = subprocess.run(
            [sys.executable, "-m", "infra.local.arm", "--reap", "--data", str(self.data), "--grace", "1"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT_S,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def close(self) -> None:
        if self._process is not None:
            self.stop()
        self.reap()

    def complaints(self) -> str:
        return (self._folder / "stand-in.log").read_text()

    def call(
        self, method: str, path: str, body: Any = None, *, api: str | None = API, timeout_s: float = LIMIT_S
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers (lower case) and decoded body."""
        full = path if path.startswith("/") else f"/subscriptions/{RECORDED}/{path}"
        url = f"{self.base}{full}" + (f"?api-version={api}" if api else "")
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": "Bearer tests", "content-type": "application/json"}
        request = urllib.request.Request(url, data, headers, method=method)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.ca))),
        )
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return answer.status, _lower(answer), _decode(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _lower(error), _decode(error.read())

    def put(self, name: str, image: str = "example.azurecr.io/server:1", **properties: Any) -> tuple[int, Any]:
        own = {"environmentVariables": [{"name": "TOKEN", "secureValue": "hidden"}], **properties.pop("container", {})}
        asked = group(**{"containers": [container(image=image, **own)], **properties})
        status, _, body = self.call("PUT", path_of(name), asked)
        return status, body

    def properties(self, name: str) -> dict[str, Any]:
        status, _, body = self.call("GET", path_of(name))
        assert status == 200, body
        found: dict[str, Any] = body["properties"]
        return found

    def running(self, name: str) -> dict[str, Any]:
        """The group once it runs and Azure says so."""
        return until(lambda: _settled(self.properties(name)), f"{name} to run")

    def logs(self, name: str) -> str:
        status, _, body = self.call("GET", path_of(name, "containers/main/logs"))
        return str(body["content"]) if status == 200 else ""

    def said(self, name: str) -> dict[str, Any]:
        """What the replica of the group answers on its own address."""
        ip = self.running(name)["ipAddress"]["ip"]
        return until(lambda: ask(ip), f"{name} to answer on {ip}")


def path_of(name: str, action: str = "") -> str:
    return f"resourceGroups/work/{PROVIDER}/containerGroups/{name}" + (f"/{action}" if action else "")


def ask(ip: str) -> dict[str, Any] | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(f"http://{ip}:8000/", timeout=5) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found
    return None


def until(look: Callable[[], T | None], what: str, limit_s: float = LIMIT_S) -> T:
    """Look again and again until there is something. Fails after the limit."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {limit_s:.0f} s for {what}")


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody waits for does not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return re.search(r"^State:\s+[ZX]", status, re.M) is None


@contextlib.contextmanager
def serving(folder: Path, tls: Path, *options: str) -> Iterator[StandIn]:
    """A stand-in whose groups start at once; everything it started ends with the block."""
    made = StandIn(folder, tls, "--start-delay", "0.1", "--settle", "0.1", "--faults", "--grace", "1", *options)
    try:
        made.start()
        yield made
    finally:
        made.close()


def _settled(properties: dict[str, Any]) -> dict[str, Any] | None:
    state = properties["provisioningState"], properties["instanceView"]["state"]
    return properties if state == ("Succeeded", "Running") else None


def _lower(answer: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _decode(raw: bytes) -> Any:
    return json.loads(raw) if raw else None
