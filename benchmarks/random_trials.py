"""A run's adapter on test pairs of one random trial for each network and dataset, beside the baselines.

    python benchmarks/random_trials.py runs/recipe --out benchmarks/results/recipe-random-trials.json

The networks are those of the run's own test part; pairs of the best trials, which a run is tested on, tell how
well a network *can* do, those of random trials how well it does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from nngpt_ext import Predictor, Query
from nngpt_ext.config import TaskConfig, build_config
from nngpt_ext.evaluation import groups, metrics
from nngpt_ext.evaluation.statistics import bootstrap_networks
from nngpt_ext.tasks.baselines import baseline_probabilities
from nngpt_ext.tasks.pipeline import read_data


def measure(run: Path, seed: int) -> dict[str, object]:
    """Accuracy of the adapter, the pair prior and the GBMs on pairs of random trials."""
    config = build_config(TaskConfig, yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")))
    best = read_data(config)
    networks = set(best.part("test")["nn"])
    drawn = config.data.model_copy(update={"trials": "random", "seed": seed})
    data = read_data(config.model_copy(update={"data": drawn}))
    pairs = data.pairs[data.pairs["nn"].isin(networks)].reset_index(drop=True)
    # The baselines learn from what the run learnt from; only what they judge is drawn at random.
    asked = best.pairs[best.pairs["split"] != "test"]
    judged = pairs.assign(split="test")
    judged_data = best._replace(pairs=pd.concat([asked, judged], ignore_index=True))
    first = (judged["better_dataset"] == judged["dataset_1"]).to_numpy()
    names = judged["nn"].to_numpy()
    right = {name: metrics.correct(p, first) for name, p in baseline_probabilities(judged_data).items()}
    predictor = Predictor.from_run(run)
    queries = (
        Query(
            data.sources[row.nn], row.dataset_1, row.dataset_2,
            {row.dataset_1: row.recipe_1, row.dataset_2: row.recipe_2},
            {row.dataset_1: row.norm_acc_1, row.dataset_2: row.norm_acc_2}, row.nn,
        )
        for row in judged.itertuples(index=False)
    )  # fmt: skip
    answers = np.array([c.winner for c in predictor.compare_many(queries)])
    own = answers == judged["better_dataset"].to_numpy()
    return {
        "run": str(run),
        "prompt": predictor.prompt,
        "n_test_pairs": len(judged),
        "n_test_networks": int(judged["nn"].nunique()),
        "accuracy": {"value": round(float(own.mean()), 4), "ci95": bootstrap_networks(own, names)},
        "skill": groups.difference(own, right["pair_prior"], names).model_dump(mode="json"),
        "baselines": {name: round(float(answer.mean()), 4) for name, answer in right.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the trials; the run's own")
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    given = parser.parse_args()
    text = json.dumps(measure(given.run, given.seed), indent=2)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
