"""Trials: training records as one clean table, wherever they were read from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.declaration import Declarations, Named
from nngpt_ext.errors import shown

if TYPE_CHECKING:
    import pandas as pd

TASK = "img-classification"
METRIC = "acc"
NUMBER, TEXT = "number", "text"
# LEMUR's recipes. A table of trials has the fields of its own recipes behind the column accuracy.
RECIPE = {"lr": NUMBER, "batch": NUMBER, "momentum": NUMBER, "dropout": NUMBER, "transform": TEXT}
KEYS = ("nn", "dataset", "epoch", "accuracy")
COLUMNS = (*KEYS, *RECIPE)
# Reasons for excluding a trial.
OUTSIDE, NO_FACTS = "accuracy outside [0, 1]", "no facts of dataset"

# Which trials pairs are made of.
USES = Declarations(
    "kind of trials",
    [
        Named("best", "the best trial of each network and dataset"),
        Named("random", "one seeded trial of each network and dataset"),
        Named("all", "training pairs of all trials; validation and test pairs of the best"),
    ],
)


@dataclass(frozen=True)
class Trials:
    """Usable trials (columns `KEYS` and the recipe's, rows in a fixed order), and how many were excluded, by reason."""

    frame: pd.DataFrame
    excluded: dict[str, int]


class Source(Protocol):
    """A place that training records are read from.

    Attributes:
        kind: its name in `nngpt_ext.data.sources.discovery.KINDS`.
        location: where it is, for messages and for the cache's file name.
        facts: facts about its datasets by name; trials on other datasets are excluded.
        recipe: the fields of its recipes, each `NUMBER` or `TEXT`.
    """

    kind: str
    location: str

    @property
    def facts(self) -> Mapping[str, DatasetFacts]: ...

    @property
    def recipe(self) -> Mapping[str, str]: ...

    def fingerprint(self, epoch: int | None) -> str:
        """A short text that changes when the records of `epoch` (None: of any epoch) change."""

    def records(self, epoch: int | None) -> Iterable[tuple[Any, ...]] | pd.DataFrame:
        """Raw values of `KEYS` and the recipe's fields, of one epoch or of all."""

    def networks(self) -> Set[str]:
        """Names of the networks that have a source."""

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        """Source text of the named networks."""


def _accuracy(value: Any) -> float | str:
    """An accuracy, or the reason why it cannot be used. Numbers in text count as numbers, as in SQLite."""
    if value is None:
        return "accuracy missing"
    try:
        accuracy = float(str(value) if isinstance(value, bool) else value)  # float(True) is 1.0
    except OverflowError:
        return OUTSIDE
    except (TypeError, ValueError):
        return "accuracy not a number"
    if not math.isfinite(accuracy):
        return "accuracy not finite"
    return accuracy if 0.0 <= accuracy <= 1.0 else OUTSIDE


def _number(value: Any) -> float:
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _numbers(column: pd.Series) -> Any:
    """A column's numbers, NaN for all else."""
    if column.dtype.kind == "f":
        return column.where(column.abs() < math.inf)
    return [_number(value) for value in column.tolist()]


def _epoch(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number >= 0 and number == int(number) else None


def raw_frame(records: Iterable[tuple[Any, ...]] | pd.DataFrame, recipe: Iterable[str]) -> pd.DataFrame:
    """What a source returns as a table."""
    import pandas as pd

    if isinstance(records, pd.DataFrame):
        return records
    return pd.DataFrame(list(records), columns=[*KEYS, *recipe], dtype=object)


def collect(
    records: Iterable[tuple[Any, ...]] | pd.DataFrame,
    with_source: Set[str],
    known: Container[str],
    recipe: Mapping[str, str] = RECIPE,
) -> Trials:
    """Check raw records and sort them, so that every source yields the same table.

    A trial is excluded if its accuracy is unusable, its network has no source or its dataset has no facts; it is
    counted under the first reason that applies. A recipe's value that cannot be read is missing.
    """
    import numpy as np

    frame = raw_frame(records, recipe)
    accuracies = [_accuracy(value) for value in frame["accuracy"].tolist()]
    epochs: list[Any] = [_epoch(value) for value in frame["epoch"].tolist()]
    excluded: Counter[str] = Counter()
    kept = []
    names = frame["nn"].tolist(), frame["dataset"].tolist()
    for nn, dataset, epoch, accuracy in zip(*names, epochs, accuracies, strict=True):
        reason = ""
        if isinstance(accuracy, str):
            reason = accuracy
        elif epoch is None:
            reason = "epoch not a whole number"
        elif nn not in with_source:
            reason = "network without source"
        elif dataset not in known:
            reason = f"{NO_FACTS} {shown(dataset, 40)}"
        kept.append(not reason)
        if reason:
            excluded[reason] += 1
    frame = frame.assign(accuracy=accuracies, epoch=epochs)[np.array(kept, dtype=bool)]
    for name, kind in {"nn": TEXT, "dataset": TEXT, **recipe}.items():
        if kind == NUMBER:
            frame[name] = _numbers(frame[name])
        else:  # pandas 2 makes None the text "None"
            frame[name] = frame[name].astype("str").mask(frame[name].isna(), None)
    numbers = [name for name, kind in recipe.items() if kind == NUMBER]
    types = {"epoch": "int64", **dict.fromkeys(("accuracy", *numbers), "float64")}
    return Trials(in_order(frame.astype(types)), dict(sorted(excluded.items())))


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort trials by network, dataset, epoch and falling accuracy.

    The recipe breaks ties of accuracy, so that "the best trial" is the same one in every source.
    """
    ascending = [name != "accuracy" for name in frame.columns]
    return frame.sort_values(list(frame.columns), ascending=ascending, kind="stable", ignore_index=True)
