"""What a predictor is asked and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Recipe = Mapping[str, Any]


class Query(NamedTuple):
    """One question to a predictor.

    Attributes:
        nn_code: the network's source.
        dataset_1, dataset_2: two datasets; their order never changes the answer.
        recipe: for a prompt that shows recipes: one for both datasets, or `{dataset: recipe}`.
        accuracies: for a prompt that shows accuracies: `{dataset: normalised accuracy}`.
        nn: a name for the network, under which the store keeps the answer; by default made of its hash.
    """

    nn_code: str
    dataset_1: str
    dataset_2: str
    recipe: Recipe | Mapping[str, Recipe] | None = None
    accuracies: Mapping[str, float] | None = None
    nn: str | None = None


@dataclass(frozen=True)
class Comparison:
    """On which of two datasets a network does better.

    Attributes:
        dataset_1, dataset_2: as they were given.
        winner: one of them.
        probability: of `dataset_1` being the better one, calibrated where the adapter has a calibration.
        log_odds: of `dataset_1`, uncalibrated, mean of the two orders in which the names were offered.
        flipped: whether these two orders gave different winners.
        abstain: whether the confidence is below the calibration's threshold (always, where there is none), or the
            adapter was not trained on one of the datasets.
        model: which model answered: base model and the beginning of its adapter's hash.
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
        """Why it abstains; None where it does not."""
        if self.unseen:
            return not_trained_on(self.unseen)
        below = "the probability is below the calibration's threshold, or there is no calibration"
        return below if self.abstain else None

    def _repr_html_(self) -> str:
        from nngpt_ext.predict.cell import comparison_cell

        return comparison_cell(self)


@dataclass(frozen=True)
class Ranking:
    """Datasets in the order in which a network does well on them, best first.

    Attributes:
        datasets: best first.
        scores: Bradley–Terry strength of each, mean zero: the probability that one is before another is the
            logistic of their difference.
        probability: of the first being the best of all, by Bradley–Terry's (Luce's) choice rule.
        intransitive: share of triples a > b > c > a among the comparisons; None for two datasets.
        comparisons: of every pair.
        model: which model answered.
        nn: the network's name.
        abstain: whether a comparison of the first dataset with another abstains.
        unseen: those of the datasets that the adapter was not trained on; with one of them a ranking abstains.
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
        """Why it abstains; None where it does not."""
        if self.unseen:
            return not_trained_on(self.unseen)
        own = abstentions(self.datasets[0], self.comparisons)
        below = f"{sum(own)} of the {len(own)} comparisons of {self.datasets[0]} abstain"
        return below if self.abstain else None

    def _repr_html_(self) -> str:
        from nngpt_ext.predict.cell import ranking_cell

        return ranking_cell(self)


def not_trained_on(unseen: Sequence[str]) -> str:
    """Why an answer about datasets that the adapter was not trained on abstains."""
    return f"the adapter was not trained on {', '.join(unseen)}"


def abstentions(dataset: str, comparisons: Sequence[Comparison]) -> list[bool]:
    """Whether each comparison of this dataset with another abstains."""
    return [c.abstain for c in comparisons if dataset in (c.dataset_1, c.dataset_2)]
