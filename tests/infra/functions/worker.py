"""Microsoft's own Python worker core (azure-functions-runtime) as a judge: what it makes of an app and of a call.

Run as a program in a process of its own, for the library keeps one app per process: jobs come as JSON on standard
input, verdicts leave as JSON on standard output. A job is ``{"app": folder, "calls": [...]}``, a call a ``Call``.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypedDict

ROOT = Path(__file__).resolve().parents[3]


class Call(TypedDict, total=False):
    """One call: an ``http`` request (method, url, headers, query, route, body as latin-1), a ``timer`` (past_due) or a
    ``queue`` message (body, metadata)."""

    function: str
    kind: str
    method: str
    url: str
    headers: dict[str, str]
    query: dict[str, str]
    route: dict[str, str]
    body: str
    past_due: bool
    metadata: dict[str, Any]


class Said(SimpleNamespace):
    """Any message of the worker's protocol, with its fields; the constants are those of its enumerations."""

    Failure = 0
    Success = 1
    undefined = 0
    out = 1
    inout = 2


class Protocol:
    """Stands in for the generated protocol module: every message is a ``Said``."""

    def __getattr__(self, name: str) -> type[Said]:
        return Said


def judge(jobs: Sequence[Mapping[str, Any]], env: Mapping[str, str]) -> list[dict[str, Any]]:
    """The verdicts on these jobs: ``{"error": …, "functions": […], "answers": […]}`` each."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.infra.functions.worker"],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=50,
        cwd=ROOT,
        env=dict(env),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdicts: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return verdicts


async def _judge(job: Mapping[str, Any]) -> dict[str, Any]:
    from azure_functions_runtime import handle_event  # noqa: PLC0415 - only this process has it loaded

    folder = job["app"]
    sys.modules.pop("function_app", None)
    sys.path.insert(0, folder)
    request = SimpleNamespace(
        request=SimpleNamespace(worker_init_request=SimpleNamespace(capabilities={}, function_app_directory=folder)),
        properties={"host": "127.0.0.1", "protos": Protocol()},
    )
    try:
        response = await handle_event.worker_init_request(request)
        if response.result.status != Said.Success:
            return {"error": response.result.exception.message, "functions": [], "answers": []}
        names = [metadata.name for metadata in handle_event._metadata_result or []]
        return {"error": None, "functions": names, "answers": [await _answer(call) for call in job.get("calls", [])]}
    finally:
        sys.path.remove(folder)


async def _answer(call: Call) -> dict[str, Any]:
    from azure_functions_runtime import native_invocation  # noqa: PLC0415

    name, datum, metadata = _input(call)
    function_id = str(uuid.uuid5(uuid.NAMESPACE_OID, call["function"]))
    ok, returned, outputs, error, _ = await native_invocation.invocation_request_native(
        str(uuid.uuid4()), function_id, [(name, datum)], metadata
    )
    return {"ok": ok, "error": error, "returned": _plain(returned), "outputs": {n: _plain(d) for n, d in outputs}}


def _input(call: Call) -> tuple[str, Any, dict[str, Any]]:
    from azure_functions_runtime.bindings.datumdef import Datum  # noqa: PLC0415

    def texts(values: Mapping[str, str]) -> dict[str, Any]:
        return {key: Datum(value, "string") for key, value in values.items()}

    match call["kind"]:
        case "http":
            parts = {
                **texts({"method": call["method"], "url": call["url"]}),
                "headers": texts(call["headers"]),
                "query": texts(call["query"]),
                "params": texts(call["route"]),
                "body": Datum(call["body"].encode("latin-1"), "bytes"),
            }
            return "req", Datum(parts, "http"), {}
        case "timer":
            return "t", Datum(json.dumps({"IsPastDue": call["past_due"], "ScheduleStatus": None}), "json"), {}
        case _:
            metadata = {key: Datum(json.dumps(value), "json") for key, value in call["metadata"].items()}
            return "m", Datum(call["body"], "string"), metadata


def _plain(datum: Any) -> Any:
    """A datum as JSON carries it."""
    if datum is None:
        return None
    value = datum.value
    if datum.type != "http":
        return {"type": datum.type, "value": value.decode("latin-1") if isinstance(value, bytes) else value}
    return {
        "type": "http",
        "status": value["status_code"].value,
        "headers": {name.lower(): text.value for name, text in value["headers"].items()},
        "cookies": [morsel.OutputString() for cookie in value["cookies"] or [] for morsel in cookie.values()],
        "body": value["body"].value.decode("latin-1"),
    }


async def _main() -> None:
    verdicts = [await _judge(job) for job in json.load(sys.stdin)]
    print(json.dumps(verdicts))


if __name__ == "__main__":
    asyncio.run(_main())
