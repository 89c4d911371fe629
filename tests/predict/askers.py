"""Threads that ask a run at once, in a process of their own: `python -m tests.predict.askers RUN ONE|EACH`."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nngpt_ext import Predictor
from tests import models_made

THREADS = 8
DATASETS = ("celeba-gender", "cifar-10", "mnist", "svhn")


def questions() -> list[tuple[str, str, str]]:
    """Twelve: two networks, every pair of four datasets."""
    sources = models_made.sources()
    return [(sources[nn], *pair) for nn in ("AlexNet", "VGG") for pair in itertools.combinations(DATASETS, 2)]


def ask_at_once(run: Path, predictors: int) -> list[list[float]]:
    """The log-odds that each of `THREADS` threads gets; they share so many predictors, and start together."""
    made = [Predictor.from_run(run) for _ in range(predictors)]
    start = threading.Barrier(THREADS)

    def ask(number: int) -> list[float]:
        asked = questions()
        start.wait()
        # Each begins with another question.
        first = number % len(asked)
        found = [made[number % predictors].compare(*one).log_odds for one in (*asked[first:], *asked[:first])]
        return [*found[len(asked) - first :], *found[: len(asked) - first]]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(ask, range(THREADS)))


if __name__ == "__main__":
    print(json.dumps(ask_at_once(Path(sys.argv[1]), int(sys.argv[2]))))
