"""Queries of a prediction store with a million rows: with the store's indexes, and without the one that each uses.

    python benchmarks/store.py --rows 1000000 --out benchmarks/results/store-sqlite.json

Rows are all pairs of LEMUR's datasets for the names of its real networks, answered by a hundred adapters.
"""

from __future__ import annotations

import argparse
import itertools
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from benchmarks.figures import publish
from nngpt_ext import PredictionStore
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.io import digest

ADAPTERS = 100
CHUNK = 20_000
ROUNDS = 5
# The index that a query uses, and the query.
QUERIES: dict[str, dict[str, Any]] = {
    "ix_predictions_adapter": {"adapter_hash": digest(7)[:12]},
    "ix_predictions_confidence": {"min_confidence": 0.9995},
    "ix_predictions_nn": {"nn": "AlexNet"},
}


def rows(number: int) -> Iterator[dict[str, Any]]:
    """Made-up answers about real networks, the same in every run."""
    pairs = list(itertools.combinations(sorted(LEMUR_FACTS), 2))
    chance = np.random.default_rng(0)
    each = itertools.product(range(ADAPTERS), sorted(open_source("package").networks()), pairs)
    step = max(1, ADAPTERS * 10_483 * len(pairs) // number)
    for i, (adapter, nn, (one, two)) in enumerate(itertools.islice(each, 0, None, step)):
        odds = float(chance.normal(0.0, 2.5))
        yield {
            "question": digest([i]), "nn": nn, "source": digest(nn), "dataset_1": one, "dataset_2": two, "given_1": "",
            "given_2": "", "log_odds": odds, "probability_1": float(expit(odds)), "calibrated_1": float(expit(odds)),
            "flipped": False, "abstain": False, "predicted": one if odds >= 0 else two, "prompt": "code_only",
            "prompt_hash": "", "adapter": digest(adapter), "calibration": "", "base_model": "embedded",
        }  # fmt: skip


def seconds(store: PredictionStore, query: dict[str, Any]) -> tuple[float, int]:
    """The median time of a query, and how many rows it returns."""
    times, found = [], 0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = len(store.query(**query))
        times.append(time.perf_counter() - began)
    return statistics.median(times), found


def measure(number: int, folder: Path) -> dict[str, Any]:
    """Fill a store and measure each query, then once more without its index."""
    file = folder / "predictions.db"
    with PredictionStore.open(f"sqlite:///{file}") as store:
        made = rows(number)
        while chunk := list(itertools.islice(made, CHUNK)):
            store.add_rows(chunk)
        with closing(sqlite3.connect(file)) as database:
            total = database.execute("SELECT count(*) FROM predictions").fetchone()[0]
        queries = {}
        for index, query in QUERIES.items():
            fast, found = seconds(store, query)
            with closing(sqlite3.connect(file)) as database:
                (made_by,) = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone()
                database.execute(f"DROP INDEX {index}")
                slow, again = seconds(store, query)
                database.execute(made_by)
            assert found == again
            queries[next(iter(query))] = {
                "rows": found, "seconds": round(fast, 4), "seconds_without_index": round(slow, 4),
                "times_faster": round(slow / fast, 1),
            }  # fmt: skip
    return {"database": f"SQLite {sqlite3.sqlite_version}", "rows": total, "rounds": ROUNDS, "queries": queries}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nngpt_ext_store_") as folder:
        publish(measure(given.rows, Path(folder)), given.out)


if __name__ == "__main__":
    main()
