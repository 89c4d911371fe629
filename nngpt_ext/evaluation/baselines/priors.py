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
    wins, total = _counted(train, _datasets(train), weights)
    wanted = _datasets(pairs)
    return (_looked_up(wins, wanted) + 1) / (_looked_up(total, wanted) + 2)


def kind_prior(
    train: pd.DataFrame, pairs: pd.DataFrame, kinds: Mapping[str, str], weights: Mapping[str, float] | None = None
) -> np.ndarray:
    """A pair prior of each kind of network, shrunk to the common one by 10 pseudo-pairs.

    A network without a kind has the common prior. Arguments are those of `pair_prior`, and `kinds` by network.
    """
    wins, total = _counted(train, _of_kind(train, kinds), weights)
    wanted, common = _of_kind(pairs, kinds), pair_prior(train, pairs, weights)
    stated = pairs["nn"].isin(kinds).to_numpy()
    own, n = (np.where(stated, _looked_up(values, wanted), 0.0) for values in (wins, total))
    return (own + SHRINKAGE * common) / (n + SHRINKAGE)


def pair_weights(pairs: pd.DataFrame, weights: Mapping[str, float] | None) -> np.ndarray:
    """How much each pair weighs: as its network does; shape (rows,)."""
    return pairs["nn"].map(weights or {}).fillna(1.0).to_numpy(dtype="float64")


def _datasets(pairs: pd.DataFrame) -> pd.Series:
    return pd.Series(list(zip(pairs["dataset_1"], pairs["dataset_2"], strict=True)), pairs.index, dtype="object")


def _of_kind(pairs: pd.DataFrame, kinds: Mapping[str, str]) -> pd.Series:
    rows = zip(pairs["nn"].map(kinds), pairs["dataset_1"], pairs["dataset_2"], strict=True)
    return pd.Series(list(rows), pairs.index, dtype="object")


def _counted(
    train: pd.DataFrame, groups: pd.Series, weights: Mapping[str, float] | None
) -> tuple[Mapping[object, float], Mapping[object, float]]:
    """The weight of the pairs that dataset_1 wins, and of all, by group."""
    table = pd.DataFrame({"group": groups, "n": pair_weights(train, weights)}, train.index)
    table["wins"] = table["n"] * first_wins(train)
    sums = table.groupby("group")[["wins", "n"]].sum()
    return sums["wins"].to_dict(), sums["n"].to_dict()


def _looked_up(values: Mapping[object, float], wanted: pd.Series) -> np.ndarray:
    return np.array([values.get(one, 0.0) for one in wanted], dtype="float64")


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
