"""How long 1,000,000 trials in a Parquet file take to become pairs, and how much memory.

python benchmarks/records.py --out benchmarks/results/records.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

NETWORKS, DATASETS = 5_000, 10


def write(folder: Path, trials: int) -> None:
    """Trials of made-up networks with sources of 2 kB, all of one epoch; accuracies depend on network and dataset."""
    random = np.random.default_rng(0)
    nn, dataset = random.integers(0, NETWORKS, trials), random.integers(0, DATASETS, trials)
    names = np.array([f"net_{i}" for i in range(NETWORKS)], dtype=object)
    codes = np.array(
        [f"class Net{i}:\n" + "    x = 1  # a line of a network\n" * 60 for i in range(NETWORKS)], dtype=object
    )
    frame = pd.DataFrame(
        {
            "nn": names[nn],
            "nn_code": pd.Series(nn).astype("category").cat.rename_categories(list(codes)),
            "dataset": np.array([f"data-{i}" for i in range(DATASETS)], dtype=object)[dataset],
            "epoch": 5,
            "accuracy": np.clip(random.normal(0.5 + nn / NETWORKS / 4 + dataset / DATASETS / 5, 0.1), 0, 1),
            "lr": 10 ** random.uniform(-4, -1, trials),
            "batch": 2 ** random.integers(3, 9, trials),
            "optimizer": np.array(["sgd", "adam", "adamw"], dtype=object)[random.integers(0, 3, trials)],
            "transform": np.array([f"norm_{n}" for n in (32, 64, 128)], dtype=object)[random.integers(0, 3, trials)],
        }
    )
    frame.to_parquet(folder / "trials.parquet", index=False)
    facts = "train_images: 1000, image_size: 32, channels: 3, classes: 10"
    (folder / "datasets.yaml").write_text("".join(f"data-{i}: {{{facts}}}\n" for i in range(DATASETS)))


def read(folder: Path) -> dict[str, float]:
    """What a process needs that does nothing else, from import to pairs, with an empty cache."""
    start = time.perf_counter()
    from nngpt_ext.data.cache import read_trials
    from nngpt_ext.data.pairs import build_pairs
    from nngpt_ext.data.sources.discovery import SourceConfig, open_sources

    given = {"source": "table", "path": str(folder / "trials.parquet"), "facts": str(folder / "datasets.yaml")}
    trials = read_trials(open_sources([SourceConfig(**given)]), 5, cached=False)
    pairs = build_pairs(trials.frame, 5)
    return {
        "trials": len(trials.frame),
        "pairs": len(pairs),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    spawned = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        # A process each: what one takes does not count for the other.
        with spawned.Pool(1) as writer:
            writer.apply(write, (Path(folder), options.trials))
        with spawned.Pool(1) as reader:
            found = reader.apply(read, (Path(folder),)) | {"load": round(os.getloadavg()[0], 1)}
    print(json.dumps(found))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
