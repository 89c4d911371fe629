"""Trials: LEMUR's training records as one clean table, wherever they were read from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.declaration import Declarations, Named

if TYPE_CHECKING:
    import pandas as pd

TASK = "img-classification"
METRIC = "acc"
RECIPE = ("lr", "batch", "momentum", "dropout", "transform")
COLUMNS = ("nn", "dataset", "epoch", "accuracy", *RECIPE)
OUTSIDE = "accuracy outside [0, 1]"  # a reason for excluding a trial

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
    """Usable trials (columns `COLUMNS`, rows in a fixed order), and how many were excluded, by reason."""

    frame: pd.DataFrame
    excluded: dict[str, int]


class Source(Protocol):
    """A place that training records are read from.

    Attributes:
        kind: its name in `nngpt_ext.data.sources.discovery.KINDS`.
        location: where it is, for messages and for the cache's file name.
        facts: facts about its datasets by name; trials on other datasets are excluded.
    """

    kind: str
    location: str
    facts: Mapping[str, DatasetFacts]

    def fingerprint(self, epoch: int | None) -> str:
        """A short text that changes when the records of `epoch` (None: of any epoch) change."""

    def records(self, epoch: int | None) -> Iterable[tuple[Any, ...]]:
        """Raw values in the order of `COLUMNS`, of one epoch or of all."""

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


def collect(records: Iterable[tuple[Any, ...]], with_source: Set[str], known: Container[str]) -> Trials:
    """Check raw records and sort them, so that every source yields the same table.

    A trial is excluded if its accuracy is unusable, its network has no source or its dataset has no facts; it is
    counted under the first reason that applies.
    """
    import pandas as pd

    excluded: Counter[str] = Counter()
    kept: list[tuple[Any, ...]] = []
    for nn, dataset, epoch, value, *numbers, transform in records:
        accuracy = _accuracy(value)
        if isinstance(accuracy, str):
            excluded[accuracy] += 1
        elif nn not in with_source:
            excluded["network without source"] += 1
        elif dataset not in known:
            excluded["dataset without facts"] += 1
        else:
            text = None if transform is None else str(transform)
            kept.append((nn, dataset, epoch, accuracy, *map(_number, numbers), text))
    frame = pd.DataFrame(kept, columns=list(COLUMNS))
    for name in ("nn", "dataset", "transform"):
        frame[name] = frame[name].astype("str").mask(frame[name].isna(), None)  # pandas 2 makes it the text "None"
    types = {"epoch": "int64", **dict.fromkeys(("accuracy", *RECIPE[:-1]), "float64")}
    return Trials(in_order(frame.astype(types)), dict(sorted(excluded.items())))


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort trials by network, dataset, epoch and falling accuracy.

    The recipe breaks ties of accuracy, so that "the best trial" is the same one in every source.
    """
    ascending = [name != "accuracy" for name in COLUMNS]
    return frame.sort_values(list(COLUMNS), ascending=ascending, kind="stable", ignore_index=True)
