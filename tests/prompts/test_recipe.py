"""Recipes are written in coarse steps that keep their order."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.data.trials import RECIPE
from nngpt_ext.errors import UserError
from nngpt_ext.prompts.recipe import completed, learning_rate_text, recipe_text, tenths_text

RATES = st.floats(min_value=1e-6, max_value=1.0)


def test_whole_recipe() -> None:
    recipe = {"lr": 0.0039, "batch": 32, "momentum": 0.8949, "dropout": None, "transform": "norm_64_flip"}
    assert recipe_text(recipe) == "lr 4e-3 batch 32 momentum 0.9 dropout none transform norm 64 flip"


def test_only_the_learning_rate_is_required() -> None:
    expected = "lr 1e-2 batch none momentum none dropout none transform none"
    assert recipe_text({"lr": 0.01}) == expected
    assert recipe_text({"lr": 0.01, "batch": None, "momentum": None, "dropout": None, "transform": None}) == expected


def test_order_of_keys_does_not_matter() -> None:
    recipe = {"lr": 0.2, "batch": 4096, "momentum": 0.0, "dropout": 0.25, "transform": "echo_299"}
    assert recipe_text(dict(reversed(recipe.items()))) == recipe_text(recipe)
    assert recipe_text(recipe) == "lr 2.5e-1 batch 4096 momentum 0.0 dropout 0.2 transform echo 299"


@pytest.mark.parametrize(
    ("lr", "text"),
    [
        (1.0, "1e0"), (0.1, "1e-1"), (0.01, "1e-2"), (0.001, "1e-3"), (1e-6, "1e-6"), (1.9e-5, "1.6e-5"),
        (2e-5, "2.5e-5"), (0.003917, "4e-3"), (0.0063, "6.3e-3"), (0.0085, "1e-2"), (0.5, "4e-1"), (0.025, "2.5e-2"),
        (10, "1e1"), (0.0, "0"), (-0.1, "0"), (float("nan"), "0"), (float("inf"), "0"),
    ],
)  # fmt: skip
def test_learning_rates(lr: float, text: str) -> None:
    assert learning_rate_text(lr) == text


@given(RATES)
def test_learning_rate_is_within_half_a_step(lr: float) -> None:
    # Steps are 10^0.2 apart; 1.6, 2.5, 4 and 6.3 stand for 1.585, 2.512, 3.981 and 6.310.
    written = float(learning_rate_text(lr))
    assert abs(math.log10(written / lr)) <= 0.1 + math.log10(1.6 / 10**0.2) + 1e-9


@given(RATES, RATES)
def test_learning_rates_keep_their_order(one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert float(learning_rate_text(low)) <= float(learning_rate_text(high))


@given(RATES)
def test_steps_are_few_and_fixed_points(lr: float) -> None:
    text = learning_rate_text(lr)
    assert text.split("e")[0] in {"1", "1.6", "2.5", "4", "6.3"}
    assert learning_rate_text(float(text)) == text


@given(st.floats(min_value=0, max_value=1))
def test_tenths(value: float) -> None:
    assert abs(float(tenths_text(value)) - value) <= 0.05 + 1e-9
    assert len(tenths_text(value)) == 3


def test_no_tenths() -> None:
    assert tenths_text(None) == "none"


def test_unknown_keys_are_all_named() -> None:
    with pytest.raises(UserError) as caught:
        completed({"lr": 0.1, "wd": 1, "epochs": 3}, RECIPE)
    assert str(caught.value) == (
        "a recipe has unknown epochs, wd; its keys are lr, batch, momentum, dropout, transform"
    )


@pytest.mark.parametrize("recipe", [{}, {"batch": 4}, {"lr": None}])
def test_missing_learning_rate(recipe: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="a recipe has no lr; its keys are lr, batch"):
        completed(recipe, RECIPE)


def test_a_recipe_gets_all_fields_in_their_order() -> None:
    assert list(completed({"batch": 8, "lr": 0.1}, RECIPE).items())[:3] == [
        ("lr", 0.1),
        ("batch", 8),
        ("momentum", None),
    ]
    assert completed({"optimizer": "adam"}, ["optimizer", "decay"]) == {"optimizer": "adam", "decay": None}


def test_other_fields_are_written_as_they_are() -> None:
    recipe = {"lr": 0.0039, "weight_decay": 0.000512, "warmup": 3.0, "optimizer": "adam_w", "nesterov": None}
    assert recipe_text(recipe) == "lr 4e-3 weight_decay 0.00051 warmup 3 optimizer adam w nesterov none"
    with pytest.raises(UserError, match=r"a recipe's warmup must be a number or text, not \[3\]"):
        recipe_text({**recipe, "warmup": [3]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": "fast"}, {"lr": [0.1]}, {"batch": "many"}, {"momentum": "0.9"}, {"dropout": "some"}, {"lr": {}},
        {"momentum": float("nan")}, {"momentum": float("inf")}, {"batch": float("inf")}, {"transform": 64},
        {"lr": 10**400}, {"batch": {"a": {}}}, {"transform": ["norm_32"]}, {"dropout": b"1"},
    ],
)  # fmt: skip
def test_values_of_a_wrong_kind(wrong: dict[str, Any]) -> None:
    (key,) = wrong
    with pytest.raises(UserError) as caught:
        recipe_text({"lr": 0.1, **wrong})
    assert str(caught.value).startswith(
        f"a recipe's {key} must be {'text' if key == 'transform' else 'a number'}, not "
    )
    assert len(str(caught.value)) < 200


def test_keys_of_any_kind_and_length() -> None:
    with pytest.raises(UserError, match="a recipe has unknown 1, a; its keys are"):
        completed({"lr": 1, 1: 2, "a": 3}, RECIPE)
    with pytest.raises(UserError) as caught:
        completed({"lr": 1, "a" * 5000: 1}, RECIPE)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"lr": -5}, "lr must be above 0, not -5"),
        ({"lr": 0.0}, "lr must be above 0, not 0.0"),
        ({"lr": math.nan}, "lr must be above 0, not nan"),
        ({"lr": 0.1, "batch": 0}, "batch must be 1 or more, not 0"),
        ({"lr": 0.1, "momentum": 1.5}, "momentum must be from 0 to 1, not 1.5"),
        ({"lr": 0.1, "dropout": -0.1}, "dropout must be from 0 to 1, not -0.1"),
    ],
)
def test_a_question_states_a_possible_recipe(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"a recipe's {words}")):
        completed(wrong, RECIPE)


def test_numbers_of_other_fields_may_be_texts() -> None:
    assert recipe_text({"decay": "1e-4", "warm": True}) == recipe_text({"decay": 1e-4, "warm": "True"})
    assert recipe_text({"steps": "500", "name": "1_0", "size": "1.5x"}) == "steps 500 name 1 0 size 1.5x"


@pytest.mark.parametrize(("name", "value"), [("lr", True), ("momentum", False), ("batch", True), ("batch", 1.5)])
def test_truths_and_parts_are_no_numbers(name: str, value: object) -> None:
    kind = "whole number" if name == "batch" else "number"
    with pytest.raises(UserError, match=rf"a recipe's {name} must be a {kind}, not {value}"):
        completed({"lr": 0.1, name: value}, RECIPE)
