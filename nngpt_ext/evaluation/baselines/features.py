"""What the Bradley–Terry trees see of a network on a dataset: the numbers of its recipe, and of its structure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nngpt_ext.data.lineage import is_known, source_keys
from nngpt_ext.networks.catalogue import shipped, structures
from nngpt_ext.networks.structure import NUMBERS, Shape, Structure, input_shape
from nngpt_ext.prompts.scales import counted_momentum

if TYPE_CHECKING:
    from nngpt_ext.data.facts import DatasetFacts
    from nngpt_ext.data.load import PairData

_CODES = ("normalisation", "forward")  # of a structure: these are not sizes
_WORDS = ("flip", "echo", "bf", "complex")  # parts of the names of LEMUR's transforms


@dataclass(frozen=True)
class Side:
    """A network on a dataset with a recipe: what gets a score."""

    nn: str
    dataset: str
    recipe: Mapping[str, Any]


def recipe_features(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """The dataset and the recipe's numbers, shape (sides, features); NaN for what the recipe does not state."""
    rows = [_recipe(one.dataset, data.facts[one.dataset], one.recipe) for one in sides]
    return np.column_stack([_datasets(sides), rows])


def structure_features(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """The dataset and the network's structure at the recipe's resolution, shape (sides, features); NaN if unknown."""
    return np.column_stack([_datasets(sides), _structures(data, sides)])


def recipe_structure_features(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """Both, shape (sides, features)."""
    return np.column_stack([recipe_features(data, sides), _structures(data, sides)])


def _structures(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """Logarithms of the numbers of each structure, and of ratios of some of them; shape (sides, features)."""
    shapes = [input_shape(one.dataset, data.facts[one.dataset], one.recipe.get("transform")) for one in sides]
    keys = source_keys({nn: data.sources[nn] for nn in {one.nn for one in sides}})
    found = dict(_shipped(frozenset(keys.values())))
    others = {
        (data.sources[one.nn], shape) for one, shape in zip(sides, shapes, strict=True) if not is_known(keys[one.nn])
    }
    if others:
        found |= structures(sorted(others), run_code="never")  # those that were measured before
    nothing = Structure()
    known = [found.get((keys[one.nn], shape), nothing) for one, shape in zip(sides, shapes, strict=True)]
    numbers = [[getattr(one, name, None) for name in NUMBERS] for one in known]
    table = pd.DataFrame(numbers, columns=list(NUMBERS), dtype="float64")
    codes = table[list(_CODES)]
    logs = np.log2(1 + table.drop(columns=list(_CODES)))
    height = np.log2([shape.height for shape in shapes])
    ratios = [
        logs["last_map"] - height,
        logs["macs"] - logs["parameters"],
        logs["normalisations"] - logs["layer_calls"],
    ]
    return np.column_stack([codes, logs, height, *ratios])


@lru_cache(maxsize=1)  # all folds and both baselines ask for the same networks
def _shipped(keys: frozenset[str]) -> Mapping[tuple[str, Shape], object]:
    return shipped(keys)


def _recipe(dataset: str, facts: DatasetFacts, recipe: Mapping[str, Any]) -> list[float]:
    lr, batch, momentum, dropout = (_number(recipe.get(name)) for name in ("lr", "batch", "momentum", "dropout"))
    kept = -math.log10(1 - counted_momentum(recipe))
    step, transform = _log10(lr) + kept, recipe.get("transform")
    height, words = input_shape(dataset, facts, transform).height, re.split(r"[_-]", (transform or "").lower())
    return [
        _log10(lr), _log10(batch), momentum, dropout, kept, step, step - _log10(batch),
        _log10(height), _log10(height / facts.image_size),
        *(float(any(word.endswith(flag) for word in words)) for flag in _WORDS),
    ]  # fmt: skip


def _datasets(sides: Sequence[Side]) -> np.ndarray:
    """A dataset's number, which can be split into ranges, and a flag for each dataset."""
    names = sorted({side.dataset for side in sides})
    codes = np.array([names.index(side.dataset) for side in sides], dtype="int64")
    return np.column_stack([codes, np.eye(len(names))[codes]])


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _log10(value: float) -> float:
    return math.log10(value) if value > 0 else math.nan
