"""The consumer: installed as a plugin, it asks the store and says what its choice costs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from nngpt_ext import Comparison, Ranking, RunResult
from nngpt_ext.predict.answers import ranking_of
from nngpt_ext.registry import tasks
from nngpt_ext.settings import build_config, read_project
from tests.predict.conftest import older

PLUGIN = Path(__file__).parents[2] / "examples" / "train_budget"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.test_registry import install

    return install("../examples/train_budget", tmp_path_factory.mktemp("train_budget"))


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin's modules, to be imported in this process; the task that they register is forgotten again."""
    tasks.names()
    monkeypatch.setattr(tasks, "_items", dict(tasks._items))
    monkeypatch.syspath_prepend(str(PLUGIN))


def command(installed: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    script = "from nngpt_ext.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, "run", "train_budget", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True, timeout=300,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip


def asked(installed: Path, folder: Path, **config: Any) -> subprocess.CompletedProcess[str]:
    """Run the task in a folder of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "budget.yaml").write_text(yaml.safe_dump({"tasks": {"train_budget": config}}))
    return command(installed, "--config", folder / "budget.yaml", "--out", folder / "out", "--json")


def reported(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def mistake(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_held_out_networks_and_their_regret(installed: Path, run: RunResult, tmp_path: Path) -> None:
    report = reported(asked(installed, tmp_path / "a", run=str(run.output_dir), budget=2))
    test = run.predictions[run.predictions["split"] == "test"]
    sets = test.groupby("nn").apply(lambda own: {*own["dataset_1"], *own["dataset_2"]}, include_groups=False)
    able = {nn for nn, own in sets.items() if own >= set(report["datasets"])}
    assert report["considered"] == len(able) >= 1
    assert len(report["proposal"]) == min(2, len(able))
    for row in report["proposal"]:
        assert row["nn"] in able
        assert row["dataset"] in report["datasets"]
        assert row["others"] == len(report["datasets"]) - 1
    sure = [(row["abstains"] > 0, -row["probability"]) for row in report["proposal"]]
    assert sure == sorted(sure)
    counts = {"regret_all": 5, "regret_shared": len(able), "regret_budget": min(2, len(able))}
    for table, n in counts.items():
        found = report[table]
        assert found["networks"] == n
        rows = {row["way"]: row for row in found["ways"]}
        assert set(rows) == {"predictor", "prior", "chance"}
        for row in rows.values():
            assert row["n"] == n
            assert 0 <= row["low"] <= row["regret"] <= row["high"] <= 1
            assert 0 <= row["best_chosen"] <= 1
        for row in found["differences"]:
            paired = rows["predictor"]["regret"] - rows[row["way"]]["regret"]
            assert row["difference"] == pytest.approx(paired)
            assert row["low"] <= row["difference"] <= row["high"]
    again = command(installed, "--config", tmp_path / "a" / "budget.yaml", "--out", tmp_path / "a" / "out")
    assert again.returncode == 2
    assert "already has a report" in again.stderr


def test_the_datasets_of_held_out_networks_can_be_named(installed: Path, run: RunResult, tmp_path: Path) -> None:
    report = reported(asked(installed, tmp_path / "a", run=str(run.output_dir), datasets=["mnist", "cifar-10"]))
    assert report["datasets"] == ["cifar-10", "mnist"]
    assert {row["dataset"] for row in report["proposal"]} <= {"cifar-10", "mnist"}
    mistyped = asked(installed, tmp_path / "b", run=str(run.output_dir), datasets=["mnist", "svnh"])
    assert "no test network was trained on all of mnist, svnh; the commonest datasets" in mistake(mistyped)
    assert "the adapter was not trained on 'svnh' (did you mean 'svhn'?)" in mistyped.stderr
    test = run.predictions[run.predictions["split"] == "test"]
    if "places365" not in {*test["dataset_1"], *test["dataset_2"]}:
        assert "no test network was trained on all of mnist, places365; the commonest datasets" in mistake(
            asked(installed, tmp_path / "c", run=str(run.output_dir), datasets=["mnist", "places365"])
        )


@pytest.mark.slow
def test_generated_networks(installed: Path, run: RunResult, tmp_path: Path, lemur_sources: dict[str, str]) -> None:
    codes = tmp_path / "codes"
    codes.mkdir()
    (codes / "no.py").write_text("def (")
    base = {"run": str(run.output_dir), "codes": str(codes), "budget": 2, "datasets": ["mnist", "svhn", "cifar-10"]}
    assert "no network in '" in mistake(asked(installed, tmp_path / "none", **base))
    names = sorted(lemur_sources)[:4]
    for nn in names:
        (codes / f"{nn}.py").write_text(lemur_sources[nn], encoding="utf-8")
    report = reported(asked(installed, tmp_path / "a", **base))
    assert report["considered"] == 4
    assert len({row["nn"] for row in report["proposal"]} & set(names)) == 2
    assert [one["nn"] for one in report["refused"]] == ["no"]
    assert report["regret_all"] is None
    shown = command(installed, "--config", tmp_path / "a" / "budget.yaml", "--out", tmp_path / "b")
    assert "1 were refused; the first: the source of 'no' is not Python" in " ".join(shown.stdout.split())
    assert "Regret" not in shown.stdout


@pytest.fixture
def recipe_run(run: RunResult, asking: Callable[[str], Path], tmp_path: Path) -> Path:
    """The run's folder, its adapter asked by the prompt with recipes, under a name of a user's own."""
    folder = older(shutil.copytree(run.output_dir, tmp_path / "recipe-run"))
    shutil.copy(asking("recipe") / "task.json", folder / "adapter" / "task.json")
    note = json.loads((folder / "adapter" / "task.json").read_text())
    (folder / "adapter" / "task.json").write_text(json.dumps(note | {"prompt": "mine"}))
    return folder


@pytest.mark.slow
def test_networks_with_recipes(
    installed: Path, recipe_run: Path, tmp_path: Path, lemur_sources: dict[str, str]
) -> None:
    recipe = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": None, "transform": "norm_32"}
    names = sorted(lemur_sources)[:3]
    frame = pd.DataFrame({"nn": names, "nn_code": [lemur_sources[nn] for nn in names]})
    frame["recipe"] = [json.dumps(recipe), json.dumps(recipe | {"lr": 1.0}), None]
    frame.to_parquet(tmp_path / "codes.parquet")
    base = {"run": str(recipe_run), "codes": str(tmp_path / "codes.parquet"), "datasets": ["mnist", "svhn"]}
    report = reported(asked(installed, tmp_path / "a", **base))
    assert {row["nn"] for row in report["proposal"]} == set(names[:2])
    assert "needs a recipe for 'mnist'" in report["refused"][0]["reason"]
    assert len(reported(asked(installed, tmp_path / "b", **base, recipe=recipe))["proposal"]) == 3
    # Held-out networks bring their own, whatever the prompt is called.
    assert reported(asked(installed, tmp_path / "c", run=str(recipe_run), budget=1))["regret_budget"]["networks"] == 1


def test_held_out_networks_with_accuracies(
    installed: Path, run: RunResult, asking: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = older(shutil.copytree(run.output_dir, tmp_path / "run"))
    shutil.copy(asking("normalized_accuracy") / "task.json", folder / "adapter" / "task.json")
    assert reported(asked(installed, tmp_path / "a", run=str(folder), budget=1))["regret_all"]["networks"] == 5


def ranked(nn: str, probability: dict[tuple[str, str], float], abstains: bool = False) -> Ranking:
    comparisons = tuple(
        Comparison(a, b, a if p >= 0.5 else b, p, 0.0, False, abstains, "m", nn) for (a, b), p in probability.items()
    )
    return ranking_of(sorted({name for pair in probability for name in pair}), comparisons)


def test_what_abstains_is_proposed_last_and_said(plugin: None) -> None:
    from train_budget.report import Report  # type: ignore[import-not-found]
    from train_budget.task import propose  # type: ignore[import-not-found]

    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    found = propose(
        [
            ranked("sure but below the threshold", dict.fromkeys(pairs, 0.99), abstains=True),
            ranked("surer", dict.fromkeys(pairs, 0.9)), ranked("sure", dict.fromkeys(pairs, 0.7)),
        ],
        3,
    )  # fmt: skip
    assert [row.nn for row in found] == ["surer", "sure", "sure but below the threshold"]
    assert [(row.abstains, row.others) for row in found] == [(0, 2), (0, 2), (2, 2)]
    said = str(Report(datasets=["a", "b", "c"], considered=3, proposal=found))
    assert "2 of 2 comparisons abstain" in said


def test_held_out_proposals_are_of_networks_with_the_same_datasets(plugin: None) -> None:
    from train_budget.regret import among, commonest_datasets  # type: ignore[import-not-found]

    known = {"x": {"a": 1.0, "b": 0.5}, "y": {"a": 1, "b": 1, "c": 1}, "z": {"a": 1, "b": 1, "c": 1}}
    assert commonest_datasets(known) == ["a", "b", "c"]
    assert commonest_datasets({"x": known["x"], "y": known["y"]}) == ["a", "b", "c"]  # of two the larger
    pairs = pd.DataFrame({"dataset_1": ["a", "a"], "dataset_2": ["b", "c"]})
    assert among(pairs, ["a", "b"])["dataset_2"].tolist() == ["b"]


def test_its_own_configuration_is_valid(plugin: None) -> None:
    from train_budget.task import Config  # type: ignore[import-not-found]

    assert build_config(Config, read_project(PLUGIN / "demo.yaml", "train_budget")).budget == 20


def test_regret_is_counted_rightly(plugin: None) -> None:
    from train_budget.regret import differences, known_accuracies, prior_choice, regrets

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
    paired = differences(known, {"prior": choice, "best": {"a": "mnist", "b": "svhn"}}, ["a", "b"], "best")
    assert list(paired.index) == ["prior", "chance"]
    assert paired.loc["prior", "difference"] == pytest.approx(-0.1)
    assert paired.loc["prior", "low"] == pytest.approx(-0.2)
    assert paired.loc["prior", "high"] == 0
    even = train.assign(better_dataset=["mnist", "cifar-10", "svhn"])  # in a circle: all strengths are equal
    assert prior_choice(even, test) == {"a": "cifar-10", "b": "mnist"}
