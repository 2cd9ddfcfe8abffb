"""A scikit-learn estimator from a file of the image, never from a request.

`.skops` holds only types that skops knows to be harmless; a file that asks for others is refused, by name.
`.joblib` is a pickle and can run anything: only for files you made yourself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.base import BaseEstimator

from inference.errors import BadSetting
from inference.model import Model, buckets_up_to, time_call
from inference.settings import Settings
from inference.wire import CODES, Array, Outputs, Signature


class EstimatorModel(Model):
    """`predict` of an estimator; a classifier answers class indices."""

    def __init__(self, name: str, file: Path, estimator: Any, settings: Settings) -> None:
        self.platform = f"sklearn_{file.suffix[1:]}"
        self._estimator = estimator
        self._width = int(estimator.n_features_in_)
        self._classes: Array | None = getattr(estimator, "classes_", None)
        self._max_batch_size = settings.max_batch_size
        sample = self._predict(np.zeros((1, self._width)))
        outputs = (("predictions", sample.dtype.name, sample.shape[1:]),)
        super().__init__(
            name, file, Signature(input_name="data", dtype="float64", row_shape=(self._width,), outputs=outputs)
        )

    def run(self, payloads: list[bytes], rows: int) -> Outputs:
        data = np.frombuffer(b"".join(payloads), dtype=np.float64).reshape(rows, self._width)
        return Outputs((self._predict(data),))

    def warm_up(self) -> None:
        costs = {}
        for size in buckets_up_to(self._max_batch_size):
            payload = [bytes(size * self.signature.row_bytes)]
            costs[size] = time_call(lambda p=payload, s=size: self.run(p, s))  # type: ignore[misc]
            self.forms[size] = "predict"
        self.set_costs(costs)

    def _predict(self, data: Array) -> Array:
        found = np.asarray(self._estimator.predict(data))
        if self._classes is not None and found.dtype.name not in CODES:
            found = np.searchsorted(self._classes, found)  # labels that are words: their index
        return found


def load_estimator(name: str, file: Path, settings: Settings) -> EstimatorModel:
    """The estimator in `file`; raises BadSetting if it holds something else."""
    estimator = _load_skops(file) if file.suffix == ".skops" else joblib.load(file)
    if not isinstance(estimator, BaseEstimator) or not hasattr(estimator, "predict"):
        raise BadSetting(f"The model {file} holds a {type(estimator).__name__}, not a scikit-learn estimator.")
    if not hasattr(estimator, "n_features_in_"):
        raise BadSetting(f"The estimator in {file} is not fitted: save it after `fit`.")
    return EstimatorModel(name, file, estimator, settings)


def _load_skops(file: Path) -> Any:
    from skops.io import get_untrusted_types, load  # noqa: PLC0415 - only for this format

    if untrusted := get_untrusted_types(file=file):
        raise BadSetting(
            f"The model {file} asks for types that skops does not trust: {', '.join(sorted(untrusted))}. "
            "If you trust it, save it with joblib."
        )
    return load(file)
