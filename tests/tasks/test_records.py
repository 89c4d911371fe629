"""What `nngpt-ext records check` says about the example of own records, and about a LEMUR of another release."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from typer.testing import CliRunner

from nngpt_ext import cli
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.settings import build_config, read_project
from nngpt_ext.tasks.records import check_records

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_records"
COLUMNS = ["nn=model", "accuracy=val_acc / 100", "lr=learning_rate"]


def test_the_example(monkeypatch) -> None:
    monkeypatch.chdir(EXAMPLE.parents[1])
    config = build_config(DataConfig, read_project(EXAMPLE / "own.yaml", "dataset_compare")["data"])
    found = check_records(config)
    assert (found["epoch"], found["networks"], found["excluded"]) == (5, 116, {})
    assert set(found["datasets"]) == {"portraits", "cifar-10", "mnist", "house-numbers"}
    assert list(found["recipe"]) == ["lr", "batch", "momentum", "dropout", "transform"]
    assert found["split"]["test"]["networks"] == 23
    assert not found["enough"]
    assert found["note"].startswith("With 23 test networks, fewer than 30")


def test_the_command(monkeypatch) -> None:
    monkeypatch.chdir(EXAMPLE)
    columns = [word for one in COLUMNS for word in ("--column", one)]
    call = ["records", "check", "trials.csv", *columns, "--facts", "datasets.yaml"]
    done = CliRunner().invoke(cli.app, call)
    assert done.exit_code == 0
    assert "house-numbers (115 networks)" in done.stdout
    assert "Enough to train, too few to show skill." in done.stdout
    printed = json.loads(CliRunner().invoke(cli.app, [*call, "--json"]).stdout)
    assert printed["pairs"] == 648


def test_sources_that_are_no_networks_are_named(tmp_path: Path, monkeypatch) -> None:
    frame = pd.read_csv(EXAMPLE / "trials.csv")
    frame.loc[frame["model"] == frame["model"].iloc[0], "nn_code"] = "torch==2.13.0"
    frame.to_csv(tmp_path / "trials.csv", index=False)
    columns = [word for one in COLUMNS for word in ("--column", one)]
    call = ["records", "check", str(tmp_path / "trials.csv"), *columns, "--facts", str(EXAMPLE / "datasets.yaml")]
    name = frame["model"].iloc[0]
    assert f"in the source: 1 network ({name})" in CliRunner().invoke(cli.app, call).stdout
    assert json.loads(CliRunner().invoke(cli.app, [*call, "--json"]).stdout)["no_networks"] == [name]
