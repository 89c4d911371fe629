"""Metrics of the probability that dataset_1 is the better one, over rows that are pairs.

`probability` is P(dataset_1) in [0, 1], and `first_wins` says whether dataset_1 is better; both have the shape (rows,).
The answer is dataset_1 if the probability is at least 0.5. `METRICS` declares those of a report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from nngpt_ext.declaration import Declarations
from nngpt_ext.evaluation.figures import PRIOR, LeftOut
from nngpt_ext.views.wording import count, number

if TYPE_CHECKING:
    from nngpt_ext.evaluation.report import Report

BINS = 15
CLIP = 1e-12


def first_wins(pairs: pd.DataFrame) -> np.ndarray:
    """Whether dataset_1 is the better one; booleans, shape (rows,)."""
    return (pairs["better_dataset"] == pairs["dataset_1"]).to_numpy()


def correct(probability: ArrayLike, first_wins: ArrayLike) -> np.ndarray:
    """Whether each answer is correct; booleans, shape (rows,)."""
    p, y = _checked(probability, first_wins)
    return (p >= 0.5) == y


def accuracy(probability: ArrayLike, first_wins: ArrayLike) -> float:
    """The share of correct answers."""
    return float(correct(probability, first_wins).mean())


def log_loss(probability: ArrayLike, first_wins: ArrayLike) -> float:
    """Mean of −ln(probability of the correct answer), in nats; probabilities are clipped to [1e-12, 1 − 1e-12]."""
    return float(log_losses(probability, first_wins).mean())


def log_losses(probability: ArrayLike, first_wins: ArrayLike) -> np.ndarray:
    """The log loss of each row, shape (rows,)."""
    p, y = _checked(probability, first_wins)
    return np.asarray(-np.log(np.clip(np.where(y, p, 1 - p), CLIP, 1 - CLIP)))


def squared_errors(probability: ArrayLike, first_wins: ArrayLike) -> np.ndarray:
    """The squared distance of each row's probability from the outcome (Brier 1950), shape (rows,)."""
    p, y = _checked(probability, first_wins)
    return np.asarray((p - y) ** 2)


def ece(probability: ArrayLike, first_wins: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error of P(dataset_1), over bins with equally many rows.

    It is the mean of |share of dataset_1 − mean probability| over the bins of `reliability`, weighted by their rows
    (Naeini et al. 2015, with equal-mass bins as in Nguyen & O'Connor 2015).
    """
    found = reliability(probability, first_wins, bins)
    return sum(abs(b.share - b.probability) * b.n for b in found) / sum(b.n for b in found)


@dataclass(frozen=True)
class Bin:
    """Rows with similar probabilities: their mean, the share that dataset_1 wins, and the number of rows."""

    probability: float
    share: float
    n: int


def reliability(probability: ArrayLike, first_wins: ArrayLike, bins: int = BINS) -> list[Bin]:
    """The reliability diagram of P(dataset_1) (DeGroot & Fienberg 1983).

    Rows are sorted by probability and divided into `bins` bins whose sizes differ by at most one. Rows with the same
    probability count with their mean outcome, so that the result does not depend on the order of rows.
    """
    p, y = _checked(probability, first_wins)
    values, codes, sizes = np.unique(p, return_inverse=True, return_counts=True)
    outcome = np.repeat(np.bincount(codes, weights=y.astype("float64")) / sizes, sizes)
    parts = np.array_split(np.column_stack([np.repeat(values, sizes), outcome]), min(bins, len(p)))
    return [Bin(float(part[:, 0].mean()), float(part[:, 1].mean()), len(part)) for part in parts]


@dataclass(frozen=True)
class Coverage:
    """The share of rows that are answered from some confidence on, and the accuracy among them."""

    coverage: float
    accuracy: float


def risk_coverage(probability: ArrayLike, first_wins: ArrayLike) -> list[Coverage]:
    """Accuracy against coverage when the least confident answers are left out, a point for each distinct confidence.

    The confidence is the probability of the answer; the curve is one minus that of risk against coverage (El-Yaniv &
    Wiener 2010). Rows with the same confidence are answered together or not at all. The last point is full coverage.
    """
    p, y = _checked(probability, first_wins)
    confidence = np.maximum(p, 1 - p)
    order = np.argsort(-confidence, kind="stable")
    sure, hits = confidence[order], np.cumsum(correct(p, y)[order])
    ends = np.flatnonzero(np.append(sure[1:] != sure[:-1], True))
    return [Coverage(float((i + 1) / len(p)), float(hits[i] / (i + 1))) for i in ends]


def within_pair_auc(test: pd.DataFrame) -> tuple[float | None, LeftOut]:
    """ROC AUC among the networks of one pair of datasets, as a mean over dataset pairs weighted by their rows.

    Knowing the usual winner of a pair does not help here: an answer that ignores the network scores 0.5. The AUC is the
    Mann-Whitney statistic, where ties count one half (Hanley & McNeil 1982).

    Returns:
        The AUC, None if no dataset pair has both answers, and the dataset pairs that were left out.
    """
    p, y = _checked(test["probability_1"], first_wins(test))
    groups = test.groupby(["dataset_1", "dataset_2"]).indices.values()
    both = [rows for rows in groups if 0 < y[rows].sum() < len(rows)]
    sizes = [len(rows) for rows in both]
    value = float(np.average([_auc(p[rows], y[rows]) for rows in both], weights=sizes)) if both else None
    return value, LeftOut(pairs=len(groups) - len(both), rows=len(p) - sum(sizes))


def _auc(p: np.ndarray, won: np.ndarray) -> float:
    ranks = pd.Series(p).rank().to_numpy()  # equal ones share their mean
    wins = won.sum()
    return float((ranks[won].sum() - wins * (wins + 1) / 2) / (wins * (len(won) - wins)))


def _checked(probability: ArrayLike, first_wins: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays: a ValueError if they do not fit or a probability is outside [0, 1]."""
    p, y = np.asarray(probability, dtype="float64"), np.asarray(first_wins).astype(bool)
    if p.ndim != 1 or p.shape != y.shape:
        raise ValueError(f"probabilities {p.shape} and answers {y.shape} must be two columns of one length")
    if p.size == 0:
        raise ValueError("there are no rows")
    if not ((p >= 0) & (p <= 1)).all():  # also false for NaN
        raise ValueError("a probability is not in [0, 1]")
    return p, y


@dataclass(frozen=True)
class Metric:
    """A metric that a report has as a single number."""

    name: str  # its key in report.json
    description: str  # the remark beside it in the report
    label: str  # its name in the report
    measure: Callable[[pd.DataFrame], float | None]  # of the predictions of the test pairs; None: no number
    detail: Callable[[Report], str] = lambda _: ""  # what the report adds to the description


def _prior_loss(report: Report) -> str:
    return f"pair prior {number(report.baselines[PRIOR].log_loss)}"


def _left_out(report: Report) -> str:
    found = report.within_pair_auc_left_out
    if not found.pairs:
        return ""
    return f"left out, having one answer only: {count(found.pairs, 'dataset pair')} ({count(found.rows, 'row')})"


METRICS = Declarations(
    "metric",
    [
        Metric("log_loss", "nats", "log loss", lambda t: log_loss(t["probability_1"], first_wins(t)), _prior_loss),
        Metric(
            "brier", "0 is best; 0.25 for always 0.5", "Brier score",
            lambda t: float(squared_errors(t["probability_1"], first_wins(t)).mean()),
        ),
        Metric(
            "ece", "calibration error, 15 equal-mass bins", "ECE", lambda t: ece(t["probability_1"], first_wins(t)),
        ),
        Metric(
            "flip_rate", "the two orders of the datasets disagree", "flip rate",
            lambda t: float(t["flipped"].astype(bool).mean()),
        ),
        Metric(
            "within_pair_auc", "telling networks apart inside a dataset pair; 0.5 without a look at the network",
            "within-pair AUC", lambda t: within_pair_auc(t)[0], _left_out,
        ),
    ],
)  # fmt: skip
