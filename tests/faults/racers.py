"""What runs in processes of their own: threads that ask a cold process, writers that are killed, a reader."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from nngpt_ext import PredictionStore, Predictor, Query
from tests import models_made

THREADS = 8
DATASETS = ("celeba-gender", "cifar-10", "mnist", "svhn")


def questions() -> list[Query]:
    """Twelve: two networks with a recipe each, every pair of four datasets."""
    rest: dict[str, Any] = {"batch": 64, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32"}
    networks = [(models_made.sources()[nn], {"lr": lr, **rest}) for nn, lr in (("AlexNet", 0.1), ("VGG", 0.001))]
    return [Query(code, *pair, recipe) for code, recipe in networks for pair in itertools.combinations(DATASETS, 2)]


def answers(predictor: Predictor, chance: random.Random) -> list[float]:
    """The log-odds of all questions, which are asked in a random order."""
    asked = list(enumerate(questions()))
    chance.shuffle(asked)
    found = {number: next(predictor.compare_many([query])).log_odds for number, query in asked}
    return [found[number] for number in sorted(found)]


def ask_at_once(run: Path, store: str | None, seed: int, each: bool) -> list[list[float]]:
    """What each of `THREADS` threads gets; they share a predictor, or make one each, and start together."""
    shared = None if each else Predictor.from_run(run, store=store)
    begin = threading.Barrier(THREADS)

    def ask(number: int) -> list[float]:
        begin.wait()
        return answers(shared or Predictor.from_run(run, store=store), random.Random(f"{seed} {number}"))

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(ask, range(THREADS)))


def batch(writer: int, number: int) -> pd.DataFrame:
    """Three answers, stored whole or not at all: two of the writer's own, and one that all writers write."""
    odds = number % 7
    row = {
        "source": "s", "dataset_1": "mnist", "dataset_2": "svhn", "given_1": "", "given_2": "", "log_odds": float(odds),
        "probability_1": 1 / (1 + math.exp(-odds)), "flipped": False, "abstain": True, "predicted": "mnist",
        "prompt": "p", "prompt_hash": "h", "calibration": "", "base_model": "b",
    }  # fmt: skip
    own = [{"question": f"{writer}-{number}-{i}", "nn": f"n{writer}", "adapter": f"{writer}-{number}"} for i in (0, 1)]
    return pd.DataFrame([row | one for one in [*own, {"question": f"all-{number}", "nn": "all", "adapter": "all"}]])


def in_part(rows: pd.DataFrame) -> dict[str, int]:
    """Batches of which a store has some rows only."""
    sizes = rows[rows["adapter"] != "all"].groupby("adapter").size()
    return sizes[sizes != 2].to_dict()


def write(url: str, writer: int, first: int, notes: str) -> None:
    """Write batches for ever, and note each one that is stored."""
    with PredictionStore.open(url) as store, Path(notes).open("a") as stream:
        for number in itertools.count(first):
            store.add(batch(writer, number))
            stream.write(f"{writer}-{number}\n")
            stream.flush()
            os.fsync(stream.fileno())


def read(url: str, rounds: int) -> None:
    """Query again and again."""
    with PredictionStore.open(url) as store:
        for _ in range(rounds):
            assert not in_part(store.query())


if __name__ == "__main__":
    place, url, number, how = sys.argv[1:]
    print(json.dumps(ask_at_once(Path(place), url or None, int(number), how == "each")))
