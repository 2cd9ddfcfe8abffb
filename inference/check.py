"""The health check of the image: asks the replica of this container, with the standard library only."""

from __future__ import annotations

import http.client
import ssl

from inference.settings import Settings

ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def check(settings: Settings, timeout_s: float = 3.0) -> int:
    """0 if `/healthz` answers 200, else 1."""
    address = ANY.get(settings.host, settings.host)
    connection = http.client.HTTPConnection(address, settings.port, timeout=timeout_s)
    if settings.certificate:  # nothing is sent that may not be heard, so it need not prove who it is to itself
        unchecked = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(address, settings.port, timeout=timeout_s, context=unchecked)
    try:
        connection.request("GET", "/healthz")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()
