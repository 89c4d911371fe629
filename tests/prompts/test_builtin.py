"""The built-in prompts, word for word, and their files as the host reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.errors import UserError
from nngpt_ext.host.conversion import HOST_COLUMNS
from nngpt_ext.networks.structure import Structure
from nngpt_ext.prompts.builtin import FOLDER, NAMES, get_template
from nngpt_ext.prompts.fields import COLUMNS, Question, Shown, Side, column_values
from nngpt_ext.prompts.inputs import check_given
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.prompts.template import Messages
from nngpt_ext.registry import prompts
from tests import models_made

from .real import ACCURACIES, CODE, QUESTION

SYSTEM = """\
You compare how one neural network does on two image-classification datasets.
Reply with the name of one of the two datasets and nothing else."""

CODE_PART = """\
PyTorch source of the network:
import torch
import torch.nn as nn


def supported_hyperparameters():
    return {'lr', 'momentum', 'dropout'}

It was trained for 5 epochs on each dataset. An accuracy is relative to the best one known for its dataset.
Which dataset has the higher relative accuracy?
"""
NO_CODE_PART = """\
A neural network was trained on each dataset. An accuracy is relative to the best one known for its dataset.
Which dataset has the higher relative accuracy?
"""
CIFAR = "cifar-10: 50000 training images, 32 pixels wide, 3 channels, 10 classes"
MNIST = "mnist: 60000 training images, 28 pixels wide, 1 channels, 10 classes"
CIFAR_RECIPE = "cifar-10: lr 6.3e-3 batch 4 momentum 0.8 dropout 0.5 transform norm 299"
MNIST_RECIPE = "mnist: lr 2.5e-3 batch 1 momentum 1.0 dropout 0.5 transform norm 512"
CIFAR_STRUCTURE = "cifar-10: params 0.9 layers 0.4 last 0.5 input 0.2"
MNIST_STRUCTURE = "mnist: params 0.9 layers 0.4 last 0.6 input 0.2"
CIFAR_BOTH = (
    "cifar-10: step 0.7 params 0.9 layers 0.4 last 0.5 input 0.8 "
    "lr 6.3e-3 batch 4 momentum 0.8 dropout 0.5 transform norm 299"
)
MNIST_BOTH = (
    "mnist: step 0.9 params 0.9 layers 0.4 last 0.6 input 1.0 "
    "lr 2.5e-3 batch 1 momentum 1.0 dropout 0.5 transform norm 512"
)
EARLY_PART = """\
{who} is trained for 5 epochs on each dataset. An accuracy is relative to the best one known for its dataset.
early: its relative accuracies so far, none where it is not trained yet.
Which dataset has the higher relative accuracy?
"""
CIFAR_EARLY, MNIST_EARLY = "cifar-10: early 0.85", "mnist: early 0.99"
CIFAR_ALL, MNIST_ALL = (CIFAR_BOTH.replace("cifar-10:", CIFAR_EARLY), MNIST_BOTH.replace("mnist:", MNIST_EARLY))
EVIDENCE_PART = EARLY_PART.format(who="A neural network")
ALL_PART = CODE_PART[: CODE_PART.index("It was trained")] + EARLY_PART.format(who="It")

# (as asked, turned)
USER = {
    "code_only": (CODE_PART + "cifar-10 or mnist?", CODE_PART + "mnist or cifar-10?"),
    "normalized_accuracy": (
        CODE_PART + "cifar-10: 0.925\nmnist: 0.998",
        CODE_PART + "mnist: 0.998\ncifar-10: 0.925",
    ),
    "metadata": (f"{CODE_PART}{CIFAR}\n{MNIST}", f"{CODE_PART}{MNIST}\n{CIFAR}"),
    "metadata_only": (f"{NO_CODE_PART}{CIFAR}\n{MNIST}", f"{NO_CODE_PART}{MNIST}\n{CIFAR}"),
    "recipe": (f"{CODE_PART}{CIFAR_RECIPE}\n{MNIST_RECIPE}", f"{CODE_PART}{MNIST_RECIPE}\n{CIFAR_RECIPE}"),
    "structure": (
        f"{CODE_PART}{CIFAR_STRUCTURE}\n{MNIST_STRUCTURE}", f"{CODE_PART}{MNIST_STRUCTURE}\n{CIFAR_STRUCTURE}",
    ),
    "recipe_structure": (
        f"{CODE_PART}{CIFAR_BOTH}\n{MNIST_BOTH}", f"{CODE_PART}{MNIST_BOTH}\n{CIFAR_BOTH}",
    ),
    "evidence": (
        f"{EVIDENCE_PART}{CIFAR_EARLY}\n{MNIST_EARLY}", f"{EVIDENCE_PART}{MNIST_EARLY}\n{CIFAR_EARLY}",
    ),
    "recipe_structure_evidence": (f"{ALL_PART}{CIFAR_ALL}\n{MNIST_ALL}", f"{ALL_PART}{MNIST_ALL}\n{CIFAR_ALL}"),
}  # fmt: skip
# What `tuning.head: lines` scores: what all datasets of a network share, then one line.
LINE_SYSTEM = "You rate how well one neural network does on an image-classification dataset."
LINE_PROMPT = """\
PyTorch source of the network:
{nn_code}

It was trained for {epoch} epochs. An accuracy is relative to the best one known for its dataset.
How high is the relative accuracy?"""
EARLY_LINES = """\
{who} is trained for {epoch} epochs. An accuracy is relative to the best one known for its dataset.
early: its relative accuracies so far, none where it is not trained yet.
How high is the relative accuracy?"""
LINE_PROMPTS = {
    "evidence": EARLY_LINES.replace("{who}", "A neural network"),
    "recipe_structure_evidence": LINE_PROMPT[: LINE_PROMPT.index("It was")] + EARLY_LINES.replace("{who}", "It"),
}
LINES = {
    "recipe": (CIFAR_RECIPE, MNIST_RECIPE),
    "structure": (CIFAR_STRUCTURE, MNIST_STRUCTURE),
    "recipe_structure": (CIFAR_BOTH, MNIST_BOTH),
    "evidence": (CIFAR_EARLY, MNIST_EARLY),
    "recipe_structure_evidence": (CIFAR_ALL, MNIST_ALL),
}


def content(name: str) -> dict[str, Any]:
    """A prompt's entry, read as NNGPT reads its files."""
    with Path(FOLDER / f"{name}.json").open() as file:
        return json.load(file)[name]


def host_row() -> dict[str, Any]:
    """The columns that NNGPT fills, and what our own builder adds."""
    question = QUESTION
    shown = Shown(question, None, CODE, LEMUR_FACTS)
    row: dict[str, Any] = column_values(shown, set(COLUMNS) - HOST_COLUMNS) | {
        "nn": question.nn, "nn_code": CODE, "epoch": question.epoch,
        "dataset": question.dataset_1, "dataset_2": question.dataset_2,
        "norm_acc": ACCURACIES[0], "norm_acc_2": ACCURACIES[1], "better_dataset": "mnist",
    }  # fmt: skip
    for i, dataset in ((1, question.dataset_1), (2, question.dataset_2)):
        fact = LEMUR_FACTS[dataset]
        values = {
            "num_train_images": fact.train_images, "img_size": fact.image_size, "num_channels": fact.channels,
            "num_classes": fact.classes,
        }  # fmt: skip
        row |= {f"{key}_{i}": value for key, value in values.items()}
    return row


def test_code_is_how_the_source_begins() -> None:
    assert models_made.sources()["AlexNet"].startswith(CODE)


def test_all_are_registered() -> None:
    assert set(USER) == set(NAMES) <= set(prompts.names())


def test_unknown_prompt_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"unknown prompt 'recipes'.*code_only, evidence, metadata, metadata_only"):
        get_template("recipes")


@pytest.mark.parametrize("name", NAMES)
def test_exact_words(name: str) -> None:
    renderer = Renderer(get_template(name), models_made.tokenizer(), code_tokens=100, facts=LEMUR_FACTS)
    for question, expected in zip((QUESTION, QUESTION.turned()), USER[name], strict=True):
        assert renderer.messages(question, CODE) == Messages(SYSTEM, expected)
        assert renderer.text(question, CODE) == f"{SYSTEM}\n\n{expected}\n"


@pytest.mark.parametrize("name", NAMES)
def test_keys_are_nngpts(name: str) -> None:
    entry = content(name)
    assert entry["system"] == SYSTEM.split("\n")
    assert all(isinstance(line, str) for line in entry["prompt"])
    assert entry["output"] == ["{better_dataset}"]
    assert all(set(item) == {"para", "value"} for item in entry["input_list"])
    assert entry["num_joint_nns"] == 2
    assert entry["keep_same"] == ["epoch", "metric", "task", "nn"]
    assert entry["no_repeat"] == ["dataset"]
    assert entry["dataset"] is None  # else the host's default joins no two datasets
    assert entry["nn_prefixes"] == [""]
    assert entry["output_type"] == "classification"
    assert entry["task"] == "img-classification"
    assert "<<" not in "".join(entry["prompt"])  # the host evaluates what stands in << >>


@pytest.mark.parametrize("name", NAMES)
def test_the_hosts_way_of_filling_gives_our_text(name: str) -> None:
    entry = content(name)
    prompt = "\n".join(entry["prompt"])
    row = host_row()
    para_dict = {item["para"]: row[item["value"]] for item in entry["input_list"]}
    assert set(re.findall(r"{(\w+)", prompt)) == set(para_dict)
    assert {item["value"] for item in entry["input_list"]} <= set(COLUMNS)
    assert prompt.format(**para_dict) == USER[name][0]
    assert "\n".join(entry["output"]).format(better_dataset=row["better_dataset"]) == "mnist"


@pytest.mark.parametrize("name", NAMES)
def test_code_comes_before_the_datasets(name: str) -> None:
    prompt = "\n".join(content(name)["prompt"])
    first_dataset = min(prompt.index("{dataset_1}"), prompt.index("{dataset_2}"))
    if name in ("metadata_only", "evidence"):
        assert "{nn_code}" not in prompt
        assert ("{epoch}" in prompt) == (name == "evidence")
    else:
        assert 0 < prompt.index("{nn_code}") < first_dataset
    # What all questions share stands before what differs.
    question = "Which dataset has the higher relative accuracy?"
    assert prompt.index(question) < prompt.index("{dataset_1}") < prompt.index("{dataset_2}")


def test_only_normalized_accuracy_tells_accuracies() -> None:
    assert {name for name in NAMES if any("acc" in column for column in get_template(name).columns.values())} == {
        "normalized_accuracy"
    }


@pytest.mark.parametrize("name", LINES)
def test_line_forms(name: str) -> None:
    template = get_template(name).lines
    assert template is not None
    expected = LINE_PROMPTS.get(name, LINE_PROMPT)
    assert (template.system, template.prompt) == (LINE_SYSTEM, expected)
    renderer = Renderer(template, models_made.tokenizer(), code_tokens=100, facts=LEMUR_FACTS)
    shared = expected.replace("{nn_code}", CODE).replace("{epoch}", "5")
    one, other = (f"{LINE_SYSTEM}\n\n{shared}\n{line}\n" for line in LINES[name])
    assert renderer.line_texts(QUESTION, CODE) == (one, other)
    assert renderer.line_texts(QUESTION.turned(), CODE) == (other, one)


@pytest.mark.parametrize("name", ["structure", "recipe_structure"])
@pytest.mark.parametrize("missing", ["structure", "recipe"])
def test_what_is_missing_is_named(name: str, missing: str) -> None:
    template = get_template(name)
    question = Question(
        QUESTION.nn, QUESTION.first, Side("mnist", {**QUESTION.second.given, missing: None}), QUESTION.epoch
    )
    if missing == "recipe" and name == "structure":
        check_given(template, question)
        return
    with pytest.raises(UserError) as caught:
        check_given(template, question)
    noun = {"structure": "a structure", "recipe": "a recipe"}[missing]
    assert str(caught.value).startswith(f"prompt '{name}' needs {noun} for 'mnist': {missing}=")


def test_a_structure_is_at_the_resolution_of_the_recipe_where_one_is_shown() -> None:
    assert {name: get_template(name).at_resolution for name in NAMES} == {
        "code_only": False, "metadata": False, "metadata_only": False, "normalized_accuracy": False, "recipe": True,
        "recipe_structure": True, "structure": False, "evidence": False, "recipe_structure_evidence": True,
    }  # fmt: skip


def test_an_unmeasured_structure_has_a_word_of_its_own() -> None:
    question = Question.of(
        "n", "mnist", "svhn", 5, structure=(Structure(), Structure(parameters=0, layers=0, last_map=0))
    )
    renderer = Renderer(get_template("structure"), models_made.tokenizer(), code_tokens=100, facts=LEMUR_FACTS)
    assert renderer.messages(question, CODE).user == (
        f"{CODE_PART}mnist: params unknown layers unknown last unknown input 0.2\n"
        "svhn: params none layers none last none input 0.2"
    )


def test_what_is_not_trained_yet_has_a_word_and_what_is_better_than_known_has_the_highest() -> None:
    question = Question.of("n", "mnist", "svhn", 5, evidence=({}, {1: 0.914, 2: 1.07}))
    check_given(get_template("evidence"), question)
    renderer = Renderer(get_template("evidence"), models_made.tokenizer(), code_tokens=100, facts=LEMUR_FACTS)
    assert renderer.messages(question, None).user == EVIDENCE_PART + "mnist: early none\nsvhn: early 0.91 1.00"
    with pytest.raises(UserError, match=r"needs early accuracies for 'mnist': evidence=\{'mnist': \{1: 0.91\}"):
        check_given(get_template("evidence"), Question.of("n", "mnist", "svhn", 5))
