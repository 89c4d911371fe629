"""`host database`: whole or not at all. The real one takes minutes; make test-all builds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.host import database as module
from nngpt_ext.host.database import build_database
from nngpt_ext.host.root import check_database


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
