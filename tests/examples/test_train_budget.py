"""The consumer: installed as a plugin, it asks the store and says what its choice costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from nngpt_ext import RunResult
from nngpt_ext.config import build_config, read_project
from tests.predict.conftest import run

__all__ = ["run"]

PLUGIN = Path(__file__).parents[2] / "examples" / "train_budget"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.test_registry import install

    return install("../examples/train_budget", tmp_path_factory.mktemp("train_budget"))


def command(installed: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    script = "from nngpt_ext.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, "run", "train_budget", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True, timeout=300,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip


def test_held_out_networks_and_their_regret(installed: Path, run: RunResult, tmp_path: Path) -> None:
    config = tmp_path / "budget.yaml"
    config.write_text(yaml.safe_dump({"tasks": {"train_budget": {"run": str(run.output_dir), "budget": 3}}}))
    done = command(installed, "--config", config, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["proposal"]) == 3
    sure = [row["probability"] for row in report["proposal"]]
    assert sure == sorted(sure, reverse=True)
    for table, n in (("regret_all", 5), ("regret_budget", 3)):
        rows = {row["way"]: row for row in report[table]}
        assert set(rows) == {"predictor", "prior", "chance"}
        for row in rows.values():
            assert row["n"] == n
            assert 0 <= row["low"] <= row["regret"] <= row["high"] <= 1
            assert 0 <= row["best_chosen"] <= 1
    again = command(installed, "--config", config, "--out", tmp_path / "out")
    assert again.returncode == 2
    assert "holds a report" in again.stderr


def test_generated_networks(installed: Path, run: RunResult, tmp_path: Path, lemur_sources: dict[str, str]) -> None:
    codes = tmp_path / "codes"
    codes.mkdir()
    for nn in sorted(lemur_sources)[:4]:
        (codes / f"{nn}.py").write_text(lemur_sources[nn], encoding="utf-8")
    (codes / "no.py").write_text("def (")
    config = tmp_path / "budget.yaml"
    asked = {"run": str(run.output_dir), "budget": 2, "codes": str(codes), "datasets": ["mnist", "svhn", "cifar-10"]}
    config.write_text(yaml.safe_dump({"tasks": {"train_budget": asked}}))
    done = command(installed, "--config", config, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sum(nn[:60] in done.stdout.replace("\n", "") for nn in sorted(lemur_sources)[:4]) == 2
    assert "Regret" not in done.stdout


def test_its_own_configuration_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    from train_budget.task import Config  # type: ignore[import-not-found]

    assert build_config(Config, read_project(PLUGIN / "demo.yaml", "train_budget")).budget == 20


def test_regret_is_counted_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    from train_budget.regret import known_accuracies, prior_choice, regrets  # type: ignore[import-not-found]

    columns = ["nn", "dataset_1", "dataset_2", "norm_acc_1", "norm_acc_2", "better_dataset"]
    test = pd.DataFrame(
        [
            ("a", "mnist", "svhn", 0.9, 0.5, "mnist"), ("a", "cifar-10", "mnist", 0.6, 0.9, "mnist"),
            ("a", "cifar-10", "svhn", 0.6, 0.5, "cifar-10"), ("b", "mnist", "svhn", 0.4, 0.6, "svhn"),
        ],
        columns=columns,
    )  # fmt: skip
    known = known_accuracies(test)
    assert known == {"a": {"mnist": 0.9, "svhn": 0.5, "cifar-10": 0.6}, "b": {"mnist": 0.4, "svhn": 0.6}}
    train = test[test["nn"] == "a"]  # there mnist wins whatever it meets
    choice = prior_choice(train, test)
    assert choice == {"a": "mnist", "b": "mnist"}
    found = regrets(known, {"prior": choice, "best": {"a": "mnist", "b": "svhn"}}, ["a", "b"])
    assert found.loc["best", "regret"] == 0
    assert found.loc["prior", "regret"] == pytest.approx((0 + 0.2) / 2)
    assert found.loc["prior", "best_chosen"] == 0.5
    assert found.loc["chance", "regret"] == pytest.approx(((0.9 - 2 / 3) + (0.6 - 0.5)) / 2)
    assert found.loc["chance", "best_chosen"] == pytest.approx((1 / 3 + 1 / 2) / 2)
