"""Small frames whose numbers can be counted by hand, and a slice of real LEMUR."""

from __future__ import annotations

import json
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.trials import RECIPE, collect
from nngpt_ext.evaluation.report import Report, RunRecord, build_report

RECIPE_A = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32"}


def pair_rows(rows: list[tuple[str, str, str, str]], split: str = "train") -> pd.DataFrame:
    """Pairs from (nn, dataset_1, dataset_2, better_dataset)."""
    return pd.DataFrame(
        [
            {
                "nn": nn, "epoch": 5, "dataset_1": a, "dataset_2": b,
                "accuracy_1": 0.5, "accuracy_2": 0.5,
                "norm_acc_1": 0.6 if best == a else 0.5, "norm_acc_2": 0.6 if best == b else 0.5,
                "better_dataset": best, "margin": 0.1,
                "recipe_1": dict(RECIPE_A), "recipe_2": dict(RECIPE_A), "split": split,
            }
            for nn, a, b, best in rows
        ]
    )  # fmt: skip


def predicted(pairs: pd.DataFrame, probability: Any, flipped: Any = False) -> pd.DataFrame:
    """Predictions with the given P(dataset_1)."""
    frame = pairs[["nn", "epoch", "dataset_1", "dataset_2", "better_dataset", "margin", "split"]].copy()
    frame["probability_1"] = np.asarray(probability, dtype="float64")
    frame["flipped"] = flipped
    frame["predicted"] = np.where(frame["probability_1"] >= 0.5, frame["dataset_1"], frame["dataset_2"])
    frame["correct"] = frame["predicted"] == frame["better_dataset"]
    return frame.assign(prompt="recipe", base_model="embedded", tuning_epoch=2)


# Two test networks; the answers, P(dataset_1) of the model, and whether the prior (0.6 throughout) is right.
TEST_ROWS = [
    ("n1", "cifar-10", "mnist", "mnist"),  # 0.1 right, prior wrong
    ("n1", "cifar-10", "svhn", "cifar-10"),  # 0.8 right, prior right
    ("n1", "mnist", "svhn", "mnist"),  # 0.9 right, prior right
    ("n2", "cifar-10", "mnist", "cifar-10"),  # 0.4 wrong, prior right
]
PROBABILITY = [0.1, 0.8, 0.9, 0.4]


def made_report(**changes: Any) -> Report:
    """A report on TEST_ROWS: accuracy 3/4, prior 3/4, n1 with a near-duplicate in training."""
    validation = pair_rows([("v1", "cifar-10", "mnist", "mnist"), ("v2", "mnist", "svhn", "mnist")], "validation")
    pairs = pd.concat(
        [pair_rows([("t1", "mnist", "svhn", "mnist")] * 3), validation, pair_rows(TEST_ROWS, "test")],
        ignore_index=True,
    )
    scored = pairs[pairs["split"] != "train"]
    given: dict[str, Any] = {
        "task": "dataset_compare",
        "prompt": "recipe",
        "base_model": "embedded",
        "split": "by_network",
        "pairs": pairs,
        # Validation rows stand first: test rows must be chosen by split, not by position.
        "predictions": predicted(scored, [0.5, 0.5, *PROBABILITY], [False, False, True, False, False, False]),
        "baselines": {
            "pair_prior": np.full(4, 0.6),
            "code_gbm": np.array([0.9, 0.1, 0.1, 0.1]),
            "recipe_gbm": np.array([0.2, 0.8, 0.8, 0.8]),
        },
        "near_duplicates": {"n1"},
        "near_duplicate_threshold": 0.85,
        "excluded": {"accuracy outside [0, 1]": 3},
        "epochs": [
            {"epoch": 1, "train_loss": float("nan"), "validation_accuracy": 0.5, "test_accuracy": 1.0},
            {"epoch": 2, "train_loss": 0.25, "validation_accuracy": 1.0, "test_accuracy": 0.75},
        ],
        "selected_epoch": 2,
        "timings": {"train_s": 1.5},
        "versions": {"python": "3.11"},
        "config": {"lora": {"r": 8}},
        "notes": ["one remark"],
    }
    given |= changes
    scored, baselines = given.pop("predictions"), given.pop("baselines")
    given["pairs"] = given["pairs"]["split"].value_counts().to_dict()
    return build_report(RunRecord(**given), scored, baselines)


@pytest.fixture(scope="session")
def report() -> Report:
    return made_report()


@pytest.fixture(scope="session")
def lemur() -> tuple[pd.DataFrame, dict[str, str]]:
    """Real pairs at epoch 5 of about a third of LEMUR's networks (chosen by name), and their sources."""
    try:
        root = Path(str(metadata.distribution("nn-dataset").locate_file("ab/nn")))
    except metadata.PackageNotFoundError:
        pytest.skip("nn-dataset is not installed")
    records = []
    for folder in sorted((root / "stat/train").glob("img-classification_*_acc_*")):
        _, dataset, _, nn = folder.name.split("_", 3)
        if zlib.crc32(nn.encode()) % 3 or not (folder / "5.json").is_file():
            continue
        for trial in json.loads((folder / "5.json").read_text()):
            records.append((nn, dataset, 5, trial.get("accuracy"), *(trial.get(name) for name in RECIPE)))
    names = {path.stem for path in (root / "nn").glob("*.py")}
    pairs = build_pairs(collect(records, names, LEMUR_FACTS).frame, 5)
    order = np.random.default_rng(0).permutation(pairs["nn"].unique())
    pairs["split"] = np.where(pairs["nn"].isin(set(order[: len(order) // 4])), "test", "train")
    return pairs, {str(nn): (root / f"nn/{nn}.py").read_text(encoding="utf-8") for nn in order}
