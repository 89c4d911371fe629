"""`run_task` from the user's side."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from nngpt_ext import PredictionStore, TaskConfig, UserError, register_finetuner, run_task
from nngpt_ext.evaluation.baselines import pair_prior
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.registry import finetuners
from nngpt_ext.settings import build_config
from nngpt_ext.tasks.pipeline import read_data
from nngpt_ext.tasks.reporting import rebuild_report

TEMPLATES = Path(str(files("nngpt_ext.prompts").joinpath("templates")))
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
    text = (project / "out" / "report.json").read_text()
    (project / "out" / "report.md").unlink()
    rebuild_report(project / "out")
    assert (project / "out" / "report.json").read_text() == text
    assert (project / "out" / "report.md").is_file()


def test_the_card_is_made_again_with_the_report(project, result):
    card = project / "out" / "adapter" / "README.md"
    text = card.read_text()
    card.unlink()
    rebuild_report(project / "out")
    assert card.read_text() == text


def test_a_run_whose_store_failed_is_not_finished(project, result, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(project / "out", copy)
    for name in ("report.json", "run.json", "predictions.db", "adapter/README.md"):
        (copy / name).unlink()
    monkeypatch.chdir(project)

    def full(*_, **__):
        raise UserError("the store is full")

    with monkeypatch.context() as patched:
        patched.setattr(PredictionStore, "add_run", full)
        with pytest.raises(UserError, match="the store is full"):
            run_task("dataset_compare", output_dir=copy, resume=True)
    with pytest.raises(UserError, match="an unfinished run: go on with --resume"):
        rebuild_report(copy)
    again = run_task("dataset_compare", output_dir=copy, resume=True)
    assert again.predictions["log_odds"].tolist() == result.predictions["log_odds"].tolist()
    assert (copy / "adapter" / "README.md").is_file()


def test_another_base_model_does_not_go_on_with_the_checkpoints(project, result, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(project / "out", copy)
    (copy / "report.json").unlink()
    began = json.loads((copy / "inputs.json").read_text())
    (copy / "inputs.json").write_text(json.dumps({**began, "base model": "another"}))
    monkeypatch.chdir(project)
    with pytest.raises(UserError, match="begun with other base model"):
        run_task("dataset_compare", output_dir=copy, resume=True)


def test_a_base_that_was_changed_between_is_not_gone_on_with(tmp_path, monkeypatch):
    """A run on a folder whose configuration is edited; the weights stay."""
    base = Path(shutil.copytree(EMBEDDED, tmp_path / "base"))
    monkeypatch.chdir(tmp_path)
    model = {"base": str(base)}
    first = run_task("dataset_compare", TASK, model=model, output_dir="run")
    record = json.loads(Path("run/run.json").read_text())["base_model"]
    assert json.loads(Path("run/adapter/nngpt_ext.json").read_text())["base_identity"] == record["identity"]
    inputs = Path("run/inputs.json")
    older = {k: v for k, v in json.loads(inputs.read_text()).items() if not k.startswith("base model's ")}
    assert set(older) == {"pairs", "sources", "prompt", "base model"}
    inputs.write_text(json.dumps(older))
    Path("run/report.json").unlink()
    again = run_task("dataset_compare", TASK, model=model, output_dir="run", resume=True)
    assert again.predictions["log_odds"].tolist() == first.predictions["log_odds"].tolist()
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    Path("run/report.json").unlink()
    with pytest.raises(UserError, match="was begun with other base model's configuration;"):
        run_task("dataset_compare", TASK, model=model, output_dir="run", resume=True)


def test_a_prompt_file_that_was_changed_is_another_run(project, result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    template = json.loads((TEMPLATES / "recipe.json").read_text())
    Path("mine.json").write_text(json.dumps(template))
    run_task("dataset_compare", TASK, prompt="mine.json", output_dir="run")
    template["recipe"]["prompt"][-1] += " "
    Path("mine.json").write_text(json.dumps(template))
    for left_out in ("", "report.json"):  # finished, and to go on with
        Path("run", left_out).unlink() if left_out else None
        with pytest.raises(UserError, match="was begun with other prompt;"):
            run_task("dataset_compare", TASK, prompt="mine.json", output_dir="run", resume=True)


def test_a_diverged_training_says_what_to_lower(tmp_path):
    with pytest.raises(UserError, match=r"training diverged at step \d+ .*: lower tuning.learning_rate \(now 1e\+30\)"):
        run_task("dataset_compare", TASK, output_dir=tmp_path / "run", tuning={"learning_rate": 1e30, "epochs": 3})


def test_what_training_drew_is_said(result, tmp_path):
    assert not any(note.startswith("Training drew ") for note in result.report.notes)
    found = run_task("dataset_compare", TASK, output_dir=tmp_path / "run", data={"pairs_per_network": 2})
    (note,) = (note for note in found.report.notes if note.startswith("Training drew "))
    assert note.startswith(f"Training drew 6 pairs over all epochs from the {found.report.n_train_pairs:,} training")


def test_a_finetuner_may_keep_its_adapter_elsewhere(project, result, tmp_path, monkeypatch):
    """One that keeps no history and knows nothing of notes: its adapter is asked all the same."""

    def elsewhere(base, examples, validation, config, output_dir):
        made = tmp_path / "made"
        made.mkdir(exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(project / "out" / "adapter" / name, made / name)
        return made

    monkeypatch.setattr(finetuners, "_items", dict(finetuners._items))
    register_finetuner("elsewhere")(elsewhere)
    config = {**TASK, "tuning": {**TASK["tuning"], "finetuner": "elsewhere"}}
    found = run_task("dataset_compare", config, output_dir=tmp_path / "run")
    assert found.report.selected_epoch is None
    assert found.adapter == tmp_path / "run" / "adapter"
    same = found.predictions["log_odds"].to_numpy() - result.predictions["log_odds"].to_numpy()
    assert abs(same).max() < 1e-5


def test_whoever_runs_it_is_told_of_each_epoch_with_the_prior(tmp_path):
    told = []
    config = {**TASK, "tuning": {**TASK["tuning"], "epochs": 2}}
    found = run_task("dataset_compare", config, output_dir=tmp_path / "run", on_epoch=lambda h: told.append(list(h)))
    assert [[entry["epoch"] for entry in history] for history in told] == [[1], [1, 2]]
    assert [entry["validation_accuracy"] for entry in told[-1]] == [e.validation_accuracy for e in found.report.epochs]
    pairs = read_data(build_config(TaskConfig, config))
    validation = pairs.part("validation")
    first = (validation["better_dataset"] == validation["dataset_1"]).to_numpy()
    prior = pair_prior(pairs.part("train"), validation)
    for entry in told[-1]:
        assert entry["validation_prior_accuracy"] == pytest.approx(((prior >= 0.5) == first).mean())
        right = np.where(first, prior, 1 - prior)
        assert entry["validation_prior_log_loss"] == pytest.approx(-np.log(right).mean())


def test_baselines_of_other_pairs_are_refused(project, result, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project / "out", copy)
    baselines = pd.read_parquet(copy / "baselines.parquet")
    baselines.iloc[1:].to_parquet(copy / "baselines.parquet", index=False)
    with pytest.raises(UserError, match=r"baselines\.parquet' is of other pairs"):
        rebuild_report(copy)


def test_all_names_that_nobody_knows_are_told_at_once(tmp_path):
    with pytest.raises(UserError) as told:
        run_task(
            "dataset_compare", {}, output_dir=tmp_path / "x", prompt="codeonly", tuning={"finetuner": "qlor"},
            model={"base": "embeded"},
        )  # fmt: skip
    assert all(f"'{name}'" in str(told.value) for name in ("codeonly", "qlor", "embeded"))
    assert not (tmp_path / "x").exists()


def test_all_trials_train_and_best_trials_test(result):
    assert result.report.n_train_pairs > 3 * 21
    assert any("all trials" in note for note in result.report.notes)
