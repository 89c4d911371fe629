"""Processes that write to a store and read from it until they are killed; what they noted must be there."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pandas as pd

from nngpt_ext import PredictionStore

ROWS = 3  # of one batch, which is stored whole or not at all


def batch(writer: int, number: int) -> pd.DataFrame:
    """A batch of answers; its last one is the same question for all writers."""
    return pd.DataFrame(
        {
            "question": f"{writer}-{number}-{i}" if i < ROWS - 1 else f"all-{number}", "nn": f"n{writer}" if i < ROWS - 1 else "all", "source": "s",
            "dataset_1": "mnist", "dataset_2": "svhn", "given_1": "", "given_2": "", "log_odds": float(number % 7),
            "probability_1": 1 / (1 + math.exp(-(number % 7))), "flipped": False, "abstain": True, "predicted": "mnist",
            "prompt": "p", "prompt_hash": "h", "adapter": "all" if i == ROWS - 1 else f"{writer}-{number}",
            "calibration": "", "base_model": "b",
        }
        for i in range(ROWS)
    )  # fmt: skip


def write(url: str, writer: int, first: int, notes: str) -> None:
    """Write batches for ever, and note each one that is stored."""
    with PredictionStore.open(url) as store, Path(notes).open("a") as stream:
        for number in range(first, first + 100_000):
            store.add(batch(writer, number))
            stream.write(f"{writer}-{number}\n")
            stream.flush()
            os.fsync(stream.fileno())


def read(url: str, rounds: int) -> None:
    """Query again and again: a batch is seen whole or not at all."""
    with PredictionStore.open(url) as store:
        for _ in range(rounds):
            found = store.query()
            own = found[found["adapter"] != "all"].groupby("adapter").size()
            assert (own == ROWS - 1).all(), own[own != ROWS - 1]
            assert found["log_odds"].between(0, 6).all()
