"""What a scraper reads: OpenMetrics of every service, taken from the state table at the time of the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from scaler.config import Config
from scaler.ports import Stored
from scaler.tally import START_BOUNDS_S
from scaler.web.pins import in_force
from scaler.web.views import counts, remembered

MEDIA_TYPE = CONTENT_TYPE_LATEST


class _Snapshot:
    """Hands ready families to the exposition; one registry for each scrape, so that nothing outlives it."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(config: Config, stored: list[Stored], now: float) -> bytes:
    """The text of one scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot([*_gauges(config, stored, now), *_counters(stored)]))
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text


def _gauges(config: Config, stored: list[Stored], now: float) -> list[Metric]:
    def gauge(name: str, help_text: str, unit: str = "", labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"aci_autoscaler_{name}", help_text, labels=("service", *labels), unit=unit)

    desired = gauge("desired_replicas", "Replicas that the last decision calls for.")
    bound = gauge("bound_replicas", "Least and most replicas of the configuration.", labels=("bound",))
    replicas = gauge("replicas", "Replicas by what they are doing.", labels=("phase",))
    in_flight = gauge("in_flight", "Requests being computed, the mean of the last window.")
    queued = gauge("queued", "Requests that wait.")
    utilization = gauge("utilization_ratio", "Share of the capacity of ready replicas that is in use.", unit="ratio")
    pinned = gauge("pinned", "1 while a pin is in force.")
    off = gauge("off", "1 while the schedule has the service off.")
    age = gauge("tick_age_seconds", "Time since the last tick that was saved.", unit="seconds")
    conditions = gauge("conditions", "Conditions that hold now, by name.", labels=("condition",))
    for s in stored:
        memory, name, bounds = remembered(s), s.service, config.services[s.service].replicas
        bound.add_metric([name, "min"], bounds.min)
        bound.add_metric([name, "max"], bounds.max)
        for phase, count in counts(s.replicas).items():
            replicas.add_metric([name, phase], count)
        pinned.add_metric([name], in_force(s.pin, now) is not None)
        if s.row is not None:
            desired.add_metric([name], s.row.desired)
            off.add_metric([name], s.row.off)
            age.add_metric([name], max(0.0, now - s.row.at))
        seen = memory.observation
        for family, value in (
            (in_flight, seen.in_flight if seen else None),
            (queued, seen.queued if seen else None),
            (utilization, seen.utilization if seen else None),
        ):
            if value is not None:  # not known is not zero: the series has a gap then
                family.add_metric([name], value)
        held: dict[str, int] = {}
        for condition in memory.conditions:
            held[condition.name] = held.get(condition.name, 0) + 1
        for condition_name, count in held.items():
            conditions.add_metric([name, condition_name], count)
    return [desired, bound, replicas, in_flight, queued, utilization, pinned, off, age, conditions, *_money(stored)]


def _money(stored: list[Stored]) -> list[Metric]:
    """What is charged, in the currency that the label names; nothing where nobody knows what a replica costs."""
    labels = ("service", "currency")
    spent = GaugeMetricFamily("aci_autoscaler_spent", "Spent so far.", labels=(*labels, "period"), unit="currency")
    coming = GaugeMetricFamily(
        "aci_autoscaler_spend_forecast", "What the month is forecast to come to.", labels=labels, unit="currency"
    )
    budget = GaugeMetricFamily("aci_autoscaler_budget", "The limits.", labels=(*labels, "period"), unit="currency")
    for s in stored:
        decision = remembered(s).decision
        if decision is None or decision.cost is None:
            continue
        cost, who = decision.cost, [s.service, decision.cost.currency]
        spent.add_metric([*who, "day"], cost.today)
        spent.add_metric([*who, "month"], cost.month)
        coming.add_metric(who, cost.month_forecast)
        for period, limit in (("day", cost.daily), ("month", cost.monthly)):
            if limit is not None:
                budget.add_metric([*who, period], limit)
    return [spent, coming, budget]


def _counters(stored: list[Stored]) -> list[Metric]:
    def counter(name: str, help_text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"aci_autoscaler_{name}", help_text, labels=("service", *labels))

    held = counter("held_requests", "Requests that met no ready replica and were held.")
    expired = counter("expired_requests", "Held requests that met the hold limit.")
    refused = counter("refused_off_hours_requests", "Requests refused because the schedule had the service off.")
    for s in stored:
        if s.front is not None:
            held.add_metric([s.service], s.front.arrivals_total)
            expired.add_metric([s.service], s.front.expired_total)
            refused.add_metric([s.service], s.front.refused_off_hours_total)
    return [held, expired, refused, *_tallies(stored, counter)]


def _tallies(stored: list[Stored], counter: Callable[..., CounterMetricFamily]) -> list[Metric]:
    """What the ticks counted. The calls that a tick makes after its save are in the next one's."""
    ticks = counter("ticks", "Ticks that were saved.")
    decisions = counter("decisions", "Decisions by what limited them; `demand` where nothing did.", "reason")
    scalings = counter("scalings", "Decisions that changed the count.", "direction")
    calls = counter("api_calls", "Calls by what was asked and how it ended.", "kind", "outcome")
    arrivals = counter("arrivals", "Requests that came in, held and rejected ones included.")
    late = counter("late_requests_estimated", "Requests that came while the queue took longer than slo_wait_s.")
    replica_s = counter("replica_seconds", "Time of replicas, ready, starting and draining.")
    starts = HistogramMetricFamily(
        "aci_autoscaler_cold_start_seconds", "From asking to ready.", labels=("service",), unit="seconds"
    )
    for s in stored:
        if (tally := remembered(s).tally) is None:
            continue
        name = s.service
        ticks.add_metric([name], tally.ticks)
        for reason, count in tally.decisions.items():
            decisions.add_metric([name, reason], count)
        scalings.add_metric([name, "out"], tally.raised)
        scalings.add_metric([name, "in"], tally.lowered)
        for key, count in tally.calls.items():
            calls.add_metric([name, *key.split(" ", 1)], count)
        arrivals.add_metric([name], tally.arrivals)
        late.add_metric([name], tally.late)
        replica_s.add_metric([name], tally.replica_s)
        bounds = [*(f"{bound:g}" for bound in START_BOUNDS_S), "+Inf"]
        starts.add_metric([name], list(zip(bounds, accumulate(tally.starts), strict=True)), tally.starts_s)
    return [ticks, decisions, scalings, calls, arrivals, late, replica_s, starts]
