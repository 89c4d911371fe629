"""The table of prompt fields: every column can be shown, and a new field is one entry."""

from __future__ import annotations

import ast
import json
import shlex

import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.errors import UserError
from nngpt_ext.prompts.fields import COLUMNS, FIELDS, PromptField, Question, Shown, column_values
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.prompts.template import Template, checked
from tests import models_made

RECIPES = ({"lr": 0.01, "batch": 64}, {"lr": 0.001, "batch": 8})
QUESTION = Question.of("AlexNet", "mnist", "cifar-100", 5, norm_acc=(0.9, 0.5), recipe=RECIPES)
# What each column shows of QUESTION.
TEXTS = {
    "nn": "AlexNet",
    "nn_code": "import torch",
    "epoch": "5",
    "dataset": "mnist",
    "dataset_2": "cifar-100",
    "norm_acc": "0.9",
    "norm_acc_2": "0.5",
    "recipe_1": "lr 1e-2 batch 64 momentum none dropout none transform none",
    "recipe_2": "lr 1e-3 batch 8 momentum none dropout none transform none",
    "num_train_images_1": "60000",
    "num_train_images_2": "50000",
    "img_size_1": "28",
    "img_size_2": "32",
    "num_channels_1": "1",
    "num_channels_2": "3",
    "num_classes_1": "10",
    "num_classes_2": "100",
}


def template(*columns: str) -> Template:
    """A prompt that shows the datasets and some columns."""
    shown = {"dataset", "dataset_2", *columns}
    return checked(Template("made", "", " ".join(f"<{name}={{{name}}}>" for name in shown), {n: n for n in shown}))


def rendered(*columns: str, question: Question = QUESTION) -> str:
    renderer = Renderer(template(*columns), models_made.pieces_tokenizer(), code_tokens=64, facts=LEMUR_FACTS)
    return renderer.messages(question, "import torch", "import torch\nimport math").user


def test_every_column_has_a_text_here() -> None:
    assert set(TEXTS) == set(COLUMNS) == {column for field in FIELDS.values() for column in field.columns}


@pytest.mark.parametrize("column", TEXTS)
def test_every_column_is_shown(column: str) -> None:
    assert f"<{column}={TEXTS[column]}>" in rendered(column)


def test_turned_questions_show_the_other_side() -> None:
    for field in FIELDS.values():
        if len(field.columns) == 2:
            first, second = field.columns
            text = rendered(first, second, question=QUESTION.turned())
            assert f"<{first}={TEXTS[second]}>" in text
            assert f"<{second}={TEXTS[first]}>" in text


def test_what_is_not_given_is_none() -> None:
    bare = Question.of("AlexNet", "mnist", "unknown")
    values = column_values(Shown(bare, None, None, LEMUR_FACTS), set(COLUMNS))
    assert {column for column, value in values.items() if value is not None} == {
        "nn", "dataset", "dataset_2", "num_train_images_1", "img_size_1", "num_channels_1", "num_classes_1",
    }  # fmt: skip


def test_every_given_field_says_how_to_give_it() -> None:
    for field in FIELDS.values():
        if field.given:
            assert field.noun
            python, shell = (text.format(dataset="mnist", other="svhn") for text in (field.example, field.option))
            value = ast.literal_eval(python.partition("=")[2])
            option, given, *_ = shlex.split(shell)
            assert option == f"--{python.partition('=')[0]}"
            assert {key: one for key, one in value.items() if one is not None} == json.loads(given)


def test_a_new_field_is_a_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="unknown column 'characters'"):
        template("characters")
    field = PromptField(
        "characters", "characters of the source", ("characters",), lambda shown, _: len(shown.source or "")
    )
    monkeypatch.setitem(FIELDS, field.name, field)
    monkeypatch.setitem(COLUMNS, "characters", (field, 0))  # made of FIELDS at import
    assert "<characters=24>" in rendered("characters")
    assert template("characters").shows("characters")
