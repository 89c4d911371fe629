"""The answers of a predictor: comparisons, and rankings made from them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nngpt_ext.views.faces import to_cell
from nngpt_ext.views.table import Table
from nngpt_ext.views.wording import count, not_trained_on, number, share, source_limits


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
        unseen: those of the two datasets about which it abstains, because it was neither trained on them nor tested on
            unseen datasets.
        cut_to: how many tokens of the source were read, if it was longer; None if it was read whole, or if that is
            unknown (an answer that an older version stored, or another scorer's).
        source_tokens: how many tokens the source has, if it was longer and that is known.
        is_module: whether the source defines a class derived from `nn.Module`.
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
    cut_to: int | None = None
    source_tokens: int | None = None
    is_module: bool = True

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

    def limits(self) -> list[str]:
        """What makes the answer doubtful besides its probability, in sentences."""
        flipped = ["The answer depends on the order of the two names."] if self.flipped else []
        return [*flipped, *source_limits(self.cut_to, self.source_tokens, self.is_module)]

    def _repr_html_(self) -> str:
        sides = ((self.dataset_1, self.probability), (self.dataset_2, 1.0 - self.probability))
        remarks = [f"Log-odds of {self.dataset_1}, uncalibrated: {self.log_odds:+.3f}; answered by {self.model}."]
        if self.abstain and not self.unseen:
            remarks.append(f"It abstains: {self.reason}.")
        remarks += self.limits()
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
        probability: P(the first is the best of all).
        probabilities: P(best of all) of each, by Luce's choice rule on the strengths.
        over_next: for each but the last, P(it is better than the next), of that comparison alone.
        intransitive: share of the triples of datasets with a > b > c > a; None for two datasets.
        comparisons: of every pair.
        model: which model answered.
        nn: the network's name.
        abstain: whether a comparison of the first dataset with another abstains, or `unseen` is not empty.
        unseen: the datasets about which it abstains, as in `Comparison`.
        flipped: the number of comparisons in which the two orders of the names gave different winners.
    """

    datasets: tuple[str, ...]
    scores: dict[str, float]
    probability: float
    probabilities: dict[str, float]
    over_next: dict[str, float]
    intransitive: float | None
    comparisons: tuple[Comparison, ...]
    model: str
    nn: str
    abstain: bool
    unseen: tuple[str, ...]
    flipped: int

    @property
    def cut_to(self) -> int | None:
        """How many tokens of the source were read, as in `Comparison`."""
        return next((c.cut_to for c in self.comparisons if c.cut_to is not None), None)

    @property
    def reason(self) -> str | None:
        """Why it abstains; None if it does not."""
        if self.unseen:
            return not_trained_on(self.unseen)
        own = abstentions(self.datasets[0], self.comparisons)
        below = f"it is too unsure in {sum(own)} of {count(len(own), 'comparison')} of {self.datasets[0]}"
        return below if self.abstain else None

    @property
    def summary(self) -> str:
        """One sentence: the best dataset, or why there is no answer."""
        if self.abstain and not self.unseen:
            return f"{self.nn} may do best on {self.datasets[0]}, but the model abstains: {self.reason}."
        return _opening(self, f"does best on {self.datasets[0]}")

    def table(self) -> Table:
        """A row for each dataset; a dash where the calibration, which is of other datasets, gives no probability.

        If a comparison abstains, a column counts for each dataset how many of its comparisons do.
        """
        header: tuple[str, ...] = ("dataset", "P(best of all)", "P(better than next)", "strength")
        rows: list[tuple[str, ...]] = []
        for i, name in enumerate(self.datasets, 1):
            known = i < len(self.datasets) and not {name, self.datasets[i]} & {*self.unseen}
            best, over = None if self.unseen else self.probabilities[name], self.over_next[name] if known else None
            rows.append((f"{i}. {name}", number(best), number(over), number(self.scores[name], sign=True)))
        if any(c.abstain for c in self.comparisons):
            header = (*header, "abstains")
            own = [abstentions(name, self.comparisons) for name in self.datasets]
            rows = [(*row, f"{sum(found)} of {len(found)}") for row, found in zip(rows, own, strict=True)]
        bars = [] if self.unseen else [self.probabilities[name] for name in self.datasets]
        return Table("Ranking", header, rows, bars=bars)

    def remarks(self) -> list[str]:
        """What the table means, and what a reader must know of it, in sentences."""
        abstaining = sum(c.abstain for c in self.comparisons)
        of = f"It abstains in {abstaining} of {count(len(self.comparisons), 'comparison')}; " if abstaining else ""
        found = [
            "Strength (Bradley–Terry): log-odds with mean zero. P(best of all) is computed from the strengths, "
            "P(better than next) is that of one comparison.",
            f"{of}answered by {self.model}." if of else f"Answered by {self.model}.",
        ]
        return [*found, *(["The ranking is consistent."] if self.intransitive == 0 else []), *self.limits()]

    def limits(self) -> list[str]:
        """What makes the answer doubtful besides its probabilities, in sentences."""
        found = []
        if self.flipped:
            found.append(
                f"{self.flipped} of {count(len(self.comparisons), 'comparison')} depend on the order of the two names."
            )
        if self.intransitive:
            found.append(f"The ranking is inconsistent in {share(self.intransitive)} of the triples of datasets.")
        one = self.comparisons[0]
        return [*found, *source_limits(one.cut_to, one.source_tokens, one.is_module)]

    def _repr_html_(self) -> str:
        return to_cell(self.summary, [self.table()], self.remarks())


@dataclass(frozen=True)
class Explanation:
    """What a reader needs beside an answer, and the commands print.

    Attributes:
        threshold: the confidence below which the adapter abstains; None if it always does.
        prior: the answer without the source code; None for a ranking.
        basis: the fields of `nngpt_ext.scoring.basis.Basis`; None for an adapter of an older version.
        basis_lines: what the answer rests on, in sentences.
        warnings: what limits every answer to such a question.
    """

    threshold: float | None
    prior: Comparison | None = None
    basis: dict[str, Any] | None = None
    basis_lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _opening(found: Comparison | Ranking, answer: str) -> str:
    """The first sentence in a notebook: the answer, or why there is none."""
    return f"About {found.nn} the model abstains: {found.reason}." if found.unseen else f"{found.nn} {answer}."


def abstentions(dataset: str, comparisons: Sequence[Comparison]) -> list[bool]:
    """Whether each comparison of this dataset with another abstains."""
    return [c.abstain for c in comparisons if dataset in (c.dataset_1, c.dataset_2)]


def ranking_of(datasets: Sequence[str], comparisons: tuple[Comparison, ...]) -> Ranking:
    """The ranking by the comparisons of all pairs of datasets."""
    from scipy.special import softmax  # here, because a client only reads answers

    from nngpt_ext.scoring.strengths import intransitive_share, strengths

    probability = {(c.dataset_1, c.dataset_2): c.probability for c in comparisons}
    scores = strengths(datasets, probability)
    best_first = tuple(sorted(datasets, key=lambda name: (-scores[name], name)))
    best = softmax([scores[name] for name in best_first]).tolist()
    either = probability | {(b, a): 1.0 - first for (a, b), first in probability.items()}
    return Ranking(
        best_first,
        {name: scores[name] for name in best_first},
        best[0],
        dict(zip(best_first, best, strict=True)),
        {a: either[a, b] for a, b in itertools.pairwise(best_first)},
        intransitive_share(datasets, probability),
        comparisons,
        comparisons[0].model,
        comparisons[0].nn,
        any(abstentions(best_first[0], comparisons)),
        tuple(name for name in sorted(datasets) if any(name in c.unseen for c in comparisons)),
        sum(c.flipped for c in comparisons),
    )
