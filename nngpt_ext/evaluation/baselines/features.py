"""What the Bradley–Terry trees see of a network on a dataset: the numbers of its recipe, and of its structure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nngpt_ext.data.facts import DatasetFacts
    from nngpt_ext.data.load import PairData

LARGEST_MOMENTUM = 0.999  # 1 would make the pace infinite
_SIZED = re.compile(r"_(\d+)")
_CROPPED = ("bf-v1", "center_crop", "five_crop", "random_vertical_flip", "random_horizontal_flip")
CROP = 64  # pixels of LEMUR's transforms that name no size but crop
_WORDS = ("flip", "echo", "bf", "complex")  # parts of the names of LEMUR's transforms


@dataclass(frozen=True)
class Side:
    """A network on a dataset with a recipe: what gets a score."""

    nn: str
    dataset: str
    recipe: Mapping[str, Any]


def resolution(transform: str | None, image_size: int) -> int:
    """The height in pixels that a transform of LEMUR gives images; the dataset's own if the transform leaves it."""
    if transform is None:
        return image_size
    if transform.startswith(_CROPPED):
        return CROP
    size = _SIZED.search(transform)
    return int(size[1]) if size else image_size


def recipe_features(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """The dataset and the recipe's numbers, shape (sides, features); NaN for what the recipe does not state."""
    return np.column_stack([_dataset_features(data, sides), [_recipe(one.recipe, data.facts[one.dataset]) for one in sides]])


def _recipe(recipe: Mapping[str, Any], facts: DatasetFacts) -> list[float]:
    lr, batch, momentum, dropout = (_number(recipe.get(name)) for name in ("lr", "batch", "momentum", "dropout"))
    kept = -math.log10(1 - min(max(0.0 if math.isnan(momentum) else momentum, 0.0), LARGEST_MOMENTUM))
    step, transform = _log10(lr) + kept, recipe.get("transform")
    pixels, words = resolution(transform, facts.image_size), re.split(r"[_-]", (transform or "").lower())
    return [
        _log10(lr), _log10(batch), momentum, dropout, kept, step, step - _log10(batch),
        _log10(pixels), _log10(pixels / facts.image_size),
        *(float(any(word.endswith(flag) for word in words)) for flag in _WORDS),
    ]  # fmt: skip


def _dataset_features(data: PairData, sides: Sequence[Side]) -> np.ndarray:
    """A dataset's number, which can be split into ranges, and a flag for each dataset."""
    names = sorted({side.dataset for side in sides})
    codes = np.array([names.index(side.dataset) for side in sides], dtype="int64")
    return np.column_stack([codes, np.eye(len(names))[codes]])


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _log10(value: float) -> float:
    return math.log10(value) if value > 0 else math.nan
