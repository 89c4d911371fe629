"""What a study measures: a finished cell whole and in slices, base models against each other, the learning curve."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.splits import origin
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation import metrics
from nngpt_ext.evaluation.figures import PRIOR
from nngpt_ext.evaluation.report import Report, read_report
from nngpt_ext.evaluation.slices import Answers, dataset_masks, difference
from nngpt_ext.evaluation.statistics import bootstrap_networks
from nngpt_ext.run_folder import BASELINES, KEYS, PREDICTIONS, read_record, read_table
from nngpt_ext.study.outcome import BaselineResult, Comparison, CurvePoint, Figures, Place, Slice
from nngpt_ext.tasks.pipeline import Loader

log = logging.getLogger(__name__)

DATASETS, NEAR = "Pairs that involve the dataset", "Near-duplicates"  # names of slices
# Distances of the two compared scores. LEMUR at epoch 5: 4.8 % of the pairs lie below 0.01, 15.9 % below 0.05.
MARGINS = {
    "near-ties: below 0.01": (0.0, 0.01),
    "0.01 to 0.05": (0.01, 0.05),
    "0.05 to 0.2": (0.05, 0.2),
    "easy: 0.2 and more": (0.2, np.inf),
}
FEW = 10  # networks below which an origin has no row of its own: an interval over two networks means nothing
_COVERAGES = np.linspace(0.05, 1.0, 96)


def measure(folder: Path, run: Path) -> Figures:
    """Measure a cell.

    Args:
        folder: where the cell's predictions, baselines and report are.
        run: the run that answered, often the same folder; its record names near-duplicates and cut sources.

    Raises:
        UserError: for files that are missing, damaged or do not belong together.
    """
    report, record = read_report(folder), read_record(run, ("near_duplicates", "networks", "cut"))
    test = _test_pairs(folder)
    baselines = test[KEYS].merge(read_table(folder / BASELINES), on=KEYS, how="left", validate="one_to_one")
    if baselines.isna().to_numpy().any():
        raise UserError(
            f"'{folder / BASELINES}' is of other pairs than '{folder / PREDICTIONS}'; remove the cell's folder and "
            "continue with --resume"
        )
    first = metrics.first_wins(test)
    probability, prior, calibrated = test["probability_1"], baselines[PRIOR], test.get("calibrated_1")
    shared = Figures.model_fields.keys() & Report.model_fields.keys()
    return Figures.model_validate(
        report.model_dump(include=shared - {"baselines"})
        | {
            "n_train_networks": record["networks"]["train"],
            "baselines": {
                name: found.model_dump(include=set(BaselineResult.model_fields))
                for name, found in report.baselines.items()
            },
            "ece_calibrated": None if calibrated is None else metrics.ece(calibrated, first),
            "slices": slices(test, Answers.of(test, metrics.correct(prior, first)), record),
            "reliability": metrics.reliability(probability, first),
            "reliability_calibrated": [] if calibrated is None else metrics.reliability(calibrated, first),
            "coverage": _coverage(probability, first),
            "coverage_prior": _coverage(prior, first),
        }
    )


def slices(test: pd.DataFrame, answers: Answers, record: dict[str, Any]) -> dict[str, list[Slice]]:
    """The test pairs divided in several ways.

    Args:
        test: the predictions of the test pairs.
        answers: which of them are correct.
        record: the run's record.
    """
    datasets = dataset_masks(test)
    pairs = test["dataset_1"] + " / " + test["dataset_2"]
    origins = test["nn"].map(origin)
    sizes = test["nn"].groupby(origins).nunique()
    kept = sorted(sizes.index[sizes >= FEW], key=lambda name: (-sizes[name], name))
    near, cut = test["nn"].isin(record["near_duplicates"]), test["nn"].isin(record["cut"])
    divided: dict[str, dict[str, Any]] = {
        DATASETS: datasets["involving"],
        "Pairs whose answer is the dataset": datasets["as_answer"],
        "Pairs of datasets": {name: pairs == name for name in sorted(set(pairs))},
        "Margin between the two scores": {
            name: (test["margin"] >= low) & (test["margin"] < high) for name, (low, high) in MARGINS.items()
        },
        "Origin of the network": {
            **{str(name): origins == name for name in kept},
            **({} if len(kept) == len(sizes) else {"all others": ~origins.isin(kept)}),
        },
        NEAR: {"with a near-duplicate in training": near, "without": ~near},
        "Source shown": {"source cut to the budget": cut, "source shown whole": ~cut},
    }
    return {
        title: [_slice(str(name), answers.part(np.asarray(rows))) for name, rows in masks.items()]
        for title, masks in divided.items()
    }


def _slice(name: str, answers: Answers) -> Slice:
    """No numbers where there are no rows, no interval where there is one network only."""
    group = answers.group()
    if not group.n:
        return Slice(name=name, n=0, networks=0)
    found = group.model_dump() | dict(zip(("gain", "gain_ci95"), answers.gain(), strict=True))
    if group.networks == 1:
        found |= {"ci95": None, "gain_ci95": None}
    return Slice(name=name, **found)


def _coverage(probability: pd.Series, first: np.ndarray) -> list[metrics.Coverage]:
    """The points of the curve nearest to fixed coverages; thousands would say no more."""
    points = metrics.risk_coverage(probability, first)
    at = np.array([point.coverage for point in points])
    return [points[i] for i in dict.fromkeys(int(np.abs(at - wanted).argmin()) for wanted in _COVERAGES)]


def _test_pairs(folder: Path) -> pd.DataFrame:
    predictions = read_table(folder / PREDICTIONS)
    return predictions[predictions["split"] == "test"].reset_index(drop=True)


def compare_bases(cells: Sequence[tuple[Place, Path]]) -> list[Comparison]:
    """The accuracy of one base minus that of another, for each two cells that differ only in their base.

    Whether two intervals overlap says little when both are of the same pairs, so the gain is measured pair by pair.

    Args:
        cells: finished cells, each with the folder of its predictions. Two whose test pairs or correct answers
            differ are not compared.

    Raises:
        UserError: when predictions are missing or damaged.
    """
    found = []
    for (one, folder), (two, other) in itertools.combinations(cells, 2):
        if one.base == two.base or (one.prompt, one.setting) != (two.prompt, two.setting):
            continue
        answers = [_test_pairs(place)[[*KEYS, "better_dataset", "predicted"]] for place in (folder, other)]
        pairs = answers[0].merge(answers[1], on=[*KEYS, "better_dataset"], validate="one_to_one")
        if not len(pairs) == len(answers[0]) == len(answers[1]):
            continue
        correct = [(pairs[f"predicted_{side}"] == pairs["better_dataset"]).to_numpy() for side in ("x", "y")]
        networks = pairs["nn"].to_numpy(dtype=object)
        gain = difference(correct[0], correct[1], networks)
        names = {"first": one.name, "second": two.name}
        found.append(Comparison(**names, n=len(pairs), networks=len(set(networks)), difference=gain))
    return found


def learning_curve(config: DataConfig, sizes: Iterable[int], loader: Loader) -> list[CurvePoint]:
    """The baselines after so many training networks, always on the same test pairs.

    They are of best trials and the normalized label under by_network, and otherwise of `config`. Sizes beyond the
    number of networks give one point, that of all of them. Without data there is no curve: that is logged only.
    """
    usual = {"split": "by_network", "hold_out": None, "label": "normalized", "trials": "best"}
    points: dict[int, CurvePoint] = {}
    try:
        for size in sizes:
            point = _point(config.model_copy(update={**usual, "train_networks": size}), loader)
            points[point.networks] = point
            log.info("study: baselines after %d training networks", point.networks)
    except UserError as error:
        log.warning("study: no learning curve of the baselines: %s", error)
        return []
    return list(points.values())


def _point(config: DataConfig, loader: Loader) -> CurvePoint:
    data = loader.data(config)
    test = data.part("test")
    first = metrics.first_wins(test)
    networks = test["nn"].to_numpy(dtype=object)
    correct = {name: metrics.correct(p, first) for name, p in loader.baselines(config).items()}
    return CurvePoint(
        networks=int(data.training["nn"].nunique()),
        train_pairs=len(data.training),
        n_test_pairs=len(test),
        accuracy={name: float(values.mean()) for name, values in correct.items()},
        ci95={name: bootstrap_networks(values, networks) for name, values in correct.items()},
    )
