"""Priors for a dataset that training never had: how strong its opponent is, and what the facts of datasets say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nngpt_ext.evaluation.baselines.bradley_terry import Contest, ridge_scores, sigmoid
from nngpt_ext.evaluation.baselines.priors import Baseline
from nngpt_ext.evaluation.metrics import first_wins

if TYPE_CHECKING:
    from nngpt_ext.data.facts import DatasetFacts

PENALTIES = (10.0, 100.0, 1_000.0, 10_000.0)  # of the ridge regression, on the weights of pairs


def opponent_prior(train: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """P(dataset_1), shape (rows,): how often the known dataset of a pair wins in training, whatever the other one is.

    It is (wins + 1) / (n + 2) of the known dataset; 0.5 if training has neither.
    """
    known = pd.concat([train["dataset_1"], train["dataset_2"]]).value_counts()
    share = (train["better_dataset"].value_counts().reindex(known.index, fill_value=0) + 1) / (known + 2)
    one, two = (pairs[f"dataset_{i}"].map(share) for i in (1, 2))
    return one.fillna(1 - two).fillna(0.5).to_numpy(dtype="float64")


def facts_prior(train: pd.DataFrame, pairs: pd.DataFrame, facts: Mapping[str, DatasetFacts]) -> np.ndarray:
    """P(dataset_1), shape (rows,): Bradley–Terry scores of datasets, linear in the logarithms of their facts.

    The penalty of the ridge regression is the one that predicts each training dataset best from the others.
    """
    names = sorted({*train["dataset_1"], *train["dataset_2"], *pairs["dataset_1"], *pairs["dataset_2"]})
    sides, asked = (
        np.array([[names.index(name) for name in rows[f"dataset_{i}"]] for i in (1, 2)]) for rows in (train, pairs)
    )
    numbers = [[value for value in vars(facts[name]).values() if isinstance(value, int)] for name in names]
    known, logs = np.unique(sides), np.log(np.array(numbers, dtype="float64"))
    spread = logs[known].std(axis=0)
    table = (logs - logs[known].mean(axis=0)) / np.where(spread, spread, np.inf)
    contest = Contest(sides, first_wins(train), np.ones(len(train)), np.zeros(len(train)))
    losses = np.zeros(len(PENALTIES))
    for one in known:
        own = (sides == one).any(axis=0)
        if not own.all():
            losses += [contest.rows(own).loss(scores) for scores in ridge_scores(table, contest.rows(~own), PENALTIES)]
    [scores] = ridge_scores(table, contest, [PENALTIES[int(losses.argmin())]])
    return sigmoid(scores[asked[0]] - scores[asked[1]])


UNSEEN = (
    Baseline(
        "opponent_prior",
        "how often the other dataset, which is known, wins in training at all",
        lambda data: opponent_prior(data.part("train"), data.part("test")),
        unseen=True,
    ),
    Baseline(
        "facts_prior",
        "Bradley–Terry model of the facts about the datasets (images, size, channels, classes)",
        lambda data: facts_prior(data.part("train"), data.part("test"), data.facts),
        unseen=True,
    ),
)
