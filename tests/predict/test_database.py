"""Opening databases: what is created, what is refused and left alone, and what is said of it."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from nngpt_ext import PredictionStore
from nngpt_ext.predict.database import absolute

from .test_store import line, predictions, store, url

__all__ = ["store", "url"]


def test_missing_folders_are_made(tmp_path):
    with PredictionStore.open(f"sqlite:///{tmp_path / 'a' / 'b' / 'p.db'}") as store:
        assert store.query().empty


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
def test_a_foreign_table_is_refused_and_its_file_left_alone(url, tmp_path, call):
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
        database.execute("CREATE TABLE predictions (id INTEGER, price REAL)")
        database.commit()
    before = (tmp_path / "predictions.db").read_bytes()
    assert line(call, url) == f"'{url}' has a table 'predictions' that is not of a prediction store; give another store"
    assert (tmp_path / "predictions.db").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.db"]


def test_other_tables_may_stand_beside_ours(url, tmp_path):
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
        database.execute("CREATE TABLE notes (text TEXT)")
        database.commit()
    with PredictionStore.open(url) as store:
        assert store.add(predictions()) == 3
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
def test_another_schema_is_refused(url, tmp_path, call):
    PredictionStore.open(url).close()
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
        database.execute("UPDATE nngpt_ext_schema SET version = 7")
        database.commit()
        database.execute("PRAGMA journal_mode=DELETE")
    before = (tmp_path / "predictions.db").read_bytes()
    assert line(call, url) == (f"the prediction store '{url}' has schema 7, this version reads 2; give another store")
    assert (tmp_path / "predictions.db").read_bytes() == before


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
def test_a_damaged_file_is_one_line_and_left_alone(url, tmp_path, call):
    (tmp_path / "predictions.db").write_bytes(b"this is no database, and it is long enough to be seen as none" * 50)
    before = (tmp_path / "predictions.db").read_bytes()
    message = line(call, url)
    assert message.startswith(f"cannot use the prediction store '{url}': file is not a database; a URL looks like")
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
    store.add(predictions())
    PredictionStore.check(url)
    assert len(store.query()) == 3


def test_a_store_in_memory_is_one_for_all_threads():
    rows = predictions()
    with PredictionStore.open("sqlite://") as store, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: store.add(rows.assign(nn=f"Net{i}")), range(40))) == [3] * 40
        assert set(pool.map(lambda _: len(store.query()), range(4))) == {120}


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://me:secret@host/x", "sqlite://", "sqlite:////a/b.db", "sqlite:///:memory:", "nonsense"]
)
def test_addresses_that_mean_the_same_everywhere_stay(url: str) -> None:
    assert absolute(url) == url
