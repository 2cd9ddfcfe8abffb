"""From what an operator sends to a pin, or to the sentence that says why not."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from msgspec import Meta, Struct, field

from scaler.config import Service
from scaler.model import Pin
from scaler.web.bodies import convert, duration_s, instant
from scaler.web.problems import Problem

DEFAULT_S = 24 * 3600.0  # a pin that says no end ends after a day: the one that is forgotten must not bill for ever
LONGEST_S = 366 * 86_400.0
TEXT_LIMIT = 300
# No control characters, no line breaks, none that turn the direction of writing: what is shown stays one line.
ONE_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$"


Number = Annotated[int, Meta(ge=-(10**9), le=10**9)]


class PinBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """``PUT services/{s}/pin``: one count or a span, until when or for how long, and why."""

    replicas: Number | None = None
    min: Number | None = None
    max: Number | None = None
    until: str | None = None
    duration: str | None = field(name="for", default=None)
    reason: str = ""
    actor: str | None = None


def read_pin(raw: object, *, service: Service, now: float) -> tuple[PinBody, Pin]:
    """The body and the pin that it asks for, still without its actor. Raises `Problem` 422."""
    body = convert({} if raw is None else raw, PinBody, "pin")
    least, most = _span(body, service)
    until = _end(body, now)
    return body, Pin(min=least, max=most, since=now, until=until, reason=line(body.reason, "reason"))


def _span(body: PinBody, service: Service) -> tuple[int, int]:
    if body.replicas is not None and (body.min is not None or body.max is not None):
        raise Problem(422, "bad-pin", "replicas: give either `replicas`, or `min` and `max`, not both.")
    if body.replicas is not None:
        least = most = body.replicas
    elif body.min is not None or body.max is not None:
        most = service.replicas.max if body.max is None else body.max
        least = 0 if body.min is None else body.min
    else:
        raise Problem(422, "bad-pin", 'replicas: missing; give `{"replicas": 3}`, or `{"min": 2, "max": 5}`.')
    if least < 0 or most < 0:
        raise Problem(422, "bad-pin", "replicas: a pin below 0 is not possible; 0 means none at all.")
    if least > most:
        raise Problem(422, "bad-pin", f"min: {least} is above max {most}.")
    if most > service.replicas.max:
        raise Problem(
            422,
            "pin-above-max",
            f"replicas: {most} is above {service.replicas.max}, the most that autoscaler.yaml allows "
            "(replicas.max); a pin cannot go beyond it.",
        )
    return least, most


def _end(body: PinBody, now: float) -> float:
    if body.until is not None and body.duration is not None:
        raise Problem(422, "bad-pin", "until: give either `until` or `for`, not both.")
    if body.until is not None:
        until = instant(body.until, "until")
    else:
        until = now + (DEFAULT_S if body.duration is None else duration_s(body.duration, "for"))
    if until <= now:
        raise Problem(422, "pin-ended", "until: lies in the past, so the pin would never be in force.")
    if until > now + LONGEST_S:
        raise Problem(
            422, "pin-too-long", "until: a pin ends within 366 days; what shall last longer belongs in autoscaler.yaml."
        )
    return until


def line(text: str, what: str) -> str:
    """One line of a person's own words: bounded and printable."""
    text = text.strip()
    if len(text) > TEXT_LIMIT:
        raise Problem(422, "bad-value", f"{what}: at most {TEXT_LIMIT} characters.")
    if not re.fullmatch(ONE_LINE, text):
        raise Problem(422, "bad-value", f"{what}: expected one line of printable characters.")
    return text


def in_force(pin: Pin | None, now: float) -> Pin | None:
    """The pin, unless there is none or it ended."""
    return None if pin is None or (pin.until is not None and pin.until <= now) else pin


def tag(etag: str | None) -> str:
    """The store's ETag as ours: strong and opaque, for Azure's own is weak, which If-Match does not allow."""
    return '"' + hashlib.sha256((etag or "").encode()).hexdigest()[:16] + '"'


def listed(header: str, etag: str | None) -> bool:
    """Whether an If-Match or If-None-Match header names this ETag (or ``*``, which names any that exists)."""
    if etag is None:
        return False
    return header.strip() == "*" or tag(etag) in (part.strip() for part in header.split(","))
