"""Runs beside each other on the same test pairs: accuracies, and differences with intervals over families.

    python benchmarks/versus.py smollm2-near smollm2-random-near families-near --out benchmarks/results/pretraining.json
    python benchmarks/versus.py families-near kind_prior --folds 2 3 4

A run is a folder below `benchmarks/results/runs`, or any other, with `predictions.parquet` or one in each fold, or a
baseline's name, which is fitted on the seed of the first run. That one is compared with each of the others, on the test
pairs that all of them have.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.figures import publish
from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.evaluation import slices
from nngpt_ext.evaluation.baselines import BASELINES
from nngpt_ext.evaluation.statistics import bootstrap_networks
from nngpt_ext.run_folder import KEYS, read_config

RUNS = Path(__file__).parent / "results" / "runs"


def answers(run: str, folds: Sequence[int] | None = None, level: str = "near", seed: int = 0) -> pd.Series:
    """Whether each test answer of a run is correct, by network, epoch and datasets in the order of their names."""
    if run in BASELINES:
        return pd.concat([_of_baseline(run, fold, level, seed) for fold in folds or range(DataConfig().folds)])
    folder = _folder(run)
    files = sorted(folder.glob("fold-*/predictions.parquet")) or [folder / "predictions.parquet"]
    if folds is not None:
        files = [folder / f"fold-{fold}" / "predictions.parquet" for fold in folds]
    if missing := [file for file in files if not file.is_file()]:
        sys.exit(f"'{missing[0]}' is missing; name a run with predictions, or a baseline: {', '.join(BASELINES)}")
    found = pd.concat([pd.read_parquet(file) for file in files])
    return found[found["split"] == "test"].set_index(KEYS)["correct"].astype(bool)


def _folder(run: str) -> Path:
    return RUNS / run if (RUNS / run).is_dir() else Path(run)


def _of_baseline(name: str, fold: int, level: str, seed: int) -> pd.Series:
    data = load_pairs(DataConfig(split="by_family", fold=fold, family_level=level, seed=seed))
    test = data.part("test")
    first = BASELINES[name].fit(data) >= 0.5
    return pd.Series(
        first == (test["better_dataset"] == test["dataset_1"]).to_numpy(), pd.MultiIndex.from_frame(test[KEYS])
    )


def compare(runs: Sequence[str], level: str, folds: Sequence[int] | None = None) -> dict[str, Any]:
    """The figures of each run on the common test pairs, and of the first minus each other one."""
    config = _folder(runs[0]) / "config.yaml"
    seed = read_config(config)["data"]["seed"] if config.is_file() else 0
    found = pd.concat({run: answers(run, folds, level, seed) for run in runs}, axis=1, join="inner")
    family = load_pairs(DataConfig(split="by_family", fold=0, family_level=level)).families
    units = found.index.get_level_values("nn").map(family).to_numpy()
    first = runs[0]
    return {
        "n_test_pairs": len(found),
        "families": len(set(units)),
        "family_level": level,
        "accuracy": {
            run: {"value": round(float(found[run].mean()), 4), "ci95": bootstrap_networks(found[run], units)}
            for run in runs
        },
        f"{first} minus": {
            run: slices.difference(found[first].to_numpy(), found[run].to_numpy(), units).model_dump(mode="json")
            for run in runs[1:]
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="two or more")
    parser.add_argument("--family-level", default="near", choices=("near", "strict"))
    parser.add_argument("--folds", nargs="+", type=int, help="by default all")
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    given = parser.parse_args()
    publish(compare(given.runs, given.family_level, given.folds), given.out)


if __name__ == "__main__":
    main()
