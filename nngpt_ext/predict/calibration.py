"""Probabilities that mean what they say: temperature scaling, and when to abstain.

Guo et al., "On Calibration of Modern Neural Networks" (2017): one number, fitted on validation, divides the
log-odds; it changes no answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nngpt_ext.errors import UserError
from nngpt_ext.io import digest, write_text
from nngpt_ext.run_folder import CALIBRATION

log = logging.getLogger(__name__)

TARGET = 0.95
# Beyond these a set of answers that happens to be all right, or noise, would decide alone.
_RANGE = (0.05, 20.0)
# Fewer pairs above a threshold tell nothing of their accuracy: with 30 of 30 right, 95 % is still likely.
LEAST = 30


class Calibration(BaseModel):
    """A temperature and a threshold, with what they were fitted on."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    temperature: float = Field(gt=0.0, description="divides the log-odds")
    threshold: float | None = Field(ge=0.5, le=1.0, description="abstain below this confidence; None: always")
    target: float = Field(gt=0.5, le=1.0, description="accuracy above the threshold, on validation")
    n_pairs: int = Field(ge=1)
    n_networks: int = Field(ge=1)
    share_answered: float = Field(ge=0.0, le=1.0, description="validation pairs at or above the threshold")
    accuracy_answered: float | None = Field(ge=0.0, le=1.0, description="their accuracy")

    def probability(self, log_odds: Any) -> Any:
        """Calibrated probability of the first dataset, from log-odds (a number or an array)."""
        return logistic(np.asarray(log_odds, dtype="float64") / self.temperature)

    def abstains(self, probability: Any) -> Any:
        """Whether to give no answer at this calibrated probability (a number or an array)."""
        confidence = np.maximum(probability, 1.0 - np.asarray(probability))
        return np.ones_like(confidence, dtype=bool) if self.threshold is None else confidence < self.threshold

    @property
    def hash(self) -> str:
        """What decides its answers: temperature and threshold."""
        return digest([self.temperature, self.threshold])

    def save(self, folder: Path) -> None:
        """Write it beside an adapter."""
        write_text(folder / CALIBRATION, self.model_dump_json(indent=2) + "\n")


def logistic(x: Any) -> Any:
    """1 / (1 + e^-x), exact for large x of both signs."""
    from scipy.special import expit

    return expit(x)


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration beside an adapter; None where there is none.

    Raises:
        UserError: when the file is damaged.
    """
    file = folder / CALIBRATION
    if not file.exists():
        return None
    try:
        return Calibration.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the calibration '{file}' is damaged ({reason}); fetch the adapter again or run the task again"
        ) from None


def fit_calibration(
    log_odds: Sequence[float] | np.ndarray,
    first_wins: Sequence[bool] | np.ndarray,
    networks: Sequence[str] | np.ndarray,
    target: float = TARGET,
) -> Calibration:
    """Fit temperature and threshold on validation pairs.

    The temperature has the lowest log loss. The threshold is the lowest confidence such that the pairs at or
    above it, `LEAST` at least, are answered with the target accuracy; None where no confidence reaches it, and
    so with fewer pairs.

    Args:
        log_odds: of the first dataset, shape (pairs,).
        first_wins: whether it is the better one, shape (pairs,).
        networks: the network of each pair, to say how many there were.
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
    temperature = round(float(np.exp(found.x)), 6)  # as it stands in the file
    probability = logistic(odds / temperature)
    confidence = np.maximum(probability, 1.0 - probability)
    order = np.argsort(-confidence, kind="stable")
    ordered, right = confidence[order], ((odds >= 0) == wins)[order]
    n = np.arange(1, len(order) + 1)
    # A threshold lies between different confidences: those that are equal are answered together.
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
