"""The answers of a predictor: comparisons, and rankings made from them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from nngpt_ext.views.faces import to_cell
from nngpt_ext.views.table import Table
from nngpt_ext.views.wording import count, share

_EDGE = 1e-9  # keeps strengths finite if a comparison is certain


@dataclass(frozen=True)
class Comparison:
    """On which of two datasets a network does better.

    Attributes:
        dataset_1, dataset_2: the two datasets, in the given order.
        winner: the better one.
        probability: P(`dataset_1` is the better one), calibrated if the adapter has a calibration; the winner's
            probability is `confidence`.
        log_odds: uncalibrated log-odds of `dataset_1`, the mean over both orders of the names in the prompt.
        flipped: whether these two orders gave different winners.
        abstain: whether the confidence is below the calibration's threshold (always without a threshold), or the
            adapter was not trained on one of the datasets.
        model: which model answered: base model and the first digits of its adapter's hash.
        nn: the network's name.
        unseen: those of the two datasets that the adapter was not trained on.
    """

    dataset_1: str
    dataset_2: str
    winner: str
    probability: float
    log_odds: float
    flipped: bool
    abstain: bool
    model: str
    nn: str
    unseen: tuple[str, ...] = ()

    @property
    def confidence(self) -> float:
        """The winner's probability."""
        return max(self.probability, 1.0 - self.probability)

    @property
    def reason(self) -> str | None:
        """Why it abstains; None if it does not."""
        if self.unseen:
            return not_trained_on(self.unseen)
        below = "the confidence is below the adapter's threshold, or it has no threshold"
        return below if self.abstain else None

    def _repr_html_(self) -> str:
        sides = ((self.dataset_1, self.probability), (self.dataset_2, 1.0 - self.probability))
        remarks = [f"Log-odds of {self.dataset_1}, uncalibrated: {self.log_odds:+.3f}; answered by {self.model}."]
        if self.flipped:
            remarks.append("The two orders of the names gave different winners.")
        if self.abstain and not self.unseen:
            remarks.append(f"It abstains: {self.reason}.")
        rows = [(name, f"{value:.3f}") for name, value in sides]
        table = Table("", ("dataset", "probability"), rows, bars=[p for _, p in sides])
        return to_cell(_opening(self, f"does better on {self.winner}"), [table], remarks)


@dataclass(frozen=True)
class Ranking:
    """Datasets ordered by how well a network does on them, best first.

    Attributes:
        datasets: best first.
        scores: Bradley–Terry strength of each, with mean zero: the probability that one is better than another is
            the logistic of their difference.
        probability: P(the first is the best of all), by Luce's choice rule on the strengths.
        intransitive: share of the triples of datasets with a > b > c > a; None for two datasets.
        comparisons: of every pair.
        model: which model answered.
        nn: the network's name.
        abstain: whether a comparison of the first dataset with another abstains, or `unseen` is not empty.
        unseen: the datasets that the adapter was not trained on.
    """

    datasets: tuple[str, ...]
    scores: dict[str, float]
    probability: float
    intransitive: float | None
    comparisons: tuple[Comparison, ...]
    model: str
    nn: str
    abstain: bool
    unseen: tuple[str, ...]

    @property
    def reason(self) -> str | None:
        """Why it abstains; None if it does not."""
        if self.unseen:
            return not_trained_on(self.unseen)
        own = abstentions(self.datasets[0], self.comparisons)
        below = f"{sum(own)} of the {len(own)} comparisons of {self.datasets[0]} abstain"
        return below if self.abstain else None

    def _repr_html_(self) -> str:
        values = [self.scores[name] for name in self.datasets]
        best = softmax(values).tolist()  # Luce's choice rule, as `probability`
        rows = [
            (name, f"{chance:.3f}", f"{value:+.3f}")
            for name, chance, value in zip(self.datasets, best, values, strict=True)
        ]
        abstaining = sum(c.abstain for c in self.comparisons)
        remarks = [
            "Strength: by Bradley and Terry, mean zero. Best of all: its share by Luce's rule.",
            f"{abstaining} of {count(len(self.comparisons), 'comparison')} abstain; answered by {self.model}.",
        ]
        if self.intransitive:
            remarks.append(f"{share(self.intransitive)} of the triples contradict each other.")
        table = Table("", ("dataset", "best of all", "strength"), rows, bars=best)
        return to_cell(_opening(self, f"does best on {self.datasets[0]}"), [table], remarks)


def _opening(found: Comparison | Ranking, answer: str) -> str:
    """The first sentence in a notebook: the answer, or why there is none."""
    return f"About {found.nn} the model abstains: {found.reason}." if found.unseen else f"{found.nn} {answer}."


def not_trained_on(unseen: Sequence[str]) -> str:
    """The reason for abstaining about these datasets."""
    return f"the adapter was not trained on {', '.join(unseen)}"


def abstentions(dataset: str, comparisons: Sequence[Comparison]) -> list[bool]:
    """Whether each comparison of this dataset with another abstains."""
    return [c.abstain for c in comparisons if dataset in (c.dataset_1, c.dataset_2)]


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
        slope = expit(difference) - wins
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


def ranking_of(datasets: Sequence[str], comparisons: tuple[Comparison, ...]) -> Ranking:
    """The ranking by the comparisons of all pairs of datasets."""
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
