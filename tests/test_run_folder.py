"""Whose a run folder is."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

import pytest
import yaml

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError
from nngpt_ext.io import file_digest
from nngpt_ext.run_folder import (
    claim,
    finishing,
    is_finished,
    read_adapter_file,
    read_config,
    read_record,
    read_table,
    same_inputs,
    versions,
    write_record,
)
from nngpt_ext.scoring.calibration import Calibration
from nngpt_ext.settings import build_config

CONFIG = TaskConfig(prompt="recipe")
Usage = namedtuple("Usage", "total used free")


def line(call, *arguments) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "a"


@pytest.fixture
def claimed(folder):
    claim(folder, CONFIG, resume=False)
    return folder


@pytest.mark.parametrize("resume", [False, True])
def test_fresh_folder_is_made_with_its_config(folder, resume):
    assert is_finished(folder, CONFIG, resume) is False
    assert not folder.parent.exists()  # looking makes nothing
    assert claim(folder, CONFIG, resume) is False
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    assert build_config(TaskConfig, yaml.safe_load((folder / "config.yaml").read_text())) == CONFIG


def test_a_key_that_an_older_version_did_not_have_was_its_default(claimed):
    file = claimed / "config.yaml"
    content = yaml.safe_load(file.read_text())
    assert (content["tuning"].pop("head"), content["tuning"].pop("offset")) == ("answer", "none")
    assert content.pop("networks") == {"run_code": "sandbox"}
    assert (content["data"].pop("sources"), content["data"].pop("evidence")["epochs"]) == ([], [])
    file.write_text(yaml.safe_dump(content))
    assert is_finished(claimed, CONFIG, resume=True) is False
    other = build_config(TaskConfig, {"prompt": "recipe", "tuning": {"head": "lines"}})
    assert "(tuning.head answer there, lines now)" in line(is_finished, claimed, other, True)
    del content["prompt"]  # whose default is another value than the run's
    file.write_text(yaml.safe_dump(content))
    assert "(prompt code_only there, recipe now)" in line(is_finished, claimed, CONFIG, True)


def test_empty_folder_is_taken(folder):
    folder.mkdir(parents=True)
    assert claim(folder, CONFIG, resume=False) is False


def test_what_was_killed_at_its_first_file_can_begin(folder):
    folder.mkdir(parents=True)
    (folder / ".config.yaml.4f1x").write_text("data")
    assert claim(folder, CONFIG, resume=False) is False
    assert (folder / "config.yaml").is_file()


def test_unfinished_run_goes_on_only_with_resume(claimed):
    assert line(claim, claimed, CONFIG, False) == (
        f"an unfinished run is in '{claimed}'; continue with resume=True, or give another one"
    )
    assert claim(claimed, CONFIG, resume=True) is False


@pytest.mark.parametrize("resume", [False, True])
def test_finished_run_is_told(claimed, resume):
    (claimed / "report.json").write_text("{}")
    assert claim(claimed, CONFIG, resume) is True
    assert is_finished(claimed, CONFIG, resume) is True


def test_where_results_go_does_not_make_another_config(claimed):
    moved = CONFIG.model_copy(update={"output_dir": "elsewhere", "store": None})
    assert claim(claimed, moved, resume=True) is False


def test_a_run_continues_on_another_device(claimed):
    """None stands for what suits the device; two numbers that somebody chose are another matter."""
    chosen = build_config(TaskConfig, {"tuning": {"row_tokens": 512, "gradient_checkpointing": True}})
    config = CONFIG.model_copy(update={"tuning": chosen.tuning})
    assert claim(claimed, config, resume=True) is False
    other = config.model_copy(update={"tuning": config.tuning.model_copy(update={"row_tokens": 256})})
    assert "(tuning.row_tokens 512 there, 256 now)" in line(claim, claimed, other, True)
    assert claim(claimed, CONFIG, resume=True) is False


def test_another_config_names_the_keys_that_differ(claimed):
    before = (claimed / "config.yaml").read_text()
    other = build_config(TaskConfig, {"prompt": "recipe", "tuning": {"epochs": 2}, "model": {"lora": {"r": 8}}})
    assert line(claim, claimed, other, True) == (
        f"the output folder '{claimed}' belongs to another config "
        "(model.lora.r None there, 8 now, tuning.epochs None there, 2 now); give another one"
    )
    assert (claimed / "config.yaml").read_text() == before


def test_many_differing_keys_are_counted(claimed):
    other = build_config(TaskConfig, {"data": {"epoch": 1, "seed": 2, "label": "percentile"}, "tuning": {"epochs": 2}})
    # The prompt differs too: five keys in all.
    assert " and 2 more); give another" in line(claim, claimed, other, True)


def test_keys_of_another_version_are_another_config(claimed):
    (claimed / "config.yaml").write_text((claimed / "config.yaml").read_text() + "new_key: 1\n")
    assert "(new_key 1 there, None now)" in line(claim, claimed, CONFIG, True)


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe\x00", b"", b"words"])
def test_damaged_config(claimed, content):
    (claimed / "config.yaml").write_bytes(content)
    assert line(claim, claimed, CONFIG, True).startswith(f"cannot read '{claimed / 'config.yaml'}': ")


def test_a_run_goes_on_only_with_what_it_began_with(claimed):
    same_inputs(claimed, {"pairs": "a", "base model": "b"})
    same_inputs(claimed, {"pairs": "a", "base model": "b"})
    assert line(same_inputs, claimed, {"pairs": "a", "base model": "c"}) == (
        f"the run in '{claimed}' cannot continue, because its base model changed since it started; "
        "give another one, or remove this folder"
    )
    assert "its pairs and base model changed" in line(same_inputs, claimed, {"pairs": "x", "base model": "c"})
    (claimed / "inputs.json").write_text("[1")
    assert "cannot read" in line(same_inputs, claimed, {"pairs": "a"})


def test_a_run_that_an_older_version_began_goes_on_and_is_held_from_then_on(claimed, caplog):
    same_inputs(claimed, {"pairs": "a"})
    same_inputs(claimed, {"pairs": "a"}, {"base model's tokenizer": "b"})
    assert caplog.messages == [
        f"the run in '{claimed}' was started by an older version, which recorded no base model's tokenizer"
    ]
    same_inputs(claimed, {"pairs": "a"}, {"base model's tokenizer": "b"})
    assert len(caplog.messages) == 1
    message = line(same_inputs, claimed, {"pairs": "a"}, {"base model's tokenizer": "c"})
    assert "its base model's tokenizer changed" in message
    assert "/inputs.json' does not say which prompt the run started with; give another one" in line(
        same_inputs, claimed, {"pairs": "a", "prompt": "p"}
    )


def test_folder_with_other_files(folder):
    folder.mkdir(parents=True)
    (folder / "thesis.tex").touch()
    assert line(claim, folder, CONFIG, True) == (f"the output folder '{folder}' has files but no run; give another one")
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way(folder):
    folder.parent.mkdir()
    folder.write_text("mine")
    assert line(claim, folder, CONFIG, False) == f"the output folder '{folder}' is a file; give another one"
    assert line(claim, folder / "inner", CONFIG, False) == (
        f"the output folder '{folder / 'inner'}' cannot be made, because '{folder}' is a file; give another one"
    )
    assert folder.read_text() == "mine"


def test_too_little_room(folder, monkeypatch):
    asked = []
    # No disk can be filled here.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or Usage(10**12, 10**12, 5 * 2**20))
    assert line(claim, folder, CONFIG, False) == (
        f"no space left on the disk for '{folder}': 5 MB free, 100 MB needed; free some or give another one"
    )
    assert asked == [folder.parent.parent]  # the nearest folder that exists
    assert not folder.parent.exists()


def test_record_comes_back(claimed):
    record = {"task": "dataset_compare", "versions": versions(), "umlaut": "ä"}
    write_record(claimed, record)
    assert read_record(claimed) == record | {"files": {"config.yaml": file_digest(claimed / "config.yaml")}}
    assert {"python", "torch", "nngpt-ext"} <= set(versions())
    assert json.loads((claimed / "run.json").read_text(encoding="utf-8"))["umlaut"] == "ä"


def test_no_record(claimed, tmp_path):
    assert line(read_record, claimed) == f"'{claimed}' has an unfinished run; to finish it, {finishing(claimed)}"
    assert line(read_record, tmp_path / "none") == f"no folder '{tmp_path / 'none'}'"
    (claimed / "run.json").write_text('{"task": ')
    assert line(read_record, claimed).startswith(f"cannot read '{claimed / 'run.json'}': ")
    (claimed / "run.json").write_text("[1]")
    assert line(read_record, claimed).startswith(f"cannot read '{claimed / 'run.json'}': ")
    (claimed / "run.json").write_text('{"task": "dataset_compare"}')
    assert line(read_record, claimed, ["task", "parts", "epochs"]) == (
        f"'{claimed / 'run.json'}' is damaged: it has no parts, epochs; run the task again"
    )
    assert line(read_config, tmp_path / "none").startswith("cannot read ")


# Hashes


@pytest.fixture
def finished(claimed):
    (claimed / "adapter").mkdir()
    for name in ("inputs.json", "baselines.parquet", "predictions.parquet", "adapter/task.json", "adapter/README.md"):
        (claimed / name).write_text(name)
    write_record(claimed, {"task": "dataset_compare"})
    (claimed / "report.json").write_text("{}")
    return claimed


CHECKED = ("config.yaml", "baselines.parquet", "adapter", "adapter/calibration.json")


def test_what_a_run_owns_is_recorded_and_read_again(finished):
    names = {"config.yaml", "inputs.json", "baselines.parquet", "predictions.parquet", "adapter/task.json"}
    assert set(read_record(finished, ["task"], CHECKED)["files"]) == names
    (finished / "adapter" / "README.md").write_text("the user's")
    (finished / "predictions.parquet").write_text("of no interest here")
    assert read_record(finished, ["task"], CHECKED)["task"] == "dataset_compare"


@pytest.mark.parametrize("name", ["config.yaml", "baselines.parquet", "adapter/task.json", "adapter/calibration.json"])
@pytest.mark.parametrize("damage", ["removed", "changed", "folder"])
def test_a_file_that_is_not_the_recorded_one(finished, name, damage):
    file = finished / name
    there = file.exists()
    file.unlink(missing_ok=True)
    if damage == "changed":
        file.write_text("x")
    elif damage == "folder":
        file.mkdir()
    if not there and damage == "removed":  # a run without validation pairs has no calibration
        assert read_record(finished, checked=CHECKED)
        return
    told = line(read_record, finished, (), CHECKED)
    what = "was changed or damaged after it was written" if damage == "changed" else "is missing or cannot be read"
    again = f"to make it again, remove '{finished / 'report.json'}' and {finishing(finished)}"
    advice = "restore it, or run the task again in another folder" if name == "config.yaml" else again
    assert told == f"'{file}' {what}; {advice}"


@pytest.mark.parametrize("change", [{"task": "other"}, {"files": {}}, {"more": 1}, {"sha256": None}])
def test_a_record_that_was_edited(finished, change):
    file = finished / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert line(read_record, finished).startswith(
        f"cannot read '{file}': it was changed or damaged after it was written; "
    )


def test_a_record_that_is_missing_beside_a_report(finished):
    (finished / "run.json").unlink()
    assert line(read_record, finished).startswith(f"'{finished / 'run.json'}' is missing; to make it again, remove ")


def test_a_run_of_an_older_version_is_not_checked_and_a_line_says_so(finished, caplog):
    (finished / "run.json").write_text('{"task": "dataset_compare"}')
    for _ in range(2):
        read_record(finished, checked=CHECKED)
    read_record(finished)
    assert caplog.messages == [
        f"the run in '{finished}' is of an older version, which recorded no hashes: its files are not checked"
    ]


@pytest.mark.parametrize("content", ["[" * 5000, '{"a":' * 5000, "[1]", "1", "null", "", "\x00", "a: !!int x"])
def test_whatever_a_file_holds_is_one_line(claimed, content):
    for name in ("config.yaml", "run.json", "inputs.json", "predictions.parquet"):
        (claimed / name).write_text(content)
    for call in (
        lambda: read_config(claimed / "config.yaml"), lambda: read_record(claimed), lambda: same_inputs(claimed, {}),
        lambda: read_table(claimed / "predictions.parquet"),
        lambda: read_adapter_file(claimed, "run.json", Calibration),
    ):  # fmt: skip
        assert f"'{claimed}" in line(call)


def test_a_folder_is_no_table(claimed):
    (claimed / "predictions.parquet").mkdir()
    assert line(read_table, claimed / "predictions.parquet").startswith("cannot read ")
