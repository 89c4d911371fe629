"""Two base models on the same pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nngpt_ext.study.compare import compare_bases
from nngpt_ext.study.grid import read_grid
from tests.study.conftest import CODE, written

BASES = ["embedded", "embedded-small"]


@pytest.fixture
def cells(studied, tmp_path):
    """A real cell, and the same questions answered otherwise, as by another base."""
    block = {"prompts": ["code_only"], "bases": BASES, "labels": ["normalized", "percentile"]}
    found = [c for c in read_grid(written(tmp_path, {"cells": [block]})).cells if c.label == "normalized"]
    real = pd.read_parquet(studied.folder / "cells" / CODE / "predictions.parquet")
    turned = np.random.default_rng(0).random(len(real)) < 0.3
    other = np.where(real["predicted"] == real["dataset_1"], real["dataset_2"], real["dataset_1"])
    frames = real, real.assign(predicted=np.where(turned, other, real["predicted"])).iloc[::-1]  # in another order
    for cell, frame in zip(found, frames, strict=True):
        (tmp_path / cell.name).mkdir()
        frame.to_parquet(tmp_path / cell.name / "predictions.parquet")
    return [(cell, tmp_path / cell.name) for cell in found]


def test_the_difference_is_of_the_same_pairs(cells):
    (found,) = compare_bases(cells)
    one, two = (pd.read_parquet(folder / "predictions.parquet").query("split == 'test'") for _, folder in cells)
    right = [(frame["predicted"] == frame["better_dataset"]).mean() for frame in (one, two)]
    assert (found.first, found.second) == tuple(cell.name for cell, _ in cells)
    assert (found.n, found.networks) == (len(one), one["nn"].nunique())
    assert found.difference.value == pytest.approx(right[0] - right[1])
    both = one.merge(two, on=["nn", "dataset_1", "dataset_2"])
    hits = [both[f"predicted_{side}"] == both[f"better_dataset_{side}"] for side in ("x", "y")]
    gains = (hits[0].astype(int) - hits[1].astype(int)).groupby(both["nn"]).sum().to_numpy()
    exact = stats.permutation_test((gains,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert found.difference.p == pytest.approx(exact.pvalue, abs=0.02)


def test_a_cell_equals_itself(cells):
    (one, folder), (two, _) = cells
    (found,) = compare_bases([(one, folder), (two, folder)])
    assert (found.difference.value, found.difference.ci95, found.difference.p) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize("change", [{"prompt": "recipe"}, {"label": "percentile"}, {"seed": 1}, {"base": "embedded"}])
def test_other_questions_are_not_compared(cells, change):
    (one, folder), (two, other) = cells
    assert compare_bases([(one, folder), (two.model_copy(update=change), other)]) == []


def test_other_pairs_are_not_compared(cells):
    _, (_, other) = cells
    frame = pd.read_parquet(other / "predictions.parquet")
    frame.drop(index=frame.index[frame["split"] == "test"][0]).to_parquet(other / "predictions.parquet")
    assert compare_bases(cells) == []
