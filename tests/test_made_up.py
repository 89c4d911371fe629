"""A new split, label, baseline and prompt field show in help, report, cards and exports by themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from nngpt_ext.data.splits import PARTS
from tests.data.small import write_tree
from tests.predict.conftest import SMALL

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its adapter for the hub, a dataset, and help texts, all made with `tests.made_up`."""
    folder = tmp_path_factory.mktemp("made_up")
    prompt = json.loads((ROOT / "nngpt_ext" / "prompts" / "templates" / "code_only.json").read_text())["code_only"]
    prompt["input_list"].append({"para": "length", "value": "characters"})
    prompt["prompt"].append("The source has {length} characters.")
    (folder / "made.json").write_text(json.dumps({"made": prompt}))
    data = {"path": str(write_tree(folder)), "split": "every_fifth", "label": "raw", "code_tokens": 64}
    config = {"prompt": str(folder / "made.json"), "data": data, "model": SMALL["model"], "tuning": SMALL["tuning"]}
    (folder / "task.yaml").write_text(yaml.safe_dump({"tasks": {"dataset_compare": config}}))
    commands = [
        ["pairs", "--help"],
        ["pairs", "--lemur", data["path"], "--split", "every_fifth", "--label", "raw", "--json"],
        ["run", "dataset_compare", "--config", str(folder / "task.yaml"), "--out", str(folder / "run")],
        ["export", "hub", "--run", str(folder / "run"), "--out", str(folder / "hub")],
        ["export", "dataset", "--lemur", data["path"], "--split", "every_fifth", "--out", str(folder / "pairs")],
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.made_up", json.dumps(commands)],
        cwd=ROOT, env={**os.environ, "COLUMNS": "600"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, text in zip(("help", "counts"), json.loads(done.stdout.splitlines()[-1]), strict=False):
        (folder / name).write_text(text)
    return folder


def test_help_and_choices(folder: Path) -> None:
    text = " ".join((folder / "help").read_text().split())
    assert "every_fifth: every fifth network tests" in text
    assert "raw: the plain accuracy" in text
    assert set(json.loads((folder / "counts").read_text())["split"]) == set(PARTS)


def test_the_report_has_baseline_and_warning(folder: Path) -> None:
    report = json.loads((folder / "run" / "report.json").read_text())
    assert report["split"] == "every_fifth"
    assert "first_name" in report["baselines"]
    for name in ("report.md", "report.html"):
        text = (folder / "run" / name).read_text()
        assert "first" in text
        assert "Fifths are arbitrary." in text


def test_the_model_card_has_all_of_them(folder: Path) -> None:
    card = (folder / "hub" / "README.md").read_text()
    for shown in (
        "first_name_accuracy", "always the first name", "Fifths are arbitrary.", "`raw`:\nthe plain accuracy",
        "the number of characters of the source",
    ):  # fmt: skip
        assert shown in card


def test_the_dataset_has_a_column_for_each_label(folder: Path) -> None:
    pairs = pd.read_parquet(folder / "pairs" / "pairs" / "test.parquet")
    higher = pairs["dataset_1"].where(pairs["accuracy_1"] >= pairs["accuracy_2"], pairs["dataset_2"])
    assert (pairs["better_dataset_raw"] == higher).all()
    card = (folder / "pairs" / "README.md").read_text()
    for shown in ("Fifths are arbitrary.", "`better_dataset_raw`, `margin_raw`", "pair prior, label raw"):
        assert shown in card
