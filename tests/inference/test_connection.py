"""The quick way and the Starlette way: same answers, in order, whatever the bytes look like on the wire."""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.inference.process import Replica, read_answer, until

PATH = "/models/scores/predict"


def post(body: bytes, *extra: str, path: str = PATH, version: str = "1.1") -> bytes:
    head = [f"POST {path} HTTP/{version}", "host: x", *extra]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in extra):
        head.append(f"content-length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def body_of(number: float) -> bytes:
    return json.dumps({"data": [[number, 1.0, 2.0, 3.0]]}).encode()


def asked(replica: Replica, data: bytes) -> tuple[int, str, bytes]:
    with replica.connect() as client:
        client.sendall(data)
        status, headers, body = read_answer(client)
        return status, headers.get("content-type", ""), body


GOOD = body_of(5.1)
BODIES = [
    GOOD,
    json.dumps({"data": [[i / 7, 1, 2, 3] for i in range(300)]}).encode(),
    b'{"data": [[1e38, 3e38, 1e38, 2e38]]}',
    b'{"data": [[1e39, 0, 0, 0]]}',
    b'{"data": [[1, 2, 3]]}',
    b'{"data": [[1, 2, 3, null]]}',
    b'{"data": [[1, 2, 3, NaN]]}',
    b'{"data": [[[1], 2, 3, 4]]}',
    b'{"data": []}',
    b'{"data": [[]]}',
    b'{"data": [[1,2,3,4]], "data": 7}',
    b'{"data": 7, "data": [[1,2,3,4]]}',
    b'{"d\\u0061ta": [[1,2,3,4]]}',
    b'{"DATA": [[1,2,3,4]]}',
    b"[" * 5000,
    b"\xff\xfe\xfd",
    b"\xef\xbb\xbf" + GOOD,
    b"null",
    b" ",
    b'{"data": [[1,2,3,4]]} x',
]


@pytest.mark.parametrize("pad", [0, 1000], ids=["short", "padded"])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:24].decode("latin1"))
def test_both_ways_answer_the_same(replica: Replica, body: bytes, pad: int) -> None:
    # Blanks are JSON, and long bodies are read by the other reader.
    body = body.replace(b"[[", b"[" + b" " * pad + b"[", 1)
    quick = asked(replica, post(body))
    slow = asked(replica, post(body, "expect: 200-maybe"))
    assert quick == slow
    assert quick[0] in {200, 400, 422}


@pytest.mark.parametrize("extra", [(), ("x-request-id: 7",), ("traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01",)])
def test_a_head_is_read_the_same_the_second_time(replica: Replica, extra: tuple[str, ...]) -> None:
    with replica.connect() as client:
        for number in range(5):
            client.sendall(post(body_of(number), *extra))
            status, _, body = read_answer(client)
            assert (status, body) == (200, expected(replica, number))


def expected(replica: Replica, number: float) -> bytes:
    status, _, body = asked(replica, post(body_of(number), "expect: nothing"))
    assert status == 200
    return body


@pytest.mark.parametrize("size", [1, 7, 40, 1000])
def test_pipelined_requests_are_answered_in_order_however_they_are_cut(replica: Replica, size: int) -> None:
    numbers = list(range(12))
    wanted = [expected(replica, number) for number in numbers]
    shapes: list[Callable[[bytes], bytes]] = [
        post,
        lambda body: post(body, "expect: nothing"),
        lambda body: post(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), "transfer-encoding: chunked"),
    ]
    data = b"".join(shapes[number % 3](body_of(number)) for number in numbers)
    with replica.connect() as client:
        for at in range(0, len(data), size):
            client.sendall(data[at : at + size])
        assert [read_answer(client)[2] for _ in numbers] == wanted


def test_http_1_0_and_connection_close_end_the_connection(replica: Replica) -> None:
    for data in (post(GOOD, version="1.0"), post(GOOD, "connection: close")):
        with replica.connect() as client:
            client.sendall(data + post(GOOD))
            assert read_answer(client)[0] == 200
            assert client.recv(100) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST /predict\r\n\r\n",
        post(GOOD, "content-length: 5", "content-length: 6"),
        post(GOOD, "content-length: -1"),
        post(GOOD, "content-length: 5, 5"),
        post(GOOD, "content-length: 5", "transfer-encoding: chunked"),
        b"POST /predict HTTP/1.1\nhost: x\n\n",
        b"POST /predict HTTP/9.9\r\n\r\n",
        post(b"zz\r\n", "transfer-encoding: chunked"),
    ],
)
def test_what_is_not_http_gets_400_and_is_hung_up_on(replica: Replica, data: bytes) -> None:
    with replica.connect() as client:
        client.sendall(data)
        status, headers, _ = read_answer(client)
        assert (status, headers["content-type"]) == (400, "application/problem+json")
        assert client.recv(100) == b""


def test_garbage_behind_a_request_does_not_overtake_its_answer(replica: Replica) -> None:
    with replica.connect() as client:
        client.sendall(post(GOOD) + b"\x00garbage\r\n\r\n")
        assert read_answer(client)[0] == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read(replica: Replica) -> None:
    status, kind, body = asked(replica, post(b"", "content-length: 104857600"))
    assert (status, kind) == (413, "application/problem+json")
    assert b"MAX_BODY_BYTES" in body


def test_a_compressed_body_is_refused(replica: Replica) -> None:
    status, kind, body = asked(replica, post(GOOD, "content-encoding: gzip"))
    assert (status, kind) == (415, "application/problem+json")
    assert b"gzip" in body
    assert asked(replica, post(GOOD, "content-encoding: identity"))[0] == 200


@pytest.fixture(scope="module")
def narrow(models: Path) -> Iterator[Replica]:
    """A replica that takes one request at a time, a third of a second each."""
    one = Replica(
        MODEL_PATH=str(models / "iris.safetensors"),
        SERVICE_TIME_MS="300",
        MAX_BATCH_SIZE="1",
        MAX_QUEUE="2",
        RECEIVE_TIMEOUT_S="0.3",
    )
    yield one.ready()
    one.end()


def test_a_slow_sender_gets_408(narrow: Replica) -> None:
    one = narrow
    for data in (b"POST /predict HT", post(GOOD, path="/predict")[:-5], post(GOOD, "expect: x", path="/predict")[:-5]):
        with one.connect() as client:
            client.sendall(data)
            status, headers, _ = read_answer(client)
            assert (status, headers["content-type"]) == (408, "application/problem+json")
            assert client.recv(100) == b""


def test_a_client_that_gave_up_is_not_computed_and_a_late_one_is_refused(
    narrow: Replica,
) -> None:
    one, before = narrow, narrow.get("/stats")[1]
    first, second, third = one.connect(), one.connect(), one.connect()
    ask = post(GOOD, path="/predict")
    first.sendall(ask)
    until(lambda: one.get("/stats")[1]["in_flight"] == 1, "the first is computed")
    second.sendall(ask)
    third.sendall(post(GOOD, "x-envoy-expected-rq-timeout-ms: 50", path="/predict"))
    until(lambda: one.get("/stats")[1]["queued"] == 2, "two wait")
    second.close()
    assert read_answer(third)[0] == 504
    assert read_answer(first)[0] == 200
    until(lambda: one.get("/stats")[1]["failed_total"] == before["failed_total"] + 2, "both are counted")
    said = one.get("/stats")[1]
    assert (said["completed_total"], said["in_flight"], said["queued"]) == (before["completed_total"] + 1, 0, 0)
    first.close()
    third.close()


def test_a_full_queue_answers_503_with_retry_after_and_is_not_ready(
    narrow: Replica,
) -> None:
    one, before = narrow, narrow.get("/stats")[1]
    clients = _filled(one)
    for extra in ((), ("expect: x",)):
        with one.connect() as more:
            more.sendall(post(GOOD, *extra, path="/predict"))
            status, headers, _ = read_answer(more)
            assert status == 503
            assert int(headers["retry-after"]) >= 1
    assert one.get("/readyz")[0] == 503
    assert [read_answer(client)[0] for client in clients] == [200, 200, 200]
    assert one.get("/readyz")[0] == 200
    assert one.get("/stats")[1]["rejected_total"] == before["rejected_total"] + 2
    for client in clients:
        client.close()


def _filled(one: Replica) -> list[socket.socket]:
    """Connections whose requests fill the replica: one is computed, two wait."""
    clients = [one.connect() for _ in range(3)]
    clients[0].sendall(post(GOOD, path="/predict"))
    until(lambda: one.get("/stats")[1]["in_flight"] == 1, "one is computed")
    for client in clients[1:]:
        client.sendall(post(GOOD, path="/predict"))
    until(lambda: one.get("/stats")[1]["queued"] == 2, "two wait")
    return clients


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_full_queue_refuses_at_the_head_and_passes_over_the_body(narrow: Replica, pieces: int) -> None:
    one = narrow
    whole = post(GOOD, path="/predict")
    with one.connect() as more:
        more.sendall(whole)  # from now on the head is remembered
        assert read_answer(more)[0] == 200
        before = one.get("/stats")[1]
        clients = _filled(one)
        head = whole.index(b"\r\n\r\n") + 4
        cuts = [head + i * len(GOOD) // pieces for i in range(pieces)] + [len(whole)]
        more.sendall(whole[: cuts[1]])
        status, headers, _ = read_answer(more)  # before the rest is sent
        assert (status, int(headers["retry-after"]) >= 1) == (503, True)
        for begin, end in pairwise(cuts[1:]):
            more.sendall(whole[begin:end])
        more.sendall(whole + whole)  # pipelined: two more answers, in order
        assert [read_answer(more)[0] for _ in range(2)] == [503, 503]
        assert [read_answer(client)[0] for client in clients] == [200, 200, 200]
        more.sendall(whole)
        assert read_answer(more)[0] == 200
    assert one.get("/stats")[1]["rejected_total"] == before["rejected_total"] + 3
    for client in clients:
        client.close()


FAULTY_READER = """
from inference import __main__, wire

def read(self, body):
    raise ArithmeticError("nobody foresaw this")

wire.RowsReader.read = read
__main__.main([])
"""


def test_a_fault_of_a_reader_is_told_to_its_caller_logged_and_counted(
    models: Path, start: Callable[..., Replica]
) -> None:
    one = start(sys.executable, "-c", FAULTY_READER, MODEL_PATH=str(models / "iris.safetensors")).ready()
    with one.connect() as client:
        for extra in ((), (), ("expect: x",)):  # the quick way and, on the same connection, the other one
            client.sendall(post(GOOD, *extra, path="/predict"))
            status, headers, body = read_answer(client)
            assert (status, headers["content-type"]) == (500, "application/problem+json")
            assert b"its log says why" in body
    said = one.get("/stats")[1]
    assert (said["arrivals_total"], said["failed_total"], said["queued"], said["in_flight"]) == (3, 3, 0, 0)
    assert one.stop() == 0
    assert sum("nobody foresaw this" in line for line in one.log) >= 3


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_break_nothing(replica: Replica, seed: int) -> None:
    fuzz(replica, seed, rounds=30)


@pytest.mark.verify
@pytest.mark.timeout(900)
def test_ten_thousand_random_requests_break_nothing_and_swap_nothing(replica: Replica) -> None:
    fuzz(replica, 999, rounds=100)  # what the first ones load stays loaded
    before = replica.get("/stats")[1]["memory_bytes"]
    wanted = {number: expected(replica, number) for number in range(40)}
    wrong: list[object] = []
    over = threading.Event()

    def ask(first: int) -> None:
        with replica.connect() as client:
            while not over.is_set():
                for number in range(first, 40, 4):
                    client.sendall(post(body_of(number)))
                    status, _, body = read_answer(client)
                    if status != 200 or not near(body, wanted[number]):
                        wrong.append((number, status, body))

    asking = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for one in asking:
        one.start()
    try:
        for seed in range(100):
            fuzz(replica, 1000 + seed, rounds=100)
    finally:
        over.set()
        for one in asking:
            one.join()
    assert wrong == []
    assert replica.get("/stats")[1]["memory_bytes"] < before + 50 * 2**20
    until(lambda: replica.get("/stats")[1]["queued"] == 0 == replica.get("/stats")[1]["in_flight"], "nothing is left")
    said = replica.get("/stats")[1]
    assert said["arrivals_total"] == said["completed_total"] + said["failed_total"] + said["rejected_total"]


def near(body: bytes, wanted: bytes) -> bool:
    """The same answer, but for the last digits, which depend on who else is in the batch."""
    (got,), (told,) = json.loads(body)["predictions"], json.loads(wanted)["predictions"]
    return bool(got == pytest.approx(told, rel=1e-5, abs=1e-5))


def chunked(body: bytes, *extra: str) -> bytes:
    middle = len(body) // 2
    parts = (body[:middle], body[middle:]) if middle else (body,)
    return post(
        b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n",
        "transfer-encoding: chunked",
        *extra,
    )


def binary(body: bytes, *extra: str) -> bytes:
    given = {"name": "data", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [given]}).encode()
    tail = (body * 16)[:16]
    length = f"inference-header-content-length: {len(head)}"
    return post(head + tail, length, *extra, path="/v2/models/scores/infer")


SHAPES: list[Callable[..., bytes]] = [
    post,
    post,
    chunked,
    binary,
    lambda body, *extra: post(body, *extra, version="1.0"),
    lambda body, *extra: post(body, f"content-length: {max(0, len(body) - 3)}", *extra),
    lambda body, *extra: post(body, f"content-length: {len(body) + 5}", *extra),
    lambda body, *extra: post(body, *extra) + chunked(GOOD) + post(body, *extra),
]
EXTRAS = [(), (), ("expect: x",), ("connection: close",), ("expect: 100-continue",), ("content-encoding: gzip",)]


def fuzz(replica: Replica, seed: int, rounds: int) -> None:
    """Mutated requests on fresh connections; after each, one asked for in order still gets its own answer."""
    random_ = random.Random(seed)
    wanted = expected(replica, seed)
    for _ in range(rounds):
        data = bytearray(random_.choice(SHAPES)(random_.choice(BODIES), *random_.choice(EXTRAS)))
        for _ in range(random_.randrange(6)):
            at = random_.randrange(len(data))
            kind = random_.randrange(3)
            if kind == 0:
                data[at] = random_.randrange(256)
            elif kind == 1:
                del data[at : at + random_.randrange(8)]
            else:
                data[at:at] = random_.randbytes(random_.randrange(8))
            if not data:
                data = bytearray(b"x")
        with replica.connect() as client:
            client.settimeout(0.02)
            try:
                for part in cut(random_, bytes(data)):
                    client.sendall(part)
                while answer := client.recv(65536):
                    assert b"HTTP/1.1 50" not in answer, (bytes(data), answer)
            except (TimeoutError, ConnectionError):
                pass
    assert near(asked(replica, post(body_of(seed)))[2], wanted)


def cut(random_: random.Random, data: bytes) -> list[bytes]:
    at = random_.randrange(len(data))
    return [part for part in (data[:at], data[at:]) if part]
