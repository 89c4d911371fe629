"""The early rule: what it answers, what it learns, and what it reaches on real pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nngpt_ext.data.load import PairData, load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.evaluation.baselines import BASELINES, baseline_probabilities
from nngpt_ext.evaluation.baselines.early_rule import early_rule
from nngpt_ext.evaluation.metrics import accuracy, first_wins

from .conftest import pair_rows
from .test_bradley_terry import with_pairs


def pairs(*rows: tuple[str, dict[int, float], dict[int, float], str]) -> pd.DataFrame:
    """Pairs of mnist and svhn from (part, evidence of either, winner)."""
    made = pair_rows([(f"n{i}", "mnist", "svhn", best) for i, (_, _, _, best) in enumerate(rows)])
    return made.assign(split=[row[0] for row in rows], evidence_1=[row[1] for row in rows],
                       evidence_2=[row[2] for row in rows])  # fmt: skip


TRAINED = [
    ("train", {1: 0.9}, {1: 0.8}, "mnist"),
    ("train", {1: 0.5}, {1: 0.7}, "svhn"),
    ("train", {1: 0.4}, {1: 0.6}, "svhn"),
]
TEST = ("test", {1: 0.8}, {1: 0.7}, "mnist")


def asked(first: dict[int, float], second: dict[int, float]) -> float:
    return float(early_rule(with_pairs(pairs(*TRAINED, ("test", first, second, "mnist"))))[0])


def test_the_higher_relative_accuracy_wins() -> None:
    assert asked({1: 0.8}, {1: 0.7}) > 0.5 > asked({1: 0.6}, {1: 0.7})
    assert asked({1: 0.7}, {1: 0.7}) == 0.5  # which names dataset_1, as labels do
    assert asked({1: 0.9}, {1: 0.1}) > asked({1: 0.8}, {1: 0.7})
    assert asked({1: 0.1, 2: 0.8}, {1: 0.9, 2: 0.7}) > 0.5  # the last epoch is compared
    assert asked({1: 1.2}, {1: 1.1}) > 0.5  # better than all in training


def test_a_dataset_that_is_not_trained_has_the_usual_accuracy() -> None:
    assert asked({1: 0.71}, {}) > 0.5 > asked({1: 0.69}, {})  # svhn: 0.7
    assert asked({}, {1: 0.55}) > 0.5 > asked({}, {1: 0.65})  # mnist: 0.6


def test_how_certain_it_is_comes_from_training() -> None:
    """Winners that contradict the rule make it less certain, and change no answer."""
    doubtful = [(part, one, two, "svhn" if best == "mnist" else "mnist") for part, one, two, best in TRAINED[:2]]
    sure, unsure = (float(early_rule(with_pairs(pairs(*rows, TEST)))[0]) for rows in (TRAINED, doubtful))
    assert sure > unsure > 0.5


def test_only_pairs_with_evidence_have_it() -> None:
    names = [name for name, one in BASELINES.items() if one.evidence]
    assert names == ["early_rule", "bt_evidence", "bt_all"]
    made = with_pairs(
        pairs(*TRAINED * 4, ("test", {1: 0.8}, {1: 0.7}, "mnist")), sources={f"n{i}": "x" for i in range(13)}
    )
    assert not set(names) & set(baseline_probabilities(made))


@pytest.fixture(scope="module")
def early() -> PairData:
    """Real pairs by_network, with the best accuracies of epoch 1."""
    evidence = {"epochs": [1], "of": "best"}
    return load_pairs(DataConfig(train_networks=300, test_networks=200, evidence=evidence))


def test_on_real_pairs(early: PairData) -> None:
    """Boosted trees and a ridge regression learn more of the same numbers, and more with recipes and structure."""
    answers = {name: BASELINES[name].fit(early) for name in ("pair_prior", "early_rule", "bt_evidence", "bt_all")}
    found = {name: accuracy(answer, first_wins(early.part("test"))) for name, answer in answers.items()}
    assert 0.8 < found["pair_prior"] < found["early_rule"] < found["bt_evidence"] < found["bt_all"]


def test_answers_of_test_pairs_are_not_looked_at(early: PairData) -> None:
    pairs = early.pairs.assign(better_dataset=np.where(
        early.pairs["split"] == "test", early.pairs["dataset_1"], early.pairs["better_dataset"]
    ))  # fmt: skip
    for name in ("early_rule", "bt_evidence"):
        assert np.array_equal(BASELINES[name].fit(early), BASELINES[name].fit(replace(early, pairs=pairs)))
