"""The report: from predictions and baselines to report.json, report.md and report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic_core

from nngpt_ext.data.splits import SPLITS
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation import groups, metrics
from nngpt_ext.evaluation.figures import (
    Accuracy,
    Baseline,
    Group,
    LeftOut,
    NearDuplicates,
    Report,
    parse,
)
from nngpt_ext.evaluation.statistics import bootstrap_networks
from nngpt_ext.io import write_text
from nngpt_ext.run_folder import REPORT, REPORT_MARKDOWN, REPORT_PAGE

__all__ = ["Report", "build_report", "read_report", "write_report"]

PRIOR = "pair_prior"


def build_report(
    *,
    task: str,
    prompt: str,
    base_model: str,
    split: str,
    pairs: pd.DataFrame,
    predictions: pd.DataFrame,
    baselines: Mapping[str, np.ndarray],
    near_duplicates: Set[str],
    near_duplicate_threshold: float,
    excluded: Mapping[str, int],
    epochs: Sequence[Mapping[str, Any]],
    selected_epoch: int | float | None,
    timings: Mapping[str, Any],
    versions: Mapping[str, Any],
    config: Mapping[str, Any],
    notes: Sequence[str] = (),
    calibration: Mapping[str, Any] | None = None,
    answers_only: bool = False,
) -> Report:
    """Measure the predictions on the test pairs, beside the baselines.

    Args:
        task, prompt, base_model, split: what was run. The note that a split needs is added to `notes`.
        pairs: all pairs of the run with their `split`; only counted.
        predictions: DESIGN.md's columns, of the validation and the test pairs.
        baselines: P(dataset_1) of each baseline for the test rows of `predictions`, in their order.
            `pair_prior` must be among them: skill is measured against it.
        near_duplicates: names of the test networks that have a near-duplicate in training.
        near_duplicate_threshold: the Jaccard similarity from which two networks are near-duplicates.
        excluded: number of trials left out, by reason.
        epochs: mappings with epoch, train_loss, validation_accuracy and test_accuracy, and maybe more.
        selected_epoch: the epoch that `predictions` are of, chosen by validation.
        timings, versions, config: kept as they are; what JSON does not have becomes text.
        notes: remarks that a reader needs to judge the numbers.
        calibration: temperature, threshold, target and n_pairs of a calibration; then `predictions` has
            `calibrated_1` and `abstain` too.
        answers_only: `predictions` are answers of texts, one network each for want of names. What takes a
            probability, a network's name or the training pairs is then None.

    Raises:
        UserError: when there is no test pair: no data, no number.
        ValueError: when a baseline is missing or does not fit the test rows.
    """
    test = predictions[predictions["split"] == "test"].reset_index(drop=True)
    if test.empty:
        raise UserError(f"no test pair was scored in split '{split}': there is nothing to report")
    networks = test["nn"].to_numpy()
    first_wins = (test["better_dataset"] == test["dataset_1"]).to_numpy()
    probability = test["probability_1"].to_numpy(dtype="float64")
    right = (test["predicted"] == test["better_dataset"]).to_numpy()
    answers = _baseline_answers(baselines, first_wins)
    prior = answers[PRIOR]
    auc = metrics.within_pair_auc(probability, first_wins, test["dataset_1"], test["dataset_2"])
    validation = predictions[predictions["split"] == "validation"]
    peaks = [e["test_accuracy"] for e in epochs if _is_number(e.get("test_accuracy"))]
    report = Report(
        task=task,
        prompt=prompt,
        base_model=base_model,
        split=split,
        n_train_pairs=int((pairs["split"] == "train").sum()),
        n_validation_pairs=len(validation),
        n_test_pairs=len(test),
        n_test_networks=len(set(networks)),
        excluded={str(reason): int(count) for reason, count in excluded.items()},
        accuracy=Accuracy(value=right.mean(), ci95=bootstrap_networks(right, networks), n=len(test)),
        skill=groups.difference(right, prior, networks),
        near_duplicates=groups.near_duplicates(near_duplicates, near_duplicate_threshold, networks, right, prior),
        within_pair_auc=auc.value,
        within_pair_auc_left_out=LeftOut(pairs=auc.pairs_left_out, rows=auc.rows_left_out),
        log_loss=metrics.log_loss(probability, first_wins),
        brier=metrics.brier(probability, first_wins),
        ece=metrics.ece(probability, first_wins),
        flip_rate=metrics.flip_rate(test["flipped"]),
        calibration=None if calibration is None else groups.calibration(calibration, test, first_wins, right),
        per_dataset=groups.per_dataset(test, right, prior),
        baselines={
            name: Baseline(
                accuracy=answer.mean(),
                ci95=bootstrap_networks(answer, networks),
                log_loss=metrics.log_loss(baselines[name], first_wins),
                difference=groups.difference(right, answer, networks),
            )
            for name, answer in answers.items()
        },
        epochs=[_plain(dict(epoch)) for epoch in epochs],
        selected_epoch=_plain(selected_epoch),
        peak_test_accuracy=max(peaks, default=None),
        validation_accuracy=None if validation.empty else _share_right(validation),
        validation_log_loss=None if validation.empty else _log_loss(validation),
        timings=_plain(dict(timings)),
        versions=_plain(dict(versions)),
        config=_plain(dict(config)),
        notes=_notes(split, notes, pairs, test),
    )
    return _answers_only(report) if answers_only else report


def _answers_only(report: Report) -> Report:
    """The report without what answers alone cannot say."""
    empty = Group(accuracy=None, prior=None, n=0)
    near = NearDuplicates.model_validate(
        {"threshold": report.near_duplicates.threshold, "share_of_test_networks": None, "with": empty, "without": empty}
    )
    unknown = ("n_train_pairs", "n_test_networks", "within_pair_auc", "log_loss", "brier", "ece", "flip_rate")
    return report.model_copy(
        update=dict.fromkeys(unknown)
        | {"answers_only": True, "near_duplicates": near, "within_pair_auc_left_out": LeftOut()}
    )


def write_report(report: Report, folder: str | Path) -> None:
    """Write report.json, report.md and report.html; each file is whole or left as it was.

    Raises:
        UserError: when a file cannot be written.
    """
    # Imported here: only whoever writes needs jinja2.
    from nngpt_ext.evaluation.markdown import to_markdown
    from nngpt_ext.evaluation.page import to_html

    text = json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    # report.json last: with it a run counts as finished.
    files = {REPORT_MARKDOWN: to_markdown(report), REPORT_PAGE: to_html(report), REPORT: text + "\n"}
    for name, content in files.items():
        write_text(Path(folder) / name, content)


def read_report(folder: str | Path) -> Report:
    """Read the report.json of a run folder.

    Raises:
        UserError: when there is none, or when it is not one of this package.
    """
    path = Path(folder) / REPORT
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read '{path}' ({reason}); name the folder of a finished run") from None
    return parse(text, str(path))


def _baseline_answers(baselines: Mapping[str, np.ndarray], first_wins: np.ndarray) -> dict[str, np.ndarray]:
    """Whether each baseline is right on each test row."""
    if PRIOR not in baselines:
        raise ValueError(f"baselines lack '{PRIOR}', which skill is measured against")
    for name, probability in baselines.items():
        if len(probability) != len(first_wins):
            raise ValueError(f"baseline '{name}' has {len(probability)} rows for {len(first_wins)} test pairs")
    return {name: metrics.correct(probability, first_wins) for name, probability in baselines.items()}


def _share_right(rows: pd.DataFrame) -> float:
    return float((rows["predicted"] == rows["better_dataset"]).mean())


def _log_loss(rows: pd.DataFrame) -> float:
    return metrics.log_loss(rows["probability_1"], rows["better_dataset"] == rows["dataset_1"])


def _notes(split: str, notes: Sequence[str], pairs: pd.DataFrame, test: pd.DataFrame) -> list[str]:
    """The remarks that follow from what was measured, then those given; each once."""
    warning = SPLITS[split].warning if split in SPLITS else None
    own = [] if warning is None else [warning]
    expected = int((pairs["split"] == "test").sum())
    if len(test) != expected:
        own.append(f"{len(test):,} of the {expected:,} test pairs were scored.")
    if test["nn"].nunique() == 1:
        own.append("There is one test network only: the intervals are points and say nothing about others.")
    return list(dict.fromkeys([*own, *notes]))


def _is_number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


def _plain(value: Any) -> Any:
    """The value as JSON gives it back: NaN as null, numpy's numbers as numbers, the rest as text."""
    text = pydantic_core.to_json(
        value,
        inf_nan_mode="null",
        fallback=lambda item: item.item() if isinstance(item, np.generic) else str(item),
    )
    return json.loads(text)
