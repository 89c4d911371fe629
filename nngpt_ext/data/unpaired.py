"""Networks that are in no pair at any epoch: what the embedded base model may read."""

from __future__ import annotations

import hashlib

import pandas as pd

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.trials import Source


def source_hash(source: str) -> str:
    """sha256 of a source text, in hexadecimal."""
    return hashlib.sha256(source.encode()).hexdigest()


def paired_networks(trials: pd.DataFrame) -> set[str]:
    """Networks with trials on two or more datasets at one and the same epoch."""
    each = trials[["nn", "epoch", "dataset"]].drop_duplicates()
    count = each.groupby(["nn", "epoch"]).size()
    return set(count[count >= 2].index.get_level_values("nn"))


def unpaired_sources(source: Source) -> dict[str, str]:
    """Sources of the networks in no pair at any epoch, without those whose text a paired network shares."""
    paired = paired_networks(read_trials(source, None).frame)
    texts = source.sources(sorted(source.networks()))
    taken = {source_hash(texts[name]) for name in paired}
    return {name: text for name, text in texts.items() if name not in paired and source_hash(text) not in taken}
