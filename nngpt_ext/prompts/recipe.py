"""A training recipe in few words and coarse steps.

A small language model learns from `lr 4e-3` but not from `lr 0.003917`: with recipes written as decimals it did not
beat the pair prior, with coarse steps it was as good as the recipe GBM (docs/LOG.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from nngpt_ext.data.trials import RECIPE
from nngpt_ext.errors import UserError, nearest, shown

# Fifths of a decade: 10^0, 10^0.2, … rounded to two digits.
LR_STEPS = ("1", "1.6", "2.5", "4", "6.3")


def learning_rate_text(lr: float) -> str:
    """A learning rate in fifths of a decade: 0.0039 is `4e-3`."""
    if not lr > 0 or not math.isfinite(lr):
        return "0"
    decade, step = divmod(round(math.log10(lr) * len(LR_STEPS)), len(LR_STEPS))
    return f"{LR_STEPS[step]}e{decade}"


def tenths_text(value: float | None) -> str:
    """A number in tenths, or `none`."""
    return "none" if value is None else f"{round(value * 10) / 10:.1f}"


def _whole(value: Any) -> str:
    float(value)  # raises for a whole number that is too large for all that is computed from it
    return str(int(value))


_WRITTEN: dict[str, Callable[[Any], str]] = {
    "lr": lambda value: learning_rate_text(float(value)),
    "batch": _whole,
    "momentum": tenths_text,
    "dropout": tenths_text,
    "transform": lambda value: value.replace("_", " "),
}


# What the numbers of a question's recipe can be, in words, and the least and the most.
_POSSIBLE = {
    "lr": ("above 0", 5e-324, math.inf),
    "batch": ("1 or more", 1, math.inf),
    "momentum": ("from 0 to 1", 0, 1),
    "dropout": ("from 0 to 1", 0, 1),
}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


def as_number(value: Any) -> float | None:
    """The number that a value of a recipe is, perhaps written as text; None for other texts and for truths."""
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return None
    return float(value)


def _plain(value: Any) -> str:
    """A value of a field that LEMUR does not have: a number to two digits, or a text.

    A text with a number is written as that number, and true as `True`: records and questions may hold either.
    """
    number = as_number(value)
    if number is None:
        return str(value).replace("_", " ")
    return str(int(number)) if number.is_integer() else f"{number:.2g}"


def completed(recipe: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """A recipe with all fields in their order, None for those that it does not state; an error if it cannot be one."""
    strange = sorted(map(str, set(recipe) - set(fields)))
    if strange or ("lr" in fields and recipe.get("lr") in (None, "")):
        near = nearest(strange[0], fields) if strange else ""
        wrong = f"has unknown {shown(', '.join(strange))[1:-1]}{near}" if strange else "has no lr"
        raise UserError(f"a recipe {wrong}; its keys are {', '.join(fields)}")
    for name, (words, least, most) in _POSSIBLE.items():
        value = recipe.get(name)
        if isinstance(value, bool) or (name == "batch" and isinstance(value, float) and not value.is_integer()):
            raise UserError(f"a recipe's {name} must be a{' whole' * (name == 'batch')} number, not {shown(value)}")
        if isinstance(value, (int, float)) and not least <= value <= most:
            raise UserError(f"a recipe's {name} must be {words}, not {shown(value)}")
    return {name: recipe.get(name) for name in fields}


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """Write a recipe: `lr 4e-3 batch 32 momentum 0.9 dropout none transform norm 64 flip`.

    Args:
        recipe: LEMUR's fields, `lr`, `batch`, `momentum`, `dropout`, `transform`, which may be None or absent. One with
            other fields, of a user's own records, is written as it is, in the order of its fields.
    """
    parts = []
    for key, value in ({**dict.fromkeys(RECIPE), **recipe} if set(recipe) <= set(RECIPE) else recipe).items():
        write = _WRITTEN.get(key, _plain)
        try:
            parts.append(f"{key} {'none' if value is None or value == '' else write(value)}")
        except (TypeError, ValueError, OverflowError, AttributeError):
            kind = {"transform": "text"}.get(key, "a number" if key in RECIPE else "a number or text")
            raise UserError(f"a recipe's {key} must be {kind}, not {shown(value)}") from None
    return " ".join(parts)
