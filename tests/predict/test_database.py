"""Opening databases: what is created, what is refused and left alone, and what is said of it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from nngpt_ext import PredictionStore
from nngpt_ext.predict.database import absolute
from tests.data.small import write_database, write_tree

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
    assert line(call, url) == (
        f"'{url}' is not a prediction store: it has tables of another program (predictions); "
        "give the store a database of its own, for example sqlite:///predictions.db"
    )
    assert (tmp_path / "predictions.db").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.db"]


MADE = {
    "a table": "database.execute('CREATE TABLE notes (text TEXT)')",
    "a view": "database.execute('CREATE VIEW ours AS SELECT 1')",
    "a log": "database.execute('PRAGMA journal_mode=WAL')\ndatabase.execute('CREATE TABLE notes (text TEXT)')",
    "a killed writer's log": (
        "database.execute('PRAGMA journal_mode=WAL')\ndatabase.execute('CREATE TABLE notes (text TEXT)')\n"
        "database.execute('PRAGMA wal_checkpoint')\ndatabase.execute('INSERT INTO notes VALUES (1)')\n"
        "database.commit()\nos._exit(0)"
    ),
    "a killed writer's journal": (
        "database.execute('CREATE TABLE notes (text TEXT)')\n"
        "database.executemany('INSERT INTO notes VALUES (?)', [('a' * 500,)] * 5000)\ndatabase.commit()\n"
        "database.execute('PRAGMA cache_size=5')\n"
        "database.execute(\"UPDATE notes SET text = 'b' || text\")\nos._exit(0)"
    ),
}


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
@pytest.mark.parametrize("made", MADE)
def test_another_programs_database_is_left_byte_for_byte(url, tmp_path, call, made):
    script = f"import os, sqlite3\ndatabase = sqlite3.connect('predictions.db')\n{MADE[made]}\ndatabase.commit()"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    before = contents(tmp_path)
    assert "is not a prediction store: it has tables of another program (" in line(call, url)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
def test_lemurs_database_is_left_byte_for_byte(tmp_path, call):
    file = write_database(write_tree(tmp_path / "tree"), tmp_path / "place" / "ab.nn.db")
    before = contents(file.parent)
    assert "(metric, nn, prm)" in line(call, f"sqlite:///{file}")
    assert contents(file.parent) == before


def test_a_store_may_get_other_tables_later(url, store, tmp_path):
    store.add(predictions())
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
        database.execute("CREATE TABLE notes (text TEXT)")
        database.commit()
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with PredictionStore.open(url) as again:
        assert len(again.query()) == 3


def test_an_empty_file_becomes_a_store(url, tmp_path):
    (tmp_path / "predictions.db").touch()
    with PredictionStore.open(url) as store:
        assert store.add(predictions()) == 3


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
    assert message.startswith(f"cannot use the prediction store '{url}': file is not a database; give another place")
    assert (tmp_path / "predictions.db").read_bytes() == before


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
@pytest.mark.parametrize(
    "address",
    ["", "predictions.db", "nosuchdatabase:///x.db", "sqlite+nosuchdriver:///x.db", "nonsense",
     "sqlite:///{folder}", "sqlite:///{folder}/file/p.db", "sqlite://host/x.db", "mysql://host/x", "x:y", "://"],
)  # fmt: skip
def test_addresses_that_make_no_sense(tmp_path, monkeypatch, call, address):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    address = address.format(folder=tmp_path)
    assert line(call, address).startswith(f"cannot use the prediction store '{address}': ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("sqlite:///file:{folder}/new.db?uri=true", "a URL of SQLite has the path of a file, and neither options nor"),
        ("sqlite:///file:{folder}/new.db", "a URL of SQLite has the path of a file"),
        ("sqlite:///{folder}/new.db?mode=ro", "a URL of SQLite has the path of a file"),
        ("sqlite:///{folder}/new.db?timeout=x", "a URL of SQLite has the path of a file"),
        ("file:{folder}/new.db", "it is not a database URL; write for example sqlite:///predictions.db or postgresql+"),
        ("a\nb", "cannot use the prediction store 'a b': it is not a database URL"),
        ("postgresql://host:port/x", "'postgresql://host:***/x': it is not a database URL"),  # or is it a password?
        ("x" * 5_000, "xxx://***': it is not a database URL"),
        (None, "'None': it is not a database URL"),
        (Path("predictions.db"), "'predictions.db': it is not a database URL; write for example sqlite:///predictions"),
        ("sqlite:///" + "a" * 5_000, "File name too long"),
    ],
)
def test_addresses_that_are_not_taken(tmp_path, monkeypatch, call, address, reason):
    monkeypatch.chdir(tmp_path)
    told = line(call, address.format(folder=tmp_path) if isinstance(address, str) else address)
    assert reason in told
    assert len(told) < 700
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", [PredictionStore.open, PredictionStore.check])
def test_passwords_are_not_shown(call):
    shown = line(call, "nosuchdatabase://me:se:cr@et@host/x")
    assert "'nosuchdatabase://me:***@host/x'" in shown
    assert "cr" not in shown.split("://")[1].split("@")[0]


def test_a_store_of_an_earlier_version_is_completed(url, store, tmp_path):
    store.add(predictions())
    store.close()
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
        whole = database.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
        columns = {row[1] for row in database.execute("PRAGMA table_info(predictions)")}
        database.execute("DROP INDEX ix_predictions_confidence")
        database.execute("ALTER TABLE predictions DROP COLUMN cut")
    PredictionStore.check(url)
    for _ in range(2):
        with PredictionStore.open(url) as again:
            assert len(again.query(min_confidence=0.5)) == 3
            assert again.query()["cut"].isna().all()
            assert again.add(predictions().assign(cut=[True, False, None])) == 3
            assert again.query()["cut"].tolist() == [True, False, None]
        with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
            assert database.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall() == whole
            assert {row[1] for row in database.execute("PRAGMA table_info(predictions)")} == columns
            database.execute("UPDATE predictions SET cut = NULL")
            database.commit()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({"adapter_hash": "abc"}, "ix_predictions_adapter"), ({"min_confidence": 0.9}, "ix_predictions_confidence"),
        ({"nn": "a"}, "ix_predictions_nn"), ({"since": datetime(2024, 1, 1)}, "ix_predictions_created"),
        ({"dataset": "mnist"}, "ix_predictions_dataset_1"),
    ],
)  # fmt: skip
def test_every_query_has_its_index(store, query, index):
    plans = []
    store.add(predictions())

    @sa.event.listens_for(store._engine, "before_cursor_execute")
    def explain(connection, cursor, statement, parameters, *_):
        if statement.startswith("SELECT"):
            raw = connection.connection.driver_connection
            plans.append(str(raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()))

    store.query(**query)
    assert f"USING INDEX {index} " in plans[0]


def test_damaged_rows_are_counted(url, store, tmp_path, caplog):
    store.add(predictions())
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as database:
        database.execute("UPDATE predictions SET log_odds = 'x' WHERE nn = (SELECT min(nn) FROM predictions)")
        database.commit()
    left = 3 - len(store.query())
    assert left > 0
    assert caplog.messages == [f"{left} damaged rows of the store '{url}' are left out"]
    # A password may also be among the options of a URL, where SQLAlchemy does not hide it.
    place = f"{tmp_path / 'predictions.db'}?uri=true&password=SECRET"
    with PredictionStore(sa.create_engine(f"sqlite:///file:{place}")) as again:
        again.query()
    assert "predictions.db?***' are left out" in caplog.messages[1]
    assert "SECRET" not in caplog.text


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
