"""`python -m inference.train [--out DIR]`: trains the sample models on scikit-learn's bundled iris data, in seconds.

Writes iris.safetensors (torch, quickest to load), scores.safetensors (the same flowers, scores instead of kinds),
iris.pt2 (iris as a torch.export program) and iris-sklearn.joblib (scikit-learn).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from inference.settings import MODELS


class Iris(nn.Module):
    """Four measurements of a flower → the index of its kind."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(4))
        self.scale = nn.Buffer(torch.ones(4))
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    def scores(self, rows: Tensor) -> Tensor:
        """One score a kind."""
        found: Tensor = self.body((rows - self.mean) / self.scale)
        return found

    def forward(self, rows: Tensor) -> Tensor:
        return self.scores(rows).argmax(1)


def iris() -> tuple[nn.Module, tuple[int, ...]]:
    """The factory of iris.safetensors: the module, and the shape of one row."""
    return Iris(), (4,)


class Scores(Iris):
    """The same flowers → one score a kind, as they are."""

    def forward(self, rows: Tensor) -> Tensor:
        return self.scores(rows)


def scores() -> tuple[nn.Module, tuple[int, ...]]:
    """The factory of scores.safetensors."""
    return Scores(), (4,)


def train_torch(rows: Tensor, kinds: Tensor, steps: int = 300) -> Iris:
    """A classifier fitted with Adam from a fixed seed."""
    torch.manual_seed(0)
    model = Iris()
    model.mean.copy_(rows.mean(0))
    model.scale.copy_(rows.std(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model.scores(rows), kinds))
        optimizer.step()
    return model.eval()


def write(out: Path) -> dict[str, float]:
    """Trains and writes all sample models into `out`; the share of flowers that each names rightly."""
    import joblib  # noqa: PLC0415 - heavy, and the server imports this module for its factory only
    from safetensors.torch import save_file  # noqa: PLC0415
    from sklearn.datasets import load_iris  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    data = load_iris()
    rows, kinds = torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)
    out.mkdir(parents=True, exist_ok=True)
    model = train_torch(rows, kinds)
    save_file(model.state_dict(), out / "iris.safetensors", metadata={"factory": "inference.train:iris"})
    save_file(model.state_dict(), out / "scores.safetensors", metadata={"factory": "inference.train:scores"})
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about its own internals
        program = torch.export.export(model, (rows[:4],), dynamic_shapes=({0: batch},))
        torch.export.save(program, out / "iris.pt2")
    estimator = LogisticRegression(max_iter=1000).fit(data.data, data.target)
    joblib.dump(estimator, out / "iris-sklearn.joblib")
    return {
        "torch": float((model(rows) == kinds).float().mean()),
        "sklearn": float(estimator.score(data.data, data.target)),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m inference.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=MODELS, help="the folder for the models (default: %(default)s)")
    out = parser.parse_args(arguments).out
    try:
        shares = write(out)
    except OSError as error:
        print(f"The models cannot be written to {out}: {error.strerror}.", file=sys.stderr)
        return 2
    for kind, share in shares.items():
        print(f"iris with {kind}: {share:.1%} right")
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
