"""Spans to Application Insights: told to an ingestion endpoint on this machine by the real SDK."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from inference.settings import Settings
from inference.telemetry import Telemetry
from tests.inference.process import Replica, until

pytest.importorskip("azure.monitor.opentelemetry", reason="azure-monitor-opentelemetry is not installed")
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FLOWER = b'{"data":[[5.1,3.5,1.4,0.2]]}'


class Ingestion:
    """Takes what is sent to /v2.1/track."""

    def __init__(self) -> None:
        told: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                envelopes = json.loads(body)
                told.extend(envelopes)
                said = {"itemsReceived": len(envelopes), "itemsAccepted": len(envelopes), "errors": []}
                answer = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.told = told
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    @property
    def connection_string(self) -> str:
        here = f"http://127.0.0.1:{self.server.server_address[1]}/"
        return f"InstrumentationKey=11111111-1111-1111-1111-111111111111;IngestionEndpoint={here};LiveEndpoint={here}"

    def requests(self) -> list[dict[str, Any]]:
        return [one for one in self.told if one["data"]["baseType"] == "RequestData"]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def ingestion() -> Iterator[Ingestion]:
    made = Ingestion()
    yield made
    made.close()


def test_a_sampled_request_becomes_a_span_of_its_callers_trace(
    start: Callable[..., Replica], models: Path, ingestion: Ingestion
) -> None:
    one = start(
        MODEL_PATH=str(models / "iris-sklearn.joblib"),
        APPLICATIONINSIGHTS_CONNECTION_STRING=ingestion.connection_string,
        APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL="true",
        TRACE_SAMPLING="1",
    ).ready()
    until(lambda: any("telemetry is on" in line for line in one.log), "telemetry")
    for flags in ("01", "00"):
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-{flags}"}
        assert one.ask("POST", "/predict", FLOWER, headers)[0] == 200
    assert one.stop() == 0
    (told,) = [request for request in ingestion.requests() if request["data"]["baseData"]["name"] == "POST /predict"]
    assert told["tags"]["ai.operation.id"] == TRACE
    assert told["tags"]["ai.operation.parentId"] == SPAN
    assert "11111111" not in "".join(one.log)


@pytest.mark.parametrize(
    "traceparent", [b"", b"nonsense", b"00-a-b-zz", f"00-{TRACE}-{SPAN}-01".encode(), b"00-" + b"-" * 9]
)
def test_without_a_connection_string_no_request_is_traced(traceparent: bytes) -> None:
    telemetry = Telemetry(Settings(models=()))
    telemetry.start()
    assert not telemetry.wants(traceparent)
    with telemetry.span("GET /", {}):
        pass
    telemetry.stop()


def test_a_connection_string_that_is_none_is_told_without_showing_it(
    start: Callable[..., Replica], models: Path
) -> None:
    one = start(
        MODEL_PATH=str(models / "iris-sklearn.joblib"), APPLICATIONINSIGHTS_CONNECTION_STRING="InstrumentationKey=hush"
    ).ready()
    until(lambda: any("APPLICATIONINSIGHTS_CONNECTION_STRING is not valid" in line for line in one.log), "the reason")
    assert one.ask("POST", "/predict", FLOWER)[0] == 200
    assert one.stop() == 0
    assert "hush" not in "".join(one.log)
