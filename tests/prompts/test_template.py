"""Templates are filled strictly, and files that do not fit are refused with all their faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.io import digest
from nngpt_ext.prompts.template import Messages, Template, checked, load_template

COLUMNS = {"one": "dataset", "two": "dataset_2"}


def entry(**changes: Any) -> dict[str, Any]:
    """A small prompt in NNGPT's format."""
    inputs = [{"para": variable, "value": column} for variable, column in COLUMNS.items()]
    return {"system": ["Be", "brief."], "prompt": ["{one}", "or {two}?"], "input_list": inputs, **changes}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_fills_by_column() -> None:
    template = Template("t", "About {one}.", "{one} or {two}? {{plain}}", COLUMNS)
    messages = template.fill({"dataset": "mnist", "dataset_2": "svhn", "epoch": None})
    assert messages.system == "About mnist."
    assert messages.user == "mnist or svhn? {plain}"


def test_names_all_missing_columns_at_once() -> None:
    columns = {**COLUMNS, "source": "nn_code", "when": "epoch", "acc": "norm_acc"}
    template = Template("full", "", "{source} {when} {acc} {one} {two}", columns)
    with pytest.raises(UserError) as caught:
        template.fill({"dataset": "mnist", "nn_code": None, "epoch": 5})
    assert str(caught.value) == "prompt 'full' needs dataset_2, nn_code, norm_acc, which was not given"


def test_values_that_are_false_are_given() -> None:
    template = Template("t", "", "{one} {two} {acc} {code}|", {**COLUMNS, "acc": "norm_acc", "code": "nn_code"})
    assert template.fill({"dataset": "a", "dataset_2": "b", "norm_acc": 0.0, "nn_code": ""}).user == "a b 0.0 |"


def test_needs_asks_for_columns_not_variables() -> None:
    template = Template("t", "", "{one} {two}", COLUMNS)
    assert template.needs("dataset")
    assert not template.needs("one")


def test_braces_in_values_stay() -> None:
    template = Template("t", "", "{code}\n{one} {two}", {**COLUMNS, "code": "nn_code"})
    code = "x = {'lr': f'{a}'}  # {one} {{}} {unknown"
    assert template.fill({"nn_code": code, "dataset": "a", "dataset_2": "b"}).user == f"{code}\na b"


def test_names_all_faults_at_once() -> None:
    columns = {**COLUMNS, "spare": "epoch", "odd": "colour", "even": "smell"}
    with pytest.raises(UserError) as caught:
        checked(Template("bad", "{unknown_a}", "{unknown_b} {one} {two} {odd} {even}", columns))
    message = str(caught.value)
    assert message.startswith("prompt 'bad': ")
    assert "variable {unknown_a} is not in input_list" in message
    assert "variable {unknown_b} is not in input_list" in message
    assert "input_list has {spare}, which the text does not use" in message
    assert "unknown column 'colour' for {odd}" in message
    assert "unknown column 'smell' for {even}" in message
    assert "nn_code" in message  # the known columns are listed


def test_accuracies_can_be_rounded() -> None:
    template = checked(Template("t", "{acc:.2f}", "{one} {two} {acc}", {**COLUMNS, "acc": "norm_acc"}))
    assert template.fill({"dataset": "a", "dataset_2": "b", "norm_acc": 0.126}) == Messages("0.13", "a b 0.126")
    for form in (":.99f", ":9.3f", ":d", "!r", ":.3e", ":.{one}f"):
        with pytest.raises(
            UserError, match=r"has a format: write \{acc\}; only accuracies can be rounded, as \{x:.3f\}"
        ):
            checked(Template("t", f"{{acc{form}}}", "{one} {two}", {**COLUMNS, "acc": "norm_acc"}))


@pytest.mark.parametrize("form", [":d", ":>9", "!r", "!s:x", ":{one}", ":.3f"])
def test_a_format_is_refused_when_the_prompt_is_read(form: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        checked(Template("t", "{two}", f"{{one{form}}}", COLUMNS))
    assert "has a format: write {one}" in str(caught.value)
    with pytest.raises(UserError, match="has a format"):
        load_template(write(tmp_path / "p.json", {"mine": entry(prompt=[f"{{one{form}}}", "{two}"])}))


@pytest.mark.parametrize("text", ["{one} {two} {}", "{one} {two} {one.real}", "{one} {two} {one[0]}"])
def test_unusual_fields_are_unknown_variables(text: str) -> None:
    with pytest.raises(UserError, match="is not in input_list"):
        checked(Template("t", "", text, COLUMNS))


def test_both_datasets_must_be_shown() -> None:
    with pytest.raises(UserError, match="dataset and dataset_2 must both be shown"):
        checked(Template("t", "", "{one}", {"one": "dataset"}))


def test_unmatched_braces_are_explained() -> None:
    with pytest.raises(UserError, match=r"braces do not match.*\{\{ or \}\}"):
        checked(Template("t", "", "{one} {two} {", COLUMNS))


def test_loads_a_file(tmp_path: Path) -> None:
    template = load_template(write(tmp_path / "p.json", {"mine": entry()}))
    assert template == Template("mine", "Be\nbrief.", "{one}\nor {two}?", COLUMNS)


def test_loads_one_of_several(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", {"a": entry(), "b": entry(prompt=["{two} / {one}"])})
    assert load_template(path, "b").prompt == "{two} / {one}"
    with pytest.raises(UserError, match="must contain one prompt"):
        load_template(path)
    with pytest.raises(UserError, match="must contain a prompt 'c'"):
        load_template(path, "c")


def test_system_text_may_be_absent(tmp_path: Path) -> None:
    content = entry()
    del content["system"]
    assert load_template(write(tmp_path / "p.json", {"x": content})).system == ""


@pytest.mark.parametrize(
    "content",
    [
        "{",
        [],
        {"x": []},
        {"x": {"prompt": ["{one}"]}},
        {"x": entry(input_list=[{"para": "one"}])},
        {"x": entry(prompt=[1, 2])},
        {"x": entry(prompt="{one} or {two}?")},  # would be one character a line
        {"x": entry(system=None)},
        {"x": entry(input_list=[{"para": "one", "value": {}}, {"para": "two", "value": []}])},
        {"x": entry(input_list=[{"para": ["one"], "value": "dataset"}])},
        {"x": entry(input_list={"one": "dataset"})},
        {"x": entry(input_list=["one"])},
        "[" * 3000,
        '{"x":' * 3000,
        '{"a": "\\ud800"}',
        "9" * 5000,
    ],
)
def test_files_in_another_format_are_refused(tmp_path: Path, content: Any) -> None:
    path = write(tmp_path / "p.json", content)
    with pytest.raises(UserError) as caught:
        load_template(path)
    assert str(path) in str(caught.value)
    assert "Error" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", "\ufeff" + json.dumps({"mine": entry()}))
    assert load_template(path) == Template("mine", "Be\nbrief.", "{one}\nor {two}?", COLUMNS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the prompt file '.*gone\.json'"):
        load_template(tmp_path / "gone.json")


def lined(tmp_path: Path, **changes: Any) -> Template:
    """A prompt with lines; changes are of these."""
    columns = {"code": "nn_code", "one": "dataset", "recipe_1": "recipe_1", "two": "dataset_2"}
    inputs = [{"para": variable, "value": column} for variable, column in columns.items()]
    lines = {"system": ["Rate."], "prompt": ["{code}", "How high?"], "line": ["{one}: {recipe_1}"], **changes}
    made = entry(prompt=["{code}", "{one} or {two}?"], input_list=inputs, lines=lines)
    return load_template(write(tmp_path / "lined.json", {"lined": made}))


def test_a_line_is_filled_for_each_dataset(tmp_path: Path) -> None:
    template = lined(tmp_path)
    lines = template.lines
    assert lines is not None
    assert template.columns == {"code": "nn_code", "one": "dataset", "two": "dataset_2"}
    assert lines.columns == {"code": "nn_code", "one": "dataset", "recipe_1": "recipe_1"}
    assert not template.needs("recipe_1")
    assert lines.shown == {"nn_code", "dataset", "dataset_2", "recipe_1", "recipe_2"}
    values = {"nn_code": "x", "dataset": "svhn", "dataset_2": "mnist", "recipe_1": "lr 1e-3", "recipe_2": "lr 1e-2"}
    assert lines.fill_lines(values) == (
        Messages("Rate.", "x\nHow high?\nsvhn: lr 1e-3"),
        Messages("Rate.", "x\nHow high?\nmnist: lr 1e-2"),
    )
    assert lines.fill(values) == Messages("Rate.", "x\nHow high?\nsvhn: lr 1e-3\nmnist: lr 1e-2")
    with pytest.raises(UserError, match=r"^prompt 'lined' needs recipe_2, which was not given$"):
        lines.fill_lines({**values, "recipe_2": None})


def test_a_line_does_not_change_the_hash_of_the_question(tmp_path: Path) -> None:
    """Runs of older versions recorded it, and continue only with the same."""
    template, other = lined(tmp_path), lined(tmp_path, line=["{one} {recipe_1}"])
    assert template.hash == digest(["lined", "Be\nbrief.", "{code}\n{one} or {two}?", template.columns])
    assert template.hash == other.hash
    assert template.lines is not None
    assert other.lines is not None
    assert len({template.hash, template.lines.hash, other.lines.hash}) == 3


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"line": ["{one} {two}"]}, "{two} is dataset_2, and a line shows values of the first dataset only: dataset, "),
        ({"line": ["{one} {code}"]}, "{code} is nn_code, and a line shows values of the first dataset only: dataset, "),
        ({"line": ["{recipe_1}"]}, "the line must show the column dataset"),
        ({"line": [""]}, "the line must show the column dataset"),
        ({"line": ["{one} {lr}"]}, "variable {lr} is not in input_list"),
        ({"prompt": ["{one}"]}, "{one} is dataset, and lines share values of the network only: epoch, nn, nn_code"),
    ],
)
def test_what_a_line_may_not_show(tmp_path: Path, changes: Any, fault: str) -> None:
    with pytest.raises(UserError) as told:
        lined(tmp_path, **changes)
    assert str(told.value).startswith(f"the lines of prompt 'lined': {fault}")
    assert "\n" not in str(told.value)


def test_an_unknown_key_of_lines_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key 'lines\.lines' \(did you mean 'lines'\?\)"):
        lined(tmp_path, lines=["{one}"])
