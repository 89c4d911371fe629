"""Which LEMUR is read, what is said about it, and the one line where there is none."""

from __future__ import annotations

import logging
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext import cli
from nngpt_ext.data.sources.api import ApiSource
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.data.sources.sqlite import SqliteSource
from nngpt_ext.errors import UserError
from tests.data.small import one_line


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    """An empty current folder, and messages that are kept."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    caplog.set_level(logging.INFO, logger="nngpt_ext")
    return folder


@pytest.fixture
def with_database(here: Path, database: Path) -> Path:
    (here / "db").mkdir()
    return Path(shutil.copy(database, here / "db" / "ab.nn.db"))


@pytest.fixture
def without_lemur(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    monkeypatch.setattr(metadata, "version", missing)


@pytest.fixture
def later_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An nn-dataset that ships sources but no records, as from 2.2 on."""
    (tmp_path / "site" / "ab" / "nn" / "nn").mkdir(parents=True)

    class Installed:
        def locate_file(self, path: str) -> Path:
            return tmp_path / "site" / path

    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    monkeypatch.setattr(metadata, "version", lambda name: "2.2.3")


def test_auto_takes_a_given_path_first(tree: Path, database: Path, with_database: Path, caplog) -> None:
    found = open_source("auto", database)
    assert isinstance(found, SqliteSource)
    assert found.path == database
    assert caplog.messages == [f"records: sqlite at {database}, because its path was given"]
    caplog.clear()
    found = open_source("auto", tree)
    assert isinstance(found, PackageSource)
    assert caplog.messages == [f"records: package at {tree}, because its path was given"]


def test_a_folder_may_hold_the_tree(tree: Path) -> None:
    assert open_source("package", tree.parent.parent).location == open_source("auto", str(tree)).location


def test_auto_takes_the_database_here_second(with_database: Path, caplog) -> None:
    found = open_source()
    assert isinstance(found, SqliteSource)
    assert caplog.messages == [f"records: sqlite at {with_database}, because there is db/ab.nn.db here"]


def test_auto_takes_the_installed_records_third(caplog) -> None:
    found = open_source()
    assert isinstance(found, PackageSource)
    assert caplog.messages == [
        f"records: package at {found.location}, because the installed nn-dataset ships its records"
    ]


def test_auto_takes_the_api_last(lemur_not_imported: None, later_version: None, caplog) -> None:
    assert isinstance(open_source(), ApiSource)
    assert caplog.messages == ["records: api at ab.nn.api, because nn-dataset 2.2.3 ships no records"]
    assert "ab" not in sys.modules  # nothing is imported, built or downloaded yet


def test_named_kinds(with_database: Path, tree: Path) -> None:
    assert isinstance(open_source("sqlite"), SqliteSource)
    assert isinstance(open_source("package"), PackageSource)  # though there is a database here
    assert isinstance(open_source("api"), ApiSource)


def test_no_lemur(without_lemur: None) -> None:
    for kind in ("auto", "package"):
        with pytest.raises(UserError) as error:
            open_source(kind)
        message = one_line(error.value)
        assert message.startswith("no LEMUR found: nn-dataset is not installed")
        assert "pip install --no-deps nn-dataset==2.1.2" in message


def test_a_database_here_does_without_the_package(without_lemur: None, with_database: Path) -> None:
    assert isinstance(open_source(), SqliteSource)


def test_a_package_without_records(later_version: None) -> None:
    with pytest.raises(UserError) as error:
        open_source("package")
    assert "nn-dataset 2.2.3 ships no records" in one_line(error.value)


@pytest.mark.parametrize("kind", ["auto", "package", "sqlite"])
def test_a_path_that_does_not_exist(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        open_source(kind, tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in one_line(error.value)
    for name in ("a" * 5_000, "a\0b"):
        with pytest.raises(UserError, match="records") as error:
            open_source(kind, name)
        assert len(str(error.value)) < 2_000


def test_sqlite_without_a_database_here() -> None:
    with pytest.raises(UserError) as error:
        open_source("sqlite")
    assert "no LEMUR database at 'db/ab.nn.db'" in one_line(error.value)


def test_a_path_of_the_wrong_kind(database: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        open_source("package", database)
    assert "is a file; source 'package' needs the folder ab/nn" in one_line(error.value)
    for kind in ("package", "auto"):
        with pytest.raises(UserError) as error:
            open_source(kind, tmp_path)
        assert "has no folder stat/train" in one_line(error.value)
    (tmp_path / "other.db").write_text("nn,dataset\n" * 100)
    with pytest.raises(UserError) as error:
        open_source("auto", tmp_path / "other.db")
    assert "file is not a database" in one_line(error.value)


def test_an_unknown_kind() -> None:
    with pytest.raises(UserError) as error:
        open_source("sqlit")
    message = one_line(error.value)
    assert "did you mean 'sqlite'?" in message
    assert "known: api, auto, package, sqlite, table" in message


def test_the_command_line_prints_one_line_and_exits_with_2(
    without_lemur: None, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nngpt-ext", "pairs", "--out", "pairs.parquet", "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: no LEMUR found")
    assert shown.err.count("\n") == 1
    assert list(here.iterdir()) == []
