"""The sources that the embedded model reads: those in no pair at any epoch, without near-duplicates."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nngpt_ext.compact import compact_code
from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.families import THRESHOLD, signatures
from nngpt_ext.data.trials import Source
from nngpt_ext.io import text_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def paired_networks(trials: pd.DataFrame) -> set[str]:
    """Networks with trials on two or more datasets at one and the same epoch."""
    datasets = trials.groupby(["nn", "epoch"])["dataset"].nunique()
    return set(datasets[datasets >= 2].index.get_level_values("nn"))


def unpaired_sources(source: Source) -> dict[str, str]:
    """Sources of the networks in no pair at any epoch, except those with the same text as a paired network's."""
    paired = paired_networks(read_trials(source, None).frame)
    texts = source.sources(sorted(source.networks()))
    taken = {text_digest(texts[name]) for name in paired}
    return {name: text for name, text in texts.items() if name not in paired and text_digest(text) not in taken}


def distinct(sources: Mapping[str, str]) -> list[str]:
    """Names of sources of which none is a near-duplicate of an earlier one (in text order)."""
    names = sorted(sources)
    values = signatures(sources, names)
    kept = np.empty_like(values)
    chosen: list[str] = []
    for name, value in zip(names, values, strict=True):
        if not chosen or (kept[: len(chosen)] == value).mean(axis=1).max() < THRESHOLD:
            kept[len(chosen)] = value
            chosen.append(name)
    return chosen


def encoded(sources: Mapping[str, str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The tokens of each source without comments and docstrings, with the stop token, in order of the names."""
    texts = [compact_code(sources[name]) for name in sorted(sources)]
    return [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for text in texts]


def rows(tokens: list[list[int]], length: int, rng: random.Random) -> Iterator[list[int]]:
    """An endless stream of rows of `length` tokens, filled with sources drawn at random."""
    stream: list[int] = []
    while True:
        while len(stream) < length:
            stream += rng.choice(tokens)
        yield stream[:length]
        stream = stream[length:]
