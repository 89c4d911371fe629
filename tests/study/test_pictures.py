"""What the pictures show, read off their texts and descriptions."""

from __future__ import annotations

import re

import pytest

from nngpt_ext.study import pictures
from nngpt_ext.study.measurement import DATASETS
from nngpt_ext.study.outcome import CurvePoint, Slice
from tests.study.made import cell, figures, part, study


def texts(picture) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture.svg)


def test_the_skill_of_every_cell_that_can_show_any():
    found = study(
        cell("recipe", figures(0.05)), cell("code_only", figures(0.0, 0.9)), cell("metadata", figures(-0.05)),
        cell("normalized_accuracy", figures(0.19)), cell("recipe", figures(0.05), split="random_pairs"),
        cell("a" * 60, figures(0.05), split="by_cluster"),
    )  # fmt: skip
    shown = pictures.skills(found)
    words = texts(shown)
    assert {"recipe, embedded", "code_only, embedded", "metadata, embedded"} <= set(words)
    assert {"skill shown", "no skill shown", "below the prior"} <= set(words)
    assert "normalized_accuracy, embedded" not in words
    assert max(map(len, words)) <= 32
    assert "code_only, embedded, by_network, normalized: +0.000 (-0.020 to +0.020)" in shown.alt


def test_without_a_cell_that_can_show_skill_there_is_no_picture_of_it():
    assert pictures.skills(study(cell("normalized_accuracy", figures(0.19)), cell("recipe"))) is None


def test_cells_of_one_setting_share_a_picture_and_a_prompt_its_colour():
    found = pictures.groups(
        study(
            cell("code_only", figures()), cell("recipe", figures(), split="by_cluster"), cell("recipe", figures()),
            cell("normalized_accuracy", figures(0.19)), cell("metadata"),
        )
    )  # fmt: skip
    assert [[line.cell.prompt for line in group] for group in found] == [
        ["code_only", "recipe"], ["recipe"], ["normalized_accuracy"],
    ]  # fmt: skip
    assert found[0][1].style == found[1][0].style


@pytest.mark.parametrize("draw", [pictures.datasets, pictures.epochs, pictures.reliability, pictures.coverage])
def test_every_picture_names_its_cells_and_is_the_same_each_time(draw):
    (group,) = pictures.groups(study(cell("recipe", figures()), cell("code_only", figures(0.0))))
    found = draw(group)
    assert {"recipe, embedded", "code_only, embedded"} <= set(texts(found))
    assert found.caption == "by_network, normalized: 100 test pairs of 40 networks"
    assert found == draw(group)


def test_two_pictures_share_no_id_that_is_referred_to():
    (group,) = pictures.groups(study(cell("recipe", figures())))
    one, two = (
        set(re.findall(r"#([pm][0-9a-f]{10})", draw(group).svg)) for draw in (pictures.epochs, pictures.coverage)
    )
    assert one
    assert not one & two


def test_one_epoch_is_not_a_curve():
    one = figures(epochs=[{"epoch": 1, "test_accuracy": 0.8}], selected_epoch=1)
    (alone,) = pictures.groups(study(cell("code_only", one)))
    (beside,) = pictures.groups(study(cell("code_only", one), cell("recipe", figures())))
    assert pictures.epochs(alone) is None
    assert "0.800 after epoch 1" in pictures.epochs(beside).alt


def test_datasets_without_pairs_have_no_point():
    alone = part("places365", 0.1).model_copy(update={"ci95": None})
    own = figures(slices={DATASETS: [part("mnist", 0.1), Slice(name="svhn", n=0, networks=0), alone]})
    (group,) = pictures.groups(study(cell("recipe", own)))
    assert "svhn – (prior –)" in pictures.datasets(group).alt


def test_the_learning_curve_has_baselines_and_prompts():
    points = [
        CurvePoint(networks=n, train_pairs=n, n_test_pairs=8, accuracy={"pair_prior": 0.8, "a_new_one": 0.7})
        for n in (10, 90)
    ]
    cells = [cell("recipe", figures()), cell("normalized_accuracy", figures(0.19)), cell("recipe", figures(), seed=1)]
    words = texts(pictures.learning_curve(study(*cells, learning_curve=points)))
    assert {"pair prior", "a new one", "recipe, embedded", "10", "90"} <= set(words)
    assert "normalized_accuracy, embedded" not in words
    assert pictures.learning_curve(study(cells[1])) is None
    assert "pair prior" not in texts(pictures.learning_curve(study(cells[0])))
