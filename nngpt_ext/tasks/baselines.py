"""The baselines of a run: fitted on its training pairs, asked about its test pairs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from nngpt_ext.evaluation.baselines import code_gbm, pair_prior, recipe_gbm
from nngpt_ext.files import replacing
from nngpt_ext.lemur.dataset import PairData

log = logging.getLogger(__name__)

FILE = "baselines.parquet"
KEYS = ["nn", "epoch", "dataset_1", "dataset_2"]


def baseline_probabilities(data: PairData) -> dict[str, np.ndarray]:
    """P(dataset_1) of each baseline for the test pairs, shape (test pairs,)."""
    test = data.part("test")
    return {
        # The prior of the best trials: with all of them it would be a weaker one to beat.
        "pair_prior": pair_prior(data.part("train"), test),
        "code_gbm": code_gbm(data.training, test, data.sources),
        "recipe_gbm": recipe_gbm(data.training, test),
    }


def write_baselines(data: PairData, folder: Path, fitted: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Write `baselines.parquet`: the test pairs' names and the probabilities that `fitted` gives for them.

    That of a run that goes on is kept if it is whole.
    """
    file, asked = folder / FILE, data.part("test")[KEYS]
    if file.is_file():
        try:
            there = pd.read_parquet(file)
            if there[KEYS].to_numpy().tolist() == asked.to_numpy().tolist():
                return
        except (OSError, ValueError, KeyError):
            pass
        log.warning("'%s' is damaged; the baselines are computed again", file)
    with replacing(file) as temporary:
        asked.assign(**fitted()).to_parquet(temporary, index=False)
