"""The prediction store, on real SQLite files."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pandas as pd
import pytest

from nngpt_ext import PredictionStore, UserError

QUESTIONS = [
    ("AlexNet", "cifar-10", "mnist"),
    ("AlexNet", "mnist", "svhn"),
    ("ResNet", "cifar-10", "svhn"),
]


def predictions(probability: float = 0.25, **changes) -> pd.DataFrame:
    """As in predictions.parquet: with the true answers beside the predicted ones."""
    frame = pd.DataFrame(QUESTIONS, columns=["nn", "dataset_1", "dataset_2"])
    first = probability > 0.5
    frame = frame.assign(
        epoch=5, probability_1=probability, flipped=[False, True, False], margin=0.1, correct=True,
        predicted=frame["dataset_1"] if first else frame["dataset_2"], better_dataset=frame["dataset_1"],
        prompt="code_only", base_model="embedded", tuning_epoch=3, split="test",
    )  # fmt: skip
    return frame.assign(**changes)


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
    assert store.add(predictions(), adapter="a" * 64) == 3
    store.close()
    with PredictionStore.open(url) as again:
        found = again.query()
    assert list(found[["nn", "dataset_1", "dataset_2"]].itertuples(index=False, name=None)) == QUESTIONS
    assert found["probability_1"].tolist() == [0.25] * 3
    assert found["predicted"].tolist() == ["mnist", "svhn", "svhn"]
    assert found["flipped"].tolist() == [False, True, False]
    assert set(found["adapter"]) == {"a" * 64}
    assert found["created"].notna().all()


def test_the_same_question_to_the_same_adapter_is_replaced(store):
    store.add(predictions(0.25), adapter="a")
    store.add(predictions(0.75).iloc[:2], adapter="a")
    found = store.query()
    assert found["probability_1"].tolist() == [0.75, 0.75, 0.25]
    assert found["predicted"].tolist() == ["cifar-10", "mnist", "svhn"]


def test_adapters_prompts_and_epochs_never_mix(store):
    store.add(predictions(0.1), adapter="a")
    store.add(predictions(0.2), adapter="b")
    store.add(predictions(0.3, prompt="recipe"), adapter="b")
    store.add(predictions(0.4, epoch=1), adapter="b")
    found = store.query(nn="ResNet")
    told = found.set_index(["adapter", "prompt", "epoch"])["probability_1"].to_dict()
    assert told == {("a", "code_only", 5): 0.1, ("b", "code_only", 5): 0.2, ("b", "recipe", 5): 0.3,
                    ("b", "code_only", 1): 0.4}  # fmt: skip


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
    store.add(predictions(), adapter="a")
    found = store.query(**asked)
    assert list(found[["nn", "dataset_1", "dataset_2"]].itertuples(index=False, name=None)) == [
        QUESTIONS[row] for row in rows
    ]
    assert "probability_1" in found.columns  # also of an empty answer


def test_nothing_to_add(store):
    assert store.add(predictions().iloc[:0], adapter="a") == 0
    assert store.query().empty


def test_true_answers_are_not_stored(store, tmp_path):
    store.add(predictions(), adapter="a")
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
        columns = {row[1] for row in database.execute("PRAGMA table_info(predictions)")}
        assert database.execute("SELECT count(*) FROM predictions").fetchone() == (3,)
    assert {"nn", "dataset_1", "dataset_2", "probability_1", "adapter"} <= columns
    assert not columns & {"better_dataset", "correct", "margin", "accuracy_1", "norm_acc_1"}


def test_a_fault_in_the_middle_leaves_the_former_rows(store):
    store.add(predictions(0.25), adapter="a")
    wrong = predictions(0.75)
    wrong["predicted"] = [wrong["predicted"][0], None, "svhn"]
    assert "NOT NULL" in line(store.add, wrong, "a")
    assert store.query()["probability_1"].tolist() == [0.25] * 3


def test_missing_folders_are_made(tmp_path):
    with PredictionStore.open(f"sqlite:///{tmp_path / 'a' / 'b' / 'p.db'}") as store:
        assert store.query().empty


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
def test_another_schema_is_refused(url, tmp_path, call):
    PredictionStore.open(url).close()
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
        database.execute("UPDATE nngpt_ext_schema SET version = 7")
        database.commit()
    assert line(call, url) == (f"the prediction store '{url}' has schema 7, this version reads 1; give another store")


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
def test_a_damaged_file_is_one_line_and_left_alone(url, tmp_path, call):
    (tmp_path / "predictions.db").write_bytes(b"this is no database, and it is long enough to be seen as none" * 50)
    before = (tmp_path / "predictions.db").read_bytes()
    message = line(call, url)
    assert message.startswith(f"cannot use the prediction store '{url}': file is not a database; an address looks like")
    assert (tmp_path / "predictions.db").read_bytes() == before


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
@pytest.mark.parametrize(
    "address",
    ["", "predictions.db", "nosuchdatabase:///x.db", "sqlite+nosuchdriver:///x.db", "postgresql://host:port/x",
     "sqlite:///{folder}", "sqlite:///{folder}/file/p.db"],
)  # fmt: skip
def test_addresses_that_make_no_sense(tmp_path, monkeypatch, call, address):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    address = address.format(folder=tmp_path)
    assert line(call, address).startswith(f"cannot use the prediction store '{address}': ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
def test_passwords_are_not_shown(call):
    shown = line(call, "nosuchdatabase://me:se:cr@et@host/x")
    assert "'nosuchdatabase://me:***@host/x'" in shown
    assert "cr" not in shown.split("://")[1].split("@")[0]


def test_check_makes_nothing(tmp_path):
    PredictionStore.check(f"sqlite:///{tmp_path / 'a' / 'p.db'}")
    PredictionStore.check("sqlite://")
    assert list(tmp_path.iterdir()) == []


def test_check_of_a_store_that_is_there(url, store):
    store.add(predictions(), adapter="a")
    PredictionStore.check(url)
    assert len(store.query()) == 3
