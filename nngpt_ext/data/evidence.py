"""Early evidence: the accuracies that training had shown at earlier epochs, on the datasets of a pair.

Nothing of the epoch that is compared, and nothing of a test network but its own earlier accuracies, is in it: these are
divided by the best that training networks had at the same epoch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, field_validator

from nngpt_ext.data.trials import KEYS
from nngpt_ext.declaration import Declarations, Named, choice
from nngpt_ext.errors import UserError
from nngpt_ext.settings import Stage

if TYPE_CHECKING:
    import pandas as pd

Best = Mapping[str, Mapping[int, float]]  # by dataset and epoch, the best accuracy of any training network
COLUMNS = ("evidence_1", "evidence_2")
REASON = "no_evidence"  # why a pair has none
OF = Declarations(
    "kind of evidence",
    [
        Named("same", "of the very trial that is compared, found by its recipe"),
        Named("best", "the best of all trials of the network on the dataset at that epoch"),
    ],
)
SIDES = Declarations(
    "choice of sides",
    [
        Named("both", "both datasets of a pair"),
        Named("one", "one of them, drawn by the seed; on the other the network is not trained yet"),
    ],
)


class EvidenceConfig(Stage):
    """Accuracies at earlier epochs that questions show and baselines know."""

    epochs: tuple[int, ...] = Field((), description="earlier epochs, such as [1] or [1, 2]; none by default")
    of: Annotated[str, AfterValidator(OF.check)] = choice("same", "of which trials", OF)
    sides: Annotated[str, AfterValidator(SIDES.check)] = choice("both", "on which datasets of a pair", SIDES)

    @field_validator("epochs")
    @classmethod
    def _rising(cls, epochs: tuple[int, ...]) -> tuple[int, ...]:
        if any(epoch < 1 for epoch in epochs):
            raise ValueError("epochs are counted from 1")
        return tuple(sorted(set(epochs)))

    def spent(self, epoch: int) -> float:
        """The share of both trainings up to an epoch that the evidence of one trial on each dataset takes."""
        return max(self.epochs, default=0) / epoch / (1 if self.sides == "both" else 2)

    def note(self, epoch: int, trained: Mapping[str, int], left_out: Mapping[str, int]) -> str:
        """Sentences for a reader: how much training the evidence took, and how many pairs had none.

        `trained` is as `EarlyTrials.trained` counts; `left_out` are numbers of pairs of tested trials, of all parts.
        """
        last, trials = self.epochs[-1], trained["trials"] / trained["sides"]
        sides = "both datasets" if self.sides == "both" else "one of the two datasets"
        whose = "the trial that is compared" if self.of == "same" else f"all trials ({trials:.1f} a dataset)"
        without = "; ".join(f"{reason} ({n:,})" for reason, n in left_out.items())
        return (
            f"Evidence: accuracies at epoch {' and '.join(map(str, self.epochs))} on {sides}, which took {last} of "
            f"{epoch} epochs of {whose}, as much as {trials * last / epoch:.2g} whole trainings on each dataset."
        ) + (f" Pairs of tested trials, in all parts, that were left out: {without}." if without else "")


class EarlyTrials:
    """Finds the evidence of pairs; `excluded` counts those that had none, by reason."""

    def __init__(
        self, config: EvidenceConfig, trials: pd.DataFrame, early: Mapping[int, pd.DataFrame], seed: int
    ) -> None:
        self.config, self.seed, self.early = config, seed, early
        self.excluded: Counter[str] = Counter()
        self._found = {epoch: _accuracies(early[epoch], config.of) for epoch in config.epochs}
        # Of two trials with one recipe, nothing says which of the earlier ones is whose.
        self._single = _accuracies(trials, config.of).keys()

    def join(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """The pairs that have evidence, with `COLUMNS`: accuracies by epoch, none on a dataset not trained yet."""
        found = self.find(pairs)
        return found[found[REASON] == ""].drop(columns=REASON).reset_index(drop=True)

    def find(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """All pairs with `COLUMNS`, and in `REASON` why one has no evidence; else as `join`."""
        known, reasons = np.zeros((len(pairs), 2), dtype=object), np.full(len(pairs), "", dtype=object)
        for i, (nn, *row) in enumerate(pairs[["nn", *_SHOWN]].itertuples(index=False, name=None)):
            sides = [(row[0], row[2]), (row[1], row[3])]
            trained = [True, True]
            if self.config.sides == "one":
                drawn = hashlib.blake2b(repr((self.seed, nn, *row)).encode(), digest_size=1).digest()[0] % 2
                trained[drawn] = False
            for side, ((dataset, recipe), here) in enumerate(zip(sides, trained, strict=True)):
                known[i, side], reason = self._of(nn, dataset, recipe) if here else ({}, "")
                reasons[i] = reasons[i] or reason
        self.excluded.update(reasons[reasons != ""])
        if (reasons != "").all():
            epochs = ", ".join(map(str, self.config.epochs))
            raise UserError(f"no pair has accuracies at epoch {epochs} (data.evidence.epochs); choose other epochs")
        return pairs.assign(**dict(zip(COLUMNS, known.T, strict=True)), **{REASON: reasons})

    def _of(self, nn: str, dataset: str, recipe: Mapping[str, Any]) -> tuple[dict[int, float], str]:
        key = (nn, dataset, *(recipe.values() if self.config.of == "same" else ()))
        found = {epoch: known[key] for epoch, known in self._found.items() if key in known}
        missing = [epoch for epoch in self._found if epoch not in found]
        if key not in self._single:
            return found, "several trials with one recipe"
        return found, f"no accuracy at epoch {missing[0]}" if missing else ""

    def best(self, networks: Iterable[str]) -> Best:
        """The best accuracies of these networks, by dataset and epoch."""
        names = set(networks)
        found: dict[str, dict[int, float]] = {}
        for epoch in self.config.epochs:
            frame = self.early[epoch]
            for dataset, value in frame[frame["nn"].isin(names)].groupby("dataset")["accuracy"].max().items():
                found.setdefault(str(dataset), {})[epoch] = float(value)
        return found

    def trained(self, pairs: pd.DataFrame) -> dict[str, int]:
        """On how many datasets the networks of these pairs were trained for evidence (`sides`), and `trials` for it."""
        last = self.early[self.config.epochs[-1]].groupby(["nn", "dataset"]).size()
        sides = {
            (nn, dataset)
            for i, column in enumerate(COLUMNS, 1)
            for nn, dataset, known in zip(pairs["nn"], pairs[f"dataset_{i}"], pairs[column], strict=True)
            if known
        }
        trials = len(sides) if self.config.of == "same" else int(sum(last[side] for side in sides))
        return {"sides": len(sides), "trials": trials}


_SHOWN = ("dataset_1", "dataset_2", "recipe_1", "recipe_2")


def epochs_of(best: Best) -> list[int]:
    """The epochs of evidence, rising."""
    return sorted({epoch for known in best.values() for epoch in known})


def relative(known: Mapping[int, float], dataset: str, best: Best) -> dict[int, float]:
    """Accuracies by epoch divided by the best of training; as they are on a dataset that training did not have."""
    tops = best.get(dataset, {})
    return {epoch: accuracy / (tops.get(epoch) or 1.0) for epoch, accuracy in known.items()}


def normalized(pairs: pd.DataFrame, best: Best) -> pd.DataFrame:
    """Pairs with `COLUMNS` as `relative` has them."""
    columns: dict[str, Any] = {
        column: [relative(known, dataset, best) for known, dataset in zip(pairs[column], pairs[name], strict=True)]
        for column, name in zip(COLUMNS, ("dataset_1", "dataset_2"), strict=True)
    }
    return pairs.assign(**columns)


def _accuracies(trials: pd.DataFrame, of: str) -> dict[tuple[Any, ...], float]:
    """Accuracy by network, dataset and recipe, of recipes that only one trial has; or the best of each dataset."""
    if of == "best":
        best: dict[Any, float] = trials.groupby(["nn", "dataset"])["accuracy"].max().to_dict()
        return best
    keys = ["nn", "dataset", *trials.columns.drop(list(KEYS))]
    single = trials[~trials.duplicated(keys, keep=False)]
    table = single[keys].astype(object).where(single[keys].notna(), None)
    return dict(zip(table.itertuples(index=False, name=None), single["accuracy"], strict=True))
