"""A run from records to store: what it may go on from, and what it never writes to."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from transformers import TrainerCallback

from nngpt_ext import PredictionStore, RunResult, TaskConfig, UserError
from nngpt_ext.config import ModelConfig
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.evaluation.baselines import pair_prior
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.run_folder import finishing, read_config
from nngpt_ext.settings import build_config, read_project
from nngpt_ext.tasks import pipeline
from nngpt_ext.tasks.pipeline import Loader, _check_links, run_pipeline
from nngpt_ext.tasks.reporting import rebuild_report
from nngpt_ext.tuning.history import read_history
from nngpt_ext.tuning.trackers import guard_trackers
from tests.export.conftest import tree
from tests.predict.conftest import older
from tests.tasks.conftest import LOADER, TASK, line, resume, truncate, with_pairs

TEMPLATES = Path(str(files("nngpt_ext.prompts").joinpath("templates")))


def test_predictions_are_in_the_store(result: RunResult) -> None:
    with PredictionStore.open(f"sqlite:///{result.output_dir / 'predictions.db'}") as store:
        assert len(store.query()) == len(result.predictions)
        nn = result.predictions["nn"].iloc[0]
        assert set(store.query(nn=nn)["nn"]) == {nn}


def test_a_run_whose_store_failed_is_not_finished(
    unfinished: Path, result: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    (unfinished / "adapter" / "README.md").unlink()

    def full(*_: Any, **__: Any) -> None:
        raise UserError("the store is full")

    with monkeypatch.context() as patched:
        patched.setattr(PredictionStore, "add_run", full)
        assert line(resume, unfinished) == "the store is full"
    assert "has an unfinished run; to finish it, call run_task(" in line(rebuild_report, unfinished)
    again = resume(unfinished)
    assert again.predictions["log_odds"].tolist() == result.predictions["log_odds"].tolist()
    assert (unfinished / "adapter" / "README.md").is_file()


@pytest.mark.parametrize("name", ["base model", "dataset facts"])
def test_a_run_continues_only_with_its_own_inputs(unfinished: Path, name: str) -> None:
    recorded = json.loads((unfinished / "inputs.json").read_text())
    (unfinished / "inputs.json").write_text(json.dumps({**recorded, name: "another"}))
    assert f"its {name} changed" in line(resume, unfinished)


def test_a_base_that_was_changed_between_is_not_gone_on_with(result: RunResult, tmp_path: Path) -> None:
    """A run on a folder whose configuration is edited; the weights stay."""
    base = shutil.copytree(EMBEDDED, tmp_path / "base")
    run, model = tmp_path / "run", {"base": str(base)}
    first = resume(run, with_pairs(), model=model)
    record = json.loads((run / "run.json").read_text())["base_model"]
    assert json.loads((run / "adapter" / "nngpt_ext.json").read_text())["base_identity"] == record["identity"]
    inputs = json.loads((run / "inputs.json").read_text())
    older = {name: sha256 for name, sha256 in inputs.items() if not name.startswith(("base model's ", "dataset "))}
    assert set(older) == {"pairs", "sources", "prompt", "base model"}
    (run / "inputs.json").write_text(json.dumps(older))
    (run / "report.json").unlink()
    again = resume(run, with_pairs(), model=model)
    assert again.predictions["log_odds"].tolist() == first.predictions["log_odds"].tolist()
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    (run / "report.json").unlink()
    assert "its base model's configuration changed" in line(lambda: resume(run, with_pairs(), model=model))


def test_a_prompt_file_that_was_changed_is_another_run(result: RunResult, tmp_path: Path) -> None:
    file, run = tmp_path / "mine.json", tmp_path / "run"
    template = json.loads((TEMPLATES / "recipe.json").read_text())
    file.write_text(json.dumps(template))
    resume(run, prompt=str(file))
    template["recipe"]["prompt"][-1] += " "
    file.write_text(json.dumps(template))
    assert "its prompt changed" in line(lambda: resume(run, prompt=str(file)))
    (run / "report.json").unlink()
    assert "its prompt changed" in line(lambda: resume(run, prompt=str(file)))


def test_a_diverged_training_says_what_to_lower(tmp_path: Path) -> None:
    told = line(lambda: resume(tmp_path / "run", tuning={"learning_rate": 1e30, "epochs": 3}))
    assert re.match(r"training diverged at step \d+ .*: lower tuning.learning_rate \(now 1e\+30\)", told)


def test_whoever_runs_it_is_told_of_each_epoch_with_the_prior(tmp_path: Path) -> None:
    told: list[list[Any]] = []
    config = build_config(TaskConfig, {**TASK, "tuning": {**TASK["tuning"], "epochs": 2}})
    found = run_pipeline(config, tmp_path / "run", False, LOADER, on_epoch=lambda h: told.append(list(h)))
    assert [[entry["epoch"] for entry in history] for history in told] == [[1], [1, 2]]
    assert [entry["validation_accuracy"] for entry in told[-1]] == [e.validation_accuracy for e in found.report.epochs]
    pairs = LOADER.data(config.data)
    validation = pairs.part("validation")
    first = (validation["better_dataset"] == validation["dataset_1"]).to_numpy()
    prior = pair_prior(pairs.part("train"), validation)
    for entry in told[-1]:
        assert entry["validation_prior_accuracy"] == pytest.approx(((prior >= 0.5) == first).mean())
        right = np.where(first, prior, 1 - prior)
        assert entry["validation_prior_log_loss"] == pytest.approx(-np.log(right).mean())


@pytest.mark.parametrize("name", ["optimizer.pt", "adapter_model.safetensors", "../history.json"])
def test_damaged_checkpoints_of_a_run(
    unfinished: Path, result: RunResult, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Of the only epoch the adapter must be whole; no training goes on from it."""
    (checkpoint,) = (unfinished / "checkpoints").glob("checkpoint-*")
    truncate(checkpoint / name)
    with caplog.at_level(logging.WARNING, logger="nngpt_ext"):
        found = resume(unfinished)
    assert found.predictions.equals(result.predictions)
    assert sum("is damaged" in message for message in caplog.messages) == (name != "optimizer.pt")
    assert json.loads((unfinished / "run.json").read_text())["epochs"] == json.loads(
        (result.output_dir / "run.json").read_text()
    )["epochs"]  # fmt: skip


def test_a_half_written_adapter_is_written_again(unfinished: Path, result: RunResult) -> None:
    truncate(unfinished / "adapter" / "adapter_model.safetensors")
    (unfinished / "adapter" / "adapter_config.json").unlink()
    assert resume(unfinished).predictions.equals(result.predictions)


def test_damaged_baselines_are_computed_again(unfinished: Path, result: RunResult) -> None:
    file = unfinished / "baselines.parquet"
    whole = pd.read_parquet(file)
    truncate(file)
    assert resume(unfinished).report.baselines == result.report.baselines
    assert pd.read_parquet(file).equals(whole)


@pytest.mark.parametrize("damage", [Path.unlink, truncate])
def test_what_a_run_began_with_must_be_known(unfinished: Path, damage: Callable[[Path], None]) -> None:
    damage(unfinished / "inputs.json")
    before = tree(unfinished / "checkpoints")
    told = line(resume, unfinished)
    assert f"'{unfinished / 'inputs.json'}'" in told
    assert told.endswith("; give another one, or remove this folder")
    assert tree(unfinished / "checkpoints") == before


def test_a_finished_run_needs_no_inputs(run: Path, result: RunResult) -> None:
    (run / "inputs.json").unlink()
    assert resume(run).predictions.equals(result.predictions)
    assert not (run / "inputs.json").exists()


@pytest.mark.parametrize(
    "name",
    [
        "predictions.parquet", "baselines.parquet", "run.json", "adapter/calibration.json", "adapter/tokenizer.json",
        "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter/nngpt_ext.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("damage", [Path.unlink, truncate])
def test_a_damaged_file_says_how_to_make_it_again(
    run: Path, result: RunResult, name: str, damage: Callable[[Path], None]
) -> None:
    report = run / "report.json"
    damage(run / name)
    told = line(resume, run)
    assert f"'{run / name}'" in told
    assert told.endswith(f"; to make it again, remove '{report}' and {finishing(run)}")
    if name != "adapter/tokenizer.json":  # the advice is the same
        report.unlink()
        assert resume(run).predictions.equals(result.predictions)
        assert rebuild_report(run).accuracy == result.report.accuracy


def test_a_finished_run_of_an_older_version_is_told_with_one_line(
    run: Path, result: RunResult, caplog: pytest.LogCaptureFixture
) -> None:
    older(run)
    for _ in range(2):
        assert resume(run).predictions.equals(result.predictions)
        assert rebuild_report(run).accuracy == result.report.accuracy
    (told,) = caplog.messages
    assert told == f"the run in '{run}' is of an older version, which recorded no hashes: its files are not checked"


def test_what_a_killed_process_left_in_the_folder_goes_with_the_next(unfinished: Path) -> None:
    for name in ("config.yaml", "baselines.parquet", "predictions.parquet", "run.json", "report.json", "report.html"):
        (unfinished / f".{name}.a1b2c3d4.tmp").write_text("half")
    for name in (".adapter.a1b2c3d4.tmp", ".adapter.a1b2c3d4.tmp.former"):
        shutil.copytree(unfinished / "adapter", unfinished / name)
    for place in unfinished.glob(".*"):
        os.utime(place, (0, 0))
    resume(unfinished)
    assert [file.name for file in unfinished.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["adapter", "checkpoints"])
def test_a_run_never_follows_a_link(unfinished: Path, mine: Path, name: str) -> None:
    shutil.rmtree(unfinished / name)
    (unfinished / name).symlink_to(mine)
    (unfinished / "baselines.parquet").unlink()
    before, own = tree(mine), tree(unfinished)
    assert f"'{unfinished / name}' leads to '{mine}', outside" in line(resume, unfinished)
    assert tree(mine) == before
    assert tree(unfinished) == own


@pytest.mark.parametrize("there", [True, False])
def test_a_store_never_follows_a_link(unfinished: Path, tmp_path: Path, there: bool) -> None:
    victim, name = tmp_path / "victim", "predictions.db"
    if there:
        victim.write_bytes(b"")
    (unfinished / name).symlink_to(victim)
    assert f"'{unfinished / name}' leads to '{victim}', outside" in line(resume, unfinished)
    assert victim.exists() == there
    assert not there or victim.read_bytes() == b""


@pytest.mark.parametrize(
    "form", ["sqlite:///{folder}/sub/../predictions.db", "sqlite+pysqlite:///{folder}/./predictions.db"]
)
def test_a_store_in_the_folder_is_found_however_it_is_written(tmp_path: Path, form: str) -> None:
    folder, victim = tmp_path / "run", tmp_path / "victim"
    (folder / "sub").mkdir(parents=True)
    (folder / "predictions.db").symlink_to(victim)
    config = build_config(TaskConfig, {"store": form.format(folder=folder)}).resolved(folder)
    with pytest.raises(UserError, match=r"predictions\.db' leads to '.*victim', outside"):
        _check_links(config, folder)


def test_a_linked_file_is_replaced_and_what_it_leads_to_stays(unfinished: Path, mine: Path) -> None:
    names = (
        "config.yaml", "inputs.json", "baselines.parquet", "predictions.parquet", "run.json", "report.json",
        "report.md", "report.html", "adapter/README.md", "adapter/task.json", "checkpoints/history.json",
    )  # fmt: skip
    for number, name in enumerate(names):
        file, target = unfinished / name, mine / f"{number}"
        shutil.move(file, target) if file.exists() else target.write_text("mine")
        if name != "report.json":  # with it the run would be finished
            file.symlink_to(target)
    before = tree(mine)
    resume(unfinished)
    assert tree(mine) == before


def test_a_folder_that_is_a_link_and_links_within_it(unfinished: Path, result: RunResult, tmp_path: Path) -> None:
    for name in ("adapter", "checkpoints"):
        (unfinished / name).rename(unfinished / f"{name}.kept")
        (unfinished / name).symlink_to(f"{name}.kept")
    (tmp_path / "latest").symlink_to(unfinished)
    assert resume(tmp_path / "latest").predictions.equals(result.predictions)
    rebuild_report(tmp_path / "latest")
    assert not [file for file in unfinished.iterdir() if file.name.startswith(".")]


def test_a_link_that_leads_to_itself(unfinished: Path) -> None:
    shutil.rmtree(unfinished / "adapter")
    (unfinished / "adapter").symlink_to(unfinished / "adapter")
    assert "leads to itself" in line(resume, unfinished)


# What runs share

FEW = DataConfig.model_validate(TASK["data"])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read, split or fitted, in name only."""
    seen: list[str] = []
    for name in ("read_records", "load_pairs", "baseline_probabilities"):

        def counted(*_: Any, name: str = name) -> object:
            seen.append(name)
            return object()

        monkeypatch.setattr(pipeline, name, counted)
    return seen


def test_records_are_read_once_and_the_last_pairs_kept(calls: list[str]) -> None:
    loader = Loader()
    data = loader.data(FEW)
    shown = FEW.model_copy(update={"code_tokens": 64, "pairs_per_network": 3})
    assert loader.data(shown) is data  # what is shown and drawn does not change the pairs
    loader.data(FEW.model_copy(update={"seed": 1}))
    assert loader.data(FEW) is not data
    assert calls == ["read_records", "load_pairs", "load_pairs", "load_pairs"]


def test_baselines_are_fitted_once(calls: list[str]) -> None:
    loader = Loader()
    assert loader.baselines(FEW) is loader.baselines(FEW)
    assert calls.count("baseline_probabilities") == 1


def test_the_base_model_is_loaded_once() -> None:
    small = ModelConfig.model_validate(TASK["model"])
    base = LOADER.base(small)
    assert LOADER.base(small.model_copy(update={"lora": {"r": 4}})) is base


def test_tensorboard_shows_our_figures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = build_config(TaskConfig, {**TASK, "tuning": {**TASK["tuning"], "report_to": ["tensorboard"]}})
    found = run_pipeline(config, tmp_path / "run", False, LOADER)
    (place,) = {file.parent for file in (tmp_path / "run").rglob("events.out.tfevents*")}
    events = EventAccumulator(str(place)).Reload()
    assert {"train/loss", "eval/accuracy", "eval/skill", "eval/log_loss"} <= set(events.Tags()["scalars"])
    entries = read_history(tmp_path / "run")
    told = [scalar.value for scalar in events.Scalars("eval/skill")]
    assert told == pytest.approx([e["validation_accuracy"] - e["validation_prior_accuracy"] for e in entries])
    assert [s.value for s in events.Scalars("eval/accuracy")] == pytest.approx(
        [epoch.validation_accuracy for epoch in found.report.epochs]
    )
    # Who follows a training is no part of its configuration.
    assert resume(tmp_path / "run").predictions.equals(found.predictions)


def test_a_tracker_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "events"
    place.write_text("a file, where TensorBoard makes a folder")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(place))
    config = build_config(TaskConfig, {**TASK, "tuning": {**TASK["tuning"], "report_to": "tensorboard"}})
    told = line(lambda: run_pipeline(config, tmp_path / "run", False, LOADER))
    assert told.startswith("tuning.report_to: tensorboard cannot be used (")
    assert told.endswith('mend that, or go on without: tuning={"report_to": []}, resume=True')
    assert run_pipeline(build_config(TaskConfig, TASK), tmp_path / "run", True, LOADER).report.n_test_pairs
    place.unlink()

    class Full(TrainerCallback):
        """The disk is full when the first event is written."""

        def on_log(self, *_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

    Full.__module__ = "transformers.integrations.test"
    guard_trackers([full := Full()])
    for _ in range(2):
        full.on_log()
    assert caplog.text.count("full failed (No space left on device); the training goes on without it") == 1


def test_a_tracker_that_is_not_installed(tmp_path: Path, missing: Callable[[str], None]) -> None:
    missing("wandb")
    told = line(lambda: resume(tmp_path / "run", tuning={"report_to": ["wandb"]}))
    assert told.startswith("tuning.report_to: wandb not installed; type: ")
    assert told.endswith("pip install wandb")
    assert not (tmp_path / "run").exists()


def test_a_runs_own_configuration_runs_again(result: RunResult) -> None:
    file = result.output_dir / "config.yaml"
    config = build_config(TaskConfig, read_project(file, "dataset_compare"))
    assert config.resolved(result.output_dir).model_dump(mode="json") == read_config(file)
