"""`run_task` from the user's side: which task, which configuration, which folder, and who is told of its epochs."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from pydantic import BaseModel

from nngpt_ext import UserError, register_task, run_task
from nngpt_ext.registry import tasks
from tests.tasks.conftest import TASK


@pytest.fixture
def project(run, monkeypatch):
    """A project whose finished run is in the folder `run`."""
    (run.parent / "nngpt.yaml").write_text(
        yaml.safe_dump({"tasks": {"dataset_compare": {**TASK, "output_dir": "run"}}})
    )
    monkeypatch.chdir(run.parent)
    return run


def test_a_project_file_is_enough_and_a_finished_run_is_given_back(project, result):
    before = (project / "run.json").stat().st_mtime_ns
    again = run_task("dataset_compare")
    assert again.output_dir == Path("run")
    assert again.predictions.equals(result.predictions)
    assert isinstance(again.report.per_dataset, pd.DataFrame)
    assert (project / "run.json").stat().st_mtime_ns == before


def test_another_configuration_is_refused(project):
    with pytest.raises(UserError, match=r"belongs to another config \(tuning\.epochs 1 there, 2 now\)"):
        run_task("dataset_compare", tuning={"epochs": 2})


def test_without_a_configuration_it_says_where_to_write_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no configuration for 'dataset_compare': give a file .* nngpt.yaml"):
        run_task("dataset_compare")


class Settings(BaseModel):
    output_dir: str = "kept"


@pytest.fixture
def plugin(monkeypatch):
    """Two tasks of a plugin: one that reports epochs, and one of before there was `on_epoch`."""
    monkeypatch.setattr(tasks, "_items", dict(tasks._items))

    @register_task("old")
    class Old:
        name, Config = "old", Settings

        def run(self, config, output_dir, resume=False):
            return output_dir

    @register_task("new")
    class New:
        name, Config = "new", Settings

        def run(self, config, output_dir, resume=False, on_epoch=None):
            on_epoch([{"epoch": 1}])
            return output_dir


def test_a_task_that_reports_no_epochs_runs_without_on_epoch_only(plugin):
    assert run_task("old", {}) == Path("kept")
    with pytest.raises(UserError, match="task 'old' does not report epochs"):
        run_task("old", {}, on_epoch=print)


def test_on_epoch_reaches_the_task(plugin):
    told = []
    assert run_task("new", {}, output_dir="here", on_epoch=told.append) == Path("here")
    assert told == [[{"epoch": 1}]]


def test_all_names_that_nobody_knows_are_told_at_once(tmp_path):
    with pytest.raises(UserError) as told:
        run_task(
            "dataset_compare", {}, output_dir=tmp_path / "x", prompt="codeonly", tuning={"finetuner": "qlor"},
            model={"base": "embeded"},
        )  # fmt: skip
    assert all(f"'{name}'" in str(told.value) for name in ("codeonly", "qlor", "embeded"))
    assert not (tmp_path / "x").exists()
