"""What an Azure SDK raised, as one of our errors in one line: who did not answer, what it said, how long to wait."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from scaler.errors import Unavailable

LONGEST_WAIT_S = 86_400.0
LONGEST_TEXT = 400


def retry_after_s(error: AzureError) -> float | None:
    """What ``Retry-After`` asks for, in seconds; None where there is none, or none that can be read."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or {}
    if (milliseconds := _number(headers.get("x-ms-retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("Retry-After")
    if (seconds := _number(value)) is not None:
        return seconds
    return _until(value, headers.get("Date")) if value else None


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return min(number, LONGEST_WAIT_S) if math.isfinite(number) and number >= 0 else None


def _until(value: str, now: str | None) -> float | None:
    """A date, counted from the answer's own date: their clock against their clock."""
    try:
        end = parsedate_to_datetime(value)
        start = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return min(max(0.0, (end - start).total_seconds()), LONGEST_WAIT_S)
    except (ValueError, TypeError):
        return None


def code_of(error: AzureError) -> str:
    """The service's own word for it (``SubscriptionRequestsThrottled``), else the status, else the error's class."""
    odata = getattr(error, "error", None)
    for code in (getattr(odata, "code", None), getattr(error, "error_code", None)):
        if code:
            return str(getattr(code, "value", code))
    status = getattr(error, "status_code", None)
    return f"HTTP {status}" if status else type(error).__name__


def told(error: AzureError) -> str:
    """Code and message in one line, short enough for a row."""
    odata = getattr(error, "error", None)
    message = getattr(odata, "message", None) or getattr(error, "message", None) or str(error)
    text = " ".join(str(message).split("\nRequestId:")[0].split())
    code = code_of(error)
    return text[:LONGEST_TEXT] if text.startswith(code) else f"{code}: {text}"[:LONGEST_TEXT]


def unavailable(what: str, error: AzureError, *, role: str) -> Unavailable:
    """``what`` is what was tried, in words. ``role`` is the role whose absence a refusal most likely means."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    hint = ""
    if status == 403:
        hint = f"; give the identity the role {role}, it takes effect within minutes"
    elif isinstance(error, ClientAuthenticationError):
        hint = "; no token was given or accepted: look at the identity of this app and at AZURE_CLIENT_ID"
    return Unavailable(f"{what}: {told(error)}{hint}", retry_after_s=retry_after_s(error))
