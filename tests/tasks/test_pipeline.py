"""`run_task` from the user's side."""

import pandas as pd
import pytest
import yaml

from nngpt_ext import PredictionStore, UserError, run_task

TASK = {
    "prompt": "recipe",
    "model": {"base": "embedded"},
    "data": {"train_networks": 3, "validation_networks": 2, "test_networks": 3, "code_tokens": 32, "trials": "all"},
    "tuning": {"epochs": 1, "learning_rate": 1e-3},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "nngpt.yaml").write_text(yaml.safe_dump({"tasks": {"dataset_compare": {**TASK, "output_dir": "out"}}}))
    return folder


@pytest.fixture(scope="module")
def result(project):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        return run_task("dataset_compare")


def test_a_project_file_is_enough(project, result):
    assert (project / "out" / "report.json").is_file()
    assert result.report.prompt == "recipe"
    assert result.report.n_test_networks == 3


def test_per_dataset_is_a_table(result):
    table = result.report.per_dataset
    assert isinstance(table, pd.DataFrame)
    assert len(table) >= 2


def test_finished_run_is_given_back(project, result, monkeypatch):
    monkeypatch.chdir(project)
    before = (project / "out" / "run.json").stat().st_mtime_ns
    again = run_task("dataset_compare")
    assert again.predictions.equals(result.predictions)
    assert (project / "out" / "run.json").stat().st_mtime_ns == before


def test_another_configuration_is_refused(project, result, monkeypatch):
    monkeypatch.chdir(project)
    with pytest.raises(UserError, match=r"belongs to another config \(tuning\.epochs 1 there, 2 now\)"):
        run_task("dataset_compare", tuning={"epochs": 2})


def test_predictions_are_in_the_store(project, result):
    with PredictionStore.open(f"sqlite:///{project / 'out' / 'predictions.db'}") as store:
        assert len(store.query()) == len(result.predictions)
        nn = result.predictions["nn"].iloc[0]
        assert set(store.query(nn=nn)["nn"]) == {nn}


def test_report_is_rebuilt_from_the_predictions(project, result):
    from nngpt_ext.tasks.reporting import rebuild_report

    text = (project / "out" / "report.json").read_text()
    (project / "out" / "report.md").unlink()
    rebuild_report(project / "out")
    assert (project / "out" / "report.json").read_text() == text
    assert (project / "out" / "report.md").is_file()


def test_all_trials_train_and_best_trials_test(result):
    assert result.report.n_train_pairs > 3 * 21
    assert any("all trials" in note for note in result.report.notes)
