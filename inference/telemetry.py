"""OpenTelemetry to Application Insights, only where a connection string is set; nothing is imported otherwise."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from inference.settings import Settings

log = logging.getLogger("inference.telemetry")
SAMPLED = 1


class Telemetry:
    """Spans of sampled requests; without a connection string every call does nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracer: Any = None
        self._trace: Any = None
        self._propagate: Any = None

    def start(self) -> None:
        """Loads the SDK (takes a second: call it beside the event loop)."""
        if not self._settings.connection_string:
            return
        try:
            monitor: Any = import_module("azure.monitor.opentelemetry")
            self._trace = import_module("opentelemetry.trace")
            self._propagate = import_module("opentelemetry.propagate")
        except ImportError as error:
            log.error("telemetry is off: a library is missing", extra={"reason": str(error)})
            return
        try:
            monitor.configure_azure_monitor(
                connection_string=self._settings.connection_string,
                sampling_ratio=self._settings.sampling,
                logger_name="inference",
                enable_live_metrics=False,
                enable_performance_counters=False,
                instrumentation_options={name: {"enabled": False} for name in INSTRUMENTED},
            )
        except ValueError:  # its message may hold the string, which is a secret
            log.error("telemetry is off: APPLICATIONINSIGHTS_CONNECTION_STRING is not valid")
            return
        self._tracer = self._trace.get_tracer("inference")
        log.info("telemetry is on", extra={"sampling": self._settings.sampling})

    def stop(self) -> None:
        """Sends what is still held back."""
        if self._tracer is not None:
            self._trace.get_tracer_provider().shutdown()

    def wants(self, traceparent: bytes) -> bool:
        """Whether a request with this header becomes a span: the caller sampled it, and telemetry is on."""
        if self._tracer is None:
            return False
        parts = traceparent.split(b"-")
        try:
            return len(parts) >= 4 and bool(int(parts[3][:2], 16) & SAMPLED)
        except ValueError:
            return False

    @contextmanager
    def span(self, name: str, headers: dict[str, str]) -> Iterator[None]:
        """A server span around the handling of a request, child of the caller's."""
        if self._tracer is None:
            yield
            return
        parent, kind = self._propagate.extract(headers), self._trace.SpanKind.SERVER
        with self._tracer.start_as_current_span(name, context=parent, kind=kind):
            yield


INSTRUMENTED = ("azure_sdk", "django", "fastapi", "flask", "psycopg2", "requests", "urllib", "urllib3")
