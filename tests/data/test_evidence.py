"""Early evidence of pairs: found by trial, divided by what training networks had, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nngpt_ext.data.evidence import EarlyTrials, EvidenceConfig, relative
from nngpt_ext.data.load import Records, load_pairs, read_records
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.trials import Trials, in_order
from nngpt_ext.errors import UserError
from nngpt_ext.settings import build_config
from tests.data.small import made, one_line

SIDES = ("1", "2")


def config(tree: Path, **options) -> DataConfig:
    evidence = {"epochs": [1, 2], **{name: options.pop(name) for name in ("of", "sides") if name in options}}
    return DataConfig(path=str(tree), evidence=evidence, **options)


def shown(*tables: pd.DataFrame) -> dict[tuple[str, ...], dict[int, float]]:
    """The evidence of each network on a dataset with a recipe."""
    return {
        (nn, dataset, str(recipe)): known
        for pairs in tables
        for i in SIDES
        for nn, dataset, recipe, known in pairs[
            ["nn", f"dataset_{i}", f"recipe_{i}", f"evidence_{i}"]
        ].itertuples(index=False, name=None)
    }  # fmt: skip


def changed(records: Records, epochs: tuple[int, ...], networks: set[str] | None = None, seed: int = 0) -> Records:
    """The same records with other accuracies at some epochs, of all networks or some."""
    rng = np.random.default_rng(seed)

    def other(found: Trials) -> Trials:
        frame = found.frame.copy()
        rows = frame["nn"].isin(networks) if networks is not None else np.ones(len(frame), dtype=bool)
        frame.loc[rows, "accuracy"] = rng.random(int(rows.sum()))
        return replace(found, frame=in_order(frame))

    early = {epoch: other(found) if epoch in epochs else found for epoch, found in records.early.items()}
    return replace(records, trials=other(records.trials) if 5 in epochs else records.trials, early=early)


def test_no_later_record_reaches_the_evidence(tree: Path) -> None:
    """All accuracies of the epoch that is compared are replaced: labels change, and what questions show does not."""
    one = config(tree, trials="all")
    records = read_records(one)
    before, after = load_pairs(one, records), load_pairs(one, changed(records, (5,)))
    assert (before.pairs["better_dataset"] != after.pairs["better_dataset"]).mean() > 0.2
    known, later = shown(before.training), shown(after.training)
    both = known.keys() & later.keys()  # a trial is left out if the one that it is compared with has no evidence
    assert len(both) > 0.95 * len(known) > 1000
    assert {key: known[key] for key in both} == {key: later[key] for key in both}
    assert before.early_best == after.early_best


@pytest.mark.parametrize("epoch", [1, 2])
def test_no_later_record_reaches_the_evidence_of_the_best(tree: Path, epoch: int) -> None:
    """Whichever trial is the best one later: evidence of one epoch depends on that epoch only."""
    one = config(tree, of="best")
    records = read_records(one)
    before, after = (
        load_pairs(one, found) for found in (records, changed(records, tuple({1, 2, 5} - {epoch})))
    )  # fmt: skip
    assert (before.pairs["better_dataset"] != after.pairs["better_dataset"]).mean() > 0.2
    for i in SIDES:
        one_epoch = [[known[epoch] for known in data.pairs[f"evidence_{i}"]] for data in (before, after)]
        assert one_epoch[0] == one_epoch[1]


def test_networks_that_are_tested_scale_nothing(tree: Path) -> None:
    """Other early accuracies of the test networks change their own evidence only."""
    one = config(tree, of="same", trials="all")
    records = read_records(one)
    before = load_pairs(one, records)
    tested = set(before.part("test")["nn"]) | set(before.part("validation")["nn"])
    after = load_pairs(one, changed(records, (1, 2), tested))
    assert shown(after.training) == shown(before.training)
    assert after.early_best == before.early_best
    assert shown(after.part("test")) != shown(before.part("test"))
    first = records.early[1].frame
    first = first[first["nn"].isin(set(before.training["nn"]))]
    assert {name: tops[1] for name, tops in before.early_best.items()} == (
        first.groupby("dataset")["accuracy"].max().to_dict()
    )


def test_the_same_trial_is_found_by_its_recipe(tree: Path) -> None:
    one = config(tree, of="same", trials="random")
    records = read_records(one)
    data = load_pairs(one, records)
    row = data.part("test").iloc[0]
    frame = records.early[2].frame
    rows = frame[(frame["nn"] == row["nn"]) & (frame["dataset"] == row["dataset_1"])]
    found = rows[(rows["lr"] == row["recipe_1"]["lr"]) & (rows["momentum"] == row["recipe_1"]["momentum"])]
    assert found["accuracy"].tolist() == [row["evidence_1"][2] * data.early_best[row["dataset_1"]][2]]


def test_pairs_of_further_training_trials_are_not_counted_as_left_out(tree: Path) -> None:
    alone = load_pairs(config(tree, of="same", trials="random")).without_evidence
    assert sum(alone.values()) > 0
    assert load_pairs(config(tree, of="same", trials="all", test_trials="random")).without_evidence == alone


def test_pairs_without_evidence_are_counted_by_reason() -> None:
    late = made(("a", "mnist", 0.9), ("a", "svhn", 0.5), ("b", "mnist", 0.8), ("b", "svhn", 0.7), ("c", "mnist", 0.6),
                ("c", "svhn", 0.4))  # fmt: skip
    early = made(("a", "mnist", 0.7), ("a", "svhn", 0.2), ("b", "mnist", 0.6), epoch=1)
    early = early[early["lr"] < 3]
    twice = pd.concat([late, late[late["nn"] == "c"]], ignore_index=True)
    found = EarlyTrials(EvidenceConfig(epochs=[1]), twice, {1: early}, 0)
    pairs = found.join(build_pairs(late, 5))
    assert pairs["nn"].tolist() == ["a"]
    assert pairs[["evidence_1", "evidence_2"]].iloc[0].tolist() == [{1: 0.7}, {1: 0.2}]
    assert found.excluded == {"no accuracy at epoch 1": 1, "several trials with one recipe": 1}
    assert found.trained(pairs) == {"sides": 2, "trials": 2}
    with pytest.raises(UserError, match="no pair has accuracies at epoch 1"):
        EarlyTrials(EvidenceConfig(epochs=[1]), late, {1: early[:0]}, 0).join(build_pairs(late, 5))


def test_one_side_may_be_known_only(tree: Path) -> None:
    data = load_pairs(config(tree, of="best", sides="one"))
    known = [bool(first) for first in data.pairs["evidence_1"]]
    assert known == [not second for second in data.pairs["evidence_2"]]
    assert 0.3 < np.mean(known) < 0.7
    assert load_pairs(config(tree, of="best", sides="one")).pairs.equals(data.pairs)


def test_what_evidence_costs(tree: Path) -> None:
    data = load_pairs(config(tree, of="best"))
    counted = data.evidence
    assert counted["trials"] > counted["sides"] > 0
    said = EvidenceConfig(epochs=[1], of="best").note(5, {"sides": 10, "trials": 86}, {"no accuracy at epoch 1": 1200})
    assert said == (
        "Evidence: accuracies at epoch 1 on both datasets, which took 1 of 5 epochs of all trials (8.6 a dataset), as "
        "much as 1.7 whole trainings on each dataset. Pairs of tested trials, in all parts, that were left out: "
        "no accuracy at epoch 1 (1,200)."
    )


def test_tested_on_random_trials_trained_on_all(tree: Path) -> None:
    data = load_pairs(config(tree, trials="all", test_trials="random"))
    drawn = load_pairs(config(tree, trials="random"))
    keys = ["nn", "dataset_1", "dataset_2", "accuracy_1", "accuracy_2"]
    assert data.part("test")[keys].equals(drawn.part("test")[keys])
    assert len(data.training) > 2 * len(drawn.training)


def test_a_dataset_that_training_did_not_have_is_not_scaled() -> None:
    assert relative({1: 0.5}, "flowers", {"mnist": {1: 0.5}}) == {1: 0.5}
    assert relative({1: 0.5}, "mnist", {"mnist": {1: 0.8}}) == {1: 0.625}


@pytest.mark.parametrize(
    ("evidence", "said"),
    [({"epochs": [5]}, "earlier than epoch 5"), ({"epochs": [0]}, "from 1"), ({"of": "bset"}, "did you mean 'best'")],
)
def test_wrong_values_are_named(evidence, said) -> None:
    with pytest.raises(UserError, match=said) as error:
        build_config(DataConfig, {"evidence": evidence})
    one_line(error.value)
