"""A small run by the ordinary route on a slice of LEMUR; records and base model are loaded once for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext import RunResult, TaskConfig, UserError
from nngpt_ext.settings import build_config
from nngpt_ext.tasks.pipeline import Loader, run_pipeline
from tests.models_made import one_thread

__all__ = ["one_thread"]

TASK = {
    "prompt": "recipe",
    "model": {"base": "embedded"},
    "data": {"train_networks": 3, "validation_networks": 2, "test_networks": 3, "code_tokens": 32, "trials": "all"},
    "tuning": {"epochs": 1, "learning_rate": 1e-3},
}
LOADER = Loader()


def resume(folder: Path, loader: Loader = LOADER, **changes: Any) -> RunResult:
    return run_pipeline(build_config(TaskConfig, {**TASK, **changes}), folder, resume=True, loader=loader)


def with_pairs() -> Loader:
    """A loader that has the pairs, and loads the base model again."""
    loader = Loader()
    loader._records, loader._data, loader._baselines = LOADER._records, dict(LOADER._data), LOADER._baselines
    return loader


def line(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(UserError) as told:
        call(*arguments)
    assert "\n" not in str(told.value)
    return str(told.value)


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


@pytest.fixture(scope="package")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run. Do not change its folder."""
    return resume(tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture
def run(result: RunResult, tmp_path: Path) -> Path:
    """A copy of the finished run, to change."""
    return shutil.copytree(result.output_dir, tmp_path / "run")


@pytest.fixture
def unfinished(run: Path) -> Path:
    for name in ("report.json", "run.json", "predictions.parquet", "predictions.db"):
        (run / name).unlink()
    return run


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of the user's, with files whose names a run writes."""
    mine = tmp_path / "mine"
    (mine / "checkpoint-1").mkdir(parents=True)
    for name in ("README.md", "task.json", "history.json", "checkpoint-1/thesis.tex"):
        (mine / name).write_text("mine")
    return mine
