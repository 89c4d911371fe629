"""What a finished cell shows: its test pairs, whole and in parts, beside the pair prior on the same pairs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nngpt_ext.errors import UserError
from nngpt_ext.evaluation import metrics
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.evaluation.schema import Accuracy
from nngpt_ext.evaluation.statistics import bootstrap_networks, sign_flip_p
from nngpt_ext.data.splits import origin
from nngpt_ext.study.schema import Figures, PairPart, Part
from nngpt_ext.tasks.baselines import FILE as BASELINES
from nngpt_ext.tasks.baselines import KEYS
from nngpt_ext.tasks.folder import PREDICTIONS, read_record
from nngpt_ext.tasks.reporting import read_table

# Distances of the two compared scores. LEMUR at epoch 5: 4.8 % of the pairs lie below 0.01, 15.9 % below 0.05.
MARGINS = ((0.0, 0.01, "near-ties: below 0.01"), (0.01, 0.05, "0.01 to 0.05"), (0.05, 0.2, "0.05 to 0.2"),
           (0.2, np.inf, "easy: 0.2 and more"))  # fmt: skip
FEW = 10  # networks below which an origin has no row of its own: an interval over two networks means nothing
_POINTS = np.linspace(0.05, 1.0, 96)  # of the curve of accuracy against coverage


def measure(folder: Path, run: Path) -> Figures:
    """Measure a cell.

    Args:
        folder: where the cell's predictions, baselines and report are.
        run: the run that was asked, of which its record tells near-duplicates and cut sources; often the same.

    Raises:
        UserError: for files that are missing, damaged or do not belong together.
    """
    report, record = read_report(folder), read_record(run, ("near_duplicates", "networks", "cut"))
    predictions = read_table(folder / PREDICTIONS)
    test = predictions[predictions["split"] == "test"].reset_index(drop=True)
    asked = test[KEYS].merge(read_table(folder / BASELINES), on=KEYS, how="left", validate="one_to_one")
    if asked.isna().to_numpy().any():
        raise UserError(
            f"'{folder / BASELINES}' is of other pairs than '{folder / PREDICTIONS}'; remove the cell's folder and go "
            "on with --resume"
        )
    first = (test["better_dataset"] == test["dataset_1"]).to_numpy()
    parts = _Parts(
        test["nn"].to_numpy(dtype=object),
        (test["predicted"] == test["better_dataset"]).to_numpy(),
        metrics.correct(asked["pair_prior"], first),
    )
    near, cut = set(record["near_duplicates"]), set(record["cut"])
    prior = report.baselines["pair_prior"]
    calibrated = test.get("calibrated_1")
    return Figures(
        n_train_pairs=report.n_train_pairs,
        n_train_networks=record["networks"]["train"],
        n_test_pairs=report.n_test_pairs,
        n_test_networks=report.n_test_networks,
        accuracy=report.accuracy,
        prior=Accuracy(value=prior.accuracy, ci95=prior.ci95, n=report.n_test_pairs),
        skill=report.skill,
        peak_test_accuracy=report.peak_test_accuracy,
        selected_epoch=report.selected_epoch,
        epochs=report.epochs,
        baselines={name: baseline.accuracy for name, baseline in report.baselines.items()},
        against={
            name: baseline.difference
            for name, baseline in report.baselines.items()
            if name != "pair_prior" and baseline.difference is not None
        },
        within_pair_auc=report.within_pair_auc,
        log_loss=report.log_loss,
        ece=report.ece,
        ece_calibrated=None if calibrated is None else metrics.ece(calibrated, first),
        flip_rate=report.flip_rate,
        involving=[
            parts.of(d, ((test["dataset_1"] == d) | (test["dataset_2"] == d)).to_numpy(), test_gain=True)
            for d in _datasets(test)
        ],
        as_answer=[parts.of(d, (test["better_dataset"] == d).to_numpy()) for d in _datasets(test)],
        pairs=_pairs(test, parts),
        margin=[
            parts.of(name, ((test["margin"] >= low) & (test["margin"] < high)).to_numpy())
            for low, high, name in MARGINS
        ],
        origin=_origins(test, parts),
        near_duplicate=_told_apart(
            parts, test["nn"].isin(near).to_numpy(), "with a near-duplicate in training", "without"
        ),
        cut=_told_apart(parts, test["nn"].isin(cut).to_numpy(), "source cut to the budget", "source shown whole"),
        reliability=metrics.reliability(test["probability_1"], first),
        reliability_calibrated=[] if calibrated is None else metrics.reliability(calibrated, first),
        coverage=_coverage(test["probability_1"].to_numpy(dtype="float64"), first),
        coverage_prior=_coverage(asked["pair_prior"].to_numpy(dtype="float64"), first),
    )


class _Parts:
    """The test pairs, of which parts are measured; all three of shape (rows,)."""

    def __init__(self, networks: np.ndarray, right: np.ndarray, prior: np.ndarray) -> None:
        self.networks = networks
        self.right = right
        self.prior = prior

    def of(self, name: str, rows: np.ndarray, *, test_gain: bool = False) -> Part:
        """The rows of a boolean mask; no numbers where it selects none, no interval where it selects one network.

        `test_gain`: with the sign-flip p of the difference from the prior.
        """
        if not rows.any():
            return Part(name=name, n=0, networks=0)
        networks, right, prior = self.networks[rows], self.right[rows], self.prior[rows]
        gains = right.astype("int64") - prior.astype("int64")
        several = len(set(networks)) > 1
        return Part(
            name=name,
            n=int(rows.sum()),
            networks=len(set(networks)),
            accuracy=right.mean(),
            ci95=bootstrap_networks(right, networks) if several else None,
            prior=prior.mean(),
            gain=gains.mean(),
            gain_ci95=bootstrap_networks(gains, networks) if several else None,
            gain_p=sign_flip_p(gains, networks) if test_gain and several else None,
        )


def _datasets(test: pd.DataFrame) -> list[str]:
    return sorted({*test["dataset_1"], *test["dataset_2"]})


def _pairs(test: pd.DataFrame, parts: _Parts) -> list[PairPart]:
    found = []
    for one, two in sorted(set(zip(test["dataset_1"], test["dataset_2"], strict=True))):
        rows = ((test["dataset_1"] == one) & (test["dataset_2"] == two)).to_numpy()
        part = parts.of(f"{one} / {two}", rows)
        found.append(PairPart(**part.model_dump(), dataset_1=one, dataset_2=two))
    return found


def _origins(test: pd.DataFrame, parts: _Parts) -> list[Part]:
    """The origins with at least `FEW` test networks, the largest first, then all others together."""
    origins = test["nn"].map(origin)
    sizes = test["nn"].groupby(origins).nunique()
    names = sorted((name for name in sizes.index if sizes[name] >= FEW), key=lambda name: (-sizes[name], name))
    others = ~origins.isin(names).to_numpy()
    found = [parts.of(str(name), (origins == name).to_numpy()) for name in names]
    return found + ([parts.of("all others", others)] if others.any() else [])


def _told_apart(parts: _Parts, rows: np.ndarray, of_those: str, of_others: str) -> list[Part]:
    return [parts.of(of_those, rows, test_gain=True), parts.of(of_others, ~rows, test_gain=True)]


def _coverage(probability: np.ndarray, first: np.ndarray) -> list[metrics.Answered]:
    """The curve's points nearest to fixed coverages; thousands would say no more."""
    points = metrics.risk_coverage(probability, first)
    at = np.array([point.coverage for point in points])
    return [points[i] for i in dict.fromkeys(_nearest(at, _POINTS))]


def _nearest(sorted_values: np.ndarray, wanted: Iterable[Any]) -> list[int]:
    return [int(np.abs(sorted_values - value).argmin()) for value in wanted]
