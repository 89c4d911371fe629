"""Threads that ask a cold process at once: `python -m tests.faults.askers RUN STORE SEED ONE|EACH`.

Prints the log-odds that each thread got, in the order of the questions.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nngpt_ext import Predictor
from tests import models_made

THREADS = 8
DATASETS = ("celeba-gender", "cifar-10", "mnist", "svhn")
RECIPES = [{"lr": lr, "batch": 64, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32"} for lr in (0.1, 0.001)]


def questions() -> list[tuple[str, str, str, dict[str, object]]]:
    """Twelve: two networks with a recipe each, every pair of four datasets."""
    sources = models_made.sources()
    found = zip(("AlexNet", "VGG"), RECIPES, strict=True)
    return [(sources[nn], *pair, recipe) for nn, recipe in found for pair in itertools.combinations(DATASETS, 2)]


def answers(predictor: Predictor, order: list[int]) -> list[float]:
    """The log-odds of all questions, asked in this order."""
    asked, found = questions(), {}
    for number in order:
        *words, recipe = asked[number]
        found[number] = predictor.compare(*words, recipe=recipe).log_odds  # type: ignore[arg-type]
    return [found[number] for number in sorted(found)]


def ask_at_once(run: Path, store: str | None, seed: int, each: bool) -> list[list[float]]:
    """What each of `THREADS` threads gets; they share a predictor, or make one each, and start together."""
    shared = None if each else Predictor.from_run(run, store=store)
    begin = threading.Barrier(THREADS)

    def ask(number: int) -> list[float]:
        order = list(range(len(questions())))
        random.Random(f"{seed} {number}").shuffle(order)
        begin.wait()
        return answers(shared or Predictor.from_run(run, store=store), order)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(ask, range(THREADS)))


if __name__ == "__main__":
    place, url, number, how = sys.argv[1:]
    print(json.dumps(ask_at_once(Path(place), url or None, int(number), how == "each")))
