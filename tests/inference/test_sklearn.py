"""scikit-learn estimators from files: skops and joblib answer alike; what skops does not trust is refused by name."""

from __future__ import annotations

import struct
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from inference.errors import BadSetting
from inference.model import load
from inference.settings import Settings
from inference.wire import Array

ROWS = np.random.default_rng(5).normal(size=(60, 3))
KINDS = np.where(ROWS[:, 0] > 0, "warm", "cold")
SETTINGS = Settings(models=(), max_batch_size=8)


def same(rows: object) -> object:
    return rows


def packed(rows: Array) -> list[bytes]:
    return [struct.pack("<3d", *row) for row in rows]


@pytest.mark.parametrize("ending", [".skops", ".joblib"])
def test_an_estimator_answers_what_predict_says(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"kinds{ending}"
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, KINDS)
    (skops.io.dump if ending == ".skops" else joblib.dump)(estimator, file)
    model = load("kinds", file, SETTINGS)
    model.warm_up()
    found = model.run(packed(ROWS[:5]), 5).arrays[0]
    assert [["cold", "warm"][index] for index in found] == list(KINDS[:5])
    assert model.platform == f"sklearn_{ending[1:]}"


def test_a_regression_answers_numbers(tmp_path: Path) -> None:
    estimator = LinearRegression().fit(ROWS, ROWS @ [1.0, 2.0, 3.0])
    skops.io.dump(estimator, tmp_path / "line.skops")
    model = load("line", tmp_path / "line.skops", SETTINGS)
    assert model.run(packed(ROWS[:4]), 4).arrays[0] == pytest.approx(ROWS[:4] @ [1.0, 2.0, 3.0])


def test_types_that_skops_does_not_trust_are_refused_by_name(tmp_path: Path) -> None:
    estimator = make_pipeline(FunctionTransformer(same), LinearRegression()).fit(ROWS, ROWS[:, 0])
    skops.io.dump(estimator, tmp_path / "odd.skops")
    with pytest.raises(BadSetting, match=r"test_sklearn\.same"):
        load("odd", tmp_path / "odd.skops", SETTINGS)


@pytest.mark.parametrize("held", [LinearRegression(), {"no": "estimator"}], ids=["unfitted", "no estimator"])
def test_what_is_no_fitted_estimator_is_refused(tmp_path: Path, held: object) -> None:
    joblib.dump(held, tmp_path / "m.joblib")
    with pytest.raises(BadSetting, match=r"m\.joblib"):
        load("m", tmp_path / "m.joblib", SETTINGS)
