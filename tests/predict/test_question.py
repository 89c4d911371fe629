"""The keys of questions: what is shown counts, whatever the field, and nothing else does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext import RunResult, UserError
from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.networks.structure import Structure
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.predict.question import Query, QueryChecker
from nngpt_ext.prompts.builtin import NAMES, get_template
from nngpt_ext.prompts.fields import FIELDS, Question, Side
from nngpt_ext.prompts.inputs import check_given, filled_digest, given_texts
from nngpt_ext.prompts.template import Template, checked

RECIPE = {"lr": 0.0039, "batch": 32, "momentum": 0.9, "dropout": None, "transform": "norm_32"}
STRUCTURES = (Structure(parameters=60_000, layers=5, last_map=10), Structure(parameters=60_000, layers=5, last_map=12))
QUESTION = Question.of(
    "n", "mnist", "svhn", 5, norm_acc=(0.9, 0.8), recipe=(RECIPE, RECIPE | {"batch": 64}), structure=STRUCTURES,
    evidence=({1: 0.914}, {}),
)  # fmt: skip
SOURCE = "import torch"


def filled(template: Template, question: Question = QUESTION, facts: dict[str, DatasetFacts] = LEMUR_FACTS) -> str:
    return filled_digest(template, question, SOURCE, facts)


def test_each_prompt_gives_texts_of_what_it_shows_of_a_side() -> None:
    found = {name: given_texts(get_template(name), QUESTION, LEMUR_FACTS) for name in NAMES}
    assert found["code_only"] == found["metadata"] == found["metadata_only"] == ("", "")
    assert found["normalized_accuracy"] == ("norm_acc 0.9", "norm_acc 0.8")
    assert found["recipe"] == (
        "lr 4e-3 batch 32 momentum 0.9 dropout none transform norm 32",
        "lr 4e-3 batch 64 momentum 0.9 dropout none transform norm 32",
    )
    assert found["structure"] == ("params 0.4 layers 0.3 last 0.4", "params 0.4 layers 0.3 last 0.4")
    shown = "params 0.4 layers 0.3 last 0.4; input 0.2"
    first, second = found["recipe"]
    assert found["recipe_structure"] == (f"{first}; step 0.6; {shown}", f"{second}; step 0.5; {shown}")
    assert found["evidence"] == ("early 0.91", "early none")
    assert found["recipe_structure_evidence"] == (
        f"{first}; step 0.6; {shown}; early 0.91", f"{second}; step 0.5; {shown}; early none",
    )  # fmt: skip


def test_recipes_that_are_written_alike_are_alike() -> None:
    near = replace(QUESTION, first=Side("mnist", {"recipe": {**RECIPE, "lr": 0.004}}))
    other = replace(QUESTION, first=Side("mnist", {"recipe": {**RECIPE, "lr": 0.04}}))
    template = get_template("recipe")
    assert filled(template, near) == filled(template)
    assert filled(template, other) != filled(template)


@pytest.mark.parametrize("column", [column for one in FIELDS.values() for column in one.columns])
def test_every_field_that_a_prompt_shows_counts(column: str) -> None:
    """Whatever is declared: a template that shows one column has a key that changes with its value."""
    names = {"a": "dataset", "b": "dataset_2"}
    text = "{a} {b}"
    if column not in names.values():
        names["f"], text = column, "{a} {b} {f}"
    template = checked(Template("own", "", text, names))
    facts = {
        "mnist": DatasetFacts(1, 2, 3, 4), "svhn": DatasetFacts(5, 6, 7, 8), "x": DatasetFacts(9, 10, 11, 12),
        "y": DatasetFacts(13, 14, 15, 16),
    }  # fmt: skip
    other = Question.of(
        "m", "x", "y", 6, norm_acc=(0.1, 0.2), recipe=({"lr": 1.0}, {"lr": 2.0}), structure=STRUCTURES[::-1],
        evidence=({1: 0.1}, {1: 0.2}),
    )  # fmt: skip
    one, two = (filled_digest(template, question, SOURCE, facts) for question in (QUESTION, other))
    assert one != two


def test_the_source_is_no_part_of_the_filled_prompt() -> None:
    template = get_template("code_only")
    assert filled(template) == filled_digest(template, QUESTION, "another = 1", LEMUR_FACTS)


def test_a_users_own_facts_count_where_they_are_shown() -> None:
    facts = {**LEMUR_FACTS, "svhn": DatasetFacts(1, 2, 3, 4)}
    assert filled(get_template("metadata"), facts=facts) != filled(get_template("metadata"))
    assert filled(get_template("code_only"), facts=facts) == filled(get_template("code_only"))


def test_what_is_missing_is_named_with_the_way_to_give_it() -> None:
    bare = Question.of("n", "mnist", "svhn", 5)
    with pytest.raises(UserError, match=r"prompt 'recipe' needs a recipe for 'mnist': recipe=\{'lr': 0.01, "):
        check_given(get_template("recipe"), bare)
    with pytest.raises(UserError, match=r"an accuracy for 'svhn': accuracies=\{'mnist': 0.9, 'svhn': 0.8\}$"):
        check_given(get_template("normalized_accuracy"), replace(bare, first=Side("mnist", {"norm_acc": 0.5})))
    check_given(get_template("code_only"), bare)


def test_what_is_given_and_not_shown_is_told_once(
    asking: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    check = QueryChecker(AdapterFiles(asking("recipe")), None)
    for _ in range(2):
        check(Query(SOURCE, "mnist", "svhn", RECIPE))
        check(Query(SOURCE, "mnist", "svhn", RECIPE, {"mnist": 0.9}, structure="measure"))
    told = "prompt 'recipe' does not show what was given and is not used: accuracies, structure"
    assert [record.message for record in caplog.records] == [told]


@pytest.mark.parametrize(
    "recipe", [{**RECIPE, "lr": {}}, {**RECIPE, "momentum": [1]}, {"lr": 1, "x" * 5_000: 1}, {"lr": 1, 1: 2}]
)
def test_a_bad_recipe_is_named_with_its_key_and_its_network(asking: Callable[[str], Path], recipe: Any) -> None:
    check = QueryChecker(AdapterFiles(asking("recipe")), None)
    for nn, name in (("alexnet", "network 'alexnet'"), (None, "the network")):
        with pytest.raises(UserError) as error:
            check(Query(SOURCE, "mnist", "svhn", recipe, nn=nn))
        assert re.match(
            rf"{name} on '(mnist|svhn)': a recipe('s (lr|momentum) must be a number, not| has unknown )",
            str(error.value),
        )
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("given", ["{" * 5_000, {"mnist": "{" * 5_000}, {"mnist": [0.5] * 5_000}, {"mnist": 10**5_000}])
def test_bad_values_are_shortened(asking: Callable[[str], Path], given: Any) -> None:
    files = AdapterFiles(asking("normalized_accuracy"))
    check = QueryChecker(files, None)
    for query in (
        Query(SOURCE, "mnist", "svhn", None, given), Query(SOURCE, "mnist", "svhn", given),
        Query(SOURCE, given, "svhn"), given,
    ):  # fmt: skip
        with pytest.raises(UserError) as error:
            check(query)
        assert len(str(error.value)) < 1_700
    for facts in ({"x": given}, {"x" * 5_000: given}, {1: (1, 2, 3, 4)}):
        with pytest.raises(UserError) as error:
            QueryChecker(files, facts)
        assert len(str(error.value)) < 600


def test_the_order_of_the_datasets_does_not_count(run: RunResult) -> None:
    check = QueryChecker(AdapterFiles(run.output_dir / "adapter"), None)
    straight, turned = check(Query(SOURCE, "mnist", "svhn")), check(Query(SOURCE, "svhn", "mnist"))
    assert straight.key == turned.key
    assert straight.question == turned.question


def test_everything_else_counts(run: RunResult) -> None:
    files = AdapterFiles(run.output_dir / "adapter")
    keys = [files.question_key(*given) for given in (("s", "f"), ("t", "f"), ("s", "g"))]
    for change in ({"code_tokens": 3}, {"compact_code": False}, {"epoch": 77}, {"text": files.note.text + " "}):
        changed = AdapterFiles(run.output_dir / "adapter")
        changed.note = changed.note.model_copy(update=change)
        keys.append(changed.question_key("s", "f"))
    for name, value in (("hash", "other"), ("calibration", None)):
        changed = AdapterFiles(run.output_dir / "adapter")
        setattr(changed, name, value)
        keys.append(changed.question_key("s", "f"))
    assert all(one != other for one, other in itertools.combinations(keys, 2))


def test_facts_that_contradict_those_of_the_training_are_refused(run: RunResult) -> None:
    files = AdapterFiles(run.output_dir / "adapter")
    name = files.note.datasets[0]
    own = files.note.known_facts()[name]
    QueryChecker(files, {name: own.values()[:4]})
    with pytest.raises(UserError, match=f"trained on '{name}' with the facts train_images {own.train_images}, .*, not"):
        QueryChecker(files, {name: (1, 1, 1, 1)})


def test_a_name_that_is_repeated_is_looked_at_once(run: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr("nngpt_ext.predict.question.plain", lambda name: looked.append(name) or name.lower())
    check = QueryChecker(AdapterFiles(run.adapter), None)
    assert check.check_datasets(["new", "newer", "new"] * 1_000) == ["new", "newer"]
    assert (looked.count("new"), looked.count("newer")) == (1, 1)
