"""Pace and structure in tenths of fixed ranges, and in plain units."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.errors import UserError
from nngpt_ext.prompts.scales import INPUT, LAST, LAYERS, PACE, PARAMETERS, SCALES, Scale, pace, pace_plain, pace_tenths

EACH = pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)


def test_the_ranges() -> None:
    assert {scale.name: (scale.low, scale.high) for scale in SCALES} == {
        "step": (10**-6.5, 10**-0.5),
        "params": (256, 268_435_456),
        "layers": (1, 2**7.5),
        "last": (1, 512),
        "input": (16, 512),
    }


@EACH
def test_both_ends_and_what_is_beyond(scale: Scale) -> None:
    assert scale.text(scale.low) == scale.text(scale.low / 1000) == scale.text(0) == f"{scale.name} 0.0"
    assert scale.text(scale.high) == scale.text(scale.high * 1000) == f"{scale.name} 1.0"
    assert scale.text(math.inf) == f"{scale.name} 1.0"
    assert scale.text(math.nan) == f"{scale.name} 0.0"
    assert scale.text(math.sqrt(scale.low * scale.high)) == f"{scale.name} 0.5"


@given(one=st.floats(1e-9, 1e12), two=st.floats(1e-9, 1e12))
def test_tenths_keep_their_order(one: float, two: float) -> None:
    low, high = sorted((one, two))
    for scale in SCALES:
        assert 0 <= scale.tenth(low) <= scale.tenth(high) <= 1


@given(share=st.floats(0, 1))
def test_a_tenth_is_the_nearest(share: float) -> None:
    for scale in SCALES:
        assert scale.tenth(scale.low * (scale.high / scale.low) ** share) == pytest.approx(share, abs=0.05 + 1e-9)


@pytest.mark.parametrize(
    ("scale", "value", "text"),
    [
        (PARAMETERS, 1_000_000, "params 0.6"), (PARAMETERS, 61_100_840, "params 0.9"),
        (PARAMETERS, 5_000, "params 0.2"), (LAYERS, 8, "layers 0.4"), (LAYERS, 53, "layers 0.8"),
        (LAST, 2, "last 0.1"), (LAST, 7, "last 0.3"),
        (INPUT, 28, "input 0.2"), (INPUT, 32, "input 0.2"), (INPUT, 64, "input 0.4"), (INPUT, 128, "input 0.6"),
        (INPUT, 256, "input 0.8"), (INPUT, 299, "input 0.8"), (PACE, 1e-3, "step 0.6"), (PACE, 0.0031, "step 0.7"),
    ],
)  # fmt: skip
def test_values(scale: Scale, value: float, text: str) -> None:
    assert scale.text(value) == text


def test_words_instead_of_numbers() -> None:
    assert PACE.text(None) == "step none"
    assert PARAMETERS.text("unknown") == "params unknown"


@pytest.mark.parametrize(
    ("recipe", "expected", "tenths", "plain"),
    [
        ({"lr": 0.01, "batch": 64, "momentum": 0.9}, 0.01 / 6.4, "step 0.6", "pace 1.6e-3"),
        ({"lr": 0.01, "batch": 64}, 0.01 / 64, "step 0.4", "pace 1.6e-4"),
        ({"lr": 0.01, "batch": 64, "momentum": 0.0}, 0.01 / 64, "step 0.4", "pace 1.6e-4"),
        ({"lr": 1.0, "batch": 1, "momentum": 1.0}, 1000.0, "step 1.0", "pace 1e3"),
        ({"lr": 1e-6, "batch": 4096, "momentum": 0.5}, 1e-6 / 2048, "step 0.0", "pace 4e-10"),
        ({"lr": 0.01}, None, "step none", "pace none"),
        ({"lr": 0.01, "batch": 0}, None, "step none", "pace none"),
        ({"lr": -1, "batch": 4}, -0.25, "step 0.0", "pace 0"),
    ],
)  # fmt: skip
def test_pace(recipe: dict[str, Any], expected: float | None, tenths: str, plain: str) -> None:
    found = pace(recipe)
    assert found == (None if expected is None else pytest.approx(expected))
    assert pace_tenths(recipe) == tenths
    assert pace_plain(recipe) == plain


@pytest.mark.parametrize("recipe", [{"lr": "fast", "batch": 4}, {"lr": 0.1, "batch": "many"}])
def test_an_invalid_recipe_has_no_pace(recipe: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="a recipe"):
        pace(recipe)
