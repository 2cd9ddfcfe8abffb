"""The doors to prediction that both ways from HTTP use: path → how to read its body, and for which model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from inference.service import Served, Service
from inference.v2 import Encode, Inference
from inference.wire import Outputs


def predictions(outputs: Outputs, begin: int, end: int) -> bytes:
    """The body of an answer of /predict."""
    return b'{"predictions":' + outputs.text(begin, end) + b"}"


@dataclass(frozen=True, slots=True)
class Door:
    """One path: the model behind it, and packed rows, their number and the answer's encoder from a body.

    `read` is also given the bytes of the JSON part where binary tensors may follow it, and None where they may not.
    """

    served: Served
    read: Callable[[bytes, int | None], tuple[bytes, int, Encode]]


@dataclass(frozen=True, slots=True)
class Head:
    """What a request head says that matters: where it leads, how long body and JSON part are, the time allowed."""

    door: Door
    length: int
    json_bytes: int | None
    timeout_s: float


@dataclass(slots=True)
class Doors:
    """All doors of one generation of models, and the heads that were found to lead to them."""

    generation: int = -1
    by_path: dict[bytes, Door] = field(default_factory=dict)
    heads: dict[bytes, Head] = field(default_factory=dict)

    MOST_HEADS = 512
    LONGEST_HEAD_BYTES = 2048

    def follow(self, service: Service) -> None:
        """Makes the doors anew if the models changed."""
        if self.generation == service.generation:
            return
        self.generation = service.generation
        self.heads = {}
        self.by_path = {}
        for name, served in service.served.items():
            self.by_path[b"/models/%b/predict" % name.encode()] = Door(served, _guide(served))
            self.by_path[b"/v2/models/%b/infer" % name.encode()] = Door(served, Inference(served.model).read)
            if name == service.default():
                self.by_path[b"/predict"] = Door(served, _guide(served))

    def remember(self, head: bytes, known: Head) -> None:
        """Keeps a head; when there are too many, all are forgotten and the ones in use come back."""
        if len(head) > self.LONGEST_HEAD_BYTES:
            return
        if len(self.heads) >= self.MOST_HEADS:
            self.heads.clear()
        self.heads[head] = known


def _guide(served: Served) -> Callable[[bytes, int | None], tuple[bytes, int, Encode]]:
    read = served.model.reader.read

    def read_guide(body: bytes, _: int | None) -> tuple[bytes, int, Encode]:
        payload, rows = read(body)
        return payload, rows, predictions

    return read_guide
