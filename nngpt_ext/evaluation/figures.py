"""The parts of a report, typed as in report.json.

A number that could not be computed is None (null in JSON), never NaN.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from nngpt_ext.evaluation.statistics import Ci95

PRIOR = "pair_prior"  # the baseline that skill is measured against
SIDES = ("involving", "as_answer")
_COLUMNS = ("accuracy", "low", "high", "n", "prior")


def _known(value: Any) -> Any:
    """None for NaN and infinities, which JSON lacks."""
    return None if isinstance(value, (float, np.floating)) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_known)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Accuracy(_Part):
    """The share of correct answers among n pairs; the interval is over networks."""

    value: float
    ci95: Ci95
    n: int


class Skill(_Part):
    """Accuracy minus the pair prior's on the same pairs; p by sign-flip permutation over networks."""

    value: float
    ci95: Ci95
    p: float

    @property
    def clear_of_zero(self) -> bool:
        return self.ci95[0] > 0 or self.ci95[1] < 0


class SkillBeyondPrior(Skill):
    """Accuracy minus that of the better prior, the pairs' or the kinds', on the same pairs."""

    prior: str


class OverFamilies(_Part):
    """An accuracy and its difference from the best prior's, with intervals over families."""

    accuracy: Accuracy
    difference: Skill


class FamilyFigures(_Part):
    """What a single family decides: the test pairs without the family with most of them, and the mean over families.

    `largest` is the key of that family, `largest_share` its share of the pairs.
    """

    families: int
    largest: str
    largest_share: float
    without_largest: OverFamilies | None
    mean: OverFamilies


class HeldOutFigures(_Part):
    """Each dataset held out in turn: the accuracies, their median, and on how many the better prior's is beaten.

    The better prior is `opponent_prior` or `facts_prior`, for each dataset the one with more correct answers.
    """

    median: float
    beating: int
    datasets: dict[str, float]


class FoldFigures(_Part):
    """The test pairs of one fold, and what was chosen on its validation pairs.

    `held_out` and `beyond`, the accuracy minus that of the better prior, are of a split that holds out datasets.
    """

    fold: int
    accuracy: Accuracy
    skill: Skill
    selected_epoch: int | float | None
    temperature: Number = None
    threshold: Number = None
    held_out: str | None = None
    beyond: SkillBeyondPrior | None = None


class Baseline(_Part):
    """A baseline on the test pairs; `difference` is the model's accuracy minus the baseline's."""

    accuracy: float
    ci95: Ci95
    log_loss: Number = None
    difference: Skill | None = None


class Group(_Part):
    """Accuracy, and the pair prior's, on n of the test pairs."""

    accuracy: Number
    ci95: Ci95 | None = None
    prior: Number
    n: int
    networks: int | None = None


class NearDuplicates(_Part):
    """The test networks with and without a near-duplicate (Jaccard at least `threshold`) in training."""

    threshold: float
    share_of_test_networks: Number
    with_: Group = Field(alias="with")  # `with` is a keyword in Python
    without: Group

    @model_serializer(mode="wrap")
    def _with(self, to_dict: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name.rstrip("_"): value for name, value in to_dict(self).items()}


class Epoch(_Part):
    """One tuning epoch."""

    epoch: int | float
    train_loss: Number = None
    validation_accuracy: Number = None
    validation_log_loss: Number = None
    test_accuracy: Number = None


class Change(_Part):
    """A measure before and after calibration, with the interval of the latter."""

    before: float
    after: float
    ci95: Ci95 | None = None


class Answered(_Part):
    """The n test pairs whose confidence reaches the threshold: their share of all pairs, and their accuracy."""

    share: float
    ci95: Ci95 | None = None
    n: int
    accuracy: Number
    accuracy_ci95: Ci95 | None = None


class CalibrationFigures(_Part):
    """The effect on the test pairs of temperature scaling, which is fitted on validation.

    Of several folds, each has its own temperature and threshold (`FoldFigures`), and these are None here.
    """

    temperature: Number
    threshold: Number
    target: float
    n_validation_pairs: int
    log_loss: Change
    brier: Change
    ece: Change
    answered: Answered


class LeftOut(_Part):
    """Dataset pairs, and their rows, without an AUC: all networks have the same answer."""

    pairs: int = 0
    rows: int = 0


def per_dataset_table(nested: Any) -> pd.DataFrame:
    """report.json's `per_dataset` as a table with a row for each dataset and columns `involving_accuracy`, …_low, …"""
    if isinstance(nested, pd.DataFrame):
        return nested
    columns = [f"{side}_{name}" for side in SIDES for name in _COLUMNS]
    rows = []
    for sides in nested.values():
        groups = [Group.model_validate(sides[side]) for side in SIDES]
        rows.append([v for g in groups for v in (g.accuracy, *(g.ci95 or (None, None)), g.n, g.prior)])
    table = pd.DataFrame(rows, index=pd.Index(nested, name="dataset", dtype="object"), columns=columns)
    return table.astype({name: "int64" if name.endswith("_n") else "float64" for name in columns})


def per_dataset_nested(table: pd.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """The table as in report.json: {dataset: {involving: {accuracy, ci95, n, prior}, as_answer: …}}."""
    nested: dict[str, dict[str, dict[str, Any]]] = {}
    for dataset, row in zip(table.index, table.to_dict("records"), strict=True):
        nested[str(dataset)] = {}
        for side in SIDES:
            accuracy, low, high, n, prior = (_known(row[f"{side}_{name}"]) for name in _COLUMNS)
            ci95 = (low, high) if n else None
            nested[str(dataset)][side] = {"accuracy": accuracy, "ci95": ci95, "n": n, "prior": prior}
    return nested


# A table in Python, nested mappings in JSON.
PerDataset = Annotated[pd.DataFrame, PlainValidator(per_dataset_table), PlainSerializer(per_dataset_nested)]
