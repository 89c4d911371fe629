"""`--resume` on a run folder that was damaged, and folders whose links lead elsewhere."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nngpt_ext import RunResult, TaskConfig, UserError
from nngpt_ext.settings import build_config
from nngpt_ext.tasks.loading import Loader
from nngpt_ext.tasks.pipeline import run_pipeline
from nngpt_ext.tasks.reporting import rebuild_report
from tests.export.conftest import tree
from tests.tasks.test_pipeline import TASK

LOADER = Loader()  # records and base model, once for all of these


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return resume(tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture
def run(finished: RunResult, tmp_path: Path) -> Path:
    """A copy of the finished run, to change."""
    return shutil.copytree(finished.output_dir, tmp_path / "run")


@pytest.fixture
def unfinished(run: Path) -> Path:
    for name in ("report.json", "run.json", "predictions.parquet", "predictions.db"):
        (run / name).unlink()
    return run


def resume(folder: Path) -> RunResult:
    return run_pipeline(build_config(TaskConfig, TASK), folder, resume=True, loader=LOADER)


def line(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(UserError) as told:
        call(*arguments)
    assert "\n" not in str(told.value)
    return str(told.value)


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


# Damage


@pytest.mark.parametrize("name", ["optimizer.pt", "adapter_model.safetensors", "../history.json"])
def test_damaged_checkpoints_of_a_run(
    unfinished: Path, finished: RunResult, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Of the only epoch the adapter must be whole; no training goes on from it."""
    (checkpoint,) = (unfinished / "checkpoints").glob("checkpoint-*")
    truncate(checkpoint / name)
    with caplog.at_level(logging.WARNING, logger="nngpt_ext"):
        found = resume(unfinished)
    assert found.predictions.equals(finished.predictions)
    assert sum("is damaged" in message for message in caplog.messages) == (name != "optimizer.pt")
    assert json.loads((unfinished / "run.json").read_text())["epochs"] == json.loads(
        (finished.output_dir / "run.json").read_text()
    )["epochs"]  # fmt: skip


def test_a_half_written_adapter_is_written_again(unfinished: Path, finished: RunResult) -> None:
    truncate(unfinished / "adapter" / "adapter_model.safetensors")
    (unfinished / "adapter" / "adapter_config.json").unlink()
    assert resume(unfinished).predictions.equals(finished.predictions)


@pytest.mark.parametrize("damage", ["truncated", "of other pairs"])
def test_damaged_baselines_are_computed_again(
    unfinished: Path, finished: RunResult, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    file = unfinished / "baselines.parquet"
    whole = pd.read_parquet(file)
    if damage == "truncated":
        truncate(file)
    else:
        whole.iloc[1:].to_parquet(file, index=False)
    with caplog.at_level(logging.WARNING, logger="nngpt_ext"):
        found = resume(unfinished)
    assert found.report.baselines == finished.report.baselines
    assert pd.read_parquet(file).equals(whole)
    assert sum(f"'{file}'" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("damage", [Path.unlink, truncate])
def test_what_a_run_began_with_must_be_known(unfinished: Path, damage: Callable[[Path], None]) -> None:
    damage(unfinished / "inputs.json")
    before = tree(unfinished / "checkpoints")
    told = line(resume, unfinished)
    assert f"'{unfinished / 'inputs.json'}'" in told
    assert told.endswith("; give another folder with --out, or remove this one")
    assert tree(unfinished / "checkpoints") == before


def test_a_finished_run_needs_no_inputs(run: Path, finished: RunResult) -> None:
    (run / "inputs.json").unlink()
    assert resume(run).predictions.equals(finished.predictions)
    assert not (run / "inputs.json").exists()


@pytest.mark.parametrize("damage", [Path.unlink, truncate])
def test_damaged_predictions_say_how_to_make_them_again(
    run: Path, finished: RunResult, damage: Callable[[Path], None]
) -> None:
    file, report = run / "predictions.parquet", run / "report.json"
    damage(file)
    assert line(resume, run) == (
        f"'{file}' is missing or damaged; to score again, remove '{report}' and go on with --resume"
    )
    report.unlink()
    assert resume(run).predictions.equals(finished.predictions)


def test_a_damaged_report_is_built_again(run: Path, finished: RunResult) -> None:
    text = (run / "report.json").read_text()
    truncate(run / "report.json")
    assert line(resume, run).endswith("rebuild it from predictions.parquet")
    rebuild_report(run)
    assert (run / "report.json").read_text() == text


# Links


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of the user's, with files whose names a run writes."""
    mine = tmp_path / "mine"
    (mine / "checkpoint-1").mkdir(parents=True)
    for name in ("README.md", "task.json", "history.json", "checkpoint-1/thesis.tex"):
        (mine / name).write_text("mine")
    return mine


def test_a_report_never_follows_a_link(run: Path, mine: Path) -> None:
    shutil.rmtree(run / "adapter")
    (run / "adapter").symlink_to(mine)
    before, own = tree(mine), (run / "report.md").read_bytes()
    assert line(rebuild_report, run) == (
        f"'{run / 'adapter'}' leads to '{mine}', outside '{run}'; remove the link, or give another folder"
    )
    assert tree(mine) == before
    assert (run / "report.md").read_bytes() == own


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


def test_a_folder_that_is_a_link_and_links_within_it(unfinished: Path, finished: RunResult, tmp_path: Path) -> None:
    for name in ("adapter", "checkpoints"):
        (unfinished / name).rename(unfinished / f"{name}.kept")
        (unfinished / name).symlink_to(f"{name}.kept")
    (tmp_path / "latest").symlink_to(unfinished)
    assert resume(tmp_path / "latest").predictions.equals(finished.predictions)
    rebuild_report(tmp_path / "latest")
    assert not [file for file in unfinished.iterdir() if file.name.startswith(".")]


def test_a_link_that_leads_to_itself(unfinished: Path) -> None:
    shutil.rmtree(unfinished / "adapter")
    (unfinished / "adapter").symlink_to(unfinished / "adapter")
    assert "leads to itself" in line(resume, unfinished)
