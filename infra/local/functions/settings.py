"""``host.json`` and application settings, read once, or one sentence that says what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.functions.errors import StartError
from infra.local.functions.schedule import parse_time_span

REFERENCE = re.compile(r"%([^%]*)%")
HOST_VERSION = "2.0"
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """``extensions.queues`` of host.json. Azure's default for the longest pause between two looks is 60 s; on one
    machine a look costs nothing, so it is 2 s here."""

    max_polling_interval_s: float = 2.0
    visibility_timeout_s: float = 0.0  # a message whose function failed comes back after this
    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    is_base64: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What host.json says, as far as this host acts on it."""

    route_prefix: str = "api"
    function_timeout_s: float | None = 1800.0  # None: as long as it takes
    max_body_bytes: int = 100 * MEBIBYTE
    queues: QueueSettings = field(default_factory=QueueSettings)


def load_host_settings(app_folder: Path, env: Mapping[str, str]) -> HostSettings:
    """Read ``host.json`` beside function_app.py. Raises StartError with file and key when it is missing or wrong."""
    path = app_folder / "host.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StartError(f'{path.name} is missing in {app_folder}: write one, at least {{"version": "2.0"}}') from error
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{path.name} in {app_folder} cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise StartError(f"{path.name} line {error.lineno}: not JSON: {error.msg}") from error
    document = _Document(raw, "")
    if document.text("version", "") != HOST_VERSION:
        raise StartError(f'host.json: version: expected "{HOST_VERSION}", the only version of this schema')
    extensions = document.inner("extensions")
    return HostSettings(
        route_prefix=extensions.inner("http").text("routePrefix", "api").strip("/"),
        function_timeout_s=_function_timeout_s(document),
        max_body_bytes=_max_body_bytes(env),
        queues=_queue_settings(extensions.inner("queues")),
    )


def resolve(text: str, env: Mapping[str, str], where: str) -> str:
    """Replace every ``%NAME%`` by the application setting NAME; raises StartError naming the one that is missing."""

    def setting(match: re.Match[str]) -> str:
        if match[1] not in env:
            raise StartError(f"{where}: the setting {match[1]} is missing; set it in the environment")
        return env[match[1]]

    return REFERENCE.sub(setting, text)


def is_disabled(function: str, env: Mapping[str, str]) -> bool:
    """Whether ``AzureWebJobs.<function>.Disabled`` (on Linux also with underscores) is set."""
    names = (f"AzureWebJobs.{function}.Disabled", f"AzureWebJobs_{function}_Disabled")
    return any(env.get(name, "").lower() in {"1", "true"} for name in names)


class _Document:
    """An object of host.json that knows its path, so that errors can name it."""

    def __init__(self, raw: Any, path: str) -> None:
        if not isinstance(raw, dict):
            raise StartError(f"host.json: {path or 'the file'}: expected an object")
        self._raw: dict[str, Any] = raw
        self._path = path

    def inner(self, key: str) -> _Document:
        return _Document(self._raw.get(key, {}), self._at(key))

    def text(self, key: str, default: str) -> str:
        value = self._raw.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, f"expected a string, got {json.dumps(value)}")
        return value

    def integer(self, key: str, default: int, least: int, most: int) -> int:
        value = self._raw.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(key, f"expected a whole number from {least} to {most}, got {json.dumps(value)}")
        return value

    def span_s(self, key: str, default_s: float) -> float:
        if key not in self._raw:
            return default_s
        text = self.text(key, "")
        span_s = parse_time_span(text)
        if span_s is None or span_s < 0:
            raise self.wrong(key, f'expected a time span like "00:00:02", got {json.dumps(text)}')
        return span_s

    def wrong(self, key: str, problem: str) -> StartError:
        return StartError(f"host.json: {self._at(key)}: {problem}")

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key


def _function_timeout_s(document: _Document) -> float | None:
    text = document.text("functionTimeout", "00:30:00")
    if text == "-1":
        return None
    span_s = parse_time_span(text)
    if span_s is None or span_s < 1:
        raise document.wrong("functionTimeout", f'expected "hh:mm:ss" or "-1" for no limit, got {json.dumps(text)}')
    return span_s


def _queue_settings(queues: _Document) -> QueueSettings:
    batch_size = queues.integer("batchSize", 16, 1, 32)
    encoding = queues.text("messageEncoding", "base64").lower()
    if encoding not in {"base64", "none"}:
        raise queues.wrong("messageEncoding", 'expected "base64" or "none"')
    return QueueSettings(
        max_polling_interval_s=max(0.1, queues.span_s("maxPollingInterval", 2.0)),
        visibility_timeout_s=queues.span_s("visibilityTimeout", 0.0),
        batch_size=batch_size,
        new_batch_threshold=queues.integer("newBatchThreshold", batch_size // 2, 0, 1000),
        max_dequeue_count=queues.integer("maxDequeueCount", 5, 1, 100_000),
        is_base64=encoding == "base64",
    )


def _max_body_bytes(env: Mapping[str, str]) -> int:
    text = env.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", str(100 * MEBIBYTE))
    if not text.isdecimal():
        raise StartError(f"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: expected a number of bytes, got {text!r}")
    return int(text)
