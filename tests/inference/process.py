"""A real replica process for tests: started on a free port, asked over sockets, ended with the test."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 45.0
INHERITED = {"PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}


def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of `condition`, polled; fails with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError(f"not within {deadline_s} s: {what}")


def read_answer(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One whole answer with a content-length from a raw connection: status, headers in small letters, body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            raise ConnectionResetError(f"closed after {head!r}")
        head += byte
    first, *lines = head.decode().split("\r\n")[:-2]
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    body = b""
    while len(body) < int(headers.get("content-length", 0)):
        body += client.recv(int(headers["content-length"]) - len(body))
    return int(first.split()[1]), headers, body


class Replica:
    """One `python -m inference`."""

    def __init__(self, *command: str, **environment: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if k in INHERITED}
        env = (
            inherited
            | {"HOST": "127.0.0.1", "PORT": "0", "REPLICA": "r-1", "THREADS": "1", "TUNE_S": "1"}
            | environment
        )
        self.model_path = env.get("MODEL_PATH", "")
        words = command or (sys.executable, "-m", "inference")
        self.process = subprocess.Popen(words, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = 0

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            self.lines.put(line)
        self.process.stderr.close()
        self.lines.put(None)

    def listening(self) -> Replica:
        """Waits until it says where it listens."""
        while (line := self.lines.get(timeout=DEADLINE_S)) is not None:
            if '"message":"listening"' in line:
                self.port = json.loads(line)["port"]
                return self
        raise AssertionError("".join(self.log))

    def ready(self) -> Replica:
        self.listening()
        until(lambda: self.get("/readyz")[0] == 200, "ready")
        return self

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in small letters, and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        status, _, body = self.ask("GET", path, headers=headers)
        return status, json.loads(body)

    def predict(self, data: Any, path: str = "/predict") -> tuple[int, Any]:
        status, _, body = self.ask("POST", path, json.dumps({"data": data}).encode())
        return status, json.loads(body)

    def connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal and waits; the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
