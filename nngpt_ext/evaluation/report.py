"""The report: what was measured of a run, and its files report.json, report.md and report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from nngpt_ext.data.splits import SPLITS
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation import figures, metrics, slices
from nngpt_ext.evaluation.description import brief, summary, tables
from nngpt_ext.evaluation.figures import PRIOR, Accuracy, FoldFigures, Group, HeldOutFigures, LeftOut, Number
from nngpt_ext.evaluation.pool import best_prior, family_figures, held_out_figures
from nngpt_ext.evaluation.statistics import bootstrap_networks, few_networks
from nngpt_ext.io import write_text
from nngpt_ext.run_folder import (
    BASELINES,
    KEYS,
    PREDICTIONS,
    REPORT,
    REPORT_MARKDOWN,
    REPORT_PAGE,
    finishing,
    no_run,
    read_sealed,
    read_table,
    write_sealed,
)
from nngpt_ext.views.faces import to_cell, to_markdown, to_page
from nngpt_ext.views.wording import excluded

PAPERS_WAY = "the paper's way: the best test accuracy of any epoch, chosen by looking at the test set"


class Report(BaseModel):
    """How good a run's answers on its test pairs are; all metrics are of the test pairs.

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
    skill: figures.Skill
    skill_beyond_best_prior: figures.SkillBeyondPrior | None = None  # None in reports of older versions
    families: figures.FamilyFigures | None = None  # where families stay together: all intervals are then over families
    folds: list[FoldFigures] = []  # if several are pooled; numbers of training and validation pairs are then sums
    held_out: HeldOutFigures | None = None  # of all datasets in turn; other intervals are then points, and p is 1
    near_duplicates: figures.NearDuplicates
    within_pair_auc: Number
    within_pair_auc_left_out: LeftOut = LeftOut()
    log_loss: Number
    brier: Number
    ece: Number
    flip_rate: Number
    calibration: figures.CalibrationFigures | None = None
    per_dataset: figures.PerDataset
    baselines: dict[str, figures.Baseline]
    epochs: list[figures.Epoch]
    selected_epoch: int | float | None
    peak_test_accuracy: Number
    peak_test_accuracy_is: str = PAPERS_WAY
    validation_accuracy: Number = None
    validation_log_loss: Number = None
    timings: dict[str, Any]
    records: dict[str, Any] = {}
    versions: dict[str, Any]
    config: dict[str, Any]
    notes: list[str] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]

    @property
    def units(self) -> str:
        """What intervals are over."""
        return "families" if self.families else "networks"

    def _repr_html_(self) -> str:
        return to_cell(summary(self), brief(self), folded=tables(self))

    def __str__(self) -> str:
        return (
            f"{self.task}, prompt {self.prompt}, {self.split}: accuracy {self.accuracy.value:.3f} "
            f"on {self.n_test_pairs} test pairs, skill {self.skill.value:+.3f}"
        )


@dataclass(frozen=True)
class RunRecord:
    """What a report says of a run besides its figures; what is not explained here is a field of `Report`.

    Attributes:
        pairs: the number of pairs of each part; fewer may have been scored.
        near_duplicates: names of the test networks that have a near-duplicate in training.
        near_duplicate_threshold: the Jaccard similarity from which two networks are near-duplicates.
        epochs: mappings with the fields of `Epoch`, and maybe more.
        selected_epoch: the epoch of the predictions, chosen by validation.
        notes: remarks that a reader needs to judge the numbers, besides the split's warning.
        calibration: temperature, threshold, target and n_pairs of a calibration; the predictions then have
            `calibrated_1` and `abstain`.
        records: which training records: source, fingerprint, and path if they are not those of an installed nn-dataset.
        answers_only: the predictions are answers of texts that name no networks: each counts as a network of its own,
            and what needs a probability, a network's name or the training pairs is None in the report.
        families: the family of each test network, if the split keeps families together; intervals are then over them.
        folds: mappings with `fold`, `selected_epoch` and maybe more, if the predictions are of several folds, which
            their column `fold` names.
    """

    task: str
    prompt: str
    base_model: str
    split: str
    pairs: Mapping[str, int]
    near_duplicates: Set[str]
    near_duplicate_threshold: float
    excluded: Mapping[str, int]
    epochs: Sequence[Mapping[str, Any]]
    selected_epoch: int | float | None
    timings: Mapping[str, Any]
    versions: Mapping[str, Any]
    config: Mapping[str, Any]
    notes: Sequence[str] = ()
    calibration: Mapping[str, Any] | None = None
    records: Mapping[str, Any] = field(default_factory=dict)
    answers_only: bool = False
    families: Mapping[str, str] = field(default_factory=dict)
    folds: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any], config: Mapping[str, Any], **more: Any) -> RunRecord:
        """From a run's run.json and config.yaml; `more` are fields to add or replace."""
        names = ("task", "near_duplicate_threshold", "excluded", "epochs", "selected_epoch", "timings", "versions")
        found = {name: record[name] for name in names} | {
            "prompt": config["prompt"],
            "base_model": record["base_model"]["name"],
            "split": config["data"]["split"],
            "pairs": {**record["parts"], "train": record["training_pairs"]},
            "near_duplicates": set(record["near_duplicates"]),
            "records": record.get("data", {}),
            "config": config,
            "families": record.get("families", {}),
            "folds": record.get("folds", []),
        }
        return cls(**{**found, **more})


def read_answers(folder: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """A run's predictions, and P(dataset_1) of each baseline for its test pairs, in the order of the predictions.

    Raises:
        UserError: if predictions.parquet or baselines.parquet is missing, damaged or of other pairs.
    """
    predictions, baselines = read_table(folder / PREDICTIONS), read_table(folder / BASELINES)
    # Two folds of by_dataset test the same pair; older versions had no folds in baselines.parquet.
    keys = [name for name in (*KEYS, "fold") if name in predictions and name in baselines]
    test = predictions.loc[predictions["split"] == "test", keys]
    matched = test.merge(baselines, on=keys, how="left", validate="one_to_one")
    if matched.isna().to_numpy().any():
        raise UserError(
            f"'{folder / BASELINES}' has other pairs than '{folder / PREDICTIONS}'; remove "
            f"'{folder / REPORT}' and {finishing(folder)}"
        )
    return predictions, {str(name): column.to_numpy() for name, column in matched.drop(columns=keys).items()}


def build_report(run: RunRecord, predictions: pd.DataFrame, baselines: Mapping[str, np.ndarray]) -> Report:
    """Measure the predictions on the test pairs, beside the baselines.

    Args:
        run: what was run.
        predictions: the validation and test pairs with the columns of predictions.parquet.
        baselines: P(dataset_1) of each baseline for the test rows of `predictions`, in their order. `pair_prior`
            must be among them: skill is measured against it.

    Raises:
        UserError: if there is no test pair.
        ValueError: if the pair prior is missing or a baseline does not fit the test rows.
    """
    test = predictions[predictions["split"] == "test"].reset_index(drop=True)
    if test.empty:
        raise UserError(f"no test pair was scored in split '{run.split}': there is nothing to report")
    if PRIOR not in baselines:
        raise ValueError(f"baselines lack '{PRIOR}', which skill is measured against")
    first = metrics.first_wins(test)
    correct = {name: metrics.correct(probability, first) for name, probability in baselines.items()}
    answers = own = slices.Answers.of(test, correct[PRIOR], run.families)
    best = best_prior(correct)
    turns = {fold["fold"]: fold["held_out"] for fold in run.folds if "held_out" in fold}
    if turns:  # a few datasets are no sample of all: no interval, and no p
        answers = replace(own, units=np.zeros(len(test), dtype=int))
    beyond = slices.difference(answers.correct, correct[best], answers.units)
    validation = predictions[predictions["split"] == "validation"]
    tested = [epoch["test_accuracy"] for epoch in run.epochs if epoch.get("test_accuracy") is not None]
    found: dict[str, Any] = {name: value for name, value in vars(run).items() if name in Report.model_fields}
    found |= {name: metric.measure(test) for name, metric in metrics.METRICS.items()}
    if not validation.empty:
        found["validation_accuracy"] = (validation["predicted"] == validation["better_dataset"]).mean()
        found["validation_log_loss"] = metrics.log_loss(validation["probability_1"], metrics.first_wins(validation))
    found |= {
        "n_train_pairs": run.pairs.get("train", 0),
        "n_validation_pairs": run.pairs["validation"] if run.folds else len(validation),
        "n_test_pairs": len(test),
        "n_test_networks": test["nn"].nunique(),
        "accuracy": Accuracy(
            value=answers.correct.mean(), ci95=bootstrap_networks(answers.correct, answers.units), n=len(test)
        ),
        "skill": slices.difference(answers.correct, answers.prior, answers.units),
        "skill_beyond_best_prior": figures.SkillBeyondPrior(prior=best, **beyond.model_dump()),
        "families": family_figures(answers.correct, correct[best], answers.units) if run.families else None,
        "folds": [_fold(fold, (test["fold"] == fold["fold"]).to_numpy(), own, correct) for fold in run.folds],
        "held_out": held_out_figures({**correct, "": own.correct}, "", test["fold"].map(turns).to_numpy())
        if turns
        else None,
        "near_duplicates": slices.near_duplicates(run.near_duplicates, run.near_duplicate_threshold, answers),
        "within_pair_auc_left_out": metrics.within_pair_auc(test)[1],
        "calibration": None if run.calibration is None else slices.calibration(run.calibration, test, answers.units),
        "per_dataset": slices.per_dataset(test, answers),
        "baselines": {
            name: figures.Baseline(
                accuracy=own.mean(),
                ci95=bootstrap_networks(own, answers.units),
                log_loss=metrics.log_loss(baselines[name], first),
                difference=slices.difference(answers.correct, own, answers.units),
            )
            for name, own in correct.items()
        },
        "peak_test_accuracy": max((value for value in tested if np.isfinite(value)), default=None),
        "notes": _notes(run, test),
    }
    if run.answers_only:
        empty = Group(accuracy=None, prior=None, n=0)
        near = {"threshold": run.near_duplicate_threshold, "share_of_test_networks": None}
        found |= dict.fromkeys(["n_train_pairs", "n_test_networks", *metrics.METRICS])
        found |= {"near_duplicates": {**near, "with": empty, "without": empty}, "within_pair_auc_left_out": LeftOut()}
    return Report(**found)


def _fold(
    chosen: Mapping[str, Any], rows: np.ndarray, every: slices.Answers, correct: Mapping[str, np.ndarray]
) -> FoldFigures:
    answers = every.part(rows)
    own, n = answers.correct, len(answers.correct)
    accuracy = Accuracy(value=own.mean(), ci95=bootstrap_networks(own, answers.units), n=n)
    skill, beyond = slices.difference(own, answers.prior, answers.units), None
    if "held_out" in chosen:
        best = best_prior({name: one[rows] for name, one in correct.items()})
        found = slices.difference(own, correct[best][rows], answers.units)
        beyond = figures.SkillBeyondPrior(prior=best, **found.model_dump())
    return FoldFigures(**chosen, accuracy=accuracy, skill=skill, beyond=beyond)


def write_report(report: Report, folder: str | Path) -> None:
    """Write report.json, report.md and report.html; each file is whole or left as it was.

    Raises:
        UserError: if a file cannot be written.
    """
    opening, shown = summary(report), tables(report)
    title = f"{report.task}: {report.prompt}, {report.base_model}, {report.split}"
    files = {REPORT_MARKDOWN: to_markdown(opening, shown), REPORT_PAGE: to_page(title, opening, shown)}
    for name, content in files.items():
        write_text(Path(folder) / name, content)
    # report.json last: with it a run counts as finished.
    write_sealed(Path(folder) / REPORT, report.model_dump(mode="json"), allow_nan=False)


def read_report(folder: str | Path) -> Report:
    """Read the report.json of a run folder.

    Raises:
        UserError: if it does not exist, or is not as this package wrote it.
    """
    path = Path(folder) / REPORT
    try:
        return Report.model_validate(read_sealed(path))
    except (FileNotFoundError, NotADirectoryError):
        raise no_run(Path(folder)) from None
    except OSError as error:
        raise UserError(f"cannot read '{path}' ({error.strerror})") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"'{path}' is not a report of this package ({reason}); to build it again, type: nngpt-ext report {folder}"
        ) from None


def _notes(run: RunRecord, test: pd.DataFrame) -> list[str]:
    """The remarks that follow from what was measured, then those of the run; each once."""
    own = [SPLITS[run.split].warning or ""] if run.split in SPLITS else []
    expected = run.pairs.get("test", 0)
    if len(test) != expected:
        own.append(f"{len(test):,} of the {expected:,} test pairs were scored.")
    own.append(few_networks(len(test), "answer") if run.answers_only else few_networks(test["nn"].nunique()))
    if run.families and test["nn"].map(run.families).nunique() == 1:
        own.append("There is one test family only: the intervals are points and say nothing about others.")
    own.append(excluded(run.excluded))
    return [note for note in dict.fromkeys([*own, *run.notes]) if note]
