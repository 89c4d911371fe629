"""The declaration of a baseline, and the priors, which never look at the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nngpt_ext.evaluation.metrics import first_wins

if TYPE_CHECKING:
    from nngpt_ext.data.load import PairData


@dataclass(frozen=True)
class Baseline:
    """A predictor without a language model.

    Attributes:
        description: one line for reports and help texts.
        fit: returns P(dataset_1 is the better one) for the test pairs, in their order, shape (test pairs,). It uses
            only the training pairs, the source code of the networks and what a prompt may show of the test pairs.
    """

    name: str
    description: str
    fit: Callable[[PairData], np.ndarray]


def pair_prior(train: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """How often dataset_1 wins its dataset pair in training, smoothed by Laplace's rule of succession.

    It is (wins + 1) / (n + 2), and 0.5 for a dataset pair that training does not have.
    """
    groups = pd.Series(first_wins(train), train.index).groupby([train["dataset_1"], train["dataset_2"]])
    share = ((groups.sum() + 1) / (groups.size() + 2)).to_dict()
    wanted = zip(pairs["dataset_1"], pairs["dataset_2"], strict=True)
    return np.array([share.get(pair, 0.5) for pair in wanted], dtype="float64")


PRIORS = (
    Baseline(
        "pair_prior",
        "the usual winner of each dataset pair in training, without a look at the network",
        # Of the best trials, whatever the language model trains on: fitted on pairs of all trials it falls from 0.832
        # to 0.810 on the same LEMUR test pairs (by_network, seed 0), and a weak baseline makes any skill look larger.
        lambda data: pair_prior(data.part("train"), data.part("test")),
    ),
)
