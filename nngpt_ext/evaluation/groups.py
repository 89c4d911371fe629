"""Right answers counted: against another's, and in parts of the test pairs.

`right`, `prior` and `other` say of each test pair whether it was answered rightly, by the model, by the pair
prior and by anyone; `networks` names the network of each. All have the shape (rows,).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import pandas as pd

from nngpt_ext.evaluation import metrics
from nngpt_ext.evaluation.figures import (
    Answered,
    CalibrationFigures,
    Change,
    Group,
    NearDuplicates,
    Skill,
    per_dataset_table,
)
from nngpt_ext.evaluation.statistics import bootstrap_measure, bootstrap_networks, sign_flip_p


def difference(right: np.ndarray, other: np.ndarray, networks: np.ndarray) -> Skill:
    """Accuracy minus another's on the same rows."""
    gain = right.astype("int64") - other.astype("int64")
    return Skill(value=gain.mean(), ci95=bootstrap_networks(gain, networks), p=sign_flip_p(gain, networks))


def group(rows: np.ndarray, networks: np.ndarray, right: np.ndarray, prior: np.ndarray) -> Group:
    """The accuracies on the rows of a boolean mask; None where it selects none."""
    if not rows.any():
        return Group(accuracy=None, prior=None, n=0, networks=0)
    return Group(
        accuracy=right[rows].mean(),
        ci95=bootstrap_networks(right[rows], networks[rows]),
        prior=prior[rows].mean(),
        n=int(rows.sum()),
        networks=len(set(networks[rows])),
    )


def near_duplicates(
    names: Set[str], threshold: float, networks: np.ndarray, right: np.ndarray, prior: np.ndarray
) -> NearDuplicates:
    """Test pairs of the networks in `names`, which have a near-duplicate in training, and the others."""
    near = np.array([nn in names for nn in networks], dtype=bool)
    tested = set(networks)
    return NearDuplicates.model_validate(
        {
            "threshold": threshold,
            "share_of_test_networks": len(tested & set(names)) / len(tested),
            "with": group(near, networks, right, prior),
            "without": group(~near, networks, right, prior),
        }
    )


def per_dataset(test: pd.DataFrame, right: np.ndarray, prior: np.ndarray) -> pd.DataFrame:
    """For every dataset of the test pairs: those that involve it, and those whose answer it is."""
    networks = test["nn"].to_numpy()
    return per_dataset_table(
        {
            dataset: {
                "involving": group(
                    ((test["dataset_1"] == dataset) | (test["dataset_2"] == dataset)).to_numpy(),
                    networks, right, prior,
                ),
                "as_answer": group((test["better_dataset"] == dataset).to_numpy(), networks, right, prior),
            }
            for dataset in sorted({*test["dataset_1"], *test["dataset_2"]})
        }
    )  # fmt: skip


def calibration(
    fitted: Mapping[str, Any], test: pd.DataFrame, first_wins: np.ndarray, right: np.ndarray
) -> CalibrationFigures:
    """Test log loss, Brier score and ECE before and after calibration, and what is answered.

    Args:
        fitted: temperature, threshold, target and n_pairs.
        test: with `probability_1`, `calibrated_1` and `abstain`.
        first_wins: whether dataset_1 is the better one, shape (pairs,).
        right: whether the answer is, shape (pairs,).
    """
    before, after = (test[name].to_numpy(dtype="float64") for name in ("probability_1", "calibrated_1"))
    networks = test["nn"].to_numpy()

    def mean(of_rows: Any) -> Change:
        rows = of_rows(after, first_wins)
        return Change(
            before=of_rows(before, first_wins).mean(), after=rows.mean(), ci95=bootstrap_networks(rows, networks)
        )

    answered = ~test["abstain"].to_numpy(dtype=bool)
    return CalibrationFigures(
        temperature=fitted["temperature"],
        threshold=fitted["threshold"],
        target=fitted["target"],
        n_validation_pairs=fitted["n_pairs"],
        log_loss=mean(metrics.log_losses),
        brier=mean(metrics.squared_errors),
        ece=Change(
            before=metrics.ece(before, first_wins),
            after=metrics.ece(after, first_wins),
            ci95=bootstrap_measure(lambda rows: metrics.ece(after[rows], first_wins[rows]), networks),
        ),
        answered=Answered(
            share=answered.mean(),
            ci95=bootstrap_networks(answered, networks),
            n=int(answered.sum()),
            accuracy=float(right[answered].mean()) if answered.any() else None,
            accuracy_ci95=bootstrap_networks(right[answered], networks[answered]) if answered.any() else None,
        ),
    )
