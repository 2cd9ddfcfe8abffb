"""Reads what strangers send: bounded, strict JSON, decoded into typed values or refused in one sentence."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from scaler.web.problems import Problem

BODY_LIMIT_BYTES = 64 * 1024
YEAR_3000 = 32_503_680_000.0
_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")
_LEAP_SECOND = re.compile(r"(:[0-5]\d:)60([.,Zz+-])")

T = TypeVar("T")


async def read(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """The body, refused with 413 as soon as it is known to be above the limit."""
    too_big = Problem(
        413, "body-too-large", f"The body is above {limit_bytes // 1024} KiB, the most that is read here."
    )
    declared = request.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit() or len(declared) > 12 or int(declared) > limit_bytes:
        raise too_big
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise too_big
    return bytes(body)


async def read_json(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> Any:
    """The body as JSON. None for an empty one; refused unless it says it is JSON, and is."""
    body = await read(request, limit_bytes)
    if not body.strip():
        return None
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        raise Problem(415, "not-json", "The body must be JSON: send it with `content-type: application/json`.")
    return strict_json(body)


def strict_json(body: bytes) -> Any:
    """JSON as RFC 8259 has it: UTF-8, no NaN, no infinity, no duplicate keys, no lone surrogates."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else f"{error}"
        raise Problem(400, "bad-json", f"The body is not JSON that can be read: {why}.") from error
    return value


def convert(value: Any, kind: type[T], what: str) -> T:
    """``value`` as ``kind``, or a problem 422 that names the place and what was expected."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise Problem(422, "bad-value", f"{what}{place.rstrip('`')}: {message[0].lower()}{message[1:]}.") from error


def duration_s(text: str, what: str) -> float:
    """``2h30m``, ``45s``, ``3d`` as seconds."""
    match = _DURATION.fullmatch(text.strip())
    if not text.strip() or match is None:
        raise Problem(422, "bad-duration", f"{what}: expected a duration like `2h30m`, `45s` or `3d`.")
    days, hours, minutes, seconds = (int(g or 0) for g in match.groups())
    return float(days * 86_400 + hours * 3600 + minutes * 60 + seconds)


def instant(text: str, what: str) -> float:
    """ISO 8601 with an offset (``2026-03-01T14:05:00Z``) as epoch seconds. What lies before 1970 is 1970."""
    expected = f"{what}: expected a time with its offset, like `2026-03-01T14:05:00Z` or `2026-03-01T15:05:00+01:00`."
    # RFC 3339 knows leap seconds, Python does not: they count as the second after.
    text, leaps = _LEAP_SECOND.subn(r"\g<1>59\g<2>", text.strip())
    try:
        moment = datetime.fromisoformat(text)
        at = moment.timestamp() + leaps if moment.tzinfo is not None else None
    except (ValueError, OverflowError) as error:
        raise Problem(422, "bad-time", expected) from error
    if at is None or not _TIME.match(text):
        raise Problem(422, "bad-time", expected)
    return min(max(at, 0.0), YEAR_3000)


def iso(at: float | None) -> str | None:
    """Epoch seconds as the API shows them: UTC, milliseconds, ``Z``."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def query_number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query string within its bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise Problem(422, "bad-query", f"{name}: expected a whole number from {least} to {most}.")
    return int(text)


def query_flag(request: Request, name: str) -> bool:
    """``true`` or ``false`` of the query string; false when it is not given."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise Problem(422, "bad-query", f"{name}: expected true or false.")
    return text == "true"


def query_instant(request: Request, name: str) -> float | None:
    """A time of the query string; None when it is not given. A ``+`` that arrived as a space is mended."""
    text = request.query_params.get(name)
    return None if text is None else instant(text.replace(" ", "+") if "T" in text else text, name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:20]} is too large")
    return value
