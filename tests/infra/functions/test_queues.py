"""Queue triggers against a real Azurite, through the real SDK and the managed identity's way to a token."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from infra.local.functions.app import Function, load_app
from infra.local.functions.queues import QueueListener
from infra.local.functions.settings import load_host_settings
from infra.local.functions.storage import Storage
from tests.azurite import Azurite, identity_endpoint, start_azurite
from tests.infra.functions.serving import Running, serving, until, write_app

SOURCE = """
import pathlib
lines = pathlib.Path(__file__).parent / "lines"
fail = lines.with_name("fail")
hold = lines.with_name("hold")

def note(**said):
    with lines.open("a") as file:
        file.write(json.dumps(said, default=str) + "\\n")

@app.queue_trigger(arg_name="m", queue_name="%QUEUE%", connection="Store")
@app.queue_output(arg_name="out", queue_name="%QUEUE%-out", connection="Store")
async def on_message(m: func.QueueMessage, out: func.Out[str]) -> None:
    note(body=m.get_body().decode("latin-1"), id=m.id, count=m.dequeue_count, inserted=m.insertion_time,
         expires=m.expiration_time, visible=m.time_next_visible, receipt=m.pop_receipt)
    while hold.exists():
        await asyncio.sleep(0.01)
    if fail.exists():
        raise ValueError("no")
    if m.get_body() == b"pass it on":
        out.set("passed on")

@app.queue_trigger(arg_name="m", queue_name="%QUEUE%-text", connection="Store")
def on_text(m: str) -> None:
    note(text=m, kind=type(m).__name__)

@app.route(route="send", methods=["POST"])
@app.queue_output(arg_name="out", queue_name="%QUEUE%-text", connection="Store")
def send(req: func.HttpRequest, out: func.Out[str]) -> str:
    out.set(req.get_body().decode())
    return "sent"
"""


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with start_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture(scope="module")
def identity() -> Iterator[dict[str, str]]:
    with identity_endpoint() as env:
        yield env


@pytest.fixture(autouse=True)
def _managed_identity(identity: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in identity.items():
        monkeypatch.setenv(name, value)


@dataclass(frozen=True, kw_only=True)
class Queues:
    """A host, and the queues that its functions listen to, as a stranger sees them."""

    running: Running
    service: QueueServiceClient
    name: str

    def queue(self, suffix: str = "") -> QueueClient:
        return self.service.get_queue_client(self.name + suffix)

    async def put(self, text: str | bytes, suffix: str = "") -> None:
        body = text.encode() if isinstance(text, str) else text
        await self.put_raw(base64.b64encode(body).decode(), suffix)

    async def put_raw(self, text: str, suffix: str = "") -> None:
        """The host makes the queue; it may not have come to it yet."""

        async def send() -> bool:
            try:
                await self.queue(suffix).send_message(text)
            except ResourceNotFoundError:
                return False
            return True

        await until(send)

    async def lines(self, count: int) -> list[dict[str, Any]]:
        """What the functions noted, once these are so many calls."""

        async def look() -> list[dict[str, Any]]:
            found = await asyncio.to_thread(_lines, self.running.parts.app.folder / "lines")
            return found if len(found) >= count else []

        return await until(look)

    async def is_empty(self) -> None:
        """Return when no message is left, visible or not."""

        async def look() -> bool:
            return (await self.queue().get_queue_properties()).approximate_message_count == 0

        await until(look)

    async def take(self, suffix: str) -> str:
        """The text of one message of this queue, as it is stored."""

        async def look() -> str:
            try:
                message = await self.queue(suffix).receive_message()
            except ResourceNotFoundError:
                return ""
            return str(message.content) if message else ""

        return await until(look)


async def said_times(caplog: pytest.LogCaptureFixture, text: str, count: int) -> bool:
    return caplog.text.count(text) == count


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@asynccontextmanager
async def listening(folder: Path, azurite: Azurite, **queues: Any) -> AsyncIterator[Queues]:
    name = f"q{abs(hash(folder))}"
    write_app(folder, SOURCE, {"extensions": {"queues": {"maxPollingInterval": "00:00:00.2", **queues}}})
    env = {"QUEUE": name, "Store__queueServiceUri": azurite.queue, "Store__credential": "managedidentity"}
    ca = str(azurite.ca)
    async with (
        QueueServiceClient(azurite.queue, credential=azurite.credential, connection_verify=ca) as service,
        serving(folder, env, verify=ca) as running,
    ):
        yield Queues(running=running, service=service, name=name)


@pytest.fixture
async def queues(tmp_path: Path, azurite: Azurite) -> AsyncIterator[Queues]:
    async with listening(tmp_path, azurite, maxDequeueCount=3) as made:
        yield made


async def test_a_message_reaches_its_function_with_its_metadata_and_is_deleted(queues: Queues) -> None:
    await queues.put(b"\x00\xfftext")

    (said,) = await queues.lines(1)
    await queues.is_empty()
    assert (said["body"], said["count"]) == ("\x00\xfftext", 1)
    assert len(said["id"]) == 36
    assert len(said["receipt"]) > 10
    assert said["inserted"] < said["visible"] < said["expires"]


async def test_many_messages_are_each_handled_once(queues: Queues) -> None:
    await asyncio.gather(*(queues.put(str(i)) for i in range(60)))

    said = await queues.lines(60)
    await queues.is_empty()
    assert sorted(int(line["body"]) for line in said) == list(range(60))


async def test_a_message_that_fails_comes_back_and_ends_as_poison(
    queues: Queues, caplog: pytest.LogCaptureFixture
) -> None:
    folder = queues.running.parts.app.folder
    (folder / "fail").touch()
    await queues.put("bad luck")

    assert base64.b64decode(await queues.take("-poison")) == b"bad luck"
    assert [line["count"] for line in await queues.lines(3)] == [1, 2, 3]
    await queues.is_empty()
    assert len(await queues.lines(3)) == 3
    assert "-poison: its function failed 3 times" in caplog.text


async def test_a_message_that_fails_once_succeeds_the_next_time(queues: Queues) -> None:
    fail = queues.running.parts.app.folder / "fail"
    fail.touch()
    await queues.put("again")
    await queues.lines(1)
    fail.unlink()

    await queues.is_empty()
    assert (await queues.lines(2))[-1]["count"] in (2, 3)


async def test_a_message_that_is_not_base64_is_put_aside_and_the_others_go_on(
    queues: Queues, caplog: pytest.LogCaptureFixture
) -> None:
    await queues.put_raw("{not base64}")
    await queues.put("good")

    assert await queues.take("-poison") == "{not base64}"
    assert [line["body"] for line in await queues.lines(1)] == ["good"]
    assert "it is not base64" in caplog.text


async def test_a_function_may_ask_for_text_and_may_send(queues: Queues) -> None:
    await queues.put("grüße", "-text")
    await queues.lines(1)
    answer = await queues.running.http.post("/api/send", content="from http")

    assert answer.text == "sent"
    said = await queues.lines(2)
    assert said == [{"text": "grüße", "kind": "str"}, {"text": "from http", "kind": "str"}]


async def test_what_a_function_puts_on_an_output_is_sent_when_it_has_succeeded(queues: Queues) -> None:
    await queues.put("pass it on")

    assert base64.b64decode(await queues.take("-out")) == b"passed on"


@asynccontextmanager
async def listener_of(
    folder: Path,
    azurite: Azurite,
    call: Callable[[Function, object], Awaitable[object]],
    **options: Any,
) -> AsyncIterator[tuple[QueueListener, QueueClient]]:
    """A listener without a host around it, and its queue, which is made."""
    write_app(folder, SOURCE, {"extensions": {"queues": {"maxPollingInterval": "00:00:01"}}})
    env = {"QUEUE": f"l{abs(hash(folder))}", "Store__queueServiceUri": azurite.queue}
    env["Store__credential"] = "managedidentity"
    settings = load_host_settings(folder, env)
    function = load_app(folder, settings, env, 0.0).functions[0]
    storage = Storage(env, str(azurite.ca))
    try:
        queue = storage.queue("Store", env["QUEUE"])
        await queue.create_queue()
        yield QueueListener(function, storage, settings.queues, call, **options), queue
    finally:
        await storage.close()


async def test_the_pause_between_two_looks_grows_to_the_longest_and_starts_anew_with_a_message(
    tmp_path: Path, azurite: Azurite
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(round(seconds, 3))
        if len(pauses) == 6:
            await queue.send_message(base64.b64encode(b"wake up").decode())
        if len(pauses) == 8:
            raise asyncio.CancelledError

    async def call(function: Function, argument: object) -> object:
        return None

    async with listener_of(tmp_path, azurite, call, sleep=sleep) as (listener, queue):
        with pytest.raises(asyncio.CancelledError):
            await listener.run()
        await listener.finish()

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 0.1, 0.2]


async def test_a_message_stays_in_hand_as_long_as_its_function_runs(tmp_path: Path, azurite: Azurite) -> None:
    calls: list[object] = []
    ended = asyncio.Event()

    async def call(function: Function, argument: object) -> object:
        calls.append(argument)
        # Two leases and more: what is tested is that real time passes and the message does not come back.
        await asyncio.sleep(4.5)
        ended.set()
        return None

    async with listener_of(tmp_path, azurite, call, lease_s=2) as (listener, queue):
        await queue.send_message(base64.b64encode(b"long").decode())
        task = asyncio.create_task(listener.run())
        await asyncio.wait_for(ended.wait(), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await listener.finish()
        left = (await queue.get_queue_properties()).approximate_message_count

    assert (len(calls), left) == (1, 0)


async def test_storage_going_away_is_said_once_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    folder = tmp_path / "data"
    folder.mkdir()
    with start_azurite(folder) as azurite:
        async with listening(tmp_path / "app", azurite) as queues:
            await queues.put("before")
            await queues.lines(1)
            await queues.is_empty()
            await asyncio.to_thread(azurite.stop)
            await until(lambda: said_times(caplog, "is out of reach", 2))  # one for each of the two queues
            assert (await queues.running.http.get("/")).status_code == 204
            await asyncio.to_thread(azurite.start)  # off the loop: meanwhile the host tries on
            await queues.put("after")
            said = await queues.lines(2)
            await until(lambda: said_times(caplog, "is back", 2))  # the other queue may be looked at later

    assert [line["body"] for line in said] == ["before", "after"]
    assert caplog.text.count("is out of reach") == 2


async def test_a_host_that_starts_before_storage_waits_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with start_azurite(folder) as azurite:
        azurite.stop()
        async with listening(tmp_path / "app", azurite) as queues:
            await until(lambda: said_times(caplog, "is out of reach", 2))
            await asyncio.to_thread(azurite.start)
            await queues.put("at last")
            assert [line["body"] for line in await queues.lines(1)] == ["at last"]


async def test_a_stop_lets_the_message_in_hand_end(queues: Queues) -> None:
    hold = queues.running.parts.app.folder / "hold"
    hold.touch()
    await queues.put("slow")
    await queues.lines(1)
    queues.running.host.stop()
    await asyncio.sleep(0)
    hold.unlink()

    await queues.is_empty()
