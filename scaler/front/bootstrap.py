"""Envoy's bootstrap as a plain value: what comes in, where it is sent, and when it is sent again."""

from __future__ import annotations

import re

from scaler.front.clusters import clusters
from scaler.front.layout import (
    PROBLEM,
    RETRY_HEADER,
    SERVICE_HEADER,
    STARTED_HEADER,
    STREAM_HEADER,
    Json,
    Layout,
    check,
    seconds,
    socket,
)

RESERVED = "/+(drain|stats|metrics)([/;%].*)?"  # a replica's own doors, whoever asks
PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    413: "Content Too Large",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def bootstrap(layout: Layout) -> Json:
    """The bootstrap, ready for ``json.dumps`` and ``envoy -c``. Raises ``BadSetting``."""
    check(layout)
    return {
        "node": {"id": "front", "cluster": "aci-autoscaler"},
        "admin": {"address": socket(layout.admin)},
        "static_resources": {"listeners": [_listener(layout)], "clusters": clusters(layout)},
        "overload_manager": _overload(layout),
    }


def _overload(layout: Layout) -> Json:
    """Held bodies live in Envoy's memory: near its limit new requests get 503, before the kernel ends everything."""
    heap = "envoy.resource_monitors.fixed_heap"
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    stop = {"name": heap, "threshold": {"value": 0.95}}
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": heap,
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": layout.heap_limit_bytes,
                },
            },
            {
                "name": connections,
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3."
                    "DownstreamConnectionsConfig",
                    "max_active_downstream_connections": layout.connection_limit,
                },
            },
        ],
        "actions": [{"name": "envoy.overload_actions.stop_accepting_requests", "triggers": [stop]}],
    }


# --- what comes in -------------------------------------------------------------------------------------------------


def _listener(layout: Layout) -> Json:
    manager = "envoy.filters.network.http_connection_manager"
    chain: Json = {"filters": [{"name": manager, "typed_config": _connection_manager(layout)}]}
    if layout.certificate is not None:
        chain["transport_socket"] = _tls(layout.certificate)
    return {
        "name": "front",
        "address": socket(layout.listen),
        "per_connection_buffer_limit_bytes": 2**16,
        "filter_chains": [chain],
    }


def _tls(certificate: str) -> Json:
    """TLS 1.2 and later, HTTP/2 where the client wants it. Key and chain lie in one file."""
    tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    file = {"filename": certificate}
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificates": [{"certificate_chain": file, "private_key": file}],
        "alpn_protocols": ["h2", "http/1.1"],
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": tls, "common_tls_context": common}}


def _connection_manager(layout: Layout) -> Json:
    longest_s = max(layout.services.values()) + layout.request_timeout_s
    package = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    manager: Json = {
        "@type": f"{package}.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {
            "name": "services",
            "virtual_hosts": _virtual_hosts(layout),
            # Our own headers come from Envoy or from the hold alone, and stay between them.
            "response_headers_to_remove": [RETRY_HEADER, "x-envoy-ratelimited"],
        },
        "http_filters": _filters(layout),
        # One spelling for each path, before any route looks at it: nothing may slip past the reserved ones.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        # Nobody outside may steer retries or time-outs by x-envoy-* headers, whatever address he comes from.
        "use_remote_address": True,
        "internal_address_config": {"unix_sockets": False},
        "common_http_protocol_options": {"idle_timeout": "300s", "headers_with_underscores_action": "ALLOW"},
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": next(iter(layout.services))},
        "http2_protocol_options": {"max_concurrent_streams": 1000},
        "stream_idle_timeout": seconds(longest_s + 30),
        "request_headers_timeout": "30s",
        "request_timeout": "300s",  # to send the whole request
        "delayed_close_timeout": "1s",  # time to read a 413 while still sending
        "server_header_transformation": "PASS_THROUGH",
        "local_reply_config": _local_replies(),
    }
    if layout.access_log is not None:
        log = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
        manager["access_log"] = [{"name": "file", "typed_config": {"@type": log, "path": layout.access_log}}]
    return manager


def _filters(layout: Layout) -> list[Json]:
    """The whole body is taken in first: 413 before a replica sees anything, and every retry has all of it."""
    return [
        {
            "name": "envoy.filters.http.buffer",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
                "max_request_bytes": layout.body_limit_bytes,
            },
        },
        {
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "suppress_envoy_headers": True,
            },
        },
    ]


def _local_replies() -> Json:
    """Whatever Envoy itself answers is a problem document too."""

    def mapper(code: int, phrase: str) -> Json:
        reply: Json = {
            "filter": {"status_code_filter": {"comparison": {"op": "EQ", "value": _runtime(code)}}},
            "body_format_override": _problem(phrase),
        }
        if code == 503:
            reply["headers_to_add"] = [{"header": {"key": "retry-after", "value": "5"}}]
        return reply

    return {
        "mappers": [mapper(code, phrase) for code, phrase in PHRASES.items()],
        "body_format": _problem("The front could not answer"),
    }


def _problem(title: str) -> Json:
    return {
        "content_type": PROBLEM,
        "json_format": {
            "type": "about:blank",
            "title": title,
            "status": "%RESPONSE_CODE%",
            "detail": "%LOCAL_REPLY_BODY%",
        },
    }


def _runtime(value: int) -> Json:
    return {"default_value": value, "runtime_key": f"front.status_{value}"}


# --- where it goes -------------------------------------------------------------------------------------------------


def _virtual_hosts(layout: Layout) -> list[Json]:
    """By host name ``iris`` or ``iris.<anything>``; else by path ``/iris/…``; else the first service."""
    hosts = [
        _virtual_host(layout, name, [name, f"{name}.*", f"{name}:*"], [_route(layout, name, {"prefix": "/"})])
        for name in layout.services
    ]
    routes = [route for name in layout.services for route in _by_path(layout, name)]
    first = next(iter(layout.services))
    return [*hosts, _virtual_host(layout, "*", ["*"], [*routes, _route(layout, first, {"prefix": "/"})])]


def _virtual_host(layout: Layout, name: str, domains: list[str], routes: list[Json]) -> Json:
    return {
        "name": name,
        "domains": domains,
        "routes": [_refusal(RESERVED), *routes],
        "include_request_attempt_count": True,
        "request_body_buffer_limit": layout.body_limit_bytes + 2**16,
    }


def _by_path(layout: Layout, name: str) -> list[Json]:
    prefix = f"/{name}/"
    route = _route(layout, name, {"prefix": prefix})
    route["route"]["prefix_rewrite"] = "/"
    return [_refusal(f"/{re.escape(name)}{RESERVED}"), route]


def _refusal(regex: str) -> Json:
    detail = "There is nothing here for requests from outside."
    return {
        "match": {"safe_regex": {"regex": f"(?i){regex}"}},
        "direct_response": {"status": 404, "body": {"inline_string": detail}},
    }


def _route(layout: Layout, name: str, match: Json) -> Json:
    return {
        "match": match,
        "request_headers_to_add": [
            _overwrite(SERVICE_HEADER, name),
            _overwrite(STREAM_HEADER, "%STREAM_ID%"),
            _overwrite(STARTED_HEADER, "%START_TIME(%s.%3f)%"),
        ],
        "route": {
            "cluster": name,
            "timeout": seconds(layout.services[name] + layout.request_timeout_s),
            "retry_policy": _retries(),
        },
    }


def _overwrite(header: str, value: str) -> Json:
    return {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _retries() -> Json:
    """After each failure the next try goes to the other side: from a replica to the hold, from the hold to a replica.

    So the hold, which sees every failure, is the one place that decides whether and when to try again. The number here
    only has to be larger than what the hold allows; the time-out of the route ends everything.
    """
    return {
        "retry_on": "connect-failure,refused-stream,reset,retriable-headers,retriable-status-codes",
        "retriable_status_codes": [503],
        "retriable_headers": [{"name": RETRY_HEADER, "present_match": True}],
        "num_retries": 10_000,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.25s"},
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3."
                "PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
