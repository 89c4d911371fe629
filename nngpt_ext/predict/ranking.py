"""From comparisons of two to an order of all: Bradley–Terry strengths, and how consistent the comparisons are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from nngpt_ext.predict.answers import Comparison, Ranking, abstentions

_EDGE = 1e-9  # keeps a strength finite where a comparison is certain


def strengths(datasets: Sequence[str], probability: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Bradley–Terry strengths (Bradley and Terry 1952), mean zero: P(a before b) is the logistic of their difference.

    The maximum of the likelihood in which each pair counts once and its probability is the share of wins.

    Args:
        datasets: two or more.
        probability: for each pair in one of its orders, that its first is better.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    number = {name: i for i, name in enumerate(datasets)}
    left = np.array([number[a] for a, _ in probability])
    right = np.array([number[b] for _, b in probability])
    share = np.clip(np.array(list(probability.values()), dtype="float64"), _EDGE, 1.0 - _EDGE)

    def loss(value: np.ndarray) -> tuple[float, np.ndarray]:
        difference = value[left] - value[right]
        slope = expit(difference) - share
        gradient = np.zeros_like(value)
        np.add.at(gradient, left, slope)
        np.add.at(gradient, right, -slope)
        return float((np.logaddexp(0.0, difference) - share * difference).sum()), gradient

    # The likelihood is concave; started from zero all means stay zero.
    found = minimize(loss, np.zeros(len(datasets)), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 1000})
    value = found.x - found.x.mean()
    return {name: float(value[i]) for name, i in number.items()}


def intransitive_share(datasets: Sequence[str], probability: Mapping[tuple[str, str], float]) -> float | None:
    """Share of the triples a > b > c > a; None where there is no triple."""
    wins = {pair: value >= 0.5 for pair, value in probability.items()}
    wins |= {(b, a): not first for (a, b), first in wins.items()}
    triples = list(itertools.combinations(datasets, 3))
    if not triples:
        return None
    return sum(wins[a, b] == wins[b, c] == wins[c, a] for a, b, c in triples) / len(triples)


def ranking_of(datasets: Sequence[str], comparisons: tuple[Comparison, ...]) -> Ranking:
    """The ranking that the comparisons of all pairs of datasets give."""
    probability = {(c.dataset_1, c.dataset_2): c.probability for c in comparisons}
    scores = strengths(datasets, probability)
    best_first = tuple(sorted(datasets, key=lambda name: (-scores[name], name)))
    values = np.array([scores[name] for name in best_first])
    return Ranking(
        best_first,
        {name: scores[name] for name in best_first},
        float(1.0 / np.exp(values - values[0]).sum()),
        intransitive_share(datasets, probability),
        comparisons,
        comparisons[0].model,
        comparisons[0].nn,
        any(abstentions(best_first[0], comparisons)),
        tuple(name for name in sorted(datasets) if any(name in c.unseen for c in comparisons)),
    )
