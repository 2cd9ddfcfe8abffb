"""`GET /metrics`: the same figures as `/stats`, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from inference.handling import authorise
from inference.meter import EDGES_S

if TYPE_CHECKING:
    from prometheus_client import Metric

    from inference.service import Service

COUNTERS = {
    "arrivals_total": ("replica_arrivals", "Requests that arrived, rejected ones included."),
    "completed_total": ("replica_completed", "Requests answered with a prediction."),
    "failed_total": ("replica_failed", "Requests without a prediction for another reason than a full queue."),
    "rejected_total": ("replica_rejected", "Requests refused because the queue was full."),
    "busy_seconds_total": ("replica_busy_seconds", "The integral of requests in flight over time."),
}
GAUGES = {
    "in_flight": ("replica_in_flight", "Requests being computed."),
    "queued": ("replica_queued", "Requests waiting for their batch."),
    "capacity": ("replica_capacity", "Requests that can be computed at once."),
    "cpu": ("replica_cpu_ratio", "Share of the cores of this replica in use."),
    "memory_bytes": ("replica_memory_bytes", "Resident memory."),
}
PHASES = ("starting", "ready", "draining")
EVERY_NTH_EDGE = 4  # of the histogram's edges: the steps of 25 % would be 64 series


class _Figures(Collector):
    """Reads the service at the moment of the scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        said = self._service.stats()
        for key, (name, text) in COUNTERS.items():
            yield CounterMetricFamily(name, text, value=said[key])
        for key, (name, text) in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=said[key])
        phase = GaugeMetricFamily("replica_phase", "1 for the phase the replica is in.", labels=["phase"])
        for word in PHASES:
            phase.add_metric([word], float(word == said["phase"]))
        yield phase
        yield self._latency()
        for key in ("utilization", "memory_used_bytes", "memory_total_bytes"):
            gpu = GaugeMetricFamily(f"replica_gpu_{key}", "As NVML says.", labels=["gpu"])
            for index, figures in enumerate(said["gpu"]):
                gpu.add_metric([str(index)], figures[key])
            yield gpu
        forms = GaugeMetricFamily(
            "replica_batch_seconds", "Time of one batch, measured at warm-up.", labels=["model", "rows", "form"]
        )
        for name, served in self._service.served.items():
            for rows, form in served.model.forms.items():
                forms.add_metric([name, str(rows), form], served.model.cost_s(rows))
        yield forms

    def _latency(self) -> Metric:
        figures, counts, _ = self._service.totals()
        buckets, total = [], 0
        for index, count in enumerate(counts):
            total += count
            if index < len(EDGES_S) and index % EVERY_NTH_EDGE == 0:
                buckets.append((f"{EDGES_S[index]:.6g}", float(total)))
        buckets.append(("+Inf", float(total)))
        latency = HistogramMetricFamily("replica_latency_seconds", "From arrival to answer, of completed requests.")
        latency.add_metric([], buckets, sum_value=figures["latency_sum_s"])
        return latency


async def metrics(service: Service, request: Request) -> Response:
    authorise(service, request)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(service))
    return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})
