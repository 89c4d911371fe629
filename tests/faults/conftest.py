"""The run that is damaged, asked and fuzzed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nngpt_ext import run_task
from tests.models_made import one_thread, sources

__all__ = ["one_thread"]

CONFIG: dict[str, Any] = {
    "prompt": "recipe",
    "model": {"base": "embedded"},
    "data": {"train_networks": 8, "validation_networks": 6, "test_networks": 5, "code_tokens": 32},
    "tuning": {"epochs": 2, "learning_rate": 1e-3, "examples_per_step": 16},
}
RECIPE = '{"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32"}'
DATASETS = ("mnist", "svhn")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this is slow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of the run, in a file."""
    file = tmp_path_factory.mktemp("configured") / "config.yaml"
    file.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Do not change its folder."""
    return Path(run_task("dataset_compare", config, output_dir=tmp_path_factory.mktemp("whole") / "run").output_dir)


@pytest.fixture(scope="session")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six real networks in a folder."""
    folder = tmp_path_factory.mktemp("networks")
    for name, source in sources().items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    return folder
