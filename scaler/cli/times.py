"""Times as people type them."""

from __future__ import annotations

import re
from datetime import datetime

from scaler.errors import BadSetting

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


def instant_text(text: str) -> str:
    """ISO 8601 with an offset: ``14:05`` means today, and a time without an offset means this machine's time zone."""
    try:
        if match := _CLOCK.fullmatch(text.strip()):
            hour, minute, second = (int(g or 0) for g in match.groups())
            moment = datetime.now().astimezone().replace(hour=hour, minute=minute, second=second, microsecond=0)
        else:
            moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise BadSetting(f"--at: {text!r} is no time; write 14:05, or 2026-03-01T14:05:00+01:00") from error
    return (moment if moment.tzinfo else moment.astimezone()).isoformat()
