"""Small real runs to ask: trained by the ordinary route on a slice of LEMUR."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nngpt_ext import RunResult, run_task
from nngpt_ext.prompts.builtin import get_template
from tests.models_made import one_thread

__all__ = ["one_thread"]

SMALL = {
    "prompt": "code_only",
    "model": {"base": "embedded"},
    "data": {"train_networks": 8, "validation_networks": 6, "test_networks": 5, "code_tokens": 64},
    "tuning": {"epochs": 1, "learning_rate": 2e-3, "examples_per_step": 16},
}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run of `code_only`. Do not change its folder."""
    return run_task("dataset_compare", SMALL, output_dir=tmp_path_factory.mktemp("asked") / "run")


def older(folder: Path) -> Path:
    """A copied run or adapter, as a version left it that recorded no hashes: its files may be changed."""
    for name in ("run.json", "report.json", "nngpt_ext.json", "adapter/nngpt_ext.json"):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text())
            kept = {key: value for key, value in content.items() if key not in ("files", "sha256", "run_sha256")}
            (folder / name).write_text(json.dumps(kept))
    return folder


@pytest.fixture
def asking(run: RunResult, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the run's adapter that asks another prompt."""

    def copied(prompt: str) -> Path:
        folder = tmp_path / f"adapter-{prompt}"
        assert run.adapter is not None
        older(shutil.copytree(run.adapter, folder))
        note = json.loads((folder / "task.json").read_text())
        template = get_template(prompt)
        note |= {"prompt": prompt, "system": template.system, "text": template.prompt, "columns": template.columns}
        note |= {"known_answer": None}  # which is another prompt's
        (folder / "task.json").write_text(json.dumps(note))
        return folder

    return copied
