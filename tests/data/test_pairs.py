"""Pairs: the real numbers, the label rules, and that nothing depends on the order of the rows."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.pairs import PAIR_COLUMNS, build_pairs, datasets_of, usual_winner_share
from nngpt_ext.data.trials import RECIPE, collect
from nngpt_ext.errors import UserError
from tests.data.small import made, one_line

# Best of all: cifar-10 0.8, mnist 1.0, svhn 0.5.
MADE = made(
    ("a", "mnist", 0.9), ("a", "mnist", 0.5), ("a", "cifar-10", 0.8), ("a", "cifar-10", 0.1), ("a", "cifar-10", 0.2),
    ("b", "mnist", 0.5), ("b", "cifar-10", 0.4), ("b", "svhn", 0.125),
    ("alone", "mnist", 1.0), ("alone", "mnist", 0.2), ("other", "svhn", 0.5),
)  # fmt: skip


def test_by_hand() -> None:
    pairs = build_pairs(MADE, 5)
    assert tuple(pairs.columns) == PAIR_COLUMNS
    found = [tuple(row) for row in pairs[list(PAIR_COLUMNS[:9])].itertuples(index=False)]
    assert found == [
        ("a", 5, "cifar-10", "mnist", 0.8, 0.9, 1.0, 0.9, "cifar-10"),
        ("b", 5, "cifar-10", "mnist", 0.4, 0.5, 0.5, 0.5, "cifar-10"),
        ("b", 5, "cifar-10", "svhn", 0.4, 0.125, 0.5, 0.25, "cifar-10"),
        ("b", 5, "mnist", "svhn", 0.5, 0.125, 0.5, 0.25, "mnist"),
    ]
    assert pairs["recipe_1"][0] == {"lr": 2.0, "batch": 8, "momentum": None, "dropout": None, "transform": "t"}
    assert pairs["recipe_2"][0]["lr"] == 0.0
    assert_frame_equal(build_pairs(MADE.sample(frac=1, random_state=1), 5), pairs)


def test_dataset_1_wins_a_tie_and_nothing_is_rounded() -> None:
    best = ("top", "mnist", 1.0), ("top", "cifar-10", 1.0)
    for mnist, expected in ((0.5, "cifar-10"), (math.nextafter(0.5, 1), "mnist"), (math.nextafter(0.5, 0), "cifar-10")):
        pairs = build_pairs(made(*best, ("x", "mnist", mnist), ("x", "cifar-10", 0.5)), 5)
        row = pairs[pairs["nn"] == "x"].iloc[0]
        assert row["better_dataset"] == expected
        assert row["margin"] == abs(mnist - 0.5)


def test_a_dataset_on_which_nothing_learned_counts_as_zero() -> None:
    pairs = build_pairs(made(("x", "mnist", 0.0), ("x", "svhn", 0.4), ("x", "cifar-10", 0.0)), 5)
    assert pairs["better_dataset"].tolist() == ["cifar-10", "svhn", "svhn"]
    assert pairs["norm_acc_1"].tolist() == [0.0, 0.0, 0.0]


def test_other_epochs_play_no_part() -> None:
    later = MADE.assign(epoch=6, accuracy=1.0)
    assert_frame_equal(build_pairs(pd.concat([later, MADE]), 5), build_pairs(MADE, 5))


def test_an_epoch_without_pairs() -> None:
    for trials in (MADE, MADE[MADE["nn"] == "alone"], MADE.iloc[:0]):
        with pytest.raises(UserError) as error:
            build_pairs(trials, 5 if len(trials) < len(MADE) else 77)
        message = one_line(error.value)
        assert message.startswith("no pairs at epoch ")
        assert ("epochs with trials: 5" in message) == (len(trials) == len(MADE))


def test_unknown_label_and_trials() -> None:
    with pytest.raises(UserError, match=r"unknown label 'percent' \(did you mean 'percentile'\?\)"):
        build_pairs(MADE, 5, label="percent")
    with pytest.raises(UserError, match="known: all, best, random"):
        build_pairs(MADE, 5, use="worst")


def test_recipes_are_plain_values() -> None:
    records = [
        ("a", dataset, 5, 0.5, 0.5, batch, None, 0.1, "t") for dataset, batch in (("mnist", 4.0), ("svhn", None))
    ]
    pairs = build_pairs(collect([(*records[0][:-1], None), records[1]], {"a"}, LEMUR_FACTS).frame, 5)
    one, two = pairs["recipe_1"][0], pairs["recipe_2"][0]
    assert one == {"lr": 0.5, "batch": 4, "momentum": None, "dropout": 0.1, "transform": None}
    assert two == {"lr": 0.5, "batch": None, "momentum": None, "dropout": 0.1, "transform": "t"}
    assert [type(value) for value in one.values()] == [float, int, type(None), float, type(None)]


def test_datasets_of() -> None:
    assert datasets_of(build_pairs(MADE, 5)) == {"a": ("cifar-10", "mnist"), "b": ("cifar-10", "mnist", "svhn")}


# Made-up trials: few names and few values, so that ties and several trials are common.
TRIALS = st.lists(
    st.tuples(
        st.sampled_from(["a", "a-b", "b_c", "z"]), st.sampled_from(["mnist", "cifar-10", "cifar-100", "svhn"]),
        st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.50000001, 0.7, 1.0]), st.sampled_from([0.1, 0.01, None]),
        st.sampled_from(["t", "u", None]),
    ),
    min_size=1,
    max_size=25,
)  # fmt: skip


def frame_of(rows: list[tuple]) -> pd.DataFrame:
    return collect(
        [(nn, d, 5, acc, lr, 8, None, 0.5, t) for nn, d, acc, lr, t in rows], {r[0] for r in rows}, LEMUR_FACTS
    ).frame


def pairable(rows: list[tuple]) -> dict[str, list[str]]:
    networks = {row[0] for row in rows}
    found = {nn: sorted({row[1] for row in rows if row[0] == nn}) for nn in networks}
    return {nn: datasets for nn, datasets in found.items() if len(datasets) >= 2}


@given(TRIALS, st.sampled_from(["best", "random", "all"]), st.sampled_from(["normalized", "percentile"]), st.randoms())
def test_the_order_of_rows_plays_no_part(rows: list[tuple], use: str, label: str, random) -> None:
    if not pairable(rows):
        return
    frame = frame_of(rows)
    mixed = frame.iloc[random.sample(range(len(frame)), len(frame))]
    expected = build_pairs(frame, 5, use=use, label=label)
    assert_frame_equal(build_pairs(mixed, 5, use=use, label=label), expected, check_exact=True)
    random.shuffle(rows)
    assert_frame_equal(build_pairs(frame_of(rows), 5, use=use, label=label), expected, check_exact=True)


@given(TRIALS)
def test_best_against_a_plain_loop(rows: list[tuple]) -> None:
    expected = []
    top = {d: max(r[2] for r in rows if r[1] == d) for d in {r[1] for r in rows}}
    for nn, datasets in sorted(pairable(rows).items()):
        best = {d: max(r[2] for r in rows if r[:2] == (nn, d)) for d in datasets}
        norm = {d: best[d] / top[d] if top[d] else 0.0 for d in datasets}
        expected += [
            (nn, a, b, best[a], best[b], norm[a], norm[b], a if norm[a] >= norm[b] else b, abs(norm[a] - norm[b]))
            for a, b in combinations(datasets, 2)
        ]
    if expected:
        found = build_pairs(frame_of(rows), 5).drop(columns=["epoch", "recipe_1", "recipe_2"])
        assert [tuple(row) for row in found.itertuples(index=False)] == expected


@given(TRIALS, st.integers(0, 3))
def test_all_shows_every_trial_and_no_more_than_it_must(rows: list[tuple], seed: int) -> None:
    rows = [(nn, d, acc, i, t) for i, (nn, d, acc, _, t) in enumerate(rows)]  # lr tells the trials apart
    if not pairable(rows):
        return
    pairs = build_pairs(frame_of(rows), 5, use="all", seed=seed)
    numbers = {key: {row[3] for row in rows if row[:2] == key} for key in {(row[0], row[1]) for row in rows}}
    for nn, datasets in pairable(rows).items():
        for a, b in combinations(datasets, 2):
            some = pairs[(pairs["nn"] == nn) & (pairs["dataset_1"] == a) & (pairs["dataset_2"] == b)]
            assert len(some) == max(len(numbers[nn, a]), len(numbers[nn, b]))
            for side, dataset in (("recipe_1", a), ("recipe_2", b)):
                uses = some[side].map(lambda recipe: int(recipe["lr"])).value_counts()
                assert set(uses.index) == numbers[nn, dataset]
                assert uses.max() - uses.min() <= 1
    top = {d: max(r[2] for r in rows if r[1] == d) for d in {r[1] for r in rows}}
    for side in (1, 2):
        best = pairs[f"dataset_{side}"].map(top)
        norm = (pairs[f"accuracy_{side}"] / best.where(best > 0, np.inf)).tolist()
        assert pairs[f"norm_acc_{side}"].tolist() == norm  # by the best of the dataset, not of the chosen trials
    first = pairs["norm_acc_1"] >= pairs["norm_acc_2"]
    assert (pairs["better_dataset"] == pairs["dataset_1"].where(first, pairs["dataset_2"])).all()


def test_epoch_5_of_lemur(lemur_pairs: pd.DataFrame) -> None:
    assert len(lemur_pairs) == 19_314
    assert lemur_pairs["nn"].nunique() == 1_942
    assert round(usual_winner_share(lemur_pairs), 4) == 0.8217
    assert int((lemur_pairs["norm_acc_1"] == lemur_pairs["norm_acc_2"]).sum()) == 1
    tie = lemur_pairs[lemur_pairs["margin"] == 0].iloc[0]
    assert tie["better_dataset"] == tie["dataset_1"]
    assert round(100 * (lemur_pairs["margin"] < 0.01).mean(), 1) == 4.8
    assert round(100 * (lemur_pairs["margin"] < 0.05).mean(), 1) == 15.9


@pytest.mark.parametrize(
    ("epoch", "n"),
    [(1, 23_176), *(pytest.param(e, n, marks=pytest.mark.slow) for e, n in ((2, 19_452), (10, 1_314), (20, 1_294)))],
)
def test_other_epochs_of_lemur(lemur_source, epoch: int, n: int) -> None:
    assert len(build_pairs(read_trials(lemur_source, epoch).frame, epoch)) == n


def test_rows_of_real_pairs(lemur_pairs: pd.DataFrame) -> None:
    pairs = lemur_pairs
    assert tuple(pairs.columns) == PAIR_COLUMNS
    assert (pairs["dataset_1"] < pairs["dataset_2"]).all()
    assert not pairs.duplicated(["nn", "dataset_1", "dataset_2"]).any()
    assert pairs[["nn", "dataset_1", "dataset_2"]].apply(tuple, axis=1).is_monotonic_increasing
    assert (pairs["epoch"] == 5).all()
    assert "nn_code" not in pairs
    for side in ("1", "2"):
        assert pairs[f"norm_acc_{side}"].between(0, 1).all()
        assert {tuple(recipe) for recipe in pairs[f"recipe_{side}"]} == {tuple(RECIPE)}
    first = pairs["norm_acc_1"] >= pairs["norm_acc_2"]
    assert (pairs["better_dataset"] == pairs["dataset_1"].where(first, pairs["dataset_2"])).all()
    assert ((pairs["norm_acc_1"] - pairs["norm_acc_2"]).abs() == pairs["margin"]).all()


def test_real_percentiles_against_pandas(lemur_trials, lemur_pairs: pd.DataFrame) -> None:
    best = lemur_trials.frame.groupby(["nn", "dataset"], as_index=False)["accuracy"].max()
    best = best[best.groupby("nn")["dataset"].transform("size") >= 2]
    ranks = best.groupby("dataset")["accuracy"]
    score = ranks.rank(method="average") / ranks.transform("size")
    table = dict(zip(zip(best["nn"], best["dataset"], strict=True), score, strict=True))
    pairs = build_pairs(lemur_trials.frame, 5, label="percentile")
    one, two = (
        np.array([table[key] for key in zip(pairs["nn"], pairs[d], strict=True)]) for d in ("dataset_1", "dataset_2")
    )
    np.testing.assert_allclose(pairs["margin"], np.abs(one - two), atol=1e-12)
    assert (pairs["better_dataset"] == np.where(one >= two, pairs["dataset_1"], pairs["dataset_2"])).all()
    assert 0.5 < usual_winner_share(pairs) < 0.56  # the usual winner wins nothing here
    same = [name for name in PAIR_COLUMNS if name not in ("better_dataset", "margin")]
    assert_frame_equal(pairs[same], lemur_pairs[same])


def test_random_trials_are_seeded(lemur_trials, lemur_pairs: pd.DataFrame) -> None:
    pairs = build_pairs(lemur_trials.frame, 5, use="random", seed=0)
    mixed = lemur_trials.frame.sample(frac=1, random_state=1)
    assert_frame_equal(build_pairs(mixed, 5, use="random", seed=0), pairs, check_exact=True)
    other = build_pairs(lemur_trials.frame, 5, use="random", seed=1)
    assert 0.3 < (other["accuracy_1"] != pairs["accuracy_1"]).mean() < 0.95
    keys = ["nn", "dataset_1", "dataset_2"]
    assert_frame_equal(pairs[keys], lemur_pairs[keys])
    assert (pairs["accuracy_1"] <= lemur_pairs["accuracy_1"]).all()
    # One trial a network and dataset: the same one in each pair that they are in.
    assert pairs.groupby(["nn", "dataset_1"])["accuracy_1"].nunique().max() == 1
    assert usual_winner_share(pairs) == pytest.approx(0.801, abs=0.01)


def test_a_random_trial_does_not_depend_on_its_neighbours(lemur_trials) -> None:
    some = sorted(lemur_trials.frame["nn"].unique())[:300:3]
    part = lemur_trials.frame[lemur_trials.frame["nn"].isin(some)]
    whole = build_pairs(lemur_trials.frame, 5, use="random", seed=4)
    whole = whole[whole["nn"].isin(some)].reset_index(drop=True)
    columns = ["nn", "dataset_1", "dataset_2", "accuracy_1", "accuracy_2", "recipe_1", "recipe_2"]
    assert_frame_equal(build_pairs(part, 5, use="random", seed=4)[columns], whole[columns])


def test_all_real_trials_occur(lemur_trials, lemur_pairs: pd.DataFrame) -> None:
    some = set(lemur_pairs["nn"].unique()[::5])
    trials = lemur_trials.frame[lemur_trials.frame["nn"].isin(some)]
    pairs, lemur_pairs = build_pairs(trials, 5, use="all"), lemur_pairs[lemur_pairs["nn"].isin(some)]
    per = trials.groupby(["nn", "dataset"]).size()
    found = pairs.groupby(["nn", "dataset_1", "dataset_2"]).size()
    assert set(found.index) == set(lemur_pairs[["nn", "dataset_1", "dataset_2"]].itertuples(index=False, name=None))
    assert all(n == max(per[nn, a], per[nn, b]) for (nn, a, b), n in found.items())
    for side in ("1", "2"):
        keys = pairs[["nn", f"dataset_{side}", f"accuracy_{side}"]].assign(
            lr=[r["lr"] for r in pairs[f"recipe_{side}"]]
        )
        shown = set(keys.itertuples(index=False, name=None))
        in_pair = trials.merge(
            pairs[["nn", f"dataset_{side}"]].drop_duplicates(),
            left_on=["nn", "dataset"],
            right_on=["nn", f"dataset_{side}"],
        )
        assert shown == set(in_pair[["nn", "dataset", "accuracy", "lr"]].itertuples(index=False, name=None))
    assert (build_pairs(trials, 5, use="all", seed=1)["accuracy_1"] != pairs["accuracy_1"]).any()


def test_parquet_round_trip(lemur_pairs: pd.DataFrame, tmp_path: Path) -> None:
    pairs = pd.concat([lemur_pairs.head(1_000), lemur_pairs[[r["momentum"] is None for r in lemur_pairs["recipe_1"]]]])
    pairs = pairs.reset_index(drop=True)
    assert any(recipe["dropout"] is None for recipe in pairs["recipe_1"])
    pairs.to_parquet(tmp_path / "pairs.parquet", index=False)
    found = pd.read_parquet(tmp_path / "pairs.parquet")
    assert_frame_equal(found, pairs, check_exact=True)
    assert found["recipe_1"].tolist() == pairs["recipe_1"].tolist()
    assert type(found["recipe_1"][0]["batch"]) is int
