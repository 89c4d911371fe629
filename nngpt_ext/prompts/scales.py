"""Pace and structure as numbers that a small language model can read: tenths of fixed logarithmic ranges.

`step 0.7 params 0.6 layers 0.4 last 0.2 input 0.5`, each number one token of `embedded-2`: a small model learns their
order in minutes, but not that of decimals with units (docs/LOG.md). The same values in plain units are fields of their
own, for larger base models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nngpt_ext.networks.structure import Structure
from nngpt_ext.prompts.recipe import learning_rate_text, recipe_text

UNKNOWN = "unknown"  # what could not be measured
EARLY = "early"  # before relative accuracies at earlier epochs
NONE = "none"  # what does not exist, such as the pace without a batch, or the early accuracy before training


@dataclass(frozen=True)
class Scale:
    """A range of positive numbers, divided logarithmically into tenths.

    What is below `low` or above `high` is written as the nearer of them.
    """

    name: str  # the word before the number in a prompt
    description: str
    low: float  # is written `0.0`
    high: float  # is written `1.0`

    def tenth(self, value: float) -> float:
        """The nearest tenth, from 0.0 to 1.0."""
        if not value > self.low:
            return 0.0
        share = math.log(min(value, self.high) / self.low) / math.log(self.high / self.low)
        return round(share * 10) / 10

    def text(self, value: float | str | None) -> str:
        """`step 0.7`, `step none` for None, and with a word instead of a number that word."""
        written = f"{self.tenth(value):.1f}" if isinstance(value, (int, float)) else value or NONE
        return f"{self.name} {written}"


# The ranges hold what LEMUR 2.1.2 has at epoch 5, but for less than 2 % at either end: pace and resolution
# of its trials, and its networks' structures at these resolutions (`nngpt_ext/networks/lemur_structure.parquet`).
# Changing one changes every prompt that shows it.
PACE = Scale("step", "lr / (batch · (1 − momentum))", 10**-6.5, 10**-0.5)
PARAMETERS = Scale("params", "parameters", 2**8, 2**28)
LAYERS = Scale("layers", "layers with weights", 1, 2**7.5)
LAST = Scale("last", "height of the last feature map in pixels", 1, 2**9)
INPUT = Scale("input", "height of the input in pixels", 2**4, 2**9)
SCALES = (PACE, PARAMETERS, LAYERS, LAST, INPUT)
LARGEST_MOMENTUM = 0.999  # 1 would make the pace infinite


def pace(recipe: Mapping[str, Any]) -> float | None:
    """lr / (batch · (1 − momentum)): how far a step goes for each example. None if the recipe has no batch or no lr.

    Without a momentum it is 0, as in an optimiser that has none.
    """
    recipe_text(recipe)  # which checks it
    batch = recipe.get("batch")
    if batch is None or batch == "" or not int(batch) > 0 or recipe.get("lr") is None:
        return None
    return float(recipe["lr"]) / (int(batch) * (1.0 - counted_momentum(recipe)))


def counted_momentum(recipe: Mapping[str, Any]) -> float:
    """The momentum that a pace counts: from 0, also for an optimiser that has none, to `LARGEST_MOMENTUM`."""
    momentum = recipe.get("momentum")
    return 0.0 if momentum is None or momentum == "" else min(max(float(momentum), 0.0), LARGEST_MOMENTUM)


def pace_tenths(recipe: Mapping[str, Any]) -> str:
    """The pace as a small model reads it: `step 0.7`."""
    return PACE.text(pace(recipe))


def pace_plain(recipe: Mapping[str, Any]) -> str:
    """The pace in fifths of a decade: `pace 1e-3`."""
    value = pace(recipe)
    return f"pace {NONE if value is None else learning_rate_text(value)}"


def early_hundredths(evidence: Mapping[int, float]) -> str:
    """Relative accuracies by epoch as `early 0.71 0.83`, `early none` without any; above 1 as 1."""
    written = [f"{min(share, 1.0):.2f}" for _, share in sorted(evidence.items())]
    return " ".join([EARLY, *(written or [NONE])])


def structure_tenths(structure: Structure) -> str:
    """A network's structure as a small model reads it: `params 0.6 layers 0.4 last 0.2`."""
    return " ".join(scale.text(_known(getattr(structure, name))) for name, scale in _SHOWN.items())


def structure_plain(structure: Structure) -> str:
    """The same in plain units: `61M parameters, 8 layers, last map 13`."""
    parameters, layers, last = (_short(_known(getattr(structure, name))) for name in _SHOWN)
    return f"{parameters} parameters, {layers} layers, last map {last}"


_SHOWN = {"parameters": PARAMETERS, "layers": LAYERS, "last_map": LAST}  # of `Structure`


def _known(value: int | None) -> float | str:
    """A number, or the word for why there is none."""
    return UNKNOWN if value is None else value or NONE


def short_number(value: float) -> str:
    """At most three digits and a unit: 61,100,840 is `61M`, 0.0039 is `0.0039`."""
    return _short(value) if value >= 1000 else f"{value:.3g}"


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if value < 1000:
        return f"{value:.0f}"
    thousands = 0
    while value >= 995 and thousands < 4:
        value, thousands = value / 1000, thousands + 1
    return f"{float(f'{value:.2g}'):g}{'KMGT'[thousands - 1]}"
