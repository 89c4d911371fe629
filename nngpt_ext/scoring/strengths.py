"""Strengths of several datasets from the probabilities of all pairs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from nngpt_ext.scoring.logistic import logistic

_EDGE = 1e-9  # keeps strengths finite if a comparison is certain


def strengths(datasets: Sequence[str], probability: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Bradley–Terry strengths (1952) with mean zero: P(a is better than b) is the logistic of their difference.

    They maximise the likelihood in which each pair counts once and its probability is the share of wins.

    Args:
        datasets: two or more.
        probability: for each pair, in one order, the probability that its first is better.
    """
    from scipy.optimize import minimize

    number = {name: i for i, name in enumerate(datasets)}
    left = np.array([number[a] for a, _ in probability])
    right = np.array([number[b] for _, b in probability])
    wins = np.clip(np.array(list(probability.values()), dtype="float64"), _EDGE, 1.0 - _EDGE)

    def loss(value: np.ndarray) -> tuple[float, np.ndarray]:
        difference = value[left] - value[right]
        slope = logistic(difference) - wins
        gradient = np.zeros_like(value)
        np.add.at(gradient, left, slope)
        np.add.at(gradient, right, -slope)
        return float((np.logaddexp(0.0, difference) - wins * difference).sum()), gradient

    # The likelihood is concave, and BFGS started at zero keeps the mean at zero.
    found = minimize(loss, np.zeros(len(datasets)), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 1000})
    value = found.x - found.x.mean()
    return {name: float(value[i]) for name, i in number.items()}


def intransitive_share(datasets: Sequence[str], probability: Mapping[tuple[str, str], float]) -> float | None:
    """Share of the triples of datasets with a > b > c > a; None for two datasets."""
    wins = {pair: value >= 0.5 for pair, value in probability.items()}
    wins |= {(b, a): not first for (a, b), first in wins.items()}
    triples = list(itertools.combinations(datasets, 3))
    if not triples:
        return None
    return sum(wins[a, b] == wins[b, c] == wins[c, a] for a, b, c in triples) / len(triples)
