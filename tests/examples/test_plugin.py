"""The example plugin: really installed, listed, and run from its nngpt.yaml; docs/extending.md shows this very code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import nngpt_ext
from nngpt_ext import PredictionStore, RunResult
from nngpt_ext.prompts.builtin import NAMES
from tests.test_registry import cli, install

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("../examples/plugin", tmp_path_factory.mktemp("plugin"))


@pytest.fixture
def project(run: RunResult, tmp_path: Path) -> Path:
    """A folder with the plugin's nngpt.yaml, and a small run where that expects the demo's."""
    shutil.copy(PLUGIN / "nngpt.yaml", tmp_path)
    shutil.copytree(run.output_dir, tmp_path / "runs" / "demo")
    return tmp_path


def mistake(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_it_is_listed_beside_the_built_in_ones(plugin: Path, tmp_path: Path) -> None:
    done = cli([plugin], "tasks", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "tasks": ["dataset_compare", "winners"],
        "prompts": sorted([*NAMES, "recipe_only"]),
        "finetuners": ["qlora"],
        "broken": [],
    }


def test_its_task_runs_from_the_project_file(plugin: Path, project: Path) -> None:
    done = cli([plugin], "run", "winners", "--set", "min_confidence=0.6", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    with PredictionStore.open(f"sqlite:///{project / 'runs' / 'demo' / 'predictions.db'}") as store:
        predicted = store.query(min_confidence=0.6)["predicted"]
    counts = {name: int((predicted == name).sum()) for name in set(predicted)}
    assert json.loads(done.stdout) == counts
    lines = (project / "runs" / "winners" / "winners.csv").read_text().splitlines()  # it has no output_dir of its own
    assert {line.split(",")[0]: int(line.split(",")[1]) for line in lines[1:]} == counts
    done = cli([plugin], "run", "winners", "--set", "min_confidence=0.6", "--out", "there", cwd=project)
    assert (done.returncode, yaml.safe_load(done.stdout)) == (0, counts)
    assert (project / "there" / "winners.csv").is_file()


def test_its_configuration_is_checked_like_ours(plugin: Path, project: Path) -> None:
    assert mistake(cli([plugin], "run", "winners", "--set", "min_confidense=4", cwd=project)) == (
        "error: configuration: unknown key 'min_confidense' (did you mean 'min_confidence'?)"
    )
    assert mistake(cli([plugin], "run", "winners", "--set", "min_confidence=4", cwd=project)) == (
        "error: configuration: min_confidence: must be less than or equal to 1 (given: 4)"
    )
    assert mistake(cli([plugin], "run", "winners", "--set", "min_confidence=1", cwd=project)) == (
        "error: 'sqlite:///runs/demo/predictions.db' holds no prediction of confidence 1"
    )
    assert not (project / "runs" / "winners").exists()


def test_its_prompt_is_trained_on_from_the_project_file(plugin: Path, project: Path) -> None:
    small = {
        "data.train_networks": 3, "data.validation_networks": 2, "data.test_networks": 2, "data.pairs_per_network": 3,
        "tuning.epochs": 1, "tuning.networks_per_epoch": 3, "store": "null",
    }  # fmt: skip
    settings = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    done = cli([plugin], "run", "dataset_compare", *settings, "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prompt"] == "recipe_only"
    note = json.loads((project / "runs" / "recipe_only" / "adapter" / "task.json").read_text())
    assert set(note["columns"].values()) == {"dataset", "dataset_2", "recipe_1", "recipe_2"}


@pytest.mark.parametrize("file", ["nngpt_ext_winners.py", "pyproject.toml", "nngpt.yaml"])
def test_the_page_shows_the_file_itself(file: str) -> None:
    blocks = re.findall(r"^```\w+\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert (PLUGIN / file).read_text(encoding="utf-8") in blocks


def test_the_page_names_what_there_is() -> None:
    public = set(re.findall(r"`(?:from nngpt_ext import )?(\w+)`", PAGE)) & set(nngpt_ext.__all__)
    assert public == set(nngpt_ext.__all__) - {"__version__"}  # each public name is on the page


def test_a_run_folder_holds_the_files_that_the_page_calls_stable(run: RunResult) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| a run folder"))
    named = re.findall(r"`([\w./]+)`", row)
    assert len(named) >= 8
    assert [name for name in named if not (run.output_dir / name).exists()] == []
