"""Recorded decisions, page by page, as far back as it takes."""

from __future__ import annotations

from typing import Any

from scaler.cli.client import Client
from scaler.cli.pages import progress

PAGE = 1000
MOST_PAGES = 50  # 8 days at a tick every 15 s


def recorded(client: Client, service: str, *, since: str | None, limit: int, changes: bool) -> dict[str, Any]:
    """The newest ``limit`` decisions, or of those only what changed the count."""
    found: list[dict[str, Any]] = []
    pending: dict[str, Any] | None = None
    cursor: str | None = None
    with progress(f"decisions of {service}") as turned:
        for _ in range(MOST_PAGES):
            wanted = PAGE if changes else min(PAGE, limit - len(found))
            page = client.get("services", service, "decisions", since=since, limit=str(wanted), cursor=cursor)
            for decision in page["decisions"]:
                if not changes:
                    found.append(decision)
                elif pending is not None and pending["desired"] != decision["desired"]:
                    found.append(pending)
                pending = decision
            cursor = page["next"]
            turned(len(page["decisions"]))
            if cursor is None or len(found) >= limit:
                break
    if changes and pending is not None and cursor is None and len(found) < limit:
        found.append(pending)  # the oldest of all: what there was to begin with
    return {"service": service, "decisions": found[:limit]}
