"""The host as a process: exit codes, sentences, signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.azurite import identity_endpoint, start_azurite
from tests.infra.functions.serving import write_app

ROOT = Path(__file__).resolve().parents[3]
SOURCE = """
import pathlib, time
began = pathlib.Path(__file__).parent / "began"
ended = began.with_name("ended")

import atexit
atexit.register(began.with_name("goodbye").touch)

@app.route(route="hello")
def hello(req: func.HttpRequest) -> str: return "hello"

@app.route(route="slow")
async def slow(req: func.HttpRequest) -> str:
    began.touch()
    await asyncio.sleep(1.0)
    ended.touch()
    return "done"

@app.route(route="stuck")
def stuck(req: func.HttpRequest) -> str:
    began.touch()
    time.sleep(60)
    return "never"
"""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A started host."""

    popen: subprocess.Popen[bytes]
    log: Path
    url: str

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code after this signal."""
        self.popen.send_signal(number)
        return self.popen.wait(20)


def command(folder: Path, *options: str) -> list[str]:
    keys = str(folder / "keys.json")
    return [sys.executable, "-m", "infra.local.functions", "--app", str(folder), "--keys", keys, *options]


@contextmanager
def started(
    folder: Path, *options: str, app: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """A host on a free port, ended by force if the test has not ended it."""
    log = folder / "log"
    arguments = command(folder, "--port", "0", *options)
    if app is not None:
        arguments[arguments.index("--app") + 1] = str(app)
    with log.open("wb") as err:
        popen = subprocess.Popen(arguments, stderr=err, cwd=ROOT, env={**os.environ, **(env or {})})
    try:
        wait(lambda: "listening on" in log.read_text() or popen.poll() is not None)
        found = re.search(r"listening on (http://\S+)", log.read_text())
        assert found, log.read_text()
        yield Process(popen=popen, log=log, url=found[1])
    finally:
        popen.kill()
        popen.wait()


def wait(condition: object, deadline_s: float = 30.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_functions_end_and_exits_0(tmp_path: Path, number: signal.Signals) -> None:
    write_app(tmp_path, SOURCE)
    with started(tmp_path) as process:
        client = subprocess.Popen(
            [sys.executable, "-c", f"import urllib.request as u; print(u.urlopen('{process.url}/api/slow').read())"],
            stdout=subprocess.PIPE,
        )
        wait((tmp_path / "began").exists)

        assert process.stop(number) == 0
        assert client.communicate(timeout=10)[0] == b"b'done'\n"
        assert (tmp_path / "ended").exists()
        assert "Traceback" not in process.log.read_text()


def test_a_function_that_never_ends_does_not_hold_the_process(tmp_path: Path) -> None:
    write_app(tmp_path, SOURCE)
    with started(tmp_path, "--grace-s", "0.5") as process:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{process.url}/api/stuck", timeout=0.5, trust_env=False)
        wait((tmp_path / "began").exists)

        assert process.stop() == 0


def test_the_access_log_is_off_no_key_is_logged_and_the_end_is_a_clean_one(tmp_path: Path) -> None:
    write_app(tmp_path, SOURCE)
    with started(tmp_path) as process:
        httpx.get(f"{process.url}/api/hello", params={"code": "secret-code"}, trust_env=False)
        process.stop()

        text = process.log.read_text()
    assert (tmp_path / "goodbye").exists()
    assert "secret-code" not in text
    assert "GET /" not in text


def test_a_port_in_use_is_a_sentence_and_exit_2(tmp_path: Path) -> None:
    write_app(tmp_path, SOURCE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(tmp_path, "--port", str(port)), check=False, cwd=ROOT, capture_output=True, text=True, timeout=30
        )

    assert done.returncode == 2
    assert done.stderr.startswith(f"functions: cannot listen on 127.0.0.1 port {port}: Address already in use;")
    assert "--port or FUNCTIONS_PORT" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "keys.json").exists()


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (
            "import no_such_module",
            [],
            "function_app.py line 5: ModuleNotFoundError: No module named 'no_such_module'\n",
        ),
        ("", [], "defines no function"),
        (SOURCE, ["--port", "http"], "'http' is no port; give a number from 0 (any free one) to 65535"),
        (SOURCE, ["--host", "192.0.2.1"], "cannot listen on 192.0.2.1 port 0"),
    ],
)
def test_what_is_wrong_at_the_start_is_a_sentence_and_exit_2(
    tmp_path: Path, source: str, options: list[str], said: str
) -> None:
    write_app(tmp_path, source)

    done = subprocess.run(
        command(tmp_path, "--port", "0", *options), check=False, cwd=ROOT, capture_output=True, text=True, timeout=30
    )

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not (ROOT / "function_app.py").exists(), reason="there is no function_app.py yet")
def test_our_own_app_is_served_and_none_of_its_routes_is_ambiguous(tmp_path: Path) -> None:
    with start_azurite(tmp_path) as azurite, identity_endpoint() as identity:
        env = {
            **identity,
            "SSL_CERT_FILE": str(azurite.ca),
            "AUTOSCALER_TICK_SCHEDULE": "0 0 0 1 1 *",
            "AzureWebJobsStorage__queueServiceUri": azurite.queue,
            "AzureWebJobsStorage__credential": "managedidentity",
        }
        with started(tmp_path, app=ROOT, env=env) as process:
            health = httpx.get(f"{process.url}/api/health", trust_env=False)
            locked = httpx.get(f"{process.url}/api/services", trust_env=False)
            stored = tmp_path / "data" / "__azurite_db_queue__.json"
            wait(lambda: stored.exists() and "aci-autoscaler-wake" in stored.read_text())

            assert process.stop() == 0
            text = process.log.read_text()

    assert health.status_code in {200, 500, 503}
    assert locked.status_code == 401
    assert "both match some path" not in text
    assert "out of reach" not in text
    for name in ("tick", "wake", "read", "change", "alerts", "events", "dashboard", "metrics", "health", "openapi"):
        assert f"  {name}: " in text
