"""Made-up lines, written as prompts write them, and the rules over their numbers."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.prompts.recipe import recipe_text
from nngpt_ext.prompts.scales import LAST, LAYERS, PARAMETERS, pace_tenths
from research.embedded.questions import invented_recipe
from research.embedded.rules import NUMBERS, RULES, Line, Lines, Rules

NAMES = sorted(LEMUR_FACTS)


def drawn(n: int, parts: str) -> list[Line]:
    lines = Lines(random.Random(0))
    return [lines.draw(NAMES[i % 7], parts, invented_recipe(lines.rng)) for i in range(n)]


def test_parts_stand_in_one_order_whatever_is_asked() -> None:
    recipe = invented_recipe(random.Random(1))
    text = Lines(random.Random(0)).draw("mnist", "rspe", recipe).text
    words = [word for word in text.split() if word in ("early", "step", "params", "layers", "last", "input", "lr")]
    assert words == ["early", "step", "params", "layers", "last", "input", "lr"]
    assert text.endswith(recipe_text(recipe))
    assert f" {pace_tenths(recipe)} params " in text


def test_numbers_are_what_the_text_says() -> None:
    for line in drawn(300, "s"):
        words = line.text.split()
        for name, written in zip(words[::2], words[1::2], strict=True):
            number = line.numbers[NUMBERS.index(name)]
            if written in ("none", "unknown"):
                assert np.isnan(number)
            else:
                assert number == pytest.approx((float(written) - 0.5) * 3.2, abs=1e-6)
        said = [name in words for name in NUMBERS]
        assert np.isnan(line.numbers[~np.array(said)]).all()


def test_early_accuracies_are_hundredths_of_one_or_two_epochs_or_none() -> None:
    texts = [line.text.split()[1:] for line in drawn(400, "e")]
    assert {len(text) for text in texts} == {1, 2}
    assert 0 < sum(text == ["none"] for text in texts) < 60
    written = [word for text in texts for word in text if word != "none"]
    assert all(re.fullmatch(r"[01]\.\d\d", word) for word in written)
    values = list(map(float, written))
    assert min(values) < 0.1
    assert max(values) == 1.0
    assert sum(value > 0.8 for value in values) > len(values) / 3


def test_unmeasured_structure_and_missing_maps_occur() -> None:
    texts = [line.text for line in drawn(500, "s")]
    assert 2 <= sum(text.startswith("params unknown layers unknown last unknown input 0.") for text in texts) <= 40
    assert 5 <= sum("last none" in text for text in texts) <= 60
    assert 5 <= sum("last unknown" in text and "layers unknown" not in text for text in texts) <= 60


def test_the_same_network_has_about_the_same_structure_on_another_dataset() -> None:
    lines = Lines(random.Random(0))
    away = []
    for _ in range(200):
        structure = lines.structure()
        other = lines.beside(structure)
        for scale in (PARAMETERS, LAYERS, LAST):
            one, two = structure[scale], other[scale]
            if isinstance(one, str) or isinstance(two, str):
                assert one == two
            elif scale is not LAST:
                away.append(abs(scale.tenth(one) - scale.tenth(two)))
    assert max(away) <= 0.21


def test_rules_are_standardised_differ_by_dataset_and_stay_the_same() -> None:
    lines = drawn(700, "epsr")
    rules = Rules(NAMES, lines)
    values = rules(lines)
    assert values.shape == (700, RULES)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(0), 1, atol=1e-4)
    np.testing.assert_array_equal(values, Rules(NAMES, lines)(lines))
    moved = [Line(NAMES[(NAMES.index(line.name) + 1) % 7], line.text, line.numbers) for line in lines]
    assert (np.abs(rules(moved) - values).mean(0) > 0.05).all()
    assert np.abs(np.corrcoef(values.T) - np.eye(RULES)).max() < 0.95  # no two rules say the same


def test_a_rule_says_nothing_of_what_the_line_does_not_say() -> None:
    lines = drawn(70, "s")
    rules = Rules(NAMES, drawn(700, "epsr"))
    blank = [Line(line.name, "", np.full(len(NUMBERS), np.nan, dtype=np.float32)) for line in lines]
    of_dataset = {line.name: values for line, values in zip(blank, rules(blank), strict=True)}
    for line, values in zip(blank, rules(blank), strict=True):
        np.testing.assert_array_equal(values, of_dataset[line.name])
    assert (rules(lines) != rules(blank)).any(0).all()


def test_layers_are_a_scale_of_the_structure() -> None:
    assert set(Lines(random.Random(0)).structure()) == {PARAMETERS, LAYERS, LAST}
