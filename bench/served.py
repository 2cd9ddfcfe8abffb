"""What the measurements of the replica share: requests, cores, a bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from torch import Tensor

from bench.load import post


def json_requests(rows: Tensor) -> tuple[bytes, ...]:
    """Each row as a request to /predict."""
    return tuple(post("/predict", orjson.dumps({"data": [[round(x, 4) for x in row]]})) for row in rows.tolist())


def v2_requests(name: str, rows: Tensor) -> tuple[bytes, ...]:
    """Each row as a JSON request of the Open Inference Protocol."""
    return tuple(
        post(
            f"/v2/models/{name}/infer", orjson.dumps({"inputs": [_tensor(row) | {"data": [round(x, 4) for x in row]}]})
        )
        for row in rows.tolist()
    )


def binary_requests(name: str, rows: Tensor) -> tuple[bytes, ...]:
    """Each row as a binary tensor of the Open Inference Protocol."""
    made = []
    for row in rows:
        given = _tensor(row.tolist()) | {"parameters": {"binary_data_size": 4 * len(row)}}
        head = orjson.dumps({"inputs": [given]})
        length = f"inference-header-content-length: {len(head)}"
        made.append(post(f"/v2/models/{name}/infer", head + row.numpy().astype("<f4").tobytes(), length))
    return tuple(made)


def _tensor(row: list[float]) -> dict[str, object]:
    return {"name": "data", "shape": [1, len(row)], "datatype": "FP32"}


def cores() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The core of the server and the cores of the load: apart where there are two."""
    found = sorted(os.sched_getaffinity(0))
    return (found[0],), tuple(found[1:] or found)


@contextmanager
def pinned(to: tuple[int, ...]) -> Iterator[None]:
    """Processes started inside run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def progress(share: float, text: str) -> None:
    """A bar on a terminal; nothing where there is none."""
    if sys.stderr.isatty():
        filled = round(30 * share)
        end = "\n" if share >= 1 else ""
        print(
            f"\r\x1b[2K{'█' * filled}{'·' * (30 - filled)} {share:4.0%}  {text}", end=end, file=sys.stderr, flush=True
        )
