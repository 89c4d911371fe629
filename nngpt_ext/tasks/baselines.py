"""The baselines of a run: fitted on its training pairs, asked about its test pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nngpt_ext.io import replacing
from nngpt_ext.data.load import PairData

FILE = "baselines.parquet"
KEYS = ["nn", "epoch", "dataset_1", "dataset_2"]


def write_baselines(data: PairData, folder: Path, fitted: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Write `baselines.parquet`: the test pairs' names and the probabilities that `fitted` gives for them."""
    if (folder / FILE).is_file():
        return  # of this very run: it goes on
    with replacing(folder / FILE) as temporary:
        data.part("test")[KEYS].assign(**fitted()).to_parquet(temporary, index=False)
