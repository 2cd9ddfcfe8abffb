"""Addresses of operations: 3 kB long and signed, to be followed to the letter, as Azure's are since 2024."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlencode

from infra.local.arm.errors import ArmError

API = "2018-06-01"  # whatever version the request used
CERTIFICATE_BYTES = 1830
SIGNATURE_BYTES = 256
TICKS_TO_1970 = 621_355_968_000_000_000


class OperationUrls:
    """Makes and checks them. The key need not be secret: it only shows that a client changed nothing."""

    def __init__(self, key: bytes = b"stand-in") -> None:
        self._key = key

    def url(self, base: str, subscription: str, location: str, operation: str, now: float) -> str:
        ticks = str(TICKS_TO_1970 + int(now * 1e7))
        query = {"api-version": API, "t": ticks, **self._signature(operation, ticks)}
        return (
            f"{base}/subscriptions/{subscription}/providers/Microsoft.ContainerInstance/locations/{location}"
            f"/operations/{operation}?{urlencode(query)}"
        )

    def check(self, operation: str, query: Mapping[str, str]) -> None:
        """Raises ``ArmError`` for an address that was cut or changed; one without any signature is let through."""
        given = {name: query.get(name, "") for name in ("t", "c", "s", "h")}
        if not any(given.values()):
            return
        wanted = {"t": given["t"], **self._signature(operation, given["t"])}
        if not all(hmac.compare_digest(given[name].encode(), wanted[name].encode()) for name in wanted):
            raise ArmError(
                400,
                "InvalidAsyncOperationUrl",
                "The address of the operation was changed. Follow Azure-AsyncOperation exactly as it was given.",
            )

    def _signature(self, operation: str, ticks: str) -> dict[str, str]:
        seed = hmac.digest(self._key, f"{operation}{ticks}".encode(), "sha256")
        return {
            "c": _text(_stretch(self._key, CERTIFICATE_BYTES)),
            "s": _text(_stretch(seed, SIGNATURE_BYTES)),
            "h": _text(seed),
        }


def _stretch(seed: bytes, length: int) -> bytes:
    return hashlib.shake_256(seed).digest(length)


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
