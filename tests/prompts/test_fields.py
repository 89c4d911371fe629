"""The table of prompt fields: every column can be shown, and a new field is one entry."""

from __future__ import annotations

import ast
import json
import shlex

import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.errors import UserError
from nngpt_ext.networks.structure import Structure
from nngpt_ext.prompts.fields import COLUMNS, FIELDS, GIVEN, PromptField, Question, Shown, column_values
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.prompts.template import Template, checked
from tests import models_made

RECIPES = ({"lr": 0.01, "batch": 64}, {"lr": 0.001, "batch": 8, "transform": "norm_64_flip"})
STRUCTURES = (Structure(parameters=57_029_322, layers=8), Structure(parameters=4_400, layers=101, last_map=7))
EVIDENCE = ({1: 0.914, 2: 0.996}, {})
QUESTION = Question.of(
    "AlexNet", "mnist", "cifar-100", 5, norm_acc=(0.9, 0.5), recipe=RECIPES, structure=STRUCTURES, evidence=EVIDENCE
)
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
    "recipe_2": "lr 1e-3 batch 8 momentum none dropout none transform norm 64 flip",
    "pace_1": "pace 1.6e-4",
    "pace_2": "pace 1e-4",
    "pace_tenths_1": "step 0.4",
    "pace_tenths_2": "step 0.4",
    "structure_1": "57M parameters, 8 layers, last map unknown",
    "structure_2": "4.4K parameters, 101 layers, last map 7",
    "structure_tenths_1": "params 0.9 layers 0.4 last unknown",
    "structure_tenths_2": "params 0.2 layers 0.9 last 0.3",
    "input_1": "input 28",
    "input_2": "input 32",
    "input_tenths_1": "input 0.2",
    "input_tenths_2": "input 0.2",
    "recipe_input_1": "input 28",
    "recipe_input_2": "input 64",
    "recipe_input_tenths_1": "input 0.2",
    "recipe_input_tenths_2": "input 0.4",
    "evidence_1": "early 0.91 1.00",
    "evidence_2": "early none",
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
        "nn", "dataset", "dataset_2", "num_train_images_1", "img_size_1", "num_channels_1", "num_classes_1", "input_1",
        "input_tenths_1",
    }  # fmt: skip


def test_everything_given_says_how_to_give_it() -> None:
    assert {field.given.name for field in FIELDS.values() if field.given} == set(GIVEN)
    for given in GIVEN.values():
        assert given.noun
        python, shell = (text.format(dataset="mnist", other="svhn") for text in (given.example, given.option))
        value = ast.literal_eval(python.partition("=")[2])
        option, text, *_ = shlex.split(shell)
        assert option == f"--{python.partition('=')[0]}"
        if isinstance(value, str):
            assert text == value
        else:
            value = {key: one for key, one in value.items() if one is not None}
            assert json.loads(json.dumps(value)) == json.loads(text)  # whose keys are text


def test_an_invalid_recipe_names_network_and_dataset_in_every_field() -> None:
    question = Question.of("AlexNet", "mnist", "svhn", recipe=({"lr": "fast"}, {"lr": 1}), structure=STRUCTURES)
    for field in FIELDS.values():
        if field.given is GIVEN["recipe"] and not field.facts:
            with pytest.raises(UserError, match=r"^network 'AlexNet' on 'mnist': a recipe's lr must be a number"):
                rendered(*field.columns, question=question)


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
