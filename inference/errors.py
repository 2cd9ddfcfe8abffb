"""What can go wrong, by the reaction: refuse one request, or refuse to start."""

from __future__ import annotations

import msgspec

TITLES = {
    400: "Bad request",
    401: "Not authorised",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timed out",
    411: "Length required",
    413: "Body too large",
    415: "Unsupported media type",
    422: "No answer for this input",
    431: "Headers too large",
    500: "Internal error",
    503: "Not now",
    504: "Deadline passed",
}


BROKEN = "The server failed on this request; its log says why."


class BadSetting(Exception):
    """The process cannot start: one sentence on what, where and what to do (exit code 2)."""


class Refused(Exception):
    """One request gets no prediction: an HTTP status and the reason (RFC 9457)."""

    def __init__(self, status: int, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s

    @property
    def title(self) -> str:
        return TITLES.get(self.status, "Refused")

    def body(self) -> bytes:
        """The problem document; `error` repeats the detail because the Open Inference Protocol asks for that member."""
        return msgspec.json.encode(
            {
                "type": "about:blank",
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                "error": self.detail,
            }
        )


def queue_full(retry_after_s: int) -> Refused:
    """What a request is told that met a full queue."""
    return Refused(503, "The queue is full.", retry_after_s=retry_after_s)
