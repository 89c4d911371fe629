"""Trials: LEMUR's training records as one clean table, whatever they were read from."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.declaration import Declarations, Named

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

TASK = "img-classification"
METRIC = "acc"
RECIPE = ("lr", "batch", "momentum", "dropout", "transform")
COLUMNS = ("nn", "dataset", "epoch", "accuracy", *RECIPE)

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
    """Usable trials (columns `COLUMNS`, in a fixed order of rows) and the others, counted by reason."""

    frame: pd.DataFrame
    excluded: dict[str, int]


class Source(Protocol):
    """A place that training records are read from."""

    kind: str

    @property
    def location(self) -> str:
        """Where it is, for messages and for the cache's file name."""

    def fingerprint(self, epoch: int | None) -> str:
        """A short text that changes when the records of `epoch` (None: of any epoch) change."""

    def records(self, epoch: int | None) -> Iterable[tuple[Any, ...]]:
        """Raw values in the order of `COLUMNS`: of one epoch, or of all."""

    def networks(self) -> Set[str]:
        """Names of the networks whose source is there."""

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        """Source text of the named networks."""

    def facts(self) -> Mapping[str, DatasetFacts]:
        """Facts about its datasets by name; trials on others are left out."""


def say_excluded(excluded: dict[str, int]) -> None:
    """Log what was left out, if anything was."""
    if excluded:
        log.info("LEMUR: trials left out: %s", ", ".join(f"{n} × {why}" for why, n in excluded.items()))


def _fault(accuracy: Any) -> str | None:
    """Why an accuracy cannot be used, or None. Numbers in text count as numbers, as in SQLite."""
    if accuracy is None:
        return "accuracy missing"
    if isinstance(accuracy, bool):  # float(True) is 1.0
        return "accuracy not a number"
    try:
        value = float(accuracy)
    except OverflowError:
        return "accuracy outside [0, 1]"
    except (TypeError, ValueError):
        return "accuracy not a number"
    if not math.isfinite(value):
        return "accuracy not finite"
    return None if 0.0 <= value <= 1.0 else "accuracy outside [0, 1]"


def _number(value: Any) -> float:
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def collect(records: Iterable[tuple[Any, ...]], with_source: Set[str], known: Container[str]) -> Trials:
    """Check raw records and put them in one order, so that every source gives the same table.

    A trial without a usable accuracy, whose network has no source or whose dataset has no facts is
    left out and counted under the first reason that applies.
    """
    import pandas as pd

    excluded: Counter[str] = Counter()
    kept: list[tuple[Any, ...]] = []
    for nn, dataset, epoch, accuracy, lr, batch, momentum, dropout, transform in records:
        if type(accuracy) is not float or not 0.0 <= accuracy <= 1.0:
            fault = _fault(accuracy)
            if fault:
                excluded[fault] += 1
                continue
            accuracy = float(accuracy)
        if nn not in with_source:
            excluded["network without source"] += 1
        elif dataset not in known:
            excluded["dataset without facts"] += 1
        else:
            recipe = (_number(lr), _number(batch), _number(momentum), _number(dropout))
            kept.append((nn, dataset, epoch, accuracy, *recipe, None if transform is None else str(transform)))
    frame = pd.DataFrame(kept, columns=list(COLUMNS))
    for name in ("accuracy", "lr", "batch", "momentum", "dropout"):
        frame[name] = frame[name].astype("float64")
    for name in ("nn", "dataset", "transform"):
        missing = frame[name].isna()  # pandas 2 would make it the text "None"
        frame[name] = frame[name].astype("str").mask(missing, None)
    frame["epoch"] = frame["epoch"].astype("int64")
    return Trials(in_order(frame), dict(sorted(excluded.items())))


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Trials by network, dataset, epoch and falling accuracy.

    The recipe breaks ties of accuracy, so that "the best trial" is one trial in every source.
    """
    order = ["nn", "dataset", "epoch", "accuracy", *RECIPE]
    ascending = [True, True, True, False, *(True for _ in RECIPE)]
    return frame.sort_values(order, ascending=ascending, kind="stable", ignore_index=True)
