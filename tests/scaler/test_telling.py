"""Ticks as traces and logs, events at a webhook: what arrives, and that no tick waits for it or fails by it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from scaler.errors import BadSetting, Unavailable
from scaler.happened import Happened
from scaler.model import Pin
from scaler.settings import Settings
from scaler.tick.courier import TYPE, WebhookCourier
from scaler.tick.telemetry import Telemetry, to_azure_monitor
from tests.scaler.ticking import Ticking

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret-of-the-webhook"


class Receiver:
    """A webhook that keeps what it is sent; ``status`` is what it answers."""

    def __init__(self) -> None:
        self.status = 202
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.posts.append(({k.lower(): v for k, v in request.headers.items()}, await request.read()))
        return web.Response(status=self.status)

    @property
    def events(self) -> list[Any]:
        return [json.loads(body) for _, body in self.posts]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    receiver.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    try:
        yield receiver
    finally:
        await runner.cleanup()


def event(number: int) -> Happened:
    return Happened(id=f"iris-{number}", type="scaled", at=1000.0, data={"service": "iris", "to": number})


async def test_an_event_arrives_as_a_signed_cloud_event() -> None:
    async with receiving() as receiver:
        courier = WebhookCourier(receiver.url, SECRET, "/aci-autoscaler/d1", lambda: 2000.0)
        courier.send("iris", [event(4)])
        await courier.idle()
        ((headers, body),) = receiver.posts
        told = json.loads(body)
        assert headers["content-type"] == "application/cloudevents+json"
        assert (told["specversion"], told["id"], told["type"]) == ("1.0", "iris-4", f"{TYPE}scaled")
        assert (told["source"], told["subject"], told["time"]) == (
            "/aci-autoscaler/d1",
            "iris",
            "1970-01-01T00:16:40.000Z",
        )
        signed = hmac.new(SECRET.encode(), b"iris-4.2000." + body, hashlib.sha256).digest()
        assert headers["webhook-signature"] == "v1," + base64.b64encode(signed).decode()
        assert courier.delivered() == ("iris-4",)
        await courier.close()


async def test_what_is_not_taken_is_sent_again_in_order_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with receiving() as receiver:
        courier = WebhookCourier(f"{receiver.url}/hook?sig=hidden-in-the-address", SECRET, "/d1")
        receiver.status = 503
        for _ in range(3):
            courier.send("iris", [event(1), event(2)])
            await courier.idle()
        assert [e["id"] for e in receiver.events] == ["iris-1"] * 3
        assert len(caplog.records) == 1
        assert "hidden" not in f"{vars(caplog.records[0])}{courier!r}"
        receiver.status = 200
        courier.send("iris", [event(1), event(2)])
        await courier.idle()
        courier.send("iris", [event(1), event(2)])
        await courier.idle()
        assert [e["id"] for e in receiver.events[3:]] == ["iris-1", "iris-2"]
        await courier.close()


async def test_a_tick_does_not_wait_for_a_receiver_and_another_process_sends_what_was_left() -> None:
    ticking = Ticking()
    async with receiving() as receiver:
        held = asyncio.Event()

        class Slow(WebhookCourier):
            async def _send(self, events: Any) -> None:
                await held.wait()

        first = Slow(receiver.url, SECRET, "/d1")
        ticking.scaler.world = replace(ticking.scaler.world, courier=first)
        await ticking.pin(1)
        assert (await ticking.tick()).outcome == "saved"
        await first.close()
        second = WebhookCourier(receiver.url, SECRET, "/d1")
        ticking.scaler.world = replace(ticking.scaler.world, courier=second)
        await ticking.tick()
        await second.idle()
        assert [e["type"] for e in receiver.events] == [f"{TYPE}scaled", f"{TYPE}pinned", f"{TYPE}rollout.rolling"]
        await ticking.tick()
        await second.idle()
        assert len(receiver.events) == 3
        memory = await ticking.scaler.memory("iris")
        assert memory is not None
        assert memory.outbox == ()
        await second.close()


async def test_a_tick_is_a_trace_with_its_steps_and_a_log_record() -> None:
    spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    telemetry = Telemetry(lambda: (spans, logs), "d1")
    ticking = Ticking()
    ticking.scaler.world = replace(ticking.scaler.world, watch=telemetry.watch)
    logging.getLogger("scaler.tick").setLevel(logging.INFO)
    await ticking.world.store.write_pin("iris", Pin(min=1, max=1, since=0.0, reason="launch"), etag=None)
    await ticking.tick()
    ticking.world.faults.add("load", Unavailable("no answer"))
    await ticking.tick()
    await telemetry.close()
    found = spans.get_finished_spans()
    roots = [s for s in found if s.parent is None]
    assert [s.name for s in roots] == ["tick iris", "tick iris"]
    assert [s.status.is_ok for s in roots] == [True, False]
    first = [s for s in found if s.parent and s.parent.span_id == roots[0].context.span_id]
    assert [s.name for s in first] == ["load", "observe", "decide", "save", "act", "record"]
    attributes = dict(roots[0].attributes or {})
    assert attributes["desired"] == 1
    assert "launch" in str(attributes["because"])
    records = [r.log_record for r in logs.get_finished_logs() if str(r.log_record.body).startswith("tick {")]
    assert [r.severity_text for r in records] == ["INFO", "WARNING"]
    assert dict(records[0].attributes or {})["limited_by"] == "pin"


async def test_telemetry_that_fails_stops_no_tick() -> None:
    def broken() -> Any:
        raise RuntimeError("no exporter")

    ticking = Ticking()
    ticking.scaler.world = replace(ticking.scaler.world, watch=Telemetry(broken, "d1").watch)
    assert (await ticking.tick()).outcome == "saved"
    assert (await ticking.tick()).outcome == "saved"


async def test_application_insights_gets_the_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "true")
    monkeypatch.setenv("APPLICATIONINSIGHTS_SDKSTATS_DISABLED", "true")
    async with receiving() as receiver:
        connection = f"InstrumentationKey=00000000-0000-4000-8000-000000000001;IngestionEndpoint={receiver.url}"
        telemetry = Telemetry(to_azure_monitor(connection), "d1")
        ticking = Ticking()
        ticking.scaler.world = replace(ticking.scaler.world, watch=telemetry.watch)
        logging.getLogger("scaler.tick").setLevel(logging.INFO)
        await ticking.tick()
        sink = telemetry._sink
        assert sink is not None
        await asyncio.get_running_loop().run_in_executor(None, sink.close)  # it posts from this thread
        sent = [json.loads(line) for headers, body in receiver.posts for line in opened(headers, body)]
        kinds = {e["data"]["baseType"]: e["data"]["baseData"] for e in flattened(sent)}
        assert kinds["RequestData"]["name"] == "tick iris"
        assert kinds["MessageData"]["properties"]["service"] == "iris"


def opened(headers: dict[str, str], body: bytes) -> list[str]:
    text = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
    return [line for line in text.decode().splitlines() if line]


def flattened(sent: list[Any]) -> list[Any]:
    return [e for one in sent for e in (one if isinstance(one, list) else [one])]


def test_without_a_connection_string_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys, scaler.azure, scaler.tick.scaler, scaler.web.functions\n"
        "print([m for m in sys.modules if m.split('.')[0] == 'opentelemetry' or 'monitor.opentelemetry' in m])"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTOSCALER_EVENTS_URL", "http://hook.example/secret-path"),
        ("AUTOSCALER_EVENTS_URL", "https:///secret-path"),
        ("AUTOSCALER_EVENTS_SECRET", "short"),
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "IngestionEndpoint=https://secret-path"),
        ("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "ClientId=secret-path;Authorization=AAD"),
    ],
)
def test_a_setting_that_cannot_be_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name) as error:
        Settings.read({name: value}, "cli")
    assert "secret-path" not in str(error.value)


def test_who_may_write_telemetry_is_read_as_azure_writes_it() -> None:
    name, client = "APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "00000000-0000-4000-8000-000000000002"
    assert Settings.read({}, "cli").telemetry_identity is None
    assert Settings.read({name: "Authorization=AAD"}, "cli").telemetry_identity == ""
    assert Settings.read({name: f"ClientId={client};Authorization=AAD"}, "cli").telemetry_identity == client


def test_the_address_of_a_webhook_may_hold_a_key_and_is_kept_like_one() -> None:
    settings = Settings.read({"AUTOSCALER_EVENTS_URL": "https://hook.example/in?sig=planted"}, "cli")
    assert settings.events_url.endswith("sig=planted")
    assert "planted" not in repr(settings)
