"""Pairs and baselines before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.baselines import BASELINES
from nngpt_ext.tasks.inspection import evaluate_baselines, summarize_pairs
from tests.tasks.conftest import TASK


def test_pairs_are_counted_by_part(tmp_path: Path) -> None:
    found = summarize_pairs(DataConfig(), tmp_path / "pairs.parquet")
    pairs = pd.read_parquet(found["out"])
    assert found["pairs"] == len(pairs) == sum(part["pairs"] for part in found["split"].values())
    assert found["networks"] == pairs["nn"].nunique()
    assert 0.8 < found["pair_prior"] < 0.9
    assert pairs["split"].value_counts().to_dict() == {name: part["pairs"] for name, part in found["split"].items()}
    assert "split" not in summarize_pairs(DataConfig(), split=False)


def test_pairs_with_early_accuracies_and_those_without(tmp_path: Path) -> None:
    config = DataConfig.model_validate({"trials": "random", "evidence": {"epochs": [1, 2]}})
    found = summarize_pairs(config, tmp_path / "pairs.parquet")
    pairs = pd.read_parquet(found["out"])
    without = pairs["no_evidence"].value_counts().to_dict()
    assert without.pop("") > 10_000
    assert found["evidence"]["left_out"] == without
    assert set(without) == {"no accuracy at epoch 1", "several trials with one recipe"}
    known = pairs[pairs["no_evidence"] == ""]
    assert all(set(sides) == {"1", "2"} and min(sides.values()) >= 0 for sides in known["evidence_1"])


def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        summarize_pairs(DataConfig(source="sqlite", path="none.db"), tmp_path / "none" / "pairs.parquet")
    with pytest.raises(UserError, match="it is a folder"):
        summarize_pairs(DataConfig(source="sqlite", path="none.db"), tmp_path)


def test_baselines_are_measured_on_test_pairs() -> None:
    found = evaluate_baselines(DataConfig.model_validate(TASK["data"]))
    assert found["n_test_networks"] == 3
    assert found["n_train_pairs"] > 3 * 21  # of all trials
    prior = found["baselines"]["pair_prior"]
    assert prior["ci95"][0] <= prior["accuracy"] <= prior["ci95"][1]
    assert prior["difference"]["value"] == 0


def test_baselines_of_all_folds_are_pooled() -> None:
    config = DataConfig(split="by_family", folds=2, trials="best", train_networks=40)
    found = evaluate_baselines(config)
    assert [part["fold"] for part in found["parts"]] == [0, 1]
    assert found["n_test_networks"] == sum(part["n_test_networks"] for part in found["parts"]) == 337
    assert found["intervals_over"] == "families"
    assert set(found["baselines"]) == {name for name, one in BASELINES.items() if not (one.evidence or one.unseen)}
    for figures in found["baselines"].values():
        assert figures["beyond_best_prior"]["prior"] in ("pair_prior", "kind_prior")
        assert figures["families"]["families"] == 203
        assert 0 < figures["families"]["largest_share"] < 0.2
    alone = evaluate_baselines(config.model_copy(update={"fold": 1}))
    assert alone["n_test_pairs"] == found["parts"][1]["n_test_pairs"]
    assert "parts" not in alone


def test_baselines_of_datasets_held_out_in_turn() -> None:
    config = DataConfig(split="by_dataset", train_networks=20, test_networks=10)
    found = evaluate_baselines(config)
    assert [part["held_out"] for part in found["parts"]] == list(LEMUR_FACTS)
    assert [part["n_test_networks"] for part in found["parts"]] == [10] * 7
    assert found["intervals_over"] is None
    assert set(found["baselines"]) == {name for name, one in BASELINES.items() if not one.evidence}
    for figures in found["baselines"].values():
        values = figures["datasets"]
        assert list(values) == list(LEMUR_FACTS)
        assert figures["median"] == sorted(values.values())[3]
    alone = evaluate_baselines(config.model_copy(update={"fold": 4}))
    assert (alone["held_out"], alone["n_test_pairs"]) == ("mnist", found["parts"][4]["n_test_pairs"])
    for name, figures in alone["baselines"].items():
        assert figures["accuracy"] == pytest.approx(found["baselines"][name]["datasets"]["mnist"], abs=1e-4)
        assert figures["beyond_best_prior"]["prior"] in ("opponent_prior", "facts_prior")


def test_baselines_with_early_evidence() -> None:
    data = {"train_networks": 60, "test_networks": 30, "trials": "random", "evidence": {"epochs": [1]}}
    found = evaluate_baselines(DataConfig.model_validate(data))
    assert set(found["baselines"]) == set(BASELINES) - {"opponent_prior", "facts_prior"}  # of a dataset held out
    assert found["test_trials"] == "random"
    evidence = found["evidence"]
    assert evidence["trials"] == evidence["sides"] > 60
    assert set(evidence["left_out"]) == {"no accuracy at epoch 1", "several trials with one recipe"}
    assert "took 1 of 5 epochs of the trial that is compared, as much as 0.2 whole trainings" in found["note"]
    assert found["baselines"]["early_rule"]["difference"]["value"] > 0
