"""What study.json holds, typed. A number that could not be computed is null: no data, no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.metrics import Answered, Bin
from nngpt_ext.evaluation.schema import Accuracy, Ci95, Epoch, Number, Skill

FORMAT = 1  # raised when a reader of study.json would have to change


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Frozen):
    """Some of the test pairs: how many, of how many networks, accuracy, pair prior, and the first minus the second.

    Both intervals are 95 %, over networks, and null where there is one network alone: it has no spread.
    """

    name: str
    n: int
    networks: int
    accuracy: Number = None
    ci95: Ci95 | None = None
    prior: Number = None
    gain: Number = None
    gain_ci95: Ci95 | None = None
    gain_p: Number = None  # of the parts that conclusions speak of


class PairPart(Part):
    """The test pairs of two datasets, dataset_1 < dataset_2 in text order."""

    dataset_1: str
    dataset_2: str


class Figures(_Frozen):
    """What was measured of a finished cell, on its test pairs."""

    n_train_pairs: int
    n_train_networks: int
    n_test_pairs: int
    n_test_networks: int
    accuracy: Accuracy
    prior: Accuracy
    skill: Skill
    peak_test_accuracy: Number
    selected_epoch: int | float | None
    epochs: list[Epoch]
    baselines: dict[str, float]
    against: dict[str, Skill] = {}  # accuracy minus that of each other baseline on the same pairs
    within_pair_auc: Number
    log_loss: float
    ece: float
    ece_calibrated: Number
    flip_rate: float
    involving: list[Part]
    as_answer: list[Part]
    pairs: list[PairPart]
    margin: list[Part]
    origin: list[Part]
    near_duplicate: list[Part]
    cut: list[Part]
    reliability: list[Bin]
    reliability_calibrated: list[Bin]
    coverage: list[Answered]
    coverage_prior: list[Answered] = []  # of the pair prior, by its own confidence


class Place(_Frozen):
    """Where a cell stands in the grid."""

    name: str
    prompt: str
    base: str
    split: str
    label: str
    seed: int
    train_networks: int | None
    tested_on: Literal["best", "random"]
    tag: str | None


class CellResult(Place):
    """A cell of the grid and what became of it."""

    status: Literal["finished", "failed", "not run", "waiting"]
    reason: str | None = None  # of a failed cell its error
    device: str | None = None
    figures: Figures | None = None


class CurvePoint(_Frozen):
    """The baselines' accuracies after so many training networks, on the same test pairs."""

    networks: int
    train_pairs: int
    n_test_pairs: int
    accuracy: dict[str, float]
    ci95: dict[str, Ci95] = {}


class Comparison(_Frozen):
    """Two cells on the same test pairs: the first one's accuracy minus the second one's."""

    first: str
    second: str
    n: int
    networks: int
    difference: Skill


class Study(_Frozen):
    """All cells, and how they were made. `timings` alone differs when the same study is run again."""

    format: int = FORMAT
    title: str
    command: str
    cells: list[CellResult]
    learning_curve: list[CurvePoint]
    comparisons: list[Comparison] = []
    hardware: dict[str, Any]
    versions: dict[str, str]
    timings: dict[str, float]  # seconds of each run, in its last sitting


def read_study(file: Path) -> Study:
    """Read a study.json.

    Raises:
        UserError: when there is none, or when it is damaged.
    """
    try:
        return Study.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read '{file}': {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"'{file}' is not of a study: {' '.join(str(error).splitlines()[:3])}") from None
