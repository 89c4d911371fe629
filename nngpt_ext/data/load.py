"""Everything a run needs of LEMUR: pairs with their parts, sources, and what was left out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from nngpt_ext.errors import UserError
from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.families import with_near_duplicate
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.splits import assign_split, shuffled
from nngpt_ext.data.trials import Source, Trials


class PairData(NamedTuple):
    """Pairs of one epoch, split."""

    pairs: pd.DataFrame  # one row a pair of best (or random) trials, with `split`
    training: pd.DataFrame  # what is trained on: the same rows of part `train`, or those of all trials
    sources: dict[str, str]  # source of each network in the pairs
    excluded: dict[str, int]
    source: str  # kind of LEMUR source
    fingerprint: str  # sha256 of the trials used

    def part(self, name: str) -> pd.DataFrame:
        """The pairs of one part, numbered anew."""
        return self.pairs[self.pairs["split"] == name].reset_index(drop=True)

    def near_duplicates(self) -> set[str]:
        """Test networks that have a near-duplicate among the training networks."""
        train = sorted(self.training["nn"].unique())
        return with_near_duplicate(self.sources, sorted(self.part("test")["nn"].unique()), train)


class Records(NamedTuple):
    """LEMUR's records of one epoch, from which pairs of any label and split are made."""

    lemur: Source
    trials: Trials
    epoch: int


def read_records(source: str, path: str | None, epoch: int) -> Records:
    """Read LEMUR's records of an epoch; see `open_source` for the other arguments.

    Raises:
        UserError: where LEMUR is missing or broken.
    """
    lemur = open_source(source, path)
    return Records(lemur, read_trials(lemur, epoch), epoch)


def load_pairs(
    *,
    source: str = "auto",
    path: str | None = None,
    epoch: int = 5,
    label: str = "normalized",
    trials: str = "best",
    split: str = "by_network",
    hold_out: str | None = None,
    seed: int = 0,
    networks: Mapping[str, int | None] | None = None,
    records: Records | None = None,
) -> PairData:
    """Read LEMUR, build pairs and split them.

    Args:
        source, path: see `open_source`.
        epoch, label: see `build_pairs`.
        trials: `best`, `random`, or `all`: training pairs of all trials, the others of the best.
        split, hold_out, seed: see `assign_split`.
        networks: how many networks of a part to use, drawn by the seed; all where None.
        records: of this source and epoch, where they have been read already.

    Raises:
        UserError: where LEMUR is missing or broken, and for a part that would be empty.
        ValueError: for records of another epoch.
    """
    if records is not None and records.epoch != epoch:
        raise ValueError(f"records of epoch {records.epoch}, not {epoch}")
    lemur, clean, _ = records or read_records(source, path, epoch)
    pairs = build_pairs(clean.frame, epoch, label=label, use="random" if trials == "random" else "best", seed=seed)
    sources = lemur.sources(sorted(pairs["nn"].unique()))
    pairs["split"] = assign_split(pairs, split, seed=seed, sources=sources, hold_out=hold_out)
    for part, limit in (networks or {}).items():
        if limit is not None:
            names = shuffled(sorted(pairs.loc[pairs["split"] == part, "nn"].unique()), seed)
            pairs = pairs[(pairs["split"] != part) | pairs["nn"].isin(set(names[:limit]))]
    pairs = pairs.reset_index(drop=True)
    for part in ("train", "validation", "test"):
        if not (pairs["split"] == part).any():
            raise UserError(f"split {split} leaves no {part} pairs at epoch {epoch}; choose another split or epoch")
    training = pairs[pairs["split"] == "train"]
    if trials == "all":
        training = _of_all_trials(clean.frame, epoch, label, training, seed)
    return PairData(
        pairs, training.reset_index(drop=True), sources, clean.excluded, lemur.kind, _fingerprint(clean.frame)
    )


def _of_all_trials(trials: pd.DataFrame, epoch: int, label: str, training: pd.DataFrame, seed: int) -> pd.DataFrame:
    every = build_pairs(trials, epoch, label=label, use="all", seed=seed)
    keys = ["nn", "dataset_1", "dataset_2"]
    return every.merge(training[[*keys, "split"]], on=keys)


def _fingerprint(trials: pd.DataFrame) -> str:
    return hashlib.sha256(pd.util.hash_pandas_object(trials, index=False).to_numpy().tobytes()).hexdigest()
