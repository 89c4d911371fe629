"""Predictions: both orders averaged, columns as DESIGN.md fixes them, nothing leaked by the order or the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nngpt_ext.batches.attention import install
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import Base
from nngpt_ext.scoring.log_odds import log_odds
from nngpt_ext.scoring.predictions import (
    COLUMNS,
    encode_pairs,
    group_by_network,
    pair_log_odds,
    predicted_pairs,
    questions_of,
)
from tests import models_made
from tests.batches.asked import RECIPES, encoder

CHOSEN = [
    ("VGG", "cifar-10", "mnist"),
    ("AlexNet", "cifar-10", "mnist"),
    ("VGG", "celeba-gender", "svhn"),  # networks mixed: rows must come back in their order
    ("AlexNet", "mnist", "svhn"),
    ("ResNet", "cifar-10", "mnist"),
    ("AlexNet", "cifar-10", "cifar-100"),
    ("ResNet", "celeba-gender", "svhn"),
]


def pairs_frame() -> pd.DataFrame:
    """Pairs as `build_pairs` and a split give them, with an index that is not 0, 1, 2 …"""
    rows = []
    for i, (nn, one, two) in enumerate(CHOSEN):
        left, right = 0.9 - 0.1 * i, 0.55
        rows.append(
            {
                "nn": nn, "epoch": 5, "dataset_1": one, "dataset_2": two,
                "accuracy_1": left, "accuracy_2": right, "norm_acc_1": left, "norm_acc_2": right,
                "better_dataset": one if left >= right else two, "margin": abs(left - right),
                "recipe_1": RECIPES[one], "recipe_2": RECIPES[two], "split": "test" if i % 2 else "validation",
            }
        )  # fmt: skip
    return pd.DataFrame(rows, index=range(100, 100 + len(rows)))


def turned_frame(pairs: pd.DataFrame) -> pd.DataFrame:
    names = {}
    for column in ("dataset", "accuracy", "norm_acc", "recipe"):
        names |= {f"{column}_1": f"{column}_2", f"{column}_2": f"{column}_1"}
    return pairs.rename(columns=names)


def predict(base: Base, pairs: pd.DataFrame, prompt: str = "recipe", **changes: Any) -> pd.DataFrame:
    given: dict[str, Any] = {"row_tokens": 1024, **changes}
    install(base.model)
    odds = pair_log_odds(base.model, encode_pairs(encoder(base, prompt), questions_of(pairs)), **given)
    return predicted_pairs(odds, pairs, prompt=prompt, base_model="made", tuning_epoch=2)


def test_columns_and_types(tmp_path: Path) -> None:
    frame = predict(models_made.base("llama"), pairs_frame())
    assert tuple(frame.columns) == COLUMNS
    assert COLUMNS == (
        "nn", "epoch", "dataset_1", "dataset_2", "probability_1", "flipped", "predicted", "better_dataset",
        "correct", "margin", "prompt", "base_model", "tuning_epoch", "split", "log_odds",
    )  # fmt: skip
    assert {name: kind.kind for name, kind in frame[["epoch", "tuning_epoch"]].dtypes.items()} == {
        "epoch": "i", "tuning_epoch": "i",
    }  # fmt: skip
    assert frame["probability_1"].dtype == frame["margin"].dtype == np.float64
    assert frame["flipped"].dtype == frame["correct"].dtype == np.bool_
    texts = ["nn", "dataset_1", "dataset_2", "predicted", "better_dataset", "prompt", "base_model", "split"]
    assert all(pd.api.types.is_string_dtype(frame[name]) for name in texts)
    assert list(frame.index) == list(range(len(CHOSEN)))
    assert frame[["prompt", "base_model", "tuning_epoch"]].drop_duplicates().values.tolist() == [["recipe", "made", 2]]
    frame.to_parquet(tmp_path / "p.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "p.parquet"), frame, check_dtype=False)


def test_rows_keep_their_order_and_truth() -> None:
    pairs = pairs_frame()
    frame = predict(models_made.base("llama"), pairs)
    same = ["nn", "epoch", "dataset_1", "dataset_2", "better_dataset", "margin", "split"]
    pd.testing.assert_frame_equal(frame[same], pairs[same].reset_index(drop=True))
    assert (frame["correct"] == (frame["predicted"] == frame["better_dataset"])).all()


@pytest.mark.parametrize("prompt", ["recipe", "code_only"])
def test_both_orders_are_averaged(prompt: str) -> None:
    base = models_made.base("llama", seed=8)
    pairs = pairs_frame()
    frame = predict(base, pairs, prompt)
    asked = encoder(base, prompt)
    for row, question in zip(frame.itertuples(), questions_of(pairs), strict=True):
        # One question at a time, without sharing and without grouping.
        alone = [
            log_odds(base.model, [asked.encode([q])], row_tokens=1024, pad=0, engine="plain")[0][0]
            for q in (question, question.turned())
        ]
        mean = (alone[0] - alone[1]) / 2
        assert abs(row.probability_1 - 1 / (1 + np.exp(-mean))) < 1e-4
        assert row.flipped == ((alone[0] > 0) == (alone[1] > 0))
        assert row.predicted == (row.dataset_1 if mean > 0 else row.dataset_2)
    if prompt == "recipe":
        assert frame["flipped"].nunique() == 2, "choose other weights: the test must see both cases"
        assert (frame["predicted"] == frame["dataset_1"]).nunique() == 2


@pytest.mark.parametrize("engine", ["shared", "plain"])
def test_turning_a_pair_negates(engine: str) -> None:
    base = models_made.base("llama")
    pairs = pairs_frame()
    asked = encoder(base)
    odds = pair_log_odds(base.model, encode_pairs(asked, questions_of(pairs)), row_tokens=1024, engine=engine)
    turned = [question.turned() for question in questions_of(pairs)]
    again = pair_log_odds(base.model, encode_pairs(asked, turned), row_tokens=1024, engine=engine)
    assert odds.shape == (len(CHOSEN), 2)
    assert np.abs(odds).max() > 0.1
    assert np.abs(again + odds[:, ::-1]).max() < 1e-4
    one, two = predict(base, pairs, engine=engine), predict(base, turned_frame(pairs), engine=engine)
    assert np.abs(one["probability_1"] + two["probability_1"] - 1).max() < 1e-5
    assert (one["predicted"] == two["predicted"]).all()
    assert (one["flipped"] == two["flipped"]).all()


@pytest.mark.parametrize("engine", ["shared", "plain"])
def test_metadata_only_says_the_same_of_every_network(engine: str) -> None:
    frame = predict(models_made.base("llama"), pairs_frame(), "metadata_only", engine=engine)
    by_pair = frame.groupby(["dataset_1", "dataset_2"])["probability_1"]
    assert by_pair.size().max() == 3
    assert (by_pair.max() - by_pair.min()).max() <= 1e-6
    assert frame["probability_1"].std() > 0.01
    with_code = predict(models_made.base("llama"), pairs_frame(), "code_only", engine=engine)
    by_pair = with_code.groupby(["dataset_1", "dataset_2"])["probability_1"]
    assert (by_pair.max() - by_pair.min()).max() > 1e-3


def test_engines_agree() -> None:
    base = models_made.base("llama", load_in_4bit=True)
    one, two = (predict(base, pairs_frame(), engine=engine) for engine in ("shared", "plain"))
    assert np.abs(one["probability_1"] - two["probability_1"]).max() < 1e-4
    rest = [name for name in COLUMNS if name != "probability_1"]
    pd.testing.assert_frame_equal(one[rest], two[rest])


def test_same_again() -> None:
    base = models_made.base("llama", load_in_4bit=True)
    pd.testing.assert_frame_equal(predict(base, pairs_frame()), predict(base, pairs_frame()), check_exact=True)


def test_progress_counts_both_orders() -> None:
    told: list[int] = []
    predict(models_made.base("llama"), pairs_frame(), progress=told.append)
    assert sum(told) == 2 * len(CHOSEN)


def test_no_pairs() -> None:
    assert tuple(predict(models_made.base("llama"), pairs_frame()[:0]).columns) == COLUMNS


def test_groups_follow_the_first_appearance() -> None:
    assert [rows.tolist() for rows in group_by_network(["b", "a", "b", "c", "a"])] == [[0, 2], [1, 4], [3]]


def test_scores_that_are_not_finite_are_no_predictions() -> None:
    base = models_made.base("llama")
    refused = pytest.raises(
        UserError, match=r"of 7 of 7 pairs are not finite or not plausible after epoch \d+: training"
    )
    with models_made.damaged(base), refused as error:
        predict(base, pairs_frame())
    assert "\n" not in str(error.value)
    assert np.isfinite(predict(base, pairs_frame())["log_odds"]).all()
