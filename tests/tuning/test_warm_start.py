"""Training that begins with another run's adapter: the same weights at the start, and what the report says of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from nngpt_ext import run_task
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.errors import UserError
from nngpt_ext.scoring.basis import read_seen
from nngpt_ext.tasks.protocol import RunResult
from nngpt_ext.tuning.warm_start import start_note

SMALL = {
    "prompt": "code_only",
    "model": {"base": "embedded"},
    "data": {"train_networks": 4, "validation_networks": 2, "test_networks": 3, "code_tokens": 64},
    "tuning": {"epochs": 1, "learning_rate": 2e-3},
    "store": None,
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run_task("dataset_compare", SMALL, output_dir=tmp_path_factory.mktemp("runs") / "first")


def begun(first: RunResult, folder: Path, **changes: object) -> RunResult:
    tuning = {"epochs": 1, "learning_rate": 0.0, "init_from": str(first.output_dir)}
    return run_task("dataset_compare", {**SMALL, "tuning": tuning, **changes}, output_dir=folder)


def test_it_begins_with_the_adapters_weights_and_says_so(first: RunResult, tmp_path: Path) -> None:
    second = begun(first, tmp_path / "second")
    one, other = (load_file(run.output_dir / "adapter" / "adapter_model.safetensors") for run in (first, second))
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)  # with a rate of 0, they stay
    (note,) = [note for note in second.report.notes if note.startswith("Training began with the adapter in")]
    assert "trained on 4 networks" in note
    assert "no test network was among them" in note
    assert note in (second.output_dir / "adapter" / "README.md").read_text()


def test_test_networks_that_it_has_seen_are_counted(first: RunResult) -> None:
    seen = read_seen(first.output_dir / "adapter")
    assert seen is not None
    sources = open_source("package").sources([*seen.known, *set(first.predictions["nn"])])
    assert {nn for nn, source in sources.items() if seen.holds(source)} == set(seen.known)
    note = start_note({"path": "a", "datasets": ["mnist"], "networks": 4, "test_networks": 2})
    assert note.endswith("; 2 of the test networks were among them, so the figures are not of unseen networks.")


def test_another_prompt_or_rank_is_refused(first: RunResult, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has prompt code_only \(here recipe\); use the same"):
        begun(first, tmp_path / "a", prompt="recipe")
    with pytest.raises(UserError, match=r"model\.lora\.r \d+ \(here 3\)"):
        begun(first, tmp_path / "b", model={"base": "embedded", "lora": {"r": 3}})
    with pytest.raises(UserError, match="no adapter"):
        run_task("dataset_compare", {**SMALL, "tuning": {"init_from": str(tmp_path)}}, output_dir=tmp_path / "c")
    shutil.copytree(first.output_dir / "adapter", tmp_path / "damaged")
    (tmp_path / "damaged" / "task.json").write_text("{}")
    with pytest.raises(UserError, match=r"task\.json"):
        run_task(
            "dataset_compare", {**SMALL, "tuning": {"init_from": str(tmp_path / "damaged")}}, output_dir=tmp_path / "d"
        )
    assert not any((tmp_path / name).exists() for name in "abcd")
