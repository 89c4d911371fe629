"""The sources that the embedded model reads: those in no pair, without near-duplicates, as rows of tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from nngpt_ext.data.families import THRESHOLD, signatures
from nngpt_ext.networks.compact import compact_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    """Each source's tokens without comments and docstrings, the stop token behind it, in order of the names."""
    texts = [compact_code(sources[name]) for name in sorted(sources)]
    return [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for text in texts]


def rows(tokens: list[list[int]], length: int, rng: random.Random) -> Iterator[list[int]]:
    """Rows without end: sources drawn at random, one after the other, cut into `length` tokens."""
    stream: list[int] = []
    while True:
        while len(stream) < length:
            stream += rng.choice(tokens)
        yield stream[:length]
        stream = stream[length:]
