"""The Open Inference Protocol v2: metadata, JSON and binary tensors, and what is refused."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from tests.inference.process import Replica, read_answer

ROW = [5.1, 3.5, 1.4, 0.2]
INFER = "/v2/models/scores/infer"


def request(**changes: Any) -> dict[str, Any]:
    given = {"name": "data", "shape": [1, 4], "datatype": "FP32", "data": ROW} | changes.pop("input", {})
    return {"id": "seven", "inputs": [{k: v for k, v in given.items() if v is not None}]} | changes


def infer(
    replica: Replica, document: Any, tail: bytes = b"", length: int | None = None
) -> tuple[int, dict[str, str], bytes]:
    head = json.dumps(document).encode()
    headers = {"content-type": "application/json"}
    if tail or length is not None:
        headers["inference-header-content-length"] = str(len(head) if length is None else length)
    return replica.ask("POST", INFER, head + tail, headers)


def scores(replica: Replica) -> list[float]:
    found: list[float] = replica.predict([ROW], "/models/scores/predict")[1]["predictions"][0]
    return found


def test_metadata_says_what_the_model_takes_and_gives(replica: Replica) -> None:
    status, said = replica.get("/v2/models/scores")
    assert status == 200
    assert said["inputs"] == [{"name": "data", "datatype": "FP32", "shape": [-1, 4]}]
    assert said["outputs"] == [{"name": "predictions", "datatype": "FP32", "shape": [-1, 3]}]
    assert replica.get(f"/v2/models/scores/versions/{said['versions'][0]}")[1] == said
    assert replica.get("/v2/models/scores/versions/0")[0] == 404
    assert replica.get("/v2/models/nix")[0] == 404
    assert replica.get("/v2/models/scores/ready") == (200, {"name": "scores", "ready": True})
    assert replica.get("/v2/health/live")[1] == {"live": True}
    assert replica.get("/v2/health/ready")[1] == {"ready": True}
    assert "binary_tensor_data" in replica.get("/v2")[1]["extensions"]
    names = {entry["name"] for entry in json.loads(replica.ask("POST", "/v2/repository/index")[2])}
    assert names == {"iris", "scores", "iris-sklearn"}


@pytest.mark.parametrize("data", [ROW, [ROW]], ids=["flat", "nested"])
def test_json_tensors_are_answered_with_json_tensors(replica: Replica, data: Any) -> None:
    status, _, body = infer(replica, request(input={"data": data}))
    said = json.loads(body)
    assert status == 200
    assert (said["model_name"], said["id"]) == ("scores", "seven")
    assert said["outputs"] == [{"name": "predictions", "shape": [1, 3], "datatype": "FP32", "data": scores(replica)}]


def test_binary_tensors_go_in_and_out(replica: Replica) -> None:
    tail = struct.pack("<4f", *ROW)
    given = {"data": None, "parameters": {"binary_data_size": 16}}
    wanted = [{"name": "predictions", "parameters": {"binary_data": True}}]
    status, headers, body = infer(replica, request(input=given, outputs=wanted), tail)
    assert status == 200
    cut = int(headers["inference-header-content-length"])
    said = json.loads(body[:cut])
    assert said["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert struct.unpack("<3f", body[cut:]) == pytest.approx(scores(replica), rel=1e-6)


@pytest.mark.parametrize("extra", ["", "expect: nothing\r\n"], ids=["quick", "slow"])
@pytest.mark.parametrize("length", ["{}", "0{}", "-{}", "+{}", "{}, {}", "1", "999999", "", "x"])
def test_binary_tensors_are_read_the_same_on_both_ways(replica: Replica, length: str, extra: str) -> None:
    given = {"data": None, "parameters": {"binary_data_size": 16}}
    head, tail = json.dumps(request(input=given)).encode(), struct.pack("<4f", *ROW)
    told = length.format(len(head), len(head))
    data = (
        (
            f"POST {INFER} HTTP/1.1\r\nhost: x\r\n{extra}inference-header-content-length: {told}\r\n"
            f"content-length: {len(head) + 16}\r\n\r\n"
        ).encode()
        + head
        + tail
    )
    with replica.connect() as client:
        for _ in range(3):  # the second time the head is known
            client.sendall(data)
            status, _, body = read_answer(client)
            assert status == (200 if length in {"{}", "0{}"} else 400), body
            if status == 200:
                assert json.loads(body)["outputs"][0]["data"] == scores(replica)


def test_json_in_and_binary_out_goes_the_quick_way_too(replica: Replica) -> None:
    status, headers, body = infer(replica, request(parameters={"binary_data_output": True}))
    cut = int(headers["inference-header-content-length"])
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert struct.unpack("<3f", body[cut:]) == pytest.approx(scores(replica), rel=1e-6)


def test_nan_can_leave_as_binary_but_not_as_json(replica: Replica) -> None:
    huge = {"data": [3e38, -3e38, 3e38, 3e38]}
    assert infer(replica, request(input=huge))[0] == 422
    assert infer(replica, request(input=huge, parameters={"binary_data_output": True}))[0] == 200


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({}, "inputs"),
        (request(inputs=[]), "$.inputs"),
        (request(input={"name": "x"}), "$.inputs[0].name"),
        (request(input={"datatype": "INT64"}), "$.inputs[0].datatype"),
        (request(input={"shape": [2, 4]}), "$.inputs[0].data"),
        (request(input={"shape": [1, 5]}), "$.inputs[0].shape"),
        (request(input={"shape": [-1, 4]}), "$.inputs[0].shape"),
        (request(input={"data": [1, 2, 3, "4"]}), "$.inputs[0].data"),
        (request(input={"data": [[1, 2], [3, 4]]}), "$.inputs[0].data"),
        (request(input={"data": [1e39, 0, 0, 0]}), "$.inputs[0].data[0][0]"),
        (request(input={"data": None}), "$.inputs[0]"),
        (request(outputs=[{"name": "x"}]), "$.outputs[0].name"),
        (request(input={"data": None, "parameters": {"binary_data_size": 16}}), "binary_data_size"),
    ],
)
def test_a_wrong_request_is_told_where(replica: Replica, document: Any, where: str) -> None:
    status, headers, body = infer(replica, document)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert where in json.loads(body)["error"]


@pytest.mark.parametrize("length", [0, 10**9, 5])
def test_a_wrong_length_of_the_json_part_is_refused(replica: Replica, length: int) -> None:
    assert infer(replica, request(), length=length)[0] == 400
