"""Models and replica processes shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inference.settings import MODELS
from tests.inference.process import Replica


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sample models: the one made at set-up, or one made now."""
    pytest.importorskip("torch", reason="torch is not installed")
    if (MODELS / "iris.pt2").is_file() and (MODELS / "scores.safetensors").is_file():
        return MODELS
    from inference.train import write  # noqa: PLC0415 - imports torch

    folder = tmp_path_factory.mktemp("models")
    write(folder)
    return folder


@pytest.fixture(scope="session")
def replica(models: Path) -> Iterator[Replica]:
    """A ready replica that serves all sample models; iris answers /predict."""
    files = ("iris.safetensors", "scores.safetensors", "iris-sklearn.joblib")
    pairs = ",".join(f"{Path(name).stem}={models / name}" for name in files)
    made = Replica(MODEL_PATH=pairs)
    yield made.ready()
    made.end()


@pytest.fixture
def start() -> Iterator[Callable[..., Replica]]:
    """Starts replicas with settings of their own and ends them with the test."""
    made: list[Replica] = []

    def begin(*command: str, **environment: str) -> Replica:
        made.append(Replica(*command, **environment))
        return made[-1]

    yield begin
    for one in made:
        one.end()
