"""What a study measures: a finished cell and slices of it, base models against each other, the learning curve."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.splits import origin
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation import metrics
from nngpt_ext.evaluation.figures import PRIOR
from nngpt_ext.evaluation.report import read_answers, read_report
from nngpt_ext.evaluation.slices import Answers, dataset_masks, difference
from nngpt_ext.evaluation.statistics import bootstrap_networks
from nngpt_ext.run_folder import BASELINES, HASHES, KEYS, PREDICTIONS, check_files, read_record, read_sealed, read_table
from nngpt_ext.study.outcome import Comparison, CurvePoint, Figures, Place, Slice
from nngpt_ext.tasks.pipeline import Loader

log = logging.getLogger(__name__)

DATASETS, NEAR = "Pairs that involve the dataset", "Near-duplicates"  # titles of slices
# Distances of the two compared scores. LEMUR at epoch 5: 4.8 % of the pairs lie below 0.01, 15.9 % below 0.05.
MARGINS = {
    "near-ties: below 0.01": (0.0, 0.01),
    "0.01 to 0.05": (0.01, 0.05),
    "0.05 to 0.2": (0.05, 0.2),
    "easy: 0.2 and more": (0.2, np.inf),
}
OWN_ROW = 10  # origins with fewer networks share a row: an interval over two networks means nothing
_COVERAGES = np.linspace(0.05, 1.0, 96)


def measure(folder: Path, run: Path) -> Figures:
    """Measure a cell.

    Args:
        folder: the folder with the cell's predictions, baselines and report.
        run: the run that answered, often the same folder; its record names near-duplicates and cut sources.

    Raises:
        UserError: if files are missing, damaged or do not belong together.
    """
    own = (BASELINES, PREDICTIONS) if folder == run else ()
    pooled = bool(read_record(run).get("folds"))  # the record of all folds together names no numbers of networks
    record = read_record(run, ("near_duplicates", *(() if pooled else ("networks",)), "cut"), own)
    if folder != run and (folder / HASHES).is_file():  # older versions wrote none
        check_files(folder, read_sealed(folder / HASHES), (BASELINES, PREDICTIONS), f"remove '{folder}' and continue")
    predictions, baselines = read_answers(folder)
    test = predictions[predictions["split"] == "test"].reset_index(drop=True)
    first = metrics.first_wins(test)
    probability, prior, calibrated = test["probability_1"], baselines[PRIOR], test.get("calibrated_1")
    report = read_report(folder).model_dump()
    return Figures.model_validate(
        {name: report[name] for name in (*Figures.model_fields, *metrics.METRICS) if name in report}
        | {
            "n_train_networks": None if pooled else record["networks"]["train"],
            "ece_calibrated": None if calibrated is None else metrics.ece(calibrated, first),
            "slices": _slices(test, Answers.of(test, metrics.correct(prior, first), record.get("families")), record),
            "reliability": metrics.reliability(probability, first),
            "reliability_calibrated": [] if calibrated is None else metrics.reliability(calibrated, first),
            "coverage": _coverage(probability, first),
            "coverage_prior": _coverage(prior, first),
        }
    )


def _slices(test: pd.DataFrame, answers: Answers, record: dict[str, Any]) -> dict[str, list[Slice]]:
    """The test pairs divided in several ways."""
    datasets = dataset_masks(test)
    pairs = test["dataset_1"] + " / " + test["dataset_2"]
    origins = test["nn"].map(origin)
    sizes = test["nn"].groupby(origins).nunique()
    large = sorted(sizes.index[sizes >= OWN_ROW], key=lambda name: (-sizes[name], name))
    near, cut = test["nn"].isin(record["near_duplicates"]), test["nn"].isin(record["cut"])
    divided: dict[str, dict[str, Any]] = {
        DATASETS: datasets["involving"],
        "Pairs whose answer is the dataset": datasets["as_answer"],
        "Pairs of datasets": {name: pairs == name for name in sorted(set(pairs))},
        "Margin between the two scores": {
            name: (test["margin"] >= low) & (test["margin"] < high) for name, (low, high) in MARGINS.items()
        },
        "Origin of the network": {
            **{str(name): origins == name for name in large},
            **({} if len(large) == len(sizes) else {"all others": ~origins.isin(large)}),
        },
        NEAR: {"with a near-duplicate in training": near, "without": ~near},
        "Source shown": {"source cut to the budget": cut, "source shown whole": ~cut},
    }
    return {
        title: [_slice(name, answers.part(np.asarray(rows))) for name, rows in masks.items()]
        for title, masks in divided.items()
    }


def _slice(name: str, answers: Answers) -> Slice:
    """No numbers without rows, and no interval over a single network or family."""
    group = answers.group()
    if not group.n:
        return Slice(name=name, n=0, networks=0)
    found = group.model_dump() | dict(zip(("gain", "gain_ci95"), answers.gain(), strict=True))
    if len(set(answers.units)) == 1:
        found |= {"ci95": None, "gain_ci95": None}
    return Slice(name=name, **found)


def _coverage(probability: ArrayLike, first: np.ndarray) -> list[metrics.Coverage]:
    """The points of the curve that are nearest to fixed coverages: thousands would show no more."""
    points = metrics.risk_coverage(probability, first)
    at = np.array([point.coverage for point in points])
    return [points[i] for i in dict.fromkeys(int(np.abs(at - wanted).argmin()) for wanted in _COVERAGES)]


def compare_bases(cells: Sequence[tuple[Place, Path]]) -> list[Comparison]:
    """The accuracy of one base minus that of another, for any two cells that differ only in their base.

    The difference is measured pair by pair: whether two intervals overlap says little if both are of the same pairs.

    Args:
        cells: finished cells, each with the folder of its predictions, beside which is that of its run. Two whose test
            pairs or correct answers differ are not compared.

    Raises:
        UserError: if predictions are missing or damaged.
    """
    found = []
    for (one, folder), (two, other) in itertools.combinations(cells, 2):
        if one.base == two.base or (one.prompt, one.setting) != (two.prompt, two.setting):
            continue
        answers = [
            read_table(place / PREDICTIONS).query("split == 'test'")[[*KEYS, "better_dataset", "predicted"]]
            for place in (folder, other)
        ]
        pairs = answers[0].merge(answers[1], on=[*KEYS, "better_dataset"], validate="one_to_one")
        if not len(pairs) == len(answers[0]) == len(answers[1]):
            continue
        first, second = ((pairs[f"predicted_{side}"] == pairs["better_dataset"]).to_numpy() for side in ("x", "y"))
        families = read_record(folder.with_name(one.run)).get("families", {}) if one.family_level else {}
        units = pairs["nn"].map(families).fillna(pairs["nn"]).to_numpy(dtype=object)
        gain = difference(first, second, units)
        networks = pairs["nn"].nunique()
        found.append(Comparison(first=one.name, second=two.name, n=len(pairs), networks=networks, difference=gain))
    return found


def learning_curve(config: DataConfig, sizes: Iterable[int], loader: Loader) -> list[CurvePoint]:
    """The baselines after different numbers of training networks, always on the same test pairs.

    The data are those of `config`, but with the best trials and the normalized label under by_network. Sizes beyond
    the number of networks give one point, that of all networks. Without data a warning is logged, and there is no
    curve.
    """
    usual = {"split": "by_network", "hold_out": None, "label": "normalized", "trials": "best"}
    points: dict[int, CurvePoint] = {}
    try:
        for size in sizes:
            own = config.model_copy(update={**usual, "train_networks": size})
            data = loader.data(own)
            test = data.part("test")
            first, networks = metrics.first_wins(test), test["nn"].to_numpy(dtype=object)
            correct = {name: metrics.correct(p, first) for name, p in loader.baselines(own).items()}
            n = int(data.training["nn"].nunique())
            points[n] = CurvePoint(
                networks=n,
                train_pairs=len(data.training),
                n_test_pairs=len(test),
                accuracy={name: float(values.mean()) for name, values in correct.items()},
                ci95={name: bootstrap_networks(values, networks) for name, values in correct.items()},
            )
            log.info("study: baselines after %d training networks", n)
    except UserError as error:
        log.warning("study: no learning curve of the baselines: %s", error)
        return []
    return list(points.values())
