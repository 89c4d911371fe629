"""Calibrated probabilities: temperature scaling, and when to abstain.

Guo et al., "On Calibration of Modern Neural Networks" (2017): the log-odds are divided by one number, which is fitted
on the validation pairs and changes no answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from nngpt_ext.io import digest, write_text
from nngpt_ext.run_folder import CALIBRATION, read_adapter_file
from nngpt_ext.scoring.logistic import logistic
from nngpt_ext.settings import Stage

if TYPE_CHECKING:
    import pandas as pd

TARGET = 0.95
_RANGE = (0.05, 20.0)  # of the temperature, which answers that are all correct, or noise, would drive to its ends
# Fewer pairs above a threshold say nothing about their accuracy: with 30 of 30 correct, 95 % is still likely.
LEAST = 30


class Calibration(Stage):
    """A temperature and a threshold, and the pairs that they were fitted on."""

    temperature: float = Field(gt=0.0, description="divides the log-odds")
    threshold: float | None = Field(ge=0.5, le=1.0, description="abstain below this confidence; None: always")
    target: float = Field(gt=0.5, le=1.0, description="accuracy above the threshold, on validation")
    n_pairs: int = Field(ge=1)
    n_networks: int = Field(ge=1)
    share_answered: float = Field(ge=0.0, le=1.0, description="validation pairs at or above the threshold")
    accuracy_answered: float | None = Field(ge=0.0, le=1.0, description="their accuracy")
    unseen: bool = Field(False, description="whether its pairs have a dataset that the adapter was not trained on")

    def probability(self, log_odds: Any) -> Any:
        """Calibrated probability of the first dataset, from log-odds (a number or an array)."""
        return logistic(np.asarray(log_odds, dtype="float64") / self.temperature)

    def abstains(self, probability: Any) -> Any:
        """Whether an answer with this calibrated probability abstains (a number or an array)."""
        confidence = np.maximum(probability, 1.0 - np.asarray(probability))
        return np.ones_like(confidence, dtype=bool) if self.threshold is None else ~(confidence >= self.threshold)

    @property
    def hash(self) -> str:
        """Hash of what decides its answers."""
        return digest([self.temperature, self.threshold, *([True] if self.unseen else [])])

    def save(self, folder: Path) -> None:
        """Write it to an adapter's folder."""
        write_text(folder / CALIBRATION, self.model_dump_json(indent=2) + "\n")


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration in an adapter's folder, or None.

    Raises:
        UserError: if the file is damaged.
    """
    return read_adapter_file(folder, CALIBRATION, Calibration) if (folder / CALIBRATION).exists() else None


def fit_calibration(
    log_odds: Sequence[float] | np.ndarray,
    first_wins: Sequence[bool] | np.ndarray,
    networks: Sequence[str] | np.ndarray,
    target: float = TARGET,
) -> Calibration:
    """Fit temperature and threshold on validation pairs.

    The temperature minimises the log loss. The threshold is the lowest confidence such that the pairs at or above it,
    at least `LEAST`, are answered with the target accuracy; None if there is no such confidence.

    Args:
        log_odds: of the first dataset, shape (pairs,).
        first_wins: whether it is the better one, shape (pairs,).
        networks: the network of each pair; they are counted.
        target: accuracy above the threshold.
    """
    from scipy.optimize import minimize_scalar

    odds, wins = np.asarray(log_odds, dtype="float64"), np.asarray(first_wins, dtype=bool)
    if not len(odds):
        raise ValueError("no validation pair to calibrate on")
    if not np.isfinite(odds).all():
        raise ValueError("log-odds to calibrate on must be finite")
    signed = np.where(wins, odds, -odds)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed / np.exp(log_temperature)).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_RANGE)), method="bounded", options={"xatol": 1e-6})
    temperature = round(float(np.exp(found.x)), 6)  # as it is in the file
    probability = logistic(odds / temperature)
    confidence = np.maximum(probability, 1.0 - probability)
    order = np.argsort(-confidence, kind="stable")
    ordered, right = confidence[order], ((odds >= 0) == wins)[order]
    n = np.arange(1, len(order) + 1)
    # Pairs of equal confidence are answered together.
    last_of_equals = np.append(ordered[1:] < ordered[:-1], True)
    enough = last_of_equals & (n >= LEAST) & (np.cumsum(right) / n >= target)
    answered = int(n[enough].max()) if enough.any() else 0
    return Calibration(
        temperature=temperature,
        threshold=float(ordered[answered - 1]) if answered else None,
        target=target,
        n_pairs=len(odds),
        n_networks=len(set(networks)),
        share_answered=answered / len(odds),
        accuracy_answered=float(right[:answered].mean()) if answered else None,
    )


def with_calibration(predicted: pd.DataFrame, calibration: Calibration, trained: Collection[str]) -> pd.DataFrame:
    """Add `calibrated_1`, and `abstain` by the threshold and, for a calibration on seen datasets, by `trained`.

    Args:
        predicted: with `dataset_1`, `dataset_2` and `log_odds`.
        calibration: the adapter's calibration.
        trained: the datasets that the adapter was trained on.
    """
    probability = calibration.probability(predicted["log_odds"].to_numpy())
    seen = predicted[["dataset_1", "dataset_2"]].isin(list(trained)).all(axis=1).to_numpy() | calibration.unseen
    return predicted.assign(calibrated_1=probability, abstain=calibration.abstains(probability) | ~seen)
