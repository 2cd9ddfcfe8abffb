"""Which form of a model is taken for a batch size, and that every form taken answers as eager does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from inference.forms import Contender, Tuner, _choose
from inference.model import buckets_up_to


def contender(name: str, cost_s: float) -> Contender:
    return Contender(name, lambda rows: rows, cost_s)


@pytest.mark.parametrize(
    ("costs", "wanted"),
    [
        ({"eager": 1.0}, "eager"),
        ({"eager": 1.0, "frozen": 0.99}, "eager"),
        ({"eager": 1.0, "frozen": 0.9, "packed": 0.8}, "packed"),
        ({"eager": 1.0, "graphed": 1.01}, "graphed"),
        ({"eager": 1.0, "graphed": 1.2}, "eager"),
        ({"eager": 1.0, "graphed": 0.9, "compiled": 0.5}, "compiled"),
    ],
)
def test_the_fastest_is_taken_and_eager_unless_clearly_slower(costs: dict[str, float], wanted: str) -> None:
    assert _choose([contender(name, cost_s) for name, cost_s in costs.items()]).name == wanted


class Branching(nn.Module):
    """What Python decides by the values of the rows: no trace may stand for it."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows * 2 if float(rows.sum()) > 0 else rows - 1


class Sizing(nn.Module):
    """What Python decides by the number of rows: a trace holds for its own size only."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.reshape(rows.shape[0], -1) * rows.shape[0]


def tuned(module: nn.Module, row_shape: tuple[int, ...]) -> Tuner:
    tuner = Tuner(
        make=lambda: module,
        eager=module,
        sizes=buckets_up_to(8),
        row_shape=row_shape,
        dtype=torch.float32,
        device=torch.device("cpu"),
        budget_s=5.0,
        use_compile=False,
        rough=False,
    )
    with torch.inference_mode():
        tuner.tune()
    return tuner


@pytest.mark.parametrize("module", [Branching(), Sizing(), nn.Linear(700, 700)], ids=["branch", "size", "linear"])
def test_every_form_taken_answers_as_eager_does(module: nn.Module) -> None:
    width = 700
    found = tuned(module.eval(), (width,))
    assert sorted(found.calls) == sorted(found.costs) == found.sizes
    generator = torch.Generator().manual_seed(3)
    for size, call in found.calls.items():
        for sign in (1, -1):
            rows = sign * torch.rand((size, width), generator=generator)
            with torch.inference_mode():
                assert torch.allclose(call(rows), module(rows), rtol=1e-4, atol=1e-5), (size, found.names[size])


def test_what_python_decides_by_value_stays_eager() -> None:
    assert set(tuned(Branching(), (3,)).names.values()) == {"eager"}
