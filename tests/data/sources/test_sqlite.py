"""The database gives what the tree gives, stays as it is, and says in one line what is wrong with it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pandas.testing import assert_frame_equal

from nngpt_ext import Predictor, run_task
from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.data.sources.sqlite import SqliteSource
from nngpt_ext.data.trials import collect
from nngpt_ext.errors import UserError
from nngpt_ext.settings import build_config
from tests.data.small import one_line, write_database


@pytest.mark.parametrize("epoch", [1, 2, 5, None])
def test_the_same_trials_as_the_tree(tree: Path, database: Path, epoch: int | None) -> None:
    left, right = (read_trials(source, epoch, cached=False) for source in (PackageSource(tree), SqliteSource(database)))
    assert len(left.frame) > 3_000
    assert left.frame["nn"].str.contains("_").any()
    assert left.frame["momentum"].isna().any() or left.frame["dropout"].isna().any()
    assert_frame_equal(left.frame, right.frame, check_exact=True)
    assert left.excluded == right.excluded == {}


def test_the_same_sources_as_the_tree(tree: Path, database: Path) -> None:
    package, sqlite = PackageSource(tree), SqliteSource(database)
    assert package.networks() == sqlite.networks()
    names = sorted(package.networks())
    assert package.sources(names) == sqlite.sources(names)
    assert sqlite.sources([]) == {}


def test_more_names_than_sqlite_has_variables(database: Path) -> None:
    source = SqliteSource(database)
    names = sorted(source.networks())
    assert source.sources([*names, *(f"no network {i}" for i in range(300_000))]) == source.sources(names)


def test_faults_are_counted_and_the_rest_is_the_same(faulty_tree: Path, tmp_path: Path) -> None:
    sqlite = read_trials(SqliteSource(write_database(faulty_tree, tmp_path / "ab.nn.db")), 5, cached=False)
    tree = read_trials(PackageSource(faulty_tree), 5, cached=False)
    assert sqlite.excluded == {
        "accuracy missing": 4,  # SQLite stores NaN as NULL
        "accuracy not a number": 2,
        "accuracy not finite": 2,
        "accuracy outside [0, 1]": 2,
        "no facts of dataset 'imagenet-22k'": 1,
        "network without source": 2,
    }
    assert sum(tree.excluded.values()) == sum(sqlite.excluded.values())
    assert_frame_equal(tree.frame, sqlite.frame, check_exact=True)
    added = tree.frame[(tree.frame["nn"] == "AlexNet") & (tree.frame["batch"] == 16) & tree.frame["lr"].isna()]
    assert added["accuracy"].tolist() == [1.0, 0.25, 0.0]


def test_the_database_is_only_read(database: Path) -> None:
    before = (database.read_bytes(), sorted(p.name for p in database.parent.iterdir()))
    source = SqliteSource(database)
    collect(source.records(5), source.networks(), source.facts)
    assert (database.read_bytes(), sorted(p.name for p in database.parent.iterdir())) == before


def test_a_write_ahead_log_is_read_and_noticed(faulty_tree: Path, tmp_path: Path) -> None:
    file = write_database(faulty_tree, tmp_path / "ab.nn.db")
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        source = SqliteSource(file)
        before, n = source.fingerprint(5), len(list(source.records(5)))
        writer.execute("DELETE FROM stat WHERE epoch = 5 AND nn = 'Alex_Net'")
        writer.commit()
        assert (tmp_path / "ab.nn.db-wal").stat().st_size > 0
        assert source.fingerprint(5) != before
        assert len(list(source.records(5))) < n


@pytest.mark.parametrize("table", ["stat", "nn"])
def test_a_database_whose_building_was_cut_off(copied: Path, table: str) -> None:
    with closing(sqlite3.connect(copied)) as writer:
        writer.execute(f"DELETE FROM {table}")
        writer.commit()
    with pytest.raises(UserError, match="is incomplete: one of its tables is empty, so its build was interrupted"):
        SqliteSource(copied)


def test_a_database_whose_builder_was_killed_as_it_wrote(copied: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed" / "ab.nn.db"
    killed.parent.mkdir()
    with closing(sqlite3.connect(copied)) as writer:
        writer.execute("PRAGMA cache_size = 1")  # so that pages are written before the commit
        writer.execute("UPDATE stat SET accuracy = 0.5")
        writer.execute("UPDATE nn SET code = code || 'x'")
        for suffix in ("", "-journal"):
            shutil.copy(f"{copied}{suffix}", f"{killed}{suffix}")
    before = killed.read_bytes()
    with pytest.raises(UserError, match="is incomplete: a journal was left beside it"):
        list(SqliteSource(killed).records(5))
    assert killed.read_bytes() == before


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.db", tmp_path):
        with pytest.raises(UserError) as error:
            SqliteSource(path)
        assert f"no LEMUR database at '{path}'" in one_line(error.value)
    assert list(tmp_path.iterdir()) == []  # looking for it made none


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough for a header" * 40, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ab.nn.db"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        SqliteSource(file)
    assert f"cannot read the LEMUR database '{file}'" in one_line(error.value)
    assert "close the program" not in str(error.value)


def test_a_database_without_the_tables(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    file.touch()  # to SQLite, an empty database
    with pytest.raises(UserError) as error:
        SqliteSource(file)
    assert "no table nn, prm, stat" in one_line(error.value)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE nn (name TEXT)")
        connection.execute("CREATE TABLE stat (id TEXT)")
    with pytest.raises(UserError) as error:
        SqliteSource(file)
    assert "no table prm;" in one_line(error.value)


def test_a_database_without_the_columns(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as connection:
        for name in ("nn", "stat", "prm"):
            connection.execute(f"CREATE TABLE {name} (x TEXT)")
            connection.execute(f"INSERT INTO {name} VALUES ('y')")
        connection.commit()
    with pytest.raises(UserError) as error:
        read_trials(SqliteSource(file), 5)
    assert "it has no column nn.code, nn.name, prm.name, " in one_line(error.value)


@pytest.mark.parametrize("column", ["accuracy", "nn", "epoch", "dataset", "prm"])
def test_a_column_of_another_name(copied: Path, column: str) -> None:
    with closing(sqlite3.connect(copied)) as writer:
        writer.execute(f"ALTER TABLE stat RENAME COLUMN {column} TO other")
    with pytest.raises(UserError) as error:
        SqliteSource(copied)
    assert one_line(error.value) == (
        f"'{copied}' is not a LEMUR database: it has no column stat.{column}; give the path of ab.nn.db"
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a lock a tenth of a second only."""
    connect = sqlite3.connect

    def quick(*given: Any, **named: Any) -> sqlite3.Connection:
        return connect(*given, **{**named, "timeout": 0.1})

    monkeypatch.setattr("nngpt_ext.data.sources.sqlite.sqlite3.connect", quick)


@pytest.fixture
def copied(database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(database, tmp_path / "ab.nn.db"))


@pytest.fixture
def locked(copied: Path, impatient: None) -> Iterator[Path]:
    with closing(sqlite3.connect(copied)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield copied


def test_a_locked_database(locked: Path) -> None:
    with pytest.raises(UserError) as error:
        SqliteSource(locked)
    assert f"'{locked}': database is locked; close the program that uses it" in one_line(error.value)


def test_a_database_locked_after_it_was_opened(copied: Path, impatient: None) -> None:
    source = SqliteSource(copied)
    with closing(sqlite3.connect(copied)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError) as error:
            read_trials(source, 5)
    assert "database is locked" in one_line(error.value)
    assert len(read_trials(source, 5).frame) > 0


def test_a_damaged_database(copied: Path) -> None:
    content = bytearray(copied.read_bytes())
    content[4096 * 8 :] = b"\xee" * (len(content) - 4096 * 8)  # the first pages, with the list of tables, stay
    copied.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_trials(SqliteSource(copied), 5)
    assert f"cannot read the LEMUR database '{copied}'" in one_line(error.value)


def test_a_truncated_database(copied: Path) -> None:
    copied.write_bytes(copied.read_bytes()[: copied.stat().st_size // 3])
    with pytest.raises(UserError) as error:
        read_trials(SqliteSource(copied), 5)
    assert f"cannot read the LEMUR database '{copied}'" in one_line(error.value)


@pytest.fixture
def later_release(database: Path, tmp_path: Path) -> Path:
    """A database as 2.2 makes it: with further tables, and trials on datasets that this package does not know."""
    file = Path(shutil.copy(database, tmp_path / "ab.nn.db"))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE nn_stat (id TEXT PRIMARY KEY, nn_name TEXT, total_params INTEGER)")
        connection.execute("CREATE TABLE train_stat (stat_id TEXT PRIMARY KEY, train_loss REAL, gradient_norm REAL)")
        connection.execute("CREATE TABLE nn_minhash (nn TEXT PRIMARY KEY, num_perm INTEGER, hashvalues BLOB)")
        for dataset, known in (("fashion-mnist", "mnist"), ("tiny-imagenet", "imagenette")):
            columns = "accuracy, epoch, duration, task, metric, nn, transform, prm"
            connection.execute(
                f"INSERT INTO stat (id, dataset, {columns}) "
                f"SELECT id || '{dataset}', '{dataset}', {columns} FROM stat WHERE dataset = '{known}'"
            )
        connection.execute("INSERT INTO prm SELECT DISTINCT prm, 'weight_decay', 0.001 FROM stat")
        connection.commit()
    return file


@pytest.fixture
def facts_file(tmp_path: Path) -> Path:
    facts = tmp_path / "datasets.yaml"
    facts.write_text(
        "fashion-mnist: {train_images: 60000, image_size: 28, channels: 1, classes: 10}\n"
        "tiny-imagenet: {train_images: 100000, image_size: 64, channels: 3, classes: 200}\n"
    )
    return facts


def test_datasets_of_a_later_release_are_read_once_they_are_described(later_release: Path, facts_file: Path) -> None:
    unknown = read_trials(SqliteSource(later_release), 5, cached=False)
    assert set(unknown.excluded) == {"no facts of dataset 'fashion-mnist'", "no facts of dataset 'tiny-imagenet'"}
    recipe = {"lr": "number", "weight_decay": "number", "transform": "text"}
    config = build_config(DataConfig, {"path": str(later_release), "facts": str(facts_file), "recipe": recipe})
    data = load_pairs(config)
    found = set(data.pairs["dataset_1"]) | set(data.pairs["dataset_2"])
    assert {"fashion-mnist", "tiny-imagenet", "mnist", "svhn"} <= found
    assert data.excluded == {}
    assert list(data.pairs["recipe_1"].iloc[0]) == list(recipe)
    assert data.pairs["recipe_1"].iloc[0]["weight_decay"] == 0.001
    assert data.facts["tiny-imagenet"].classes == 200


@pytest.mark.slow
def test_a_later_release_is_trained_on_reported_and_ranked(
    later_release: Path, facts_file: Path, tree: Path, tmp_path: Path
) -> None:
    result = run_task(
        "dataset_compare",
        output_dir=tmp_path / "run",
        data={
            "path": str(later_release), "facts": str(facts_file), "train_networks": 24, "validation_networks": 6,
            "test_networks": 6, "pairs_per_network": 6, "code_tokens": 64,
        },
        prompt="metadata",
        model={"base": "embedded"},
        tuning={"epochs": 1, "test_every_epoch": False},
        store=None,
    )  # fmt: skip
    assert {"fashion-mnist", "tiny-imagenet"} <= set(result.report.per_dataset.index)
    assert "tiny-imagenet" in (tmp_path / "run" / "report.md").read_text()
    ranking = Predictor.from_run(tmp_path / "run").rank(
        (tree / "nn" / "AlexNet.py").read_text(), ["fashion-mnist", "tiny-imagenet", "svhn"]
    )
    assert sorted(ranking.datasets) == ["fashion-mnist", "svhn", "tiny-imagenet"]
    assert all(not one.unseen for one in ranking.comparisons)
