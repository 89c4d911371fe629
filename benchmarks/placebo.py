"""Bradley–Terry trees on shuffled inputs: if they learn from recipes and structure, no skill may be left.

    python benchmarks/placebo.py --family-level near --out benchmarks/results/placebo-near.json

Each network keeps its answers, its kind and its family. Its recipes are dealt out anew among its own datasets; its
structure is that of a network of another family on the same dataset.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.figures import publish
from nngpt_ext.data.load import PairData, load_pairs, per_fold, read_records
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.evaluation import metrics, slices
from nngpt_ext.evaluation.baselines import BASELINES
from nngpt_ext.evaluation.baselines.bradley_terry import bradley_terry
from nngpt_ext.evaluation.baselines.features import Side, recipe_features, structure_features
from nngpt_ext.evaluation.pool import FoldAnswers, best_prior, pooled
from nngpt_ext.evaluation.statistics import bootstrap_networks

PRIORS = ("pair_prior", "kind_prior")
TREES = ("bt_recipe", "bt_structure")


def with_shuffled_recipes(data: PairData, seed: int = 0) -> PairData:
    """The same pairs, each network's recipes dealt out anew among its datasets; of best trials only."""
    rng = np.random.default_rng(seed)
    recipe: dict[tuple[str, str], Any] = {}
    for side in ("1", "2"):
        rows = zip(data.pairs["nn"], data.pairs[f"dataset_{side}"], data.pairs[f"recipe_{side}"], strict=True)
        recipe.update({(nn, dataset): own for nn, dataset, own in rows})
    names: dict[str, list[str]] = {}
    for nn, dataset in sorted(recipe):
        names.setdefault(nn, []).append(dataset)
    dealt = {
        (nn, dataset): recipe[nn, other]
        for nn, datasets in names.items()
        for dataset, other in zip(datasets, rng.permutation(datasets), strict=True)
    }

    def changed(pairs: pd.DataFrame) -> pd.DataFrame:
        columns = {
            f"recipe_{side}": [dealt[key] for key in zip(pairs["nn"], pairs[f"dataset_{side}"], strict=True)]
            for side in ("1", "2")
        }
        return pairs.assign(**columns)

    return replace(data, pairs=changed(data.pairs), training=changed(data.training))


def with_shuffled_structures(seed: int = 0) -> Callable[[PairData, Sequence[Side]], np.ndarray]:
    """Features in which each network has the structure of one of another family on the same dataset."""

    def features(data: PairData, sides: Sequence[Side]) -> np.ndarray:
        table, rng = structure_features(data, sides), np.random.default_rng(seed)
        row = {(side.nn, side.dataset): i for i, side in enumerate(sides)}
        names = sorted({side.nn for side in sides})
        order = {nn: [names[i] for i in rng.permutation(len(names))] for nn in names}

        def other(side: Side) -> int:
            return next(
                row[nn, side.dataset]
                for nn in order[side.nn]
                if data.families[nn] != data.families[side.nn] and (nn, side.dataset) in row
            )

        return table[[other(side) for side in sides]]

    return features


def measure(level: str, seed: int = 0) -> dict[str, object]:
    """Accuracy and skill beyond the best prior, over all folds, of the trees on true and on shuffled inputs."""
    config = DataConfig(split="by_family", family_level=level)
    records, folds = read_records(config), []
    for one in per_fold(config, lambda: records):
        data = load_pairs(one, records)
        answers = {name: BASELINES[name].fit(data) for name in (*PRIORS, *TREES)}
        answers["bt_recipe, recipes shuffled"] = bradley_terry(with_shuffled_recipes(data, seed), recipe_features)
        answers["bt_structure, structures shuffled"] = bradley_terry(data, with_shuffled_structures(seed))
        test = data.part("test")
        folds.append(FoldAnswers(test, answers, np.array([data.families[nn] for nn in test["nn"]], dtype=object)))
    pool = pooled(folds)
    right = {name: metrics.correct(p, metrics.first_wins(pool.test)) for name, p in pool.answers.items()}
    best = best_prior(right)
    return {
        "family_level": level,
        "seed": seed,
        "n_test_pairs": len(pool.test),
        "families": len(set(pool.units)),
        "best_prior": best,
        "accuracy": {
            name: {
                "value": round(float(answer.mean()), 4),
                "ci95": [round(x, 4) for x in bootstrap_networks(answer, pool.units)],
                "beyond_best_prior": slices.difference(answer, right[best], pool.units).model_dump(mode="json"),
            }
            for name, answer in right.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family-level", default="near", choices=("near", "strict"))
    parser.add_argument("--seed", type=int, default=0, help="of the shuffling")
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    given = parser.parse_args()
    publish(measure(given.family_level, given.seed), given.out)


if __name__ == "__main__":
    main()
