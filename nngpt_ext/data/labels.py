"""Labels: the scores that decide on which of two datasets a network does better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nngpt_ext.declaration import Declarations

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Label:
    """A way to score trials of one epoch so that two datasets can be compared.

    Attributes:
        score: called with the trials to score (columns of `trials.COLUMNS`), their normalised accuracies, shape
            (trials,), and the best trial of each network and dataset among the networks that are in a pair. Returns
            the scores, shape (trials,). dataset_1 is the answer if its score is at least dataset_2's.
    """

    name: str
    description: str
    score: Callable[[pd.DataFrame, np.ndarray, pd.DataFrame], np.ndarray]


def _percentile(chosen: pd.DataFrame, _normalized: np.ndarray, best: pd.DataFrame) -> np.ndarray:
    """Average rank / n of each accuracy among the best accuracies of the networks in pairs, per dataset."""
    import numpy as np

    result = np.zeros(len(chosen))
    for dataset, rows in chosen.groupby("dataset").indices.items():
        ranked = np.sort(best.loc[best["dataset"] == dataset, "accuracy"].to_numpy())
        values = chosen["accuracy"].to_numpy()[rows]
        low, high = np.searchsorted(ranked, values, "left"), np.searchsorted(ranked, values, "right")
        result[rows] = (low + (high - low + 1) / 2) / len(ranked)
    return result


LABELS = Declarations(
    "label",
    [
        Label(
            "normalized",
            "accuracy divided by the best accuracy of any network on that dataset at that epoch",
            lambda _chosen, normalized, _best: normalized,
        ),
        Label("percentile", "average rank / n among the networks that are in a pair at that epoch", _percentile),
    ],
)
