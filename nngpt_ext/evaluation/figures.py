"""What a report holds: the keys of report.json, typed.

`Report.model_dump()` gives exactly what report.json says and `Report.model_validate` takes it back, whole.
A number that could not be computed is None (null in JSON), never NaN: no data, no number.
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
    model_serializer,
)

from nngpt_ext.errors import UserError

PAPERS_WAY = "the paper's way: the best test accuracy of any epoch, chosen by looking at the test set"
SIDES = ("involving", "as_answer")
_COLUMNS = ("accuracy", "low", "high", "n", "prior")


def _known(value: Any) -> Any:
    """None for NaN and infinities, which JSON does not have."""
    return None if isinstance(value, (float, np.floating)) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_known)]
Ci95 = tuple[float, float]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Accuracy(_Part):
    """Share of right answers among n pairs; the interval is over networks."""

    value: float
    ci95: Ci95
    n: int


class Skill(_Part):
    """Accuracy minus the pair prior's on the same pairs; p of the sign-flip permutation over networks."""

    value: float
    ci95: Ci95
    p: float

    @property
    def clear_of_zero(self) -> bool:
        return self.ci95[0] > 0 or self.ci95[1] < 0


class Baseline(_Part):
    """A baseline on the test pairs; `difference` is the model's accuracy minus the baseline's."""

    accuracy: float
    ci95: Ci95
    log_loss: Number = None
    difference: Skill | None = None


class Group(_Part):
    """Part of the test pairs: n pairs of so many networks, and the pair prior's accuracy on them."""

    accuracy: Number
    ci95: Ci95 | None = None
    prior: Number
    n: int
    networks: int | None = None


class NearDuplicates(_Part):
    """Test networks with, and without, a near-duplicate (Jaccard at least `threshold`) in training."""

    threshold: float
    share_of_test_networks: Number
    with_: Group = Field(alias="with")  # `with` is a word of Python's own
    without: Group

    @model_serializer
    def _by_name(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "share_of_test_networks": self.share_of_test_networks,
            "with": self.with_.model_dump(),
            "without": self.without.model_dump(),
        }


class Epoch(_Part):
    """One tuning epoch; what was not measured then is None. Validation may add its log loss."""

    epoch: int | float
    train_loss: Number = None
    validation_accuracy: Number = None
    validation_log_loss: Number = None
    test_accuracy: Number = None


class Change(_Part):
    """A measure before and after calibration; the interval is of the latter."""

    before: float
    after: float
    ci95: Ci95 | None = None


class Answered(_Part):
    """Test pairs whose confidence reaches the threshold: their share of all, how many, and their accuracy."""

    share: float
    ci95: Ci95 | None = None
    n: int
    accuracy: Number
    accuracy_ci95: Ci95 | None = None


class CalibrationFigures(_Part):
    """What temperature scaling, fitted on validation, does on the test pairs."""

    temperature: float
    threshold: Number
    target: float
    n_validation_pairs: int
    log_loss: Change
    brier: Change
    ece: Change
    answered: Answered


class LeftOut(_Part):
    """Dataset pairs, and their test rows, for which there is no AUC: all networks have the same answer."""

    pairs: int = 0
    rows: int = 0


def per_dataset_table(nested: Any) -> pd.DataFrame:
    """report.json's `per_dataset` as a table: a row a dataset, columns `involving_accuracy`, …_low, …"""
    if isinstance(nested, pd.DataFrame):
        return nested
    rows = {}
    for dataset, sides in nested.items():
        row: dict[str, float | None] = {}
        for side in SIDES:
            group = Group.model_validate(sides[side])
            low, high = group.ci95 or (math.nan, math.nan)
            values = (group.accuracy, low, high, group.n, group.prior)
            row |= {f"{side}_{name}": value for name, value in zip(_COLUMNS, values, strict=True)}
        rows[dataset] = row
    columns = [f"{side}_{name}" for side in SIDES for name in _COLUMNS]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("dataset")
    return table.astype({name: "int64" if name.endswith("_n") else "float64" for name in columns})


def per_dataset_nested(table: pd.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """The table as report.json has it: {dataset: {involving: {accuracy, ci95, n, prior}, as_answer: …}}."""
    nested: dict[str, dict[str, dict[str, Any]]] = {}
    for dataset, row in zip(table.index, table.to_dict("records"), strict=True):
        nested[str(dataset)] = {
            side: {
                "accuracy": _known(row[f"{side}_accuracy"]),
                "ci95": [row[f"{side}_low"], row[f"{side}_high"]] if row[f"{side}_n"] else None,
                "n": int(row[f"{side}_n"]),
                "prior": _known(row[f"{side}_prior"]),
            }
            for side in SIDES
        }
    return nested


# A table for whoever uses the package from Python, nested mappings in JSON.
PerDataset = Annotated[pd.DataFrame, PlainValidator(per_dataset_table), PlainSerializer(per_dataset_nested)]


class Report(BaseModel):
    """How good one run's answers on its test pairs are. All metrics are of the test pairs.

    `per_dataset` is a DataFrame with the index `dataset` and, for `involving` (pairs that have the dataset
    on either side) and `as_answer` (pairs whose answer it is), the columns `…_accuracy`, `…_low`, `…_high`
    (95 % interval), `…_n` (pairs) and `…_prior` (the pair prior's accuracy on the same pairs):

        result.report.per_dataset.loc["mnist", "involving_accuracy"]
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")

    task: str
    prompt: str
    base_model: str
    split: str
    answers_only: bool = False  # answers of texts: no probabilities, and neither networks nor training known
    n_train_pairs: int | None
    n_validation_pairs: int = 0
    n_test_pairs: int
    n_test_networks: int | None
    excluded: dict[str, int]
    accuracy: Accuracy
    skill: Skill
    near_duplicates: NearDuplicates
    within_pair_auc: Number
    within_pair_auc_left_out: LeftOut = LeftOut()
    log_loss: Number
    brier: Number
    ece: Number
    flip_rate: Number
    calibration: CalibrationFigures | None = None
    per_dataset: PerDataset
    baselines: dict[str, Baseline]
    epochs: list[Epoch]
    selected_epoch: int | float | None
    peak_test_accuracy: Number
    peak_test_accuracy_is: str = PAPERS_WAY
    validation_accuracy: Number = None
    validation_log_loss: Number = None
    timings: dict[str, Any]
    versions: dict[str, Any]
    config: dict[str, Any]
    notes: list[str] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]

    def _repr_html_(self) -> str:
        from nngpt_ext.evaluation.notebook import report_cell

        return report_cell(self)

    def __str__(self) -> str:
        return (
            f"{self.task}, prompt {self.prompt}, {self.split}: accuracy {self.accuracy.value:.3f} "
            f"on {self.n_test_pairs} test pairs, skill {self.skill.value:+.3f}"
        )


def parse(text: str, where: str) -> Report:
    """A report from the text of a report.json; `where` names it in the error.

    Raises:
        UserError: when the text is not JSON, or not that of a report.
    """
    try:
        return Report.model_validate_json(text)
    except ValueError as error:
        reason = " ".join(str(error).splitlines()[:3])
        raise UserError(
            f"'{where}' is not a report of this package ({reason}); rebuild it from predictions.parquet"
        ) from None
