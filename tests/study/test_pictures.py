"""What the pictures show, read off their words and marks."""

from __future__ import annotations

import re

from nngpt_ext.study import lines, pictures
from nngpt_ext.study.schema import CurvePoint
from tests.study.made import cell, figures, part, study


def texts(picture) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture.svg)


def test_the_skill_of_every_cell_that_can_tell_is_shown():
    found = study(
        cell("recipe", figures(0.05)), cell("code_only", figures(0.0, 0.9)), cell("metadata", figures(-0.05)),
        cell("normalized_accuracy", figures(0.19)), cell("recipe", figures(0.05), split="random_pairs"),
        cell("a" * 60, figures(0.05), split="by_cluster"),
    )  # fmt: skip
    shown = pictures.skills(found, "skills")
    words = texts(shown)
    assert [name for name in words if ", embedded" in name][:3] == [
        "recipe, embedded", "code_only, embedded", "metadata, embedded",
    ]  # fmt: skip
    assert {"beats the prior", "not told apart", "below the prior"} <= set(words)
    assert "normalized_accuracy, embedded" not in words
    assert not any("leaky" in name for name in words)
    assert max(map(len, words)) <= 32
    assert "code_only, embedded, by_network, normalized label: +0.000 (-0.020 to +0.020)" in shown.alt


def test_without_a_cell_that_can_tell_there_is_no_picture_of_skill():
    assert pictures.skills(study(cell("normalized_accuracy", figures(0.19)), cell("recipe")), "skills") is None


def test_what_is_clear_of_zero_is_bold():
    def bold(gain: float) -> int:
        pair = figures(gain).pairs[0]
        return pictures.heat_map(cell("recipe"), figures(pairs=[pair]), "heat").svg.count("font-weight: 700")

    assert bold(0.05) == 2  # either side of the diagonal
    assert bold(0.01) == 0


def test_parts_without_pairs_are_left_out_of_the_bars():
    empty = part("svhn", 0.1).model_copy(update={"n": 0, "accuracy": None, "ci95": None, "prior": None})
    alone = part("places365", 0.1).model_copy(update={"ci95": None})
    found = figures(involving=[part("mnist", 0.1), empty, alone], as_answer=[part("mnist", 0.1), empty, alone])
    assert "svhn – (prior –, n = 0)" in pictures.bars(cell("recipe"), found, "bars").alt


def test_the_learning_curve_has_baselines_and_prompts():
    points = [
        CurvePoint(networks=n, train_pairs=n, n_test_pairs=8, accuracy={"pair_prior": 0.8, "code_gbm": 0.7})
        for n in (10, 90)
    ]
    cells = [cell("recipe", figures()), cell("normalized_accuracy", figures(0.19)), cell("recipe", figures(), seed=1)]
    words = texts(lines.learning_curve(study(*cells, learning_curve=points), "learning"))
    assert {"pair prior", "trees on the source", "recipe, embedded", "10", "90"} <= set(words)
    assert not {"trees on the recipes", "normalized_accuracy, embedded"} & set(words)
    assert lines.learning_curve(study(cells[1]), "learning") is None
    assert "pair prior" not in texts(lines.learning_curve(study(cells[0]), "learning"))
