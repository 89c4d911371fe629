"""The declaration of a baseline, and the priors: the usual winners, which never look at the network beyond its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nngpt_ext.evaluation.metrics import first_wins

if TYPE_CHECKING:
    from nngpt_ext.data.load import PairData

_DATASETS = ["dataset_1", "dataset_2"]
SHRINKAGE = 10.0  # pseudo-pairs of the pair prior in the prior of a kind


@dataclass(frozen=True)
class Baseline:
    """A predictor without a language model.

    Attributes:
        description: one line for reports and help texts.
        fit: returns P(dataset_1 is the better one) for the test pairs, in their order, shape (test pairs,). It uses
            only the training pairs, the source code of the networks and what a prompt may show of the test pairs.
        evidence: whether it is of pairs with early evidence only.
        unseen: whether it is of a split that holds out a dataset only.
    """

    name: str
    description: str
    fit: Callable[[PairData], np.ndarray]
    evidence: bool = False
    unseen: bool = False


def pair_prior(train: pd.DataFrame, pairs: pd.DataFrame, weights: Mapping[str, float] | None = None) -> np.ndarray:
    """How often dataset_1 wins its dataset pair in training, smoothed by Laplace's rule of succession.

    It is (wins + 1) / (n + 2), and 0.5 for a dataset pair that training does not have.

    Args:
        train: training pairs.
        pairs: the pairs to judge.
        weights: how much a network counts; 1 for those that are not named.
    """
    found = _counted(train, pairs, weights, _DATASETS)
    return np.asarray((found["wins"] + 1) / (found["n"] + 2))


def kind_prior(
    train: pd.DataFrame, pairs: pd.DataFrame, kinds: Mapping[str, str], weights: Mapping[str, float] | None = None
) -> np.ndarray:
    """A pair prior of each kind of network, shrunk to the common one by 10 pseudo-pairs.

    A network without a kind has the common prior. Arguments are those of `pair_prior`, and `kinds` by network.
    """
    known, asked = (rows.assign(kind=rows["nn"].map(kinds)) for rows in (train, pairs))
    own = _counted(known, asked, weights, ["kind", *_DATASETS])
    return np.asarray((own["wins"] + SHRINKAGE * pair_prior(train, pairs, weights)) / (own["n"] + SHRINKAGE))


def pair_weights(pairs: pd.DataFrame, weights: Mapping[str, float] | None) -> np.ndarray:
    """How much each pair weighs: as its network does; shape (rows,)."""
    return pairs["nn"].map(weights or {}).fillna(1.0).to_numpy(dtype="float64")


def _counted(
    train: pd.DataFrame, pairs: pd.DataFrame, weights: Mapping[str, float] | None, keys: list[str]
) -> pd.DataFrame:
    """Of each pair, the weight of the training pairs with the same keys that dataset_1 wins (`wins`), and of all."""
    n = pair_weights(train, weights)
    sums = train[keys].assign(wins=n * first_wins(train), n=n).groupby(keys)[["wins", "n"]].sum()
    return sums.reindex(pd.MultiIndex.from_frame(pairs[keys]), fill_value=0.0)


PRIORS = (
    Baseline(
        "pair_prior",
        "the usual winner of each dataset pair in training, without a look at the network",
        # Of the best trials, whatever the language model trains on: fitted on pairs of all trials it falls from 0.832
        # to 0.810 on the same LEMUR test pairs (by_network, seed 0), and a weak baseline makes any skill look larger.
        lambda data: pair_prior(data.part("train"), data.part("test"), data.weights),
    ),
    Baseline(
        "kind_prior",
        "the usual winner of each dataset pair among the training networks of the same kind",
        lambda data: kind_prior(data.part("train"), data.part("test"), data.kinds, data.weights),
    ),
)
