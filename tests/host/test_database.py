"""`host database`: whole or not at all. The real one takes minutes; make test-all builds it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from nngpt_ext.bench.host_comparison import bench_host
from nngpt_ext.errors import UserError
from nngpt_ext.host import database as module
from nngpt_ext.host.database import build_database
from nngpt_ext.host.root import check_database
from tests.host.test_layout import made as make_host


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ab.nn.api` before the installed one; a test writes what its import does."""
    api = tmp_path / "path" / "ab" / "nn" / "api.py"
    api.parent.mkdir(parents=True)
    for folder in (api.parent, api.parent.parent):
        (folder / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setattr(module, "lacking_of", lambda name: [])
    return api


def test_it_is_moved_when_it_is_whole(made: Path, database: Path, tmp_path: Path) -> None:
    made.write_text(f"import os, shutil; os.mkdir('db'); shutil.copy({str(database)!r}, 'db/ab.nn.db')")
    out = tmp_path / "new" / "ab.nn.db"
    assert build_database(out) > 1000
    check_database(out)
    assert [p.name for p in out.parent.iterdir()] == ["ab.nn.db"]
    with pytest.raises(UserError, match="exists; remove it"):
        build_database(out)


@pytest.mark.parametrize("then", ["raise RuntimeError('half-way')", "pass"])
def test_one_that_is_not_leaves_nothing(made: Path, tmp_path: Path, then: str) -> None:
    made.write_text(f"import os; os.mkdir('db'); open('db/ab.nn.db', 'w').close()\n{then}")
    out = tmp_path / "new" / "ab.nn.db"
    with pytest.raises(UserError, match=r"RuntimeError: half-way|is no LEMUR database"):
        build_database(out)
    assert not list(out.parent.iterdir())


def test_what_is_lacking_is_said_before_minutes_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "lacking_of", lambda name: ["radon"])
    with pytest.raises(UserError, match=r"ab\.nn\.api needs radon; type: pip install radon"):
        build_database(tmp_path / "ab.nn.db")


def test_one_whose_building_was_cut_off_is_refused(database: Path, tmp_path: Path) -> None:
    """As nn-dataset leaves it: its tables are made first, all trials are written in one transaction."""
    begun = tmp_path / "begun.db"
    with closing(sqlite3.connect(begun)) as connection, closing(sqlite3.connect(database)) as whole:
        for (sql,) in whole.execute("SELECT sql FROM sqlite_master WHERE type = 'table'"):
            connection.execute(sql)
        connection.commit()
    with pytest.raises(UserError, match="not whole: a table of it is empty, so its building was cut off; remove it"):
        check_database(begun)
    with pytest.raises(UserError, match=r"not whole.*type: nngpt-ext host database --out"):
        bench_host(begun, folder=make_host(tmp_path, "TuneNNGen"))


def test_one_that_was_killed_in_the_middle_is_refused(database: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed.db"
    shutil.copy(database, killed)
    script = f"""
import os, sqlite3
connection = sqlite3.connect({str(killed)!r})
connection.execute("PRAGMA cache_size = 1")
connection.execute("UPDATE prm SET value = value")
connection.execute("UPDATE stat SET accuracy = accuracy / 2")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.with_name("killed.db-journal").stat().st_size
    with pytest.raises(UserError, match="not whole: a journal is left beside it"):
        check_database(killed)


def test_one_without_image_classification_is_refused(database: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    shutil.copy(database, other)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("UPDATE stat SET task = 'txt-generation'")
        connection.commit()
    with pytest.raises(UserError, match="holds no trials; remove it and build it again"):
        check_database(other)
