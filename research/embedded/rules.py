"""Invented rules over the numbers of a prompt's line, from which `embedded-2` learns to read them.

A line says of a dataset what `recipe_structure` and prompts with early accuracies say of it. Each rule gives every line
a number, smoothly and for each dataset in its own way: slopes, bells and a few products. They are drawn at random; no
accuracy of LEMUR is among them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nngpt_ext.prompts.recipe import recipe_text
from nngpt_ext.prompts.scales import EARLY, INPUT, LAST, LAYERS, NONE, PACE, PARAMETERS, UNKNOWN, Scale, pace

RULES = 128
# What rules are about: pace, structure, recipe, early accuracies (as they are, and stretched towards 0 and 1).
NUMBERS = (
    "step", "params", "layers", "last", "input", "lr", "batch", "momentum", "dropout", "echo", "flip", "early",
    "early_stretched", "later", "later_stretched",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A dataset with what a prompt shows of the network on it.

    Attributes:
        name: the dataset's.
        text: what stands behind `NAME: `.
        numbers: the values of `NUMBERS` in about -1.6 to 1.6, NaN where the line does not say.
    """

    name: str
    text: str
    numbers: np.ndarray


class Lines:
    """Draws made-up lines; those of one network are alike in its structure."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def draw(
        self, name: str, parts: str, recipe: Mapping[str, Any], like: Mapping[Scale, float | str] | None = None
    ) -> Line:
        """A line of a dataset.

        Args:
            name: the dataset's.
            parts: which parts it shows, in any order: `p` pace, `s` structure, `r` the recipe, `e` early accuracies.
            recipe: the recipe.
            like: the structure of the same network on another dataset, as `structure` returned it.
        """
        rng, texts = self.rng, []
        found = dict.fromkeys(NUMBERS, math.nan)
        if "e" in parts:
            texts.append(self._early(found))
        if "p" in parts:
            step = pace(recipe)
            texts.append(PACE.text(step))
            found["step"] = math.nan if step is None else _centred(PACE.tenth(step))
        if "s" in parts:
            values = like or self.structure()
            height = INPUT.low * 2 ** rng.uniform(0, math.log2(INPUT.high / INPUT.low))
            for scale, value in {**values, INPUT: height}.items():
                texts.append(scale.text(value))
                found[scale.name] = math.nan if isinstance(value, str) else _centred(scale.tenth(value))
        if "r" in parts:
            texts.append(recipe_text(recipe))
            words = str(recipe["transform"]).split()
            found["lr"] = _centred((math.log10(recipe["lr"]) + 5) / 5)
            found["batch"] = _centred(math.log2(recipe["batch"]) / 12)
            found["momentum"] = _centred(recipe["momentum"])
            found["dropout"] = math.nan if recipe["dropout"] is None else _centred(2 * recipe["dropout"])
            found["echo"], found["flip"] = ("echo" in words) * 2.0 - 1, ("flip" in words) * 2.0 - 1
        return Line(name, " ".join(texts), np.array([found[key] for key in NUMBERS], dtype=np.float32))

    def structure(self) -> dict[Scale, float | str]:
        """A network's made-up structure, over the ranges in which prompts write it."""
        rng = self.rng
        if rng.random() < 0.03:
            return dict.fromkeys((PARAMETERS, LAYERS, LAST), UNKNOWN)
        values: dict[Scale, float | str] = {
            scale: scale.low * (scale.high / scale.low) ** rng.random() for scale in (PARAMETERS, LAYERS, LAST)
        }
        chance = rng.random()  # no convolutions, or no image of this size goes through
        return values | ({LAST: NONE} if chance < 0.05 else {LAST: UNKNOWN} if chance < 0.1 else {})

    def beside(self, values: Mapping[Scale, float | str]) -> dict[Scale, float | str]:
        """The structure of the same network on another dataset: other classes and another last feature map."""
        return {
            scale: value
            if isinstance(value, str)
            else min(max(value * 2 ** self.rng.gauss(0, 1.5 if scale is LAST else 0.3), scale.low), scale.high)
            for scale, value in values.items()
        }

    def _early(self, found: dict[str, float]) -> str:
        rng = self.rng
        if rng.random() < 0.05:
            return f"{EARLY} {NONE}"  # not trained yet
        # Half of them are near 1, as LEMUR's and most others are.
        first = rng.random() if rng.random() < 0.5 else 1 - abs(rng.gauss(0, 0.1))
        shown = [min(max(first, 0.0), 1.0)]
        if rng.random() < 0.3:
            shown.append(min(max(shown[0] + rng.gauss(0.05, 0.1), 0.0), 1.0))
        shown = [round(value, 2) for value in shown]
        for key, value in zip(("early", "later"), shown, strict=False):
            found[key] = (value - 0.5) * 3
            found[f"{key}_stretched"] = math.log((value + 0.02) / (1.02 - value)) / 2.4
        return " ".join([EARLY, *(f"{value:.2f}" for value in shown)])


def _centred(share: float) -> float:
    return (share - 0.5) * 3.2


class Rules:
    """Invented rules; rule 0 and the other first ones are also asked for by name.

    Args:
        names: the datasets, each with its own variant of every rule.
        lines: draws lines, from which each rule's mean and spread are computed.
        seed: of the rules; `embedded-2` has learnt those of 20.
    """

    def __init__(self, names: list[str], lines: list[Line], seed: int = 20) -> None:
        rng, n, d = np.random.default_rng(seed), len(NUMBERS), len(names)
        self.row = {name: i for i, name in enumerate(names)}
        used = rng.random((RULES, 1, n)) < 0.6
        self.slopes = (rng.normal(0, 1, (RULES, 1, n)) + rng.normal(0, 0.8, (RULES, d, n))) * used
        self.offsets = rng.normal(0, 0.7, (RULES, d))
        self.bells = np.abs(rng.normal(0, 0.6, (RULES, 1, n))) * (rng.random((RULES, 1, n)) < 0.3)
        self.best = rng.normal(0, 0.6, (RULES, d, n))
        self.products = rng.normal(0, 0.5, (RULES, n, n)) * (rng.random((RULES, n, n)) < 0.1)
        self.mean, self.spread = np.zeros(RULES), np.ones(RULES)
        raw = self(lines)
        self.mean, self.spread = raw.mean(0), raw.std(0)

    def __call__(self, lines: list[Line]) -> np.ndarray:
        """The rules' numbers, shape (lines, `RULES`), mean 0 and standard deviation 1 over all lines."""
        row = np.array([self.row[line.name] for line in lines])
        given = np.stack([line.numbers for line in lines])
        said, x = ~np.isnan(given)[:, None], np.nan_to_num(given)
        straight = np.einsum("kln,ln->lk", self.slopes[:, row], x) + self.offsets[:, row].T
        away = (x[:, None] - self.best[:, row].transpose(1, 0, 2)) ** 2 * said
        bent = (away * self.bells[:, 0]).sum(-1)
        crossed = np.einsum("li,kij,lj->lk", x, self.products, x)
        found: np.ndarray = (straight - bent + crossed - self.mean) / self.spread
        return found.astype(np.float32)
