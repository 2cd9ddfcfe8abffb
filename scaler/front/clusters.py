"""The clusters of Envoy's bootstrap: who answers requests.

Cluster ``<service>/replicas`` is filled by discovery, ``/hold`` is discovery's own port, and ``<service>`` is the
aggregate of the two: Envoy takes the first that has a healthy host. The hold is a cluster of its own, not a second
priority in the EDS answer, so that outlier detection can eject every replica but never the hold, and so that a
discovery that restarts is retried instead of giving "no healthy upstream".
"""

from __future__ import annotations

from scaler.authority import name_of_service
from scaler.front.endpoints import BY_TLS
from scaler.front.layout import DISCOVERY, HOLD, POLL_S, Address, Json, Layout, seconds, socket

HEALTH_PATH = "/readyz"
UNLIMITED = 1_000_000_000


def clusters(layout: Layout) -> list[Json]:
    """All of them."""
    fixed = [_static(DISCOVERY, layout.discovery), _static(HOLD, layout.discovery)]
    return fixed + [
        cluster for name in layout.services for cluster in (_replicas(layout, name), _aggregate(layout, name))
    ]


def _aggregate(layout: Layout, name: str) -> Json:
    aggregate = "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig"
    members = [f"{name}/replicas", HOLD] if layout.hold else [f"{name}/replicas"]
    return {
        "name": name,
        "connect_timeout": "2s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {"@type": aggregate, "clusters": members},
        },
        "circuit_breakers": _breakers(),
    }


def _replicas(layout: Layout, name: str) -> Json:
    cluster: Json = {
        "name": f"{name}/replicas",
        "type": "EDS",
        "connect_timeout": "2s",
        "eds_cluster_config": {"service_name": name, "eds_config": _eds(layout)},
        "load_balancing_policy": _least_request(),
        # An ejected replica gets nothing, ever; and who is ejected or healthy again is so at once, not a second later.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "outlier_detection": _outliers(),
        "health_checks": [_health_check(name)],
        "ignore_health_on_host_removal": True,  # who is taken from the list is gone from it, healthy or not
        "close_connections_on_host_health_failure": True,  # what it had in hand is tried elsewhere
        "circuit_breakers": _breakers(),
        "typed_extension_protocol_options": _http(idle_s=4),
    }
    if layout.trusted is not None:
        by_tls = _tls(layout.trusted, name_of_service(name))
        cluster["transport_socket_matches"] = [{"name": "tls", "match": BY_TLS, "transport_socket": by_tls}]
    return cluster


def _tls(trusted: str, expected: str) -> Json:
    """Of replicas that serve TLS, by their metadata: requests go to who has a certificate by this authority and with
    this name; health checks too."""
    tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "validation_context": {
            "trusted_ca": {"inline_string": trusted},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": expected}}],
        },
    }
    socket_config = {"@type": tls, "common_tls_context": common, "sni": expected}
    return {"name": "envoy.transport_sockets.tls", "typed_config": socket_config}


def _eds(layout: Layout) -> Json:
    return {
        "resource_api_version": "V3",
        "initial_fetch_timeout": "3s",  # then Envoy listens all the same, and holds
        "api_config_source": {
            "api_type": "REST",
            "transport_api_version": "V3",
            "cluster_names": [DISCOVERY],
            "refresh_delay": seconds(layout.refresh_s),
            "request_timeout": seconds(POLL_S + 5),
        },
    }


def _least_request() -> Json:
    """All replicas are looked at, not two of them: with some hundred at most that costs little, and a request sent to a
    full one while another is idle costs a retry."""
    least = "type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
    policy = {
        "name": "envoy.load_balancing_policies.least_request",
        "typed_config": {"@type": least, "selection_method": "FULL_SCAN"},
    }
    return {"policies": [{"typed_extension_config": policy}]}


def _outliers() -> Json:
    """Ejected is who does not answer at all, up to the last one: then the hold takes over.

    Not who answers 5xx: a request that no replica can compute, sent again and again, would eject them all. A replica
    that fails much more often than the others is ejected by its success rate, where there are enough to compare.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 1,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 100,
        "interval": "0.5s",
        "base_ejection_time": "1s",
        "max_ejection_time": "5s",
        "max_ejection_percent": 100,
    }


def _health_check(name: str) -> Json:
    """Whether anybody answers, whatever the answer: readiness is the tick's business, and comes as the list.

    It finds who hangs (three times 5 s without an answer), and keeps who is dead from being tried again and again.
    """
    return {
        "http_health_check": {"host": name, "path": HEALTH_PATH, "expected_statuses": [{"start": 100, "end": 600}]},
        "timeout": "5s",
        "interval": "2s",
        "unhealthy_interval": "1s",
        "no_traffic_interval": "2s",
        "no_traffic_healthy_interval": "2s",
        "healthy_threshold": 1,
        "unhealthy_threshold": 3,
    }


def _static(name: str, address: Address) -> Json:
    endpoint = {"endpoint": {"address": socket(address)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": _breakers(),
        "typed_extension_protocol_options": _http(idle_s=30),
    }


def _breakers() -> Json:
    """Envoy's defaults (3 retries, 1024 requests at once) would break the release of what is held."""
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(limits, UNLIMITED)]}


def _http(idle_s: float) -> Json:
    """``idle_s`` is below the other side's keep-alive (5 s in a plain uvicorn), so that Envoy closes first."""
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": options,
            "common_http_protocol_options": {"idle_timeout": seconds(idle_s)},
            "explicit_http_config": {"http_protocol_options": {}},
        }
    }
