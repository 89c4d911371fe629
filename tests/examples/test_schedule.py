"""Epochs as a budget: which datasets a network goes on with, and what that costs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError
from nngpt_ext.settings import build_config, read_project
from tests.examples.test_train_budget import PLUGIN, plugin  # noqa: F401

pytestmark = pytest.mark.usefixtures("plugin")
NAMES = "abcd"
RUNS = Path(__file__).parents[2] / "benchmarks" / "results" / "runs"


def pairs_won(order: str) -> dict[tuple[str, str], float]:
    """Probabilities with which the datasets stand in this order."""
    place = {name: i for i, name in enumerate(order)}
    return {(a, b): 0.8 if place[a] < place[b] else 0.2 for i, a in enumerate(NAMES) for b in NAMES[i + 1 :]}


def candidate(prior: str, before: str, first: str, second: str, **early: tuple[float, float]) -> Any:
    from train_budget.schedule import Candidate  # type: ignore[import-not-found]

    shown = {rung: {name: early.get(name, (0.1, 0.1))[rung - 1] for name in NAMES} for rung in (1, 2)}
    orders = {"prior": prior, 0: before, 1: first, 2: second}
    return Candidate(
        reached=dict(zip(NAMES, (0.9, 0.8, 0.7, 0.6), strict=True)), early=shown,
        probability={key: pairs_won(order) for key, order in orders.items()},
    )  # fmt: skip


def test_successive_halving_stays_in_its_budget() -> None:
    from train_budget.schedule import spent

    assert [spent(n, 5) for n in range(1, 8)] == [5, 6, 7, 9, 10, 12, 13]


def test_each_way_decides_by_what_it_knows() -> None:
    from train_budget.schedule import BOTH, EARLY, PROBABILITIES, chosen

    one = candidate("dcba", "badc", "abcd", "bacd", c=(0.9, 0.5), d=(0.8, 0.6))
    assert chosen(one, EARLY, 5, 5) == ("d", 5)  # the prior's choice
    assert chosen(one, EARLY, 6, 5) == ("c", 6)  # of d and c, which the prior prefers, c leads after epoch 1
    assert chosen(one, EARLY, 12, 5) == ("d", 9)  # all four; of c and d, d leads after epoch 2
    assert chosen(one, PROBABILITIES, 9, 5) == ("b", 5)
    assert chosen(one, PROBABILITIES, 10, 5) == ("a", 10)  # both are trained to the end, and a is better
    assert chosen(one, BOTH, 5, 5) == ("b", 5)
    assert chosen(one, BOTH, 6, 5) == ("a", 6)  # of b and a, the likelier after epoch 1
    assert chosen(one, BOTH, 9, 5) == ("b", 9)  # of a and b, the likelier after epoch 2


def test_regret_is_that_of_the_choices_over_families() -> None:
    from train_budget.schedule import compare

    one, other = (candidate("dcba", before, "abcd", "abcd", c=(0.9, 0.9)) for before in ("abcd", "bacd"))
    found = compare({"x": one, "y": other, "z": other}, {"x": "1", "y": "2", "z": "2"}, "xyz", [5, 6], 5)
    rows = {(row.budget, row.way): row for row in found.rows}
    assert (found.networks, found.families, found.datasets, found.whole) == (3, 2, 4, 20)
    assert rows[5, "early accuracies alone"].regret == pytest.approx(0.3)
    assert rows[5, "probabilities alone"].regret == pytest.approx(0.2 / 3)
    assert (rows[5, "both"].low, rows[5, "both"].high) == (0, pytest.approx(0.1))
    assert rows[6, "both"].regret == 0
    assert rows[6, "early accuracies alone"].both_minus_it == pytest.approx((-0.2, -0.2, -0.2))
    assert "  6 epochs, both                   0.0000 (0.0000 to 0.0000), best dataset chosen: 1.000" in str(found)


def test_on_real_networks_that_training_never_saw(tmp_path: Path) -> None:
    from train_budget.schedule import Config, EpochBudget

    data = {"split": "by_family", "folds": 2, "train_networks": 12, "test_networks": 8}
    config = build_config(Config, {"networks": 10, "budgets": [5, 12], "data": data})
    result = EpochBudget().run(config, tmp_path / "out")
    found = result.report
    assert found.networks == 10
    assert found.datasets >= 2
    assert len(found.rows) == len(result.predictions) == 6
    for row in found.rows:
        assert 0 <= row.low <= row.regret <= row.high <= 1
        assert row.epochs <= row.budget
    with pytest.raises(UserError, match="already has a report"):
        EpochBudget().run(config, tmp_path / "out")


def test_its_configuration() -> None:
    from train_budget.schedule import Config

    assert build_config(Config, read_project(PLUGIN / "epochs.yaml", "epoch_budget")) == Config()
    with pytest.raises(UserError, match="a budget is 5 epochs or more, one whole training, not 4"):
        build_config(Config, {"budgets": [4, 6]})


def test_a_run_stands_for_the_trees_only_if_it_knew_no_more(tmp_path: Path) -> None:
    from train_budget.schedule import check_run, of_run

    data = build_config(DataConfig, {"split": "by_family"})
    for name, change, said in [
        ("level", {"family_level": "strict"}, r"has data.family_level strict, not near: it may have seen"),
        ("seed", {"seed": 1}, r"has data.seed 1, not 0: it may have seen"),
        ("fold", {"fold": 0}, r"has data.fold 0, not None"),
        ("knows", {"evidence": {"epochs": [1]}}, r"knows 1 epochs of training; name it as runs.1, not runs.0"),
    ]:
        folder = tmp_path / name
        folder.mkdir()
        own = {"data": {"split": "by_family", **change}}
        (folder / "config.yaml").write_text(yaml.safe_dump(own))
        with pytest.raises(UserError, match=r"no finished run at .*\(runs.0\)"):
            check_run(folder, 0, data)
        shutil.copy(RUNS / "families-near" / "fold-0" / "predictions.parquet", folder)
        with pytest.raises(UserError, match=said):
            check_run(folder, 0, data)
    tested = pd.read_parquet(folder / "predictions.parquet").query("split == 'test'")
    assert of_run(folder, tested[::-1]).tolist() == tested["calibrated_1"].tolist()[::-1]
    other = tested.assign(better_dataset=tested["dataset_1"])
    with pytest.raises(UserError, match=r"was not tested on these trials: 0 of 271 .*, \d+ have another winner"):
        of_run(folder, other)
    with pytest.raises(UserError, match="1 of 271 pairs are not among its test pairs, 0 have"):
        of_run(folder, tested.assign(nn=["unknown", *tested["nn"][1:]]))
