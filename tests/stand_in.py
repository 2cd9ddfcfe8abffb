"""The stand-in for Azure Resource Manager for tests: a process of its own, ended with the block."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import trustme

ROOT = Path(__file__).resolve().parents[1]
SUBSCRIPTION = "00000000-0000-4000-8000-000000000001"
GROUP = "rg-contract"
ROLES = ROOT / "infra" / "app" / "roles.json"  # the roles that Azure is given: the adapters must do with them


class StandIn:
    """Where a running stand-in answers."""

    def __init__(self, folder: Path, ports: dict[str, int], header: str) -> None:
        self.folder = folder
        self.arm = f"https://127.0.0.1:{ports['port']}"
        self.ca = folder / "ca.pem"
        self.identity = {
            "IDENTITY_ENDPOINT": f"http://127.0.0.1:{ports['identity_port']}/msi/token",
            "IDENTITY_HEADER": header,
        }
        self._trust = ssl.create_default_context(cafile=str(self.ca))

    def fault(self, fault: str, **details: Any) -> None:
        """Queue a fault: see ``infra.local.arm.faults``."""
        self._send("POST", json.dumps({"fault": fault, **details}).encode())

    def actions(self) -> set[str]:
        """Every action that requests have needed so far."""
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._trust)
        )
        with opener.open(f"{self.arm}/stand-in/actions", timeout=10) as answer:
            return set(json.load(answer)["value"])

    def mend(self) -> None:
        """No more faults."""
        self._send("DELETE")

    def _send(self, method: str, body: bytes | None = None) -> None:
        request = urllib.request.Request(f"{self.arm}/stand-in/faults", data=body, method=method)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._trust)
        )
        with opener.open(request, timeout=10) as answer:
            assert answer.status in (201, 204)


def missing_stand_in() -> str | None:
    """Why it cannot run here; None if it can."""
    return None if find_spec("infra.local.arm") else "the stand-in for Azure (infra/local/arm) is not in this checkout"


@contextmanager
def start_stand_in(folder: Path, *options: str) -> Iterator[StandIn]:
    """A running stand-in with its data in ``folder``, which starts groups within moments and takes faults."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    header = os.urandom(8).hex()
    command = [
        sys.executable, "-m", "infra.local.arm", "--data", str(folder / "data"), "--port", "0", "--identity-port", "0",
        "--certificate", str(folder / "cert.pem"), "--key", str(folder / "key.pem"), "--faults", *options,
    ]  # fmt: skip
    environment = os.environ | {"IDENTITY_HEADER": header, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the stand-in did not start"
            yield StandIn(folder, json.loads(line), header)
        finally:
            process.terminate()
            process.wait(10)
            # Groups outlive their stand-in, as they would Azure's front: so they are ended by name.
            reap = [sys.executable, "-m", "infra.local.arm", "--data", str(folder / "data"), "--reap"]
            subprocess.run(reap, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
