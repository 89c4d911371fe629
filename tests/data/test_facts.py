"""Facts of datasets: LEMUR's table, a user's file, and further facts in prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts, facts_of, read_facts
from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError
from nngpt_ext.prompts.fields import Question, Shown, column_values
from nngpt_ext.prompts.template import Template, checked
from tests.data.small import one_line

FLOWERS = (
    "flowers: {train_images: 1020, image_size: 224, channels: 3, classes: 102, class_balance: 0.5, kind: plants}\n"
)
BALANCE = Template(
    "t", "", "{a}, {x} or {b}, {y}?",
    {"a": "dataset", "b": "dataset_2", "x": "fact_class_balance_1", "y": "fact_class_balance_2"},
)  # fmt: skip


def test_a_file_of_facts(tmp_path: Path) -> None:
    (tmp_path / "datasets.yaml").write_text(FLOWERS)
    found = read_facts(tmp_path / "datasets.yaml")["flowers"]
    assert found == DatasetFacts(1020, 224, 3, 102, {"class_balance": 0.5, "kind": "plants"})
    assert facts_of("flowers", found.by_name()) == found
    assert found.values() == [1020, 224, 3, 102, ("class_balance", 0.5), ("kind", "plants")]
    assert LEMUR_FACTS["mnist"].values() == [60_000, 28, 1, 10]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no datasets"),
        ("flowers: 3", "facts of 'flowers' are"),
        ("flowers: {train_images: 1020}", "image_size, channels, classes missing"),
        (FLOWERS.replace("1020", "0"), "four positive integers"),
        (FLOWERS.replace("plants", "[1]"), "'kind' must be a number or a short text"),
        (FLOWERS.replace("0.5", ".nan"), "'class_balance' must be a number"),
        (FLOWERS.replace("kind", "of plants"), "'of plants' must be"),
        ("flowers: {", "is not YAML"),
    ],
)
def test_a_faulty_file_is_refused(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "datasets.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_facts(tmp_path / "datasets.yaml")
    assert fault in one_line(error.value)


def test_a_prompt_shows_further_facts() -> None:
    facts = {"flowers": DatasetFacts(1, 1, 1, 1, {"class_balance": 0.12345}), "svhn": LEMUR_FACTS["svhn"]}
    question = Question.of("n", "flowers", "svhn")
    values = column_values(Shown(question, None, None, facts), checked(BALANCE).shown)
    assert values["fact_class_balance_1"] == "0.123"
    assert values["fact_class_balance_2"] is None
    assert BALANCE.needs_facts
    assert BALANCE.required == {"fact_class_balance"}
    line = Template("t", "", "Which?", {"a": "dataset", "x": "fact_class_balance_1"}, "{a} {x}")
    assert checked(line).needs_facts
    with pytest.raises(UserError, match="unknown column 'fact_x'"):
        checked(Template("t", "", "{a}{b}{x}", {"a": "dataset", "b": "dataset_2", "x": "fact_x"}))


def test_trials_without_what_the_prompt_shows_are_left_out_and_counted(tree: Path, tmp_path: Path) -> None:
    known = ("cifar-10", "mnist", "svhn")
    lines = [f"{n}: {{{', '.join(f'{k}: {v}' for k, v in LEMUR_FACTS[n].by_name().items())}, odd: 1}}\n" for n in known]
    (tmp_path / "datasets.yaml").write_text("".join(lines))
    config = DataConfig(path=str(tree), facts=str(tmp_path / "datasets.yaml"))
    whole, data = load_pairs(config), load_pairs(config, required={"fact_odd", "lr"})
    assert set(data.pairs["dataset_1"]) | set(data.pairs["dataset_2"]) == set(known)
    assert set(whole.pairs["dataset_1"]) > {"celeba-gender"}
    assert list(data.excluded) == ["no fact odd of the dataset, which the prompt shows"]
    with pytest.raises(UserError, match="no trial can be used: no fact even of the dataset"):
        load_pairs(config, required={"fact_even"})
