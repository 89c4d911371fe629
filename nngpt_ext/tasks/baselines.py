"""The baselines of a run: fitted on its training pairs, asked about its test pairs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from nngpt_ext.data.load import PairData
from nngpt_ext.io import replacing

log = logging.getLogger(__name__)

FILE = "baselines.parquet"
KEYS = ["nn", "epoch", "dataset_1", "dataset_2"]


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
