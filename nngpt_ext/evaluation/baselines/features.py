"""What Bradley–Terry models see of a network on a dataset: numbers of its recipe, its structure, early accuracies."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logit

from nngpt_ext.data.evidence import epochs_of
from nngpt_ext.data.lineage import is_known
from nngpt_ext.data.trials import RECIPE
from nngpt_ext.networks.catalogue import shipped, structures
from nngpt_ext.networks.structure import NUMBERS, Shape, Structure, input_shape, source_key
from nngpt_ext.prompts.scales import counted_momentum

if TYPE_CHECKING:
    from nngpt_ext.data.facts import DatasetFacts
    from nngpt_ext.data.load import PairData

log = logging.getLogger(__name__)

_CODES = ("normalisation", "forward")  # of a structure: these are not sizes
_CERTAIN = 0.003, 0.997  # accuracies beyond have no useful logit
_WORDS = ("flip", "echo", "bf", "complex")  # parts of the names of LEMUR's transforms


@dataclass(frozen=True)
class Side:
    """A network on a dataset with a recipe: what gets a score."""

    nn: str
    dataset: str
    recipe: Mapping[str, Any]
    evidence: Mapping[int, float] = field(default_factory=dict)


Features = Callable[["PairData", Sequence[Side]], np.ndarray]  # of shape (sides, features); NaN for what is unknown


def linear_evidence(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """`evidence_features` for a linear model, with a slope for each dataset beside the common one."""
    flags, own = datasets_of(data, sides)[:, 1:], _scaled(data, sides, _evidence(data, sides))
    each = [flags * column[:, None] for column in own.T]
    return np.column_stack([flags, own, *each])


def linear_all(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """`all_features` for a linear model."""
    rest = _scaled(data, sides, recipe_structure_features(data, sides))
    return np.column_stack([linear_evidence(data, sides), rest])


def _evidence(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """At each epoch the relative accuracy, and the accuracy's logit as training networks on the dataset have it."""
    epochs = epochs_of(data.early_best)
    shares = np.array([[one.evidence.get(epoch, math.nan) for epoch in epochs] for one in sides], dtype="float64")
    tops = np.array([[data.early_best.get(one.dataset, {}).get(epoch, 1.0) for epoch in epochs] for one in sides])
    logits = logit(np.clip(shares * tops, *_CERTAIN))
    names = np.array([one.dataset for one in sides], dtype=object)
    for dataset in set(names):
        rows = names == dataset
        logits[rows] = _scaled(data, [one for one in sides if one.dataset == dataset], logits[rows], math.nan)
    return np.column_stack([shares, logits])


def _scaled(data: PairData, sides: Sequence[Side], table: np.ndarray, unknown: float = 0.0) -> np.ndarray:
    """Columns in standard deviations from the mean of the training networks, five at most."""
    trained = set(data.training["nn"])
    own = pd.DataFrame(table[[one.nn in trained for one in sides]])
    spread = own.std(ddof=0).replace(0.0, math.nan)
    return (pd.DataFrame(table) - own.mean()).div(spread).clip(-5, 5).fillna(unknown).to_numpy()


def _structures(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """Logarithms of the numbers of each structure, and of ratios of some of them; shape (sides, features)."""
    shapes = [input_shape(one.dataset, data.facts[one.dataset], one.recipe.get("transform")) for one in sides]
    keys = {nn: source_key(data.sources[nn]) for nn in sorted({one.nn for one in sides})}
    found = dict(_shipped(frozenset(keys.values())))
    others = {
        (data.sources[one.nn], shape) for one, shape in zip(sides, shapes, strict=True) if not is_known(keys[one.nn])
    }
    if others:
        found |= structures(sorted(others), run_code="never")  # those that were measured before
    nothing = Structure()
    known = [found.get((keys[one.nn], shape), nothing) for one, shape in zip(sides, shapes, strict=True)]
    if unmeasured := known.count(nothing):
        log.info("baselines: of %d datasets of networks, %d have no measured structure", len(sides), unmeasured)
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


def _recipes(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """The numbers of each recipe, shape (sides, features); NaN for what it does not state."""
    rows = [_recipe(one.dataset, data.facts[one.dataset], one.recipe) for one in sides]
    return np.column_stack([rows, _further(sides)])


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


def _further(sides: Sequence[Side]) -> np.ndarray:
    """Fields of recipes that LEMUR does not have, shape (sides, fields): numbers, and texts by their place in order."""
    table = pd.DataFrame([{k: v for k, v in one.recipe.items() if k not in RECIPE} for one in sides])
    coded = table.apply(lambda x: x if x.dtype.kind == "f" else pd.factorize(x, sort=True)[0])
    return coded.to_numpy(dtype="float64").reshape(len(sides), -1)


def datasets_of(_: PairData, sides: Sequence[Side]) -> np.ndarray:
    """A dataset's number, which can be split into ranges, and a flag for each dataset."""
    names = sorted({side.dataset for side in sides})
    codes = np.array([names.index(side.dataset) for side in sides], dtype="int64")
    return np.column_stack([codes, np.eye(len(names))[codes]])


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _log10(value: float) -> float:
    return math.log10(value) if value > 0 else math.nan


def _joined(*parts: Features) -> Features:
    return lambda data, sides: np.column_stack([part(data, sides) for part in parts])


recipe_features = _joined(datasets_of, _recipes)
structure_features = _joined(datasets_of, _structures)
recipe_structure_features = _joined(datasets_of, _recipes, _structures)
evidence_features = _joined(datasets_of, _evidence)
all_features = _joined(datasets_of, _recipes, _structures, _evidence)
