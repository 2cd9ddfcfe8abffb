"""No secret of a run gets into what it prints, logs or stores: a whole demo, then every trace of it looked through."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from infra.local.demo.day import SERVICE
from infra.local.places import DEMO, LOCAL, read_ports
from tests.azurite import needs_azurite
from tests.infra.local.running import Started, eventually

pytestmark = pytest.mark.timeout(600)
IN_ENVIRONMENTS = ("REPLICA_TOKEN", "IDENTITY_HEADER", "AUTOSCALER_KEY", "REPLICA_AUTHORITY", "TLS_CERTIFICATE")
ANSWERS = ("services", "services/{s}", "services/{s}/decisions", "services/{s}/explain", "metrics", "health")
BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}")
# Written for a person to read, with rights for that person alone; and what Azure itself has to know to start a replica.
KEPT_ON_PURPOSE = (LOCAL / "keys.json", LOCAL / "env", LOCAL / "tls", LOCAL / "data" / "arm")


def secrets_of(process: psutil.Process) -> dict[str, str]:
    """What the parts of a run were given in their environments."""
    found: dict[str, str] = {}
    for part in process.children(recursive=True):
        with suppress(psutil.Error):
            environment = part.environ()
            found |= {name: environment[name] for name in IN_ENVIRONMENTS if environment.get(name)}
    if pem := found.get("TLS_CERTIFICATE"):
        found["TLS_CERTIFICATE"] = pem.split("\\n")[1]  # of the key, the first line: each replica has another
    return found


def forms(data: bytes, depth: int = 3) -> Iterator[bytes]:
    """The bytes themselves, and what is packed in them: a table keeps a row's columns as base64 of whatever they are,
    so that a secret in the middle of one looks like nothing known."""
    yield data
    if depth == 0:
        return
    for run in BASE64.findall(data):
        with suppress(ValueError):
            yield from forms(base64.b64decode(run + b"=" * (-len(run) % 4)), depth - 1)
    for at in (m.start() for m in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data)):
        with suppress(zlib.error):
            yield from forms(zlib.decompressobj().decompress(data[at:]), depth - 1)


def leaks(data: bytes, secrets: Mapping[str, str]) -> set[str]:
    """The names of the secrets that are in there, however packed."""
    return {name for form in forms(data) for name, secret in secrets.items() if secret.encode() in form}


def asked(base: int, key: str, into: Path) -> None:
    """What the admin API answers, errors too, as a trace like any other."""
    functions = read_ports({"PORT_BASE": str(base)}).functions
    with into.open("ab") as out:
        for path in (*(a.replace("{s}", SERVICE) for a in ANSWERS), "services/none", "services/%ff/explain?at=x"):
            request = urllib.request.Request(
                f"http://127.0.0.1:{functions}/api/{path}", headers={"x-functions-key": key}
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    out.write(answer.read())
            except urllib.error.HTTPError as refused:
                out.write(refused.read())


def traces(*more: Path) -> Iterator[Path]:
    for folder in (LOCAL / "logs", LOCAL / "data", DEMO):
        yield from (
            f for f in folder.rglob("*") if f.is_file() and not any(f.is_relative_to(k) for k in KEPT_ON_PURPOSE)
        )
    yield from (LOCAL / "data" / "arm" / "logs").glob("*.log")  # what replicas write
    yield from more


@pytest.mark.verify
@needs_azurite
def test_no_trace_of_a_demo_holds_a_secret(tmp_path: Path) -> None:
    started = Started(tmp_path, "demo", "--tls")
    secrets: dict[str, str] = {}
    answers = tmp_path / "answers"
    try:
        process = psutil.Process(started.process.pid)

        def known() -> bool:
            secrets.update(secrets_of(process))
            return set(secrets) == set(IN_ENVIRONMENTS)

        eventually(
            known,
            150,
            "the parts run with their secrets",
            besides=lambda: f", but for {set(IN_ENVIRONMENTS) - set(secrets)}",
        )
        keys = json.loads((LOCAL / "keys.json").read_text())
        secrets |= {"master key": keys["master"], "function key": keys["functionKeys"]["default"]}
        eventually(lambda: started.said("the day begins"), 90, "the day begins")
        asked(started.base, keys["functionKeys"]["default"], answers)
        eventually(lambda: started.process.poll() is not None, 400, "the demo ends")
    finally:
        started.process.terminate()
        started.process.wait(60)
    looked_at = list(traces(started.log, answers))
    assert any("azurite" in str(f) for f in looked_at), "the tables were looked at"
    assert any(f.parent == LOCAL / "data" / "arm" / "logs" for f in looked_at), "the replicas' logs were looked at"
    assert len(looked_at) > 5
    assert b'"services"' in answers.read_bytes()
    found = {f"{name} in {file}" for file in looked_at for name in leaks(file.read_bytes(), secrets)}
    assert found == set()


@pytest.mark.parametrize("before", range(4))
def test_a_secret_is_found_however_it_is_packed(before: int) -> None:
    secrets = {"token": "planted-secret-of-some-length", "other": "another-one"}
    row = b"x" * before + b"because: planted-secret-of-some-length, so"
    packed = (row, base64.b64encode(row), base64.b64encode(b"xx" + zlib.compress(row)), zlib.compress(row))
    for data in packed:
        assert leaks(b'{"memory":"' + data + b'"}', secrets) == {"token"}
    assert leaks(base64.b64encode(b"planted-secret of another kind"), secrets) == set()
