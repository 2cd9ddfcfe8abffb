"""The health check of the image: asks the replica of this container, with the standard library only."""

from __future__ import annotations

import http.client

from inference.settings import Settings

ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def check(settings: Settings, timeout_s: float = 3.0) -> int:
    """0 if `/healthz` answers 200, else 1."""
    connection = http.client.HTTPConnection(ANY.get(settings.host, settings.host), settings.port, timeout=timeout_s)
    try:
        connection.request("GET", "/healthz")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()
