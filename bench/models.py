"""The models that the replica is measured with; weights from a fixed seed, so every process makes the same.

name      rows       what decides
tiny      6          what one request costs outside the model
wide      768        batching: big matrices, 15 kB of JSON a row
encoder   256        a small transformer: many operators a batch
deep      512        fills a GPU: 24 transformer layers of width 1024 over 128 tokens, some 80 GFLOP a row
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, tuple[int, ...]]


class Tokens(nn.Module):
    """A row cut into tokens, a transformer encoder over them, scores from their mean."""

    def __init__(self, *, tokens: int, features: int, width: int, heads: int, layers: int, scores: int) -> None:
        super().__init__()
        self.tokens, self.features = tokens, features
        self.enter = nn.Linear(features, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.leave = nn.Linear(width, scores)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.leave(self.body(self.enter(rows.view(-1, self.tokens, self.features))).mean(1))
        return found


def tiny() -> Made:
    body = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4))
    return body, (6,)


def wide() -> Made:
    body = nn.Sequential(nn.Linear(768, 3072), nn.ReLU(), nn.Linear(3072, 3072), nn.ReLU(), nn.Linear(3072, 512))
    return body, (768,)


def encoder() -> Made:
    return Tokens(tokens=8, features=32, width=96, heads=4, layers=3, scores=12), (256,)


def deep() -> Made:
    return Tokens(tokens=128, features=4, width=1024, heads=16, layers=24, scores=16), (512,)


FACTORIES: dict[str, Callable[[], Made]] = {"tiny": tiny, "wide": wide, "encoder": encoder, "deep": deep}


def build(name: str) -> Made:
    """The module with its weights, and the shape of a row."""
    torch.manual_seed(7)
    module, row_shape = FACTORIES[name]()
    return module.eval(), row_shape


def write(name: str, folder: Path) -> Path:
    """The weights as safetensors that name their factory here."""
    from safetensors.torch import save_file  # noqa: PLC0415 - not needed to be imported as a factory

    file = folder / f"{name}.safetensors"
    save_file(build(name)[0].state_dict(), file, metadata={"factory": f"bench.models:{name}"})
    return file


def rows_of(name: str, count: int) -> Tensor:
    """Rows to ask about, rounded so that JSON and float32 mean the same."""
    shape = FACTORIES[name]()[1] if name != "deep" else (512,)
    generator = torch.Generator().manual_seed(11)
    return torch.round(torch.randn((count, *shape), generator=generator), decimals=4)
