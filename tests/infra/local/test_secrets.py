"""No secret of a run gets into what it prints, logs or stores: a whole demo, then every trace of it looked through."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from infra.local.guards import AZURITE
from infra.local.places import DEMO, LOCAL
from tests.infra.local.running import Started, eventually

pytestmark = [
    pytest.mark.verify,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not AZURITE.is_file(), reason="Azurite is not installed; `make setup` installs it"),
]
IN_ENVIRONMENTS = ("REPLICA_TOKEN", "IDENTITY_HEADER", "AUTOSCALER_KEY")
# Written for a person to read, with rights for that person alone; and what Azure itself has to know to start a replica.
KEPT_ON_PURPOSE = (LOCAL / "keys.json", LOCAL / "env", LOCAL / "tls", LOCAL / "data" / "arm")


def secrets_of(process: psutil.Process) -> dict[str, str]:
    """What the parts of a run were given in their environments."""
    found: dict[str, str] = {}
    for part in process.children(recursive=True):
        with suppress(psutil.Error):
            environment = part.environ()
            found |= {name: environment[name] for name in IN_ENVIRONMENTS if environment.get(name)}
    return found


def traces(*more: Path) -> Iterator[Path]:
    for folder in (LOCAL / "logs", LOCAL / "data", DEMO):
        yield from (
            f for f in folder.rglob("*") if f.is_file() and not any(f.is_relative_to(k) for k in KEPT_ON_PURPOSE)
        )
    yield from more


def test_no_trace_of_a_demo_holds_a_secret(tmp_path: Path) -> None:
    started = Started(tmp_path, "demo")
    secrets: dict[str, str] = {}
    try:
        process = psutil.Process(started.process.pid)

        def known() -> bool:
            secrets.update(secrets_of(process))
            return set(secrets) == set(IN_ENVIRONMENTS)

        eventually(known, 90, "the parts run with their secrets")
        keys = json.loads((LOCAL / "keys.json").read_text())
        secrets |= {"master key": keys["master"], "function key": keys["functionKeys"]["default"]}
        eventually(lambda: started.process.poll() is not None, 400, "the demo ends")
    finally:
        started.process.terminate()
        started.process.wait(60)
    looked_at = list(traces(started.log))
    assert any("azurite" in str(f) for f in looked_at), "the tables were looked at"
    assert len(looked_at) > 5
    found = [
        f"{name} in {file}"
        for file in looked_at
        for name, secret in secrets.items()
        if any(form in file.read_bytes() for form in (secret.encode(), base64.b64encode(secret.encode())))
    ]
    assert found == []
