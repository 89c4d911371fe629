"""Answers as families see them: the test pairs of several folds as one result, and what a single family decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nngpt_ext.evaluation import slices
from nngpt_ext.evaluation.baselines.priors import PRIORS
from nngpt_ext.evaluation.baselines.unseen import UNSEEN
from nngpt_ext.evaluation.figures import Accuracy, FamilyFigures, HeldOutFigures, OverFamilies
from nngpt_ext.evaluation.statistics import bootstrap_networks

if TYPE_CHECKING:
    from nngpt_ext.data.load import PairData

_PAIR = ["nn", "dataset_1", "dataset_2"]


@dataclass(frozen=True)
class FoldAnswers:
    """Test pairs and the answers to them; all shapes are (rows,)."""

    test: pd.DataFrame  # the pairs, with at least `nn`, the datasets and `better_dataset`
    answers: Mapping[str, np.ndarray]  # P(dataset_1) by predictor
    units: np.ndarray  # what the row depends on with others: its family or its network

    @classmethod
    def of(cls, data: PairData, answers: Mapping[str, np.ndarray]) -> FoldAnswers:
        """Answers to the test pairs of some data."""
        test = data.part("test")
        if data.held_out:
            test["held_out"] = data.held_out
        return cls(test, answers, np.array([data.families.get(nn, nn) for nn in test["nn"]], dtype=object))

    def rows(self, mask: np.ndarray) -> FoldAnswers:
        """Those of a boolean mask."""
        answers = {name: own[mask] for name, own in self.answers.items()}
        return FoldAnswers(self.test[mask].reset_index(drop=True), answers, self.units[mask])


def pooled(folds: Sequence[FoldAnswers]) -> FoldAnswers:
    """The test pairs of all folds, one fold after the other."""
    test = pd.concat([fold.test for fold in folds], ignore_index=True)
    if test.duplicated([name for name in (*_PAIR, "held_out") if name in test]).any():
        raise ValueError("a pair is in the test part of more than one fold")
    if any(list(fold.answers) != list(folds[0].answers) for fold in folds):
        raise ValueError("the folds have answers of other predictors")
    answers = {name: np.concatenate([fold.answers[name] for fold in folds]) for name in folds[0].answers}
    return FoldAnswers(test, answers, np.concatenate([fold.units for fold in folds]))


def best_prior(correct: Mapping[str, np.ndarray]) -> str:
    """The more accurate of the priors, chosen once on all rows; the first where they are equal.

    `correct` says whether each answer is, by predictor. If a dataset is held out, the prior is one of those that say
    something about it: `opponent_prior` or `facts_prior`.
    """
    known = [one.name for one in UNSEEN if one.name in correct] or [one.name for one in PRIORS if one.name in correct]
    return max(known, key=lambda name: correct[name].mean())


def held_out_figures(correct: Mapping[str, np.ndarray], name: str, held_out: np.ndarray) -> HeldOutFigures:
    """The accuracy of the predictor `name` on each dataset that was held out, beside the better prior's there."""
    datasets, beating = {}, 0
    for dataset in sorted(set(held_out)):
        rows = {one: answers[held_out == dataset] for one, answers in correct.items()}
        datasets[dataset] = rows[name].mean()
        beating += rows[name].mean() > rows[best_prior({one: rows[one] for one in rows if one != name})].mean()
    return HeldOutFigures(median=float(np.median([*datasets.values()])), beating=beating, datasets=datasets)


def family_figures(correct: np.ndarray, prior: np.ndarray, families: np.ndarray) -> FamilyFigures:
    """Accuracy without the family with the most pairs, and as a mean over families, beside those of a prior.

    The arguments say of each row whether the answer is correct, whether the prior is, and which family it is of.
    """
    sizes = Counter(families.tolist())
    largest, n = max(sizes.items(), key=lambda item: (item[1], item[0]))
    rest = families != largest
    means = pd.DataFrame({"own": correct, "prior": prior}).astype("float64").groupby(families).mean()
    return FamilyFigures(
        families=len(sizes),
        largest=largest,
        largest_share=n / len(families),
        without_largest=_over(correct[rest], prior[rest], families[rest]) if rest.any() else None,
        mean=_over(means["own"].to_numpy(), means["prior"].to_numpy(), means.index.to_numpy(dtype=object)),
    )


def _over(values: np.ndarray, prior: np.ndarray, families: np.ndarray) -> OverFamilies:
    accuracy = Accuracy(value=values.mean(), ci95=bootstrap_networks(values, families), n=len(values))
    return OverFamilies(accuracy=accuracy, difference=slices.difference(values, prior, families))
