"""The keys of questions: what makes two of them the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.io import digest, file_digest, prompt_hash, question_hash, shown
from nngpt_ext.prompts.builtin import NAMES, get_template
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.template import Template, checked

RECIPE = {"lr": 0.0039, "batch": 32, "momentum": 0.9, "dropout": None, "transform": "norm_32"}
QUESTION = Question("n", "mnist", "svhn", 5, 0.9, 0.8, RECIPE, RECIPE | {"batch": 64})


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2, "ü"]}) == digest({"b": [2, "ü"], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_each_prompt_shows_only_what_it_needs() -> None:
    found = {name: shown(get_template(name), QUESTION, LEMUR_FACTS) for name in NAMES}
    assert found["code_only"] == found["metadata"] == found["metadata_only"] == ("", "")
    assert found["normalized_accuracy"] == ("accuracy 0.9", "accuracy 0.8")
    assert found["recipe"] == (
        "lr 4e-3 batch 32 momentum 0.9 dropout none transform norm 32",
        "lr 4e-3 batch 64 momentum 0.9 dropout none transform norm 32",
    )


def test_recipes_that_are_written_alike_are_alike() -> None:
    near = QUESTION._replace(recipe_1={**RECIPE, "lr": 0.004})
    assert shown(get_template("recipe"), near, LEMUR_FACTS) == shown(get_template("recipe"), QUESTION, LEMUR_FACTS)


def test_a_users_own_facts_count_where_they_are_shown() -> None:
    facts = {**LEMUR_FACTS, "svhn": DatasetFacts(1, 2, 3, 4)}
    assert shown(get_template("metadata"), QUESTION, facts) == ("", "facts (1, 2, 3, 4)")
    assert shown(get_template("code_only"), QUESTION, facts) == ("", "")


@pytest.mark.parametrize("fact", ["num_train_images", "img_size", "num_channels", "num_classes"])
@pytest.mark.parametrize("side", [1, 2])
def test_each_single_fact_that_a_prompt_shows_counts(fact: str, side: int) -> None:
    columns = {"a": "dataset", "b": "dataset_2", "f": f"{fact}_{side}"}
    template = checked(Template("own", "", "{a} {b} {f}", columns))
    facts = {**LEMUR_FACTS, "mnist": DatasetFacts(1, 2, 3, 4), "svhn": DatasetFacts(5, 6, 7, 8)}
    expected = ("facts (1, 2, 3, 4)", "") if side == 1 else ("", "facts (5, 6, 7, 8)")
    assert shown(template, QUESTION, facts) == expected


def test_the_order_of_the_datasets_does_not_count() -> None:
    straight = question_hash("s", ("a", "b"), ("x", "y"), "p", "w", "c")
    assert question_hash("s", ("b", "a"), ("y", "x"), "p", "w", "c") == straight
    assert question_hash("s", ("b", "a"), ("x", "y"), "p", "w", "c") != straight


def test_everything_else_counts() -> None:
    base = ("s", ("a", "b"), ("x", "y"), "p", "w", "c")
    others = [
        ("t", *base[1:]), ("s", ("a", "d"), *base[2:]), (*base[:2], ("x", "z"), *base[3:]), (*base[:3], "q", *base[4:]),
        (*base[:4], "v", "c"), (*base[:5], "d"), ("s", ("ab", ""), *base[2:]),
    ]  # fmt: skip
    hashes = [question_hash(*asked) for asked in (base, *others)]
    assert all(one != other for one, other in itertools.combinations(hashes, 2))


def test_prompt_hashes_differ_by_all_that_decides_the_text() -> None:
    template = get_template("recipe")
    made = {
        prompt_hash(template, code_tokens=32, compact=True, epoch=5),
        prompt_hash(template, code_tokens=33, compact=True, epoch=5),
        prompt_hash(template, code_tokens=32, compact=False, epoch=5),
        prompt_hash(template, code_tokens=32, compact=True, epoch=1),
        prompt_hash(template._replace(prompt=template.prompt + " "), code_tokens=32, compact=True, epoch=5),
    }
    assert len(made) == 5
