"""The prediction store, on real SQLite files."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pandas as pd
import pytest

from nngpt_ext import PredictionStore, UserError
from nngpt_ext.io import digest
from tests.predict.writers import write_at_once

QUESTIONS = [
    ("AlexNet", "cifar-10", "mnist"),
    ("AlexNet", "mnist", "svhn"),
    ("ResNet", "cifar-10", "svhn"),
]


def predictions(probability: float = 0.25, **changes) -> pd.DataFrame:
    """Rows as a run or a predictor writes them."""
    frame = pd.DataFrame(QUESTIONS, columns=["nn", "dataset_1", "dataset_2"])
    first = probability >= 0.5
    frame = frame.assign(
        epoch=5, probability_1=probability, log_odds=math.log(probability / (1.0 - probability)),
        flipped=[False, True, False], abstain=True,
        predicted=frame["dataset_1"] if first else frame["dataset_2"], better_dataset=frame["dataset_1"],
        prompt="code_only", base_model="embedded", tuning_epoch=3, split="test", source=frame["nn"].str.lower(),
        given_1="", given_2="", prompt_hash="p", adapter="a", calibration="",
    ).assign(**changes)  # fmt: skip
    keys = frame[["source", "dataset_1", "dataset_2", "given_1", "given_2", "prompt_hash", "adapter", "calibration"]]
    frame["question"] = [digest(row) for row in keys.itertuples(index=False, name=None)]
    return frame


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'predictions.db'}"


@pytest.fixture
def store(url):
    with PredictionStore.open(url) as store:
        yield store


def line(call, *arguments) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_added_comes_back_after_reopening(store, url):
    assert store.add(predictions(adapter="a" * 64)) == 3
    store.close()
    with PredictionStore.open(url) as again:
        found = again.query()
    assert list(found[["nn", "dataset_1", "dataset_2"]].itertuples(index=False, name=None)) == QUESTIONS
    assert found["probability_1"].tolist() == [0.25] * 3
    assert found["predicted"].tolist() == ["mnist", "svhn", "svhn"]
    assert found["flipped"].tolist() == [False, True, False]
    assert set(found["adapter"]) == {"a" * 64}
    assert found["created"].notna().all()


def test_a_misspelt_dataset_is_not_an_empty_answer(store):
    """A dataset that is only missing is one; what others gave the name `MNIST` is found under it."""
    assert store.query(dataset="MNIST").empty  # nothing is stored
    store.add(predictions())
    known = "; known: cifar-10, mnist, svhn"
    for given, meant in (("MNIST", "mnist"), ("cifar_10", "cifar-10"), ("minst", "mnist")):
        said = line(lambda given=given: store.query(nn="none", dataset=given))
        assert said == f"unknown dataset '{given}' (did you mean '{meant}'?){known}"
    for missing in ("cifar-100", "places365", "emnist", "flowers"):
        assert store.query(dataset=missing).empty
    assert store.query(nn="none", dataset="mnist").empty
    store.add(predictions(dataset_1="SVHNs").iloc[:1])
    assert store.query(nn="ResNet", dataset="SVHNs").empty


def test_the_same_question_to_the_same_adapter_is_replaced(store):
    store.add(predictions(0.25))
    store.add(predictions(0.75).iloc[:2])
    found = store.query()
    assert found["probability_1"].tolist() == [0.75, 0.75, 0.25]
    assert found["predicted"].tolist() == ["cifar-10", "mnist", "svhn"]


def test_what_only_a_run_knows_is_not_wiped_out(store):
    known = ["better_dataset", "split", "tuning_epoch"]
    store.add(predictions(0.25))
    before = store.query()
    store.add(predictions(0.75).drop(columns=known))
    found = store.query()
    assert found["probability_1"].tolist() == [0.75] * 3
    pd.testing.assert_frame_equal(found[known], before[known])
    store.add(predictions(0.75, split="validation"))
    assert set(store.query()["split"]) == {"validation"}


def test_adapters_prompts_recipes_and_calibrations_never_mix(store):
    store.add(predictions(0.1))
    store.add(predictions(0.2, adapter="b"))
    store.add(predictions(0.3, adapter="b", prompt_hash="q"))
    store.add(predictions(0.4, adapter="b", given_2="lr 1e-1"))
    store.add(predictions(0.6, adapter="b", calibration="c"))
    assert sorted(store.query(nn="ResNet")["probability_1"]) == [0.1, 0.2, 0.3, 0.4, 0.6]


def test_networks_with_the_same_source_keep_their_names(store):
    one = predictions(source="the same").iloc[:1]
    store.add(pd.concat([one, one.assign(nn="Twin")]))
    assert [len(store.query(nn=nn)) for nn in ("AlexNet", "Twin")] == [1, 1]
    assert [row["nn"] for row in store.find(one["question"])] == ["AlexNet", "Twin"]


def test_find_gives_the_rows_of_known_questions_only(store):
    rows = predictions()
    store.add(rows)
    many = [f"{i:064d}" for i in range(1200)]  # more than one statement takes
    found = store.find([*many, *rows["question"]])
    assert {row["question"]: row["nn"] for row in found} == dict(zip(rows["question"], rows["nn"], strict=True))


def test_query_by_confidence_and_time(store):
    began = datetime.now(timezone.utc) - timedelta(seconds=1)
    store.add(predictions(0.25))
    store.add(predictions(0.5, adapter="b", calibrated_1=0.95))
    assert len(store.query(min_confidence=0.7)) == 6
    assert set(store.query(min_confidence=0.8)["adapter"]) == {"b"}  # calibrated where it is
    assert store.query(min_confidence=0.96).empty
    assert len(store.query(since=began)) == 6
    assert store.query(until=began).empty
    assert store.query(since=datetime.now(timezone.utc) + timedelta(hours=1)).empty
    zone = timezone(timedelta(hours=5))
    assert len(store.query(since=began.astimezone(zone))) == 6
    first, last = (
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=12))),
    )
    assert len(store.query(since=first, until=last)) == 6  # both are outside the calendar of UTC
    assert store.query(until=first).empty
    assert store.query()["created"].dt.tz is not None


def test_query_by_the_beginning_of_an_adapter(store):
    store.add(predictions(adapter="abc"))
    store.add(predictions(adapter="abd"))
    assert len(store.query(adapter_hash="ab")) == 6
    assert len(store.query(adapter_hash="abc")) == 3
    assert store.query(adapter_hash="%").empty


def test_ten_processes_write_at_once_and_nothing_is_lost(url):
    found = write_at_once(url)
    assert len(found) == found["question"].nunique() == 10 * 50 + 50  # 50 of each its own, 50 of all


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({}, [0, 1, 2]),
        ({"nn": "AlexNet"}, [0, 1]),
        ({"dataset": "svhn"}, [1, 2]),
        ({"dataset": "mnist", "nn": "AlexNet"}, [0, 1]),
        ({"dataset": "mnist", "nn": "ResNet"}, []),
        ({"base_model": "embedded", "prompt": "code_only"}, [0, 1, 2]),
        ({"base_model": "other"}, []),
        ({"prompt": "recipe"}, []),
        ({"nn": "' OR 1=1 --"}, []),
    ],
)
def test_query(store, asked, rows):
    store.add(predictions())
    found = store.query(**asked)
    assert list(found[["nn", "dataset_1", "dataset_2"]].itertuples(index=False, name=None)) == [
        QUESTIONS[row] for row in rows
    ]
    assert "probability_1" in found.columns  # also of an empty answer


def test_nothing_to_add(store):
    assert store.add(predictions().iloc[:0]) == 0
    assert store.query().empty


def test_no_more_than_the_columns_is_stored(store, tmp_path):
    store.add(predictions(margin=0.1, correct=True))
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
        columns = {row[1] for row in database.execute("PRAGMA table_info(predictions)")}
        assert database.execute("SELECT count(*) FROM predictions").fetchone() == (3,)
    assert {"nn", "dataset_1", "dataset_2", "probability_1", "adapter"} <= columns
    assert not columns & {"correct", "margin", "accuracy_1", "norm_acc_1"}


def test_a_fault_in_the_middle_leaves_the_former_rows(store):
    store.add(predictions(0.25))
    wrong = predictions(0.75)
    wrong["prompt"] = ["code_only", None, "code_only"]
    assert "NOT NULL" in line(store.add, wrong)
    assert store.query()["probability_1"].tolist() == [0.25] * 3


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "changes",
    [
        {"log_odds": NAN}, {"log_odds": INF}, {"log_odds": -INF, "probability_1": 0.0}, {"log_odds": None},
        {"probability_1": NAN}, {"probability_1": INF}, {"probability_1": 0.75}, {"calibrated_1": INF},
        {"calibrated_1": 1.5}, {"log_odds": "1e36"}, {"predicted": "imagenette"},
        {"log_odds": 1e36, "probability_1": 1.0, "predicted": "mnist"},
    ],
)  # fmt: skip
def test_figures_that_are_none_or_disagree_are_not_stored(store, changes):
    rows = predictions()
    good, bad = rows.iloc[0].to_dict(), rows.iloc[1].to_dict() | changes
    said = line(store.add_rows, [good, bad])
    assert said.startswith("the answer about 'AlexNet' (mnist, svhn) is not stored: log-odds ")
    with pytest.raises(UserError, match="is not stored"):
        store.add(rows.assign(**changes))
    assert store.query().empty  # not the good one either


def test_large_log_odds_are_stored(store):
    rows = predictions().assign(log_odds=-800.0, probability_1=0.0)
    assert store.add(rows) == 3
    assert len(store.find(rows["question"])) == 3


@pytest.mark.parametrize(
    "damage",
    ["log_odds = 9e999", "log_odds = 1e36", "log_odds = 'x'", "probability_1 = 9e999", "probability_1 = 0.9",
     "calibrated_1 = -9e999", "predicted = dataset_1"],
)  # fmt: skip
def test_a_damaged_row_counts_as_absent(store, url, damage):
    rows = predictions()
    store.add(rows)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute(f"UPDATE predictions SET {damage} WHERE nn = 'ResNet'")
    assert {row["nn"] for row in store.find(rows["question"])} == {"AlexNet"}
    assert set(store.query()["nn"]) == {"AlexNet"}
    assert len(store.query()) == 2
    store.add(rows)  # asked again, it is there again
    assert len(store.query()) == 3
