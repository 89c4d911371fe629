"""All folds as one run: each in a folder of its own, their test pairs in one report; stopped, continued, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from nngpt_ext import PredictionStore, Predictor, RunResult, TaskConfig, run_task
from nngpt_ext.errors import UserError, for_shell
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.evaluation.statistics import bootstrap_networks
from nngpt_ext.export.adapter_folder import export_hub
from nngpt_ext.export.harness import export_harness
from nngpt_ext.io import write_text
from nngpt_ext.run_folder import KEYS, read_config, read_record, read_table, write_record
from nngpt_ext.settings import build_config
from nngpt_ext.tasks.processes import gpus
from nngpt_ext.tasks.reporting import rebuild_report
from tests.data.small import write_tree
from tests.tasks.conftest import line

TASK: dict[str, Any] = {
    "prompt": "recipe",
    "model": {"base": "embedded-small"},
    "data": {
        "split": "by_family", "folds": 2, "train_networks": 6, "validation_networks": 3, "test_networks": 4,
        "code_tokens": 32,
    },
    "tuning": {"epochs": 1},
}  # fmt: skip


def started(folder: Path, **changes: Any) -> RunResult:
    return run_task("dataset_compare", TASK, output_dir=folder, resume=True, **changes)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run of two folds, in two processes. Do not change its folder."""
    return started(tmp_path_factory.mktemp("folds") / "run", workers=2)


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run that held out each of four datasets in turn. Do not change its folder."""
    place = tmp_path_factory.mktemp("in turn")
    tree = write_tree(place)
    for records in (tree / "stat" / "train").iterdir():
        if records.name.split("_")[1] in ("celeba-gender", "imagenette", "places365"):
            shutil.rmtree(records)
    data = {**TASK["data"], "split": "by_dataset", "folds": 5, "source": "package", "path": str(tree)}
    return started(place / "run", prompt="metadata_only", data=data, workers=1)


@pytest.fixture
def run(result: RunResult, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return shutil.copytree(result.output_dir, tmp_path / "run")


def unpooled(run: Path) -> Path:
    for name in ("report.json", "run.json", "predictions.parquet", "baselines.parquet"):
        (run / name).unlink()
    return run


def test_each_fold_is_an_ordinary_run(result: RunResult) -> None:
    assert result.adapter is None
    for fold in (0, 1):
        own = result.output_dir / f"fold-{fold}"
        assert read_config(own / "config.yaml")["data"]["fold"] == fold
        assert rebuild_report(own) == read_report(own)
        assert Predictor.from_run(own).datasets
    assert read_config(result.output_dir / "config.yaml")["data"]["fold"] is None
    tested = [
        read_table(result.output_dir / f"fold-{fold}" / "predictions.parquet")
        .query("split == 'test'")
        .assign(fold=fold)
        for fold in (0, 1)
    ]
    pd.testing.assert_frame_equal(result.predictions, pd.concat(tested, ignore_index=True))
    assert not result.predictions.duplicated(KEYS).any()
    pd.testing.assert_frame_equal(result.predictions, read_table(result.output_dir / "predictions.parquet"))


def test_its_figures_are_those_of_all_test_pairs(result: RunResult) -> None:
    found, test = result.report, read_table(result.output_dir / "predictions.parquet")
    baselines = test[KEYS].merge(read_table(result.output_dir / "baselines.parquet"), on=KEYS)
    first = (test["better_dataset"] == test["dataset_1"]).to_numpy()
    right = (test["predicted"] == test["better_dataset"]).to_numpy()
    prior = {name: ((baselines[name] >= 0.5) == first).to_numpy() for name in ("pair_prior", "kind_prior")}
    best = max(prior, key=lambda name: prior[name].mean())
    families = test["nn"].map(read_record(result.output_dir)["families"]).to_numpy(dtype=object)
    assert found.accuracy.n == found.n_test_pairs == len(test)
    assert found.n_test_networks == test["nn"].nunique() == 8
    assert found.accuracy.value == right.mean()
    assert found.accuracy.ci95 == bootstrap_networks(right, families)
    assert found.skill.value == pytest.approx(right.mean() - prior["pair_prior"].mean())
    beyond = found.skill_beyond_best_prior
    assert (beyond.prior, beyond.value) == (best, pytest.approx(right.mean() - prior[best].mean()))
    assert found.baselines["kind_prior"].accuracy == prior["kind_prior"].mean()
    assert found.families.families == len(set(families))
    assert found.families.mean.accuracy.value == pytest.approx(pd.Series(right).groupby(families).mean().mean())
    rest = families != found.families.largest
    assert found.families.without_largest.accuracy.value == right[rest].mean()
    assert found.calibration.temperature is found.calibration.threshold is None
    losses = np.where(first, test["calibrated_1"], 1 - test["calibrated_1"])
    assert found.calibration.log_loss.after == pytest.approx(-np.log(losses).mean())
    assert (found.selected_epoch, found.epochs) == (None, [])
    for fold, own in enumerate(found.folds):
        run, rows = read_report(result.output_dir / f"fold-{fold}"), (test["fold"] == fold).to_numpy()
        assert (own.fold, own.selected_epoch) == (fold, run.selected_epoch)
        assert (own.accuracy.n, own.accuracy.value) == (rows.sum(), right[rows].mean())
        assert (own.accuracy, own.skill) == (run.accuracy, run.skill)
        assert own.temperature == run.calibration.temperature
    assert found.n_validation_pairs == sum(
        read_report(result.output_dir / f"fold-{fold}").n_validation_pairs for fold in (0, 1)
    )
    text = (result.output_dir / "report.md").read_text()
    assert "split by_family (2 folds)" in text
    assert "| fold | accuracy | 95 % interval | skill | 95 % interval | epoch | test pairs |" in text


def test_each_dataset_is_held_out_in_turn(in_turn: RunResult) -> None:
    found, test, datasets = in_turn.report, in_turn.predictions, ["cifar-10", "cifar-100", "mnist", "svhn"]
    assert [fold.held_out for fold in found.folds] == datasets
    right = test["predicted"] == test["better_dataset"]
    values = {name: right[test["fold"] == i].mean() for i, name in enumerate(datasets)}
    assert found.held_out.datasets == pytest.approx(values)
    assert found.held_out.median == pytest.approx(np.median([*values.values()]))
    assert found.held_out.beating == sum(fold.beyond.value > 0 for fold in found.folds)
    assert {fold.beyond.prior for fold in found.folds} <= {"opponent_prior", "facts_prior"}
    assert (found.skill.p, found.accuracy.ci95) == (1.0, (found.accuracy.value,) * 2)  # no significance
    assert "4 datasets held out in turn: the accuracy on a dataset" in (in_turn.output_dir / "report.md").read_text()
    assert rebuild_report(in_turn.output_dir) == found
    for i, name in enumerate(datasets):
        own, following = in_turn.output_dir / f"fold-{i}", datasets[(i + 1) % 4]
        rows = read_table(own / "predictions.parquet")
        sides = {part: rows[rows["split"] == part][["dataset_1", "dataset_2"]] for part in ("validation", "test")}
        assert (sides["test"] == name).any(axis=1).all()
        assert (sides["validation"] == following).any(axis=1).all()
        assert not (sides["validation"] == name).any(axis=None)
        assert Predictor.from_run(own).datasets == sorted({*datasets} - {name, following})
        assert Predictor.from_run(own).unseen([name, "flowers"]) == ()  # its calibration is of unseen datasets


def test_the_store_has_the_answers_of_each_adapter(result: RunResult) -> None:
    with PredictionStore.open(f"sqlite:///{result.output_dir / 'predictions.db'}") as store:
        stored = store.query()
    folds = [read_table(result.output_dir / f"fold-{fold}" / "predictions.parquet") for fold in (0, 1)]
    assert sorted(stored.groupby("adapter").size()) == sorted(map(len, folds))


def test_one_at_a_time_and_continued_it_ends_the_same(result: RunResult, run: Path) -> None:
    shutil.rmtree(unpooled(run) / "fold-1")
    seen: list[int] = []
    again = started(run, workers=1, on_epoch=lambda entries: seen.append(len(entries)))
    assert seen == [1]  # of the fold that was missing
    pd.testing.assert_frame_equal(again.predictions, result.predictions)
    without = {"timings", "config"}  # whose output_dir differs
    assert again.report.model_dump(exclude=without) == result.report.model_dump(exclude=without)
    one, two = (place / "fold-1" / "adapter" / "adapter_model.safetensors" for place in (run, result.output_dir))
    assert one.read_bytes() == two.read_bytes()


def test_a_finished_one_is_given_back(result: RunResult, run: Path) -> None:
    before = {place: place.stat().st_mtime_ns for place in run.rglob("*")}
    again = started(run, workers=3)  # how many run at a time does not make it another run
    assert again.report == result.report
    assert {place: place.stat().st_mtime_ns for place in run.rglob("*")} == before
    assert rebuild_report(run) == result.report
    other = line(lambda: started(run, data={"folds": 3}))
    assert other.startswith(f"the output folder '{run}' belongs to another config (data.folds 2 there, 3 now)")
    shutil.rmtree(run / "fold-0" / "checkpoints")
    assert started(run).report == result.report
    (run / "fold-0" / "run.json").write_text("{}")
    assert line(started, run).startswith(
        f"'{run}/fold-0/run.json' was changed or damaged after it was written; to make"
    )


def test_a_fold_that_was_changed_is_not_pooled(run: Path) -> None:
    unpooled(run)
    (run / "fold-1" / "predictions.parquet").write_bytes(b"PAR1")
    assert line(started, run).startswith(f"'{run}/fold-1/predictions.parquet' was changed or damaged")


def test_folds_of_other_inputs_are_not_pooled(run: Path) -> None:
    own, record = unpooled(run) / "fold-1", read_record(run / "fold-1")
    inputs = json.loads((own / "inputs.json").read_text())
    write_text(own / "inputs.json", json.dumps({**inputs, "sources": "0" * 64}))
    write_record(own, record)
    rebuild_report(own)
    assert line(started, run) == (
        f"'{run}/fold-0' and '{own}' were run on different inputs (sources); remove the older one and continue with "
        "resume=True"
    )


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_one_that_fails_does_not_stop_the_others(run: Path, workers: int) -> None:
    unpooled(run)
    for fold in (0, 1):
        (run / f"fold-{fold}" / "report.json").unlink()
    inputs = json.loads((run / "fold-0" / "inputs.json").read_text())
    write_text(run / "fold-0" / "inputs.json", json.dumps({**inputs, "base model": "0" * 64}))
    assert line(lambda: started(run, workers=workers)) == (
        f"fold 0 in '{run}' failed: the run in '{run}/fold-0' cannot continue, because its base model changed since it "
        "started; give another one, or remove this folder; finished folds are kept: continue with resume=True"
    )
    assert (run / "fold-1" / "report.json").is_file()
    assert not (run / "report.json").exists()


def test_each_fold_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus() == []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5e8d,7")  # of which two exist
    assert gpus() == ["3", "GPU-5e8d"]


@pytest.mark.slow
def test_folds_on_gpus_of_their_own(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpooled(run)
    (run / "fold-0" / "report.json").unlink()
    (run / "fold-1" / "report.json").unlink()
    seen: list[str | None] = []
    start = subprocess.Popen.__init__

    def started_with(self: Any, *given: Any, **named: Any) -> None:
        seen.append((named.get("env") or {}).get("CUDA_VISIBLE_DEVICES"))
        start(self, *given, **named)

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(subprocess.Popen, "__init__", started_with)
    started(run, workers=2)
    assert sorted(map(str, seen)) == ["0", "1"]


def test_what_needs_one_adapter_names_a_fold(result: RunResult, tmp_path: Path) -> None:
    run = result.output_dir
    said = f"'{run}' has one adapter for each fold; give '{run}/fold-0'"
    assert line(Predictor.from_run, run) == said
    assert line(Predictor.from_pretrained, run) == said
    assert line(export_hub, run, tmp_path / "hub") == said
    assert line(export_harness, run, tmp_path / "harness") == said
    with PredictionStore.open("sqlite://") as store:
        assert line(store.add_run, run) == said
    with for_shell():
        assert line(Predictor.from_run, run) == f"'{run}' has one adapter for each fold; type: --run {run}/fold-0"
        unfinished = tmp_path / "unfinished"
        unfinished.mkdir()
        shutil.copy(run / "config.yaml", unfinished)
        assert line(Predictor.from_run, unfinished) == (
            f"'{unfinished}' has an unfinished run; to finish it, type: nngpt-ext run dataset_compare --config "
            f"{unfinished}/config.yaml --out {unfinished} --resume"
        )


def test_its_faults_are_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown prompt 'recip' \(did you mean 'recipe'\?\)"):
        started(tmp_path / "run", prompt="recip")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    assert line(started, tmp_path / "mine").startswith(f"the output folder '{tmp_path}/mine' has files but no run")
    assert [place.name for place in tmp_path.iterdir()] == ["mine"]
    assert build_config(TaskConfig, TASK).workers is None


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    "stop",
    [signal.SIGINT, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (signal.SIGTERM, signal.SIGKILL))],
    ids=lambda stop: stop.name,
)
def test_stopped_it_leaves_no_process_and_nothing_half_written(tmp_path: Path, stop: signal.Signals) -> None:
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({**TASK, "workers": 2}))
    command = [sys.executable, "-m", "nngpt_ext", "run", "dataset_compare", "--config", "task.yaml", "--out", "run"]
    begun = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # whatever started the tests
    )  # fmt: skip
    parent = psutil.Process(begun.pid)
    while len(folds := parent.children()) < 2:
        assert begun.poll() is None
        time.sleep(0.05)
    time.sleep(2)
    begun.send_signal(stop)
    said = begun.communicate(timeout=60)[1]
    assert begun.returncode == (130 if stop == signal.SIGINT else -stop)
    assert said.endswith("interrupted; continue a run with --resume\n") == (stop == signal.SIGINT)
    assert "Traceback" not in said
    deadline = time.monotonic() + 30
    while any(fold.is_running() and fold.status() != psutil.STATUS_ZOMBIE for fold in folds):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "run" / "report.json").exists()
