"""Priors for datasets that training never had."""

from __future__ import annotations

import numpy as np

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.evaluation.baselines.unseen import facts_prior, opponent_prior

from .conftest import pair_rows

TRAIN = pair_rows(
    [*[(f"n{i}", "mnist", "svhn", "mnist") for i in range(6)], ("n6", "mnist", "svhn", "svhn"),
     *[(f"n{i}", "cifar-10", "mnist", "mnist") for i in range(3)]]
)  # fmt: skip


def test_the_opponent_prior_is_how_often_the_known_dataset_wins() -> None:
    asked = pair_rows(
        [("z", "flowers", "mnist", "mnist"), ("z", "mnist", "pets", "pets"), ("z", "flowers", "pets", "pets")]
    )
    mnist = (9 + 1) / (10 + 2)
    assert np.allclose(opponent_prior(TRAIN, asked), [1 - mnist, mnist, 0.5])
    assert np.allclose(opponent_prior(TRAIN, asked.assign(better_dataset="flowers")), [1 - mnist, mnist, 0.5])


def test_the_facts_prior_carries_a_rule_to_a_new_dataset() -> None:
    sizes = {"a": 10, "b": 100, "c": 1_000, "d": 10_000, "e": 50, "f": 100_000}
    facts = {name: DatasetFacts(n, 32, 3, 10) for name, n in sizes.items()}
    known = ["a", "b", "c", "d"]  # the larger one wins, in nine of ten networks
    rows = [
        (f"n{i}", one, two, two if i % 10 else one)
        for i in range(100) for one in known for two in known if sizes[one] < sizes[two]
    ]  # fmt: skip
    asked = pair_rows([("z", "a", "e", "e"), ("z", "c", "e", "c"), ("z", "d", "f", "f"), ("z", "e", "f", "e")])
    found = facts_prior(pair_rows(rows), asked, facts)
    assert (found >= 0.5).tolist() == [False, True, False, False]
    turned = asked.rename(columns={"dataset_1": "dataset_2", "dataset_2": "dataset_1"})
    assert np.allclose(facts_prior(pair_rows(rows), turned, facts), 1 - found)
