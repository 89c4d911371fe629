"""Correct answers in parts of the test pairs, and beside those of a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nngpt_ext.evaluation import metrics
from nngpt_ext.evaluation.figures import SIDES, Answered, CalibrationFigures, Change, Group, NearDuplicates, Skill
from nngpt_ext.evaluation.statistics import Ci95, bootstrap_measure, bootstrap_networks, sign_flip_p


@dataclass(frozen=True)
class Answers:
    """Whether the model and the pair prior are correct on each test pair, and its network; shapes (rows,).

    `units` are what intervals are over: the networks, or their families.
    """

    correct: np.ndarray
    prior: np.ndarray
    networks: np.ndarray
    units: np.ndarray

    @classmethod
    def of(cls, test: pd.DataFrame, prior: np.ndarray, families: Mapping[str, str] | None = None) -> Answers:
        """From the predictions on the test pairs; `prior` says where the pair prior is correct."""
        networks = test["nn"].to_numpy(dtype=object)
        units = np.array([(families or {}).get(nn, nn) for nn in networks], dtype=object)
        return cls((test["predicted"] == test["better_dataset"]).to_numpy(), prior, networks, units)

    def part(self, rows: np.ndarray) -> Answers:
        """The rows of a boolean mask."""
        return Answers(self.correct[rows], self.prior[rows], self.networks[rows], self.units[rows])

    def group(self) -> Group:
        """Both accuracies; None where there are no rows."""
        n = len(self.networks)
        return Group(
            accuracy=self.correct.mean() if n else None,
            ci95=bootstrap_networks(self.correct, self.units) if n else None,
            prior=self.prior.mean() if n else None,
            n=n,
            networks=len(set(self.networks)),
        )

    def gain(self) -> tuple[float, Ci95]:
        """Accuracy minus that of the pair prior, with its interval."""
        gains = self.correct.astype("float64") - self.prior
        return gains.mean(), bootstrap_networks(gains, self.units)


def difference(correct: np.ndarray, other: np.ndarray, units: np.ndarray) -> Skill:
    """Accuracy minus another's on the same rows; both arguments say where the answer is correct.

    `units` are what the interval and p are over, networks or families; shape (rows,).
    """
    gains = correct.astype("float64") - other
    return Skill(value=gains.mean(), ci95=bootstrap_networks(gains, units), p=sign_flip_p(gains, units))


def near_duplicates(names: Set[str], threshold: float, answers: Answers) -> NearDuplicates:
    """The test pairs of the networks in `names`, which have a near-duplicate in training, and the others."""
    near = np.array([nn in names for nn in answers.networks], dtype=bool)
    tested = set(answers.networks)
    return NearDuplicates.model_validate(
        {
            "threshold": threshold,
            "share_of_test_networks": len(tested & names) / len(tested),
            "with": answers.part(near).group(),
            "without": answers.part(~near).group(),
        }
    )


def dataset_masks(test: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """For each dataset, masks of the test pairs that have it on either side, and of those whose answer it is."""
    datasets = sorted({*test["dataset_1"], *test["dataset_2"]})
    involving = {name: ((test["dataset_1"] == name) | (test["dataset_2"] == name)).to_numpy() for name in datasets}
    answer = {name: (test["better_dataset"] == name).to_numpy() for name in datasets}
    return dict(zip(SIDES, (involving, answer), strict=True))


def per_dataset(test: pd.DataFrame, answers: Answers) -> dict[str, dict[str, Group]]:
    """The groups of `Report.per_dataset`, by dataset and side."""
    masks = dataset_masks(test)
    return {
        dataset: {side: answers.part(masks[side][dataset]).group() for side in SIDES} for dataset in masks[SIDES[0]]
    }


def calibration(fitted: Mapping[str, Any], test: pd.DataFrame, units: np.ndarray) -> CalibrationFigures:
    """Log loss, Brier score and ECE on the test pairs before and after calibration, and the share that is answered.

    `fitted` has temperature, threshold, target and n_pairs. Intervals are over `units`, networks or families.
    """
    before, after = (test[name].to_numpy(dtype="float64") for name in ("probability_1", "calibrated_1"))
    first = metrics.first_wins(test)

    def mean(of_rows: Any) -> Change:
        rows = of_rows(after, first)
        return Change(before=of_rows(before, first).mean(), after=rows.mean(), ci95=bootstrap_networks(rows, units))

    answered = ~test["abstain"].to_numpy(dtype=bool)
    among = (test["predicted"] == test["better_dataset"]).to_numpy()[answered]
    return CalibrationFigures(
        temperature=fitted["temperature"],
        threshold=fitted["threshold"],
        target=fitted["target"],
        n_validation_pairs=fitted["n_pairs"],
        log_loss=mean(metrics.log_losses),
        brier=mean(metrics.squared_errors),
        ece=Change(
            before=metrics.ece(before, first),
            after=metrics.ece(after, first),
            ci95=bootstrap_measure(lambda rows: metrics.ece(after[rows], first[rows]), units),
        ),
        answered=Answered(
            share=answered.mean(),
            ci95=bootstrap_networks(answered, units),
            n=len(among),
            accuracy=among.mean() if len(among) else None,
            accuracy_ci95=bootstrap_networks(among, units[answered]) if len(among) else None,
        ),
    )
