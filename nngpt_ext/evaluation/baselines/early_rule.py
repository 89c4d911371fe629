"""The early rule: the dataset with the higher accuracy so far, relative to the best of training networks, wins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nngpt_ext.evaluation.baselines.priors import Baseline, pair_weights
from nngpt_ext.evaluation.metrics import first_wins, log_losses
from nngpt_ext.scoring.logistic import logistic

if TYPE_CHECKING:
    from nngpt_ext.data.load import PairData

SLOPES = (1, 2, 5, 10, 20, 50, 100)  # log-odds for a lead of 1, of which training chooses: no answer depends on it


def early_rule(data: PairData) -> np.ndarray:
    """P(dataset_1) for the test pairs, shape (test pairs,).

    The accuracies compared are those of the last epoch of evidence. On a dataset on which a network is not trained yet,
    the mean of the training networks stands for its accuracy.
    """
    training, test = data.training, data.part("test")
    usual = pd.concat([_shares(training, i) for i in (1, 2)]).groupby(level=0).mean()

    def lead(pairs: pd.DataFrame) -> np.ndarray:
        one, two = (found.fillna(found.index.to_series().map(usual)) for found in (_shares(pairs, i) for i in (1, 2)))
        return one.fillna(0.5).to_numpy() - two.fillna(0.5).to_numpy()

    known, won, weights = lead(training), first_wins(training), pair_weights(training, data.weights)
    losses = [np.average(log_losses(logistic(slope * known), won), weights=weights) for slope in SLOPES]
    return np.asarray(logistic(SLOPES[int(np.argmin(losses))] * lead(test)))


def _shares(pairs: pd.DataFrame, side: int) -> pd.Series:
    """The relative accuracy at the last epoch on a side, NaN where it is not trained; the index is the dataset."""
    found = [known[max(known)] if known else np.nan for known in pairs[f"evidence_{side}"]]
    return pd.Series(found, index=pairs[f"dataset_{side}"], dtype="float64")


EARLY_RULE = Baseline(
    "early_rule",
    "the higher early accuracy, relative to the best of training networks, wins; no model",
    early_rule,
    evidence=True,
)
