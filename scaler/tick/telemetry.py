"""Each tick as a trace with its steps and as a log record, to Application Insights: OpenTelemetry, where it is wanted.

A tick is a request of its own (so that failed and slow ones are found where one looks for them), its steps are what it
depends on. Spans are made after the tick, from the times it noted: nothing of OpenTelemetry runs within one, and
without a connection string nothing of it is even imported.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scaler.tick.ticked import Ticked, facts, note

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE_NAME = "aci-autoscaler"
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
Exporters = Callable[[], tuple["SpanExporter", "LogRecordExporter"]]
Attribute = str | bool | int | float

log = logging.getLogger("scaler.telemetry")


class Telemetry:
    """Watches ticks. The first one it sees makes the exporters; when that fails, ticks are logged as without it."""

    def __init__(self, exporters: Exporters, deployment_id: str) -> None:
        self._exporters = exporters
        self._deployment_id = deployment_id
        self._sink: _Sink | None = None
        self._broken = False

    def watch(self, ticked: Ticked) -> None:
        """Tell of one tick. Never raises: telemetry that fails stops no tick."""
        try:
            if self._sink is None and not self._broken:
                self._sink = _Sink(*self._exporters(), self._deployment_id)
            if self._sink is not None:
                self._sink.span(ticked)
        except Exception:  # whatever a library does here, scaling goes on
            self._broken = self._sink is None
            log.warning("telemetry does not work", exc_info=True)
        note(ticked)

    async def close(self) -> None:
        """Send what is left."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None


def to_azure_monitor(connection_string: str, client_id: str | None = None) -> Exporters:
    """Exporters for Application Insights; made when they are first needed, for they take half a second to import.
    ``client_id``: of the managed identity that may write there (empty: the system's), None where the string suffices.
    """

    def made() -> tuple[SpanExporter, LogRecordExporter]:
        from azure.monitor.opentelemetry.exporter import (  # noqa: PLC0415
            AzureMonitorLogExporter,
            AzureMonitorTraceExporter,
        )

        options: dict[str, Any] = {"connection_string": connection_string}
        if client_id is not None:
            from azure.identity import ManagedIdentityCredential  # noqa: PLC0415

            options["credential"] = ManagedIdentityCredential(client_id=client_id or None)
        return AzureMonitorTraceExporter(**options), AzureMonitorLogExporter(**options)

    return made


class _Sink:
    """The SDK, set up."""

    def __init__(self, spans: SpanExporter, logs: LogRecordExporter, deployment_id: str) -> None:
        from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        resource = Resource.create({"service.name": SERVICE_NAME, "service.namespace": deployment_id})
        self._tracers = TracerProvider(resource=resource)
        self._tracers.add_span_processor(BatchSpanProcessor(spans))
        self._loggers = LoggerProvider(resource=resource)
        self._loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
        self._tracer = self._tracers.get_tracer(SERVICE_NAME)
        self._handler = _Handler(self._loggers.get_logger(SERVICE_NAME))
        ours = logging.getLogger("scaler")
        ours.addHandler(self._handler)
        ours.propagate = False  # the functions' host would send each record a second time, without its facts

    def span(self, ticked: Ticked) -> None:
        """One tick with its steps."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context  # noqa: PLC0415

        def ns(after_s: float) -> int:
            return int((ticked.at + after_s) * 1e9)

        attributes = flat(facts(ticked))
        tick = self._tracer.start_span(
            f"tick {ticked.service}", kind=SpanKind.SERVER, start_time=ns(0.0), attributes=attributes
        )
        if ticked.outcome.startswith("unavailable"):
            tick.set_status(Status(StatusCode.ERROR, ticked.outcome))
        within = set_span_in_context(tick)
        for step in ticked.stretches:
            span = self._tracer.start_span(step.name, context=within, start_time=ns(step.began_s))
            span.end(ns(step.ended_s))
        tick.end(ns(ticked.seconds))

    def close(self) -> None:
        ours = logging.getLogger("scaler")
        ours.removeHandler(self._handler)
        ours.propagate = True
        self._tracers.shutdown()
        self._loggers.shutdown()


class _Handler(logging.Handler):
    """Log records of ours with their facts as attributes."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        from opentelemetry._logs import SeverityNumber  # noqa: PLC0415

        severity = {logging.INFO: SeverityNumber.INFO, logging.WARNING: SeverityNumber.WARN}
        facts = {key: value for key, value in vars(record).items() if key not in STANDARD}
        error = record.exc_info[1] if record.exc_info else None
        self._logger.emit(
            timestamp=int(record.created * 1e9),
            severity_number=severity.get(record.levelno, SeverityNumber.ERROR),
            severity_text=record.levelname,
            body=record.getMessage(),
            attributes=flat({"logger": record.name} | facts),
            exception=error,
        )


def flat(facts: dict[str, object]) -> dict[str, Attribute]:
    """Values that an attribute can hold; what is nested becomes JSON."""
    return {
        key: value if isinstance(value, Attribute) else json.dumps(value, default=str)
        for key, value in facts.items()
        if value is not None
    }
