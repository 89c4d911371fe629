"""Checking raw records: nothing is dropped without being counted, and the order is always one."""

from __future__ import annotations

import math
import random
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.trials import COLUMNS, collect, in_order

NAN, INF = float("nan"), float("inf")


def record(accuracy: Any, nn: str = "net", dataset: str = "mnist", lr: Any = 0.1, batch: Any = 8, **more: Any) -> tuple:
    return (nn, dataset, 5, accuracy, lr, batch, more.get("momentum"), more.get("dropout"), more.get("transform", "t"))


@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [
        (None, "accuracy missing"),
        ("high", "accuracy not a number"),
        (True, "accuracy not a number"),
        ("", "accuracy not a number"),
        ([0.5], "accuracy not a number"),
        ({}, "accuracy not a number"),
        (NAN, "accuracy not finite"),
        (INF, "accuracy not finite"),
        (-INF, "accuracy not finite"),
        ("nan", "accuracy not finite"),
        (1.7, "accuracy outside [0, 1]"),
        (-0.1, "accuracy outside [0, 1]"),
        (87, "accuracy outside [0, 1]"),
        (10**400, "accuracy outside [0, 1]"),
        (math.nextafter(1.0, 2.0), "accuracy outside [0, 1]"),
    ],
)
def test_an_unusable_accuracy_is_counted(accuracy: Any, reason: str) -> None:
    trials = collect([record(accuracy), record(0.5)], {"net"}, LEMUR_FACTS)
    assert trials.excluded == {reason: 1}
    assert trials.frame["accuracy"].tolist() == [0.5]


@pytest.mark.parametrize(("accuracy", "value"), [("0.25", 0.25), (0, 0.0), (1, 1.0), (-0.0, 0.0), (1.0, 1.0)])
def test_a_number_in_another_type_is_a_number(accuracy: Any, value: float) -> None:
    trials = collect([record(accuracy)], {"net"}, LEMUR_FACTS)
    assert trials.frame["accuracy"].tolist() == [value]
    assert trials.excluded == {}


def test_each_trial_has_one_reason() -> None:
    records = [
        record(2.0, nn="unknown", dataset="imagenet-22k"),  # the accuracy comes first
        record(0.5, nn="unknown", dataset="imagenet-22k"),  # then the source
        record(0.5, dataset="imagenet-22k"),
        record(0.5, dataset="MNIST"),
        record(0.5),
    ]
    assert collect(records, {"net"}, LEMUR_FACTS).excluded == {
        "accuracy outside [0, 1]": 1,
        "no facts of dataset 'MNIST'": 1,
        "no facts of dataset 'imagenet-22k'": 1,
        "network without source": 1,
    }


def test_columns_and_types() -> None:
    frame = collect(
        [record(1, lr="0.5", batch=4, transform="norm_32"), record(0.5, transform=None)], {"net"}, LEMUR_FACTS
    ).frame
    assert tuple(frame.columns) == COLUMNS
    assert {name: str(kind) for name, kind in frame.dtypes.items() if str(kind) in {"float64", "int64"}} == {
        "epoch": "int64", "accuracy": "float64", "lr": "float64", "batch": "float64", "momentum": "float64",
        "dropout": "float64",
    }  # fmt: skip
    assert frame["lr"].tolist() == [0.5, 0.1]
    assert frame["momentum"].isna().all()
    assert frame["transform"].isna().tolist() == [False, True]  # not the text "None"


@pytest.mark.parametrize("value", [None, "fast", [], NAN, INF, -INF, 10**400])
def test_a_recipe_value_that_is_no_number_is_missing(value: Any) -> None:
    frame = collect([record(0.5, lr=value, batch=value, momentum=value, dropout=value)], {"net"}, LEMUR_FACTS).frame
    assert frame[["lr", "batch", "momentum", "dropout"]].isna().all(axis=None)


def test_no_trials_make_an_empty_table_of_the_same_form() -> None:
    empty, full = collect([], set(), LEMUR_FACTS).frame, collect([record(0.5)], {"net"}, LEMUR_FACTS).frame
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()


def test_best_comes_first_and_the_recipe_breaks_ties() -> None:
    records = [
        record(0.5, lr=0.3),
        record(0.9, lr=0.2, transform="b"),
        record(0.9, lr=0.2, transform="a"),
        record(0.9, lr=None),
        record(0.9, lr=0.4),
        record(0.1, dataset="cifar-10"),
    ]
    expected = [("cifar-10", 0.1), ("mnist", 0.2), ("mnist", 0.2), ("mnist", 0.4), ("mnist", None), ("mnist", 0.3)]
    for seed in range(10):
        random.Random(seed).shuffle(records)
        frame = collect(records, {"net"}, LEMUR_FACTS).frame
        found = [(d, None if math.isnan(lr) else lr) for d, lr in zip(frame["dataset"], frame["lr"], strict=True)]
        assert found == [("cifar-10", 0.1), *expected[1:]]
        assert frame["transform"].tolist()[1:3] == ["a", "b"]


ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.lists(st.integers(), max_size=1)
)
RECORDS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b_1", "c"]), st.sampled_from(["mnist", "svhn", "unknown"]), st.sampled_from([1, 5]),
        st.one_of(ANY, st.floats(0, 1)), ANY, ANY, ANY, ANY, st.one_of(st.none(), st.text(max_size=3)),
    ),
    max_size=12,
)  # fmt: skip


@given(RECORDS, st.randoms())
def test_every_record_is_kept_or_counted_in_any_order(records: list[tuple], random: random.Random) -> None:
    trials = collect(records, {"a", "b_1"}, LEMUR_FACTS)
    assert len(trials.frame) + sum(trials.excluded.values()) == len(records)
    assert trials.frame["accuracy"].between(0, 1).all()
    assert set(trials.frame["nn"]) <= {"a", "b_1"}
    random.shuffle(records)
    again = collect(records, {"a", "b_1"}, LEMUR_FACTS)
    assert_frame_equal(again.frame, trials.frame)
    assert again.excluded == trials.excluded


def test_in_order_restores_the_order_of_real_trials(lemur_trials) -> None:
    some = lemur_trials.frame.iloc[:20_000]
    mixed = some.sample(frac=1, random_state=3)
    assert not mixed["accuracy"].equals(some["accuracy"])
    assert_frame_equal(in_order(mixed), some)


def test_real_trials_are_whole(lemur_trials) -> None:
    assert lemur_trials.excluded == {}
    assert len(lemur_trials.frame) == 54_469
    assert pd.api.types.is_float_dtype(lemur_trials.frame["batch"])
