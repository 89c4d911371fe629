"""The baselines on each split, and how much the pair prior varies: the figures of docs/splits.md. It trains no model.

python benchmarks/baselines.py --out benchmarks/results/baselines.json
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.figures import publish
from nngpt_ext.data.load import load_pairs, read_records
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.evaluation.baselines import pair_prior
from nngpt_ext.evaluation.metrics import correct, first_wins
from nngpt_ext.run_folder import versions
from nngpt_ext.tasks.inspection import evaluate_baselines, summarize_pairs

SPLITS: dict[str, dict[str, Any]] = {
    "by_network": {}, "by_cluster": {"split": "by_cluster"}, "random_pairs": {"split": "random_pairs"},
    "near": {"split": "by_family"}, "strict": {"split": "by_family", "family_level": "strict"},
    "by_network, seed 1": {"seed": 1}, "by_network, seed 2": {"seed": 2},
}  # fmt: skip
SEEDS = range(8)


def measure(**data: Any) -> dict[str, Any]:
    """Everything that docs/splits.md states of baselines, at epoch 5; `data` are further keys of a run's `data`."""
    config = DataConfig(**data)
    records = read_records(config)

    def prior(seed: int, trials: str = "best") -> float:
        """The accuracy of the prior of the best trials, or of all, on the test pairs of by_network."""
        found = load_pairs(config.model_copy(update={"seed": seed, "trials": trials}), records)
        test = found.part("test")
        return float(correct(pair_prior(found.training, test), first_wins(test)).mean())

    seeds = [prior(seed) for seed in SEEDS]
    first = load_pairs(config, records)
    near = first.part("test")["nn"].isin(first.near_duplicates()).mean()
    return {
        "networks": len(records.source.networks()),
        "pairs": summarize_pairs(config),
        "splits": {name: evaluate_baselines(config.model_copy(update=changes)) for name, changes in SPLITS.items()},
        "test_pairs_with_near_duplicate": float(near),
        "prior_by_seed": {"seeds": seeds, "mean": statistics.mean(seeds), "deviation": statistics.stdev(seeds)},
        "prior_of_all_trials": prior(0, "all"),
        "versions": versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="write the figures to this file")
    given = parser.parse_args()
    publish(measure(), given.out)


if __name__ == "__main__":
    main()
