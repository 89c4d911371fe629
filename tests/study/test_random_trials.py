"""A run asked about random trials answers what a predictor of that run answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nngpt_ext import Predictor, Query
from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.study.random_trials import same_pairs
from tests.study.conftest import COMMON, RANDOM, RECIPE


@pytest.fixture(scope="module")
def asked(studied) -> pd.DataFrame:
    return pd.read_parquet(studied.folder / "cells" / RANDOM / "predictions.parquet")


def test_networks_are_those_of_the_runs_test(studied, asked):
    own = pd.read_parquet(studied.folder / "cells" / RECIPE / "predictions.parquet").query("split == 'test'")
    assert set(asked["nn"]) == set(own["nn"])
    assert set(asked["split"]) == {"test"}
    keys = ["nn", "dataset_1", "dataset_2"]
    assert asked[keys].equals(own[keys].reset_index(drop=True))
    assert not np.allclose(asked["margin"], own["margin"])  # of other trials


def test_answers_are_the_predictors(studied, asked):
    data = load_pairs(DataConfig(**{**COMMON["data"], "trials": "random"}))
    pairs = data.part("test")
    predictor = Predictor.from_run(studied.folder / "cells" / RECIPE)
    queries = [
        Query(data.sources[row.nn], row.dataset_1, row.dataset_2,
              {row.dataset_1: row.recipe_1, row.dataset_2: row.recipe_2}, nn=row.nn)
        for row in pairs.itertuples(index=False)
    ]  # fmt: skip
    answers = list(predictor.compare_many(queries))
    assert [a.winner for a in answers] == asked["predicted"].tolist()
    assert [a.probability for a in answers] == pytest.approx(asked["calibrated_1"].tolist(), abs=1e-5)
    assert asked["better_dataset"].tolist() == pairs["better_dataset"].tolist()


def test_only_test_pairs_are_asked_about():
    """Under a leaky split a test network's other pairs are training pairs."""
    drawn = load_pairs(
        DataConfig(trials="random", split="random_pairs", test_networks=5, validation_networks=2, train_networks=20)
    ).pairs
    test = drawn[drawn["split"] == "test"]
    alike = drawn[drawn["nn"].isin(set(test["nn"]))]
    assert len(alike) > len(test)
    asked = same_pairs(test[::-1], drawn.assign(split="train"))
    assert list(asked["margin"]) == list(test["margin"][::-1])
    assert set(asked["split"]) == {"test"}


def test_its_report_says_so(studied):
    report = read_report(studied.folder / "cells" / RANDOM)
    assert (report.prompt, report.n_test_networks, report.epochs) == ("recipe", 5, [])
    assert any("one random trial" in note for note in report.notes)
