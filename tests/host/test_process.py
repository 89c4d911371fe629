"""NNGPT's process: imports, memory, and LEMUR's database, which is complete or absent."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.host import bench_host
from nngpt_ext.errors import UserError
from nngpt_ext.host import process
from nngpt_ext.host.installation import Host, find_host
from nngpt_ext.host.process import build_database, check_database, launch, obstacles
from tests.host.test_installation import made


def test_modules_that_cannot_be_imported(tmp_path: Path) -> None:
    package = made(
        tmp_path,
        "TuneNNGen",
        TuneNNGen="print('noise')\ndef main(): ...",
        util__Tune="import absent_one\ndef tune(): ...",
    )
    for folder in (package.parent, package, package / "util"):
        (folder / "__init__.py").touch()
    found = [line for line in obstacles(find_host(tmp_path)) if "imported" in line]
    assert found == ["ab.gpt.util.Tune cannot be imported: ModuleNotFoundError: No module named 'absent_one'"]


VERSIONS = {"transformers": ("5.14.1", "5.15.0"), "trl": ("1.6.0", "1.7.0")}


def of_versions(host: Host, monkeypatch: pytest.MonkeyPatch, later: bool) -> list[str]:
    monkeypatch.setattr(process.metadata, "version", lambda package: VERSIONS[package][later])
    return [line for line in obstacles(host, run=False) if line.startswith(tuple(VERSIONS))]


def test_versions_that_no_longer_accept_what_the_host_passes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_versions(host, monkeypatch, later=False) == []
    assert of_versions(host, monkeypatch, later=True) == [
        "transformers 5.15.0 does not accept warmup_ratio, which NNGPT passes to it: "
        "its tuner needs an environment of its own with transformers<5.15",
        "trl 1.7.0 does not accept completion_only_loss, which NNGPT passes to it: "
        "its tuner needs an environment of its own with trl<1.7",
    ]


@pytest.mark.parametrize(("main", "lora", "n"), [("warmup_ratio", "completion_only_loss", 2), ("", "", 0)])
def test_a_host_that_no_longer_passes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: str, lora: str, n: int
) -> None:
    made(tmp_path, "TuneNNGen", TuneNNGen=f"def main(): return '{main}'", util__LoRA=f"class LoRA: given = '{lora}'")
    assert len(of_versions(find_host(tmp_path), monkeypatch, later=True)) == n


def test_a_host_in_another_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = made(tmp_path, "TuneNNGen")
    text = "# -*- coding: latin-1 -*-\n# é\ndef main(): return 'warmup_ratio'\n"
    (package / "TuneNNGen.py").write_text(text, encoding="latin-1")
    (line,) = of_versions(find_host(tmp_path), monkeypatch, later=True)
    assert line.startswith("transformers 5.15.0 does not accept warmup_ratio")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_main_that_is_async_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    (tmp_path / "one_main.py").write_text(
        f"import one_tune\n{kind} main(file):\n    open(file, 'w').write(one_tune.tune())\n"
    )
    (tmp_path / "one_tune.py").write_text("def tune(num_cycles=1, data_dir=None): return f'{num_cycles} {data_dir}'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    call = {"main": "one_main", "tune": "one_tune", "cycles": 3, "data_dir": "d", "arguments": {"file": "said"}}
    monkeypatch.chdir(tmp_path)
    for name in ("one_main", "one_tune"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    launch(call)
    assert (tmp_path / "said").read_text() == "3 d"
    for name in ("one_main", "one_tune"):
        del sys.modules[name]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ab.nn.api` before the installed one; a test writes what its import does."""
    file = tmp_path / "path" / "ab" / "nn" / "api.py"
    file.parent.mkdir(parents=True)
    for folder in (file.parent, file.parent.parent):
        (folder / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    return file


def test_a_database_is_moved_when_it_is_complete(api: Path, database: Path, tmp_path: Path) -> None:
    api.write_text(f"import os, shutil; os.mkdir('db'); shutil.copy({str(database)!r}, 'db/ab.nn.db')")
    out = tmp_path / "new" / "ab.nn.db"
    assert build_database(out) > 1000
    check_database(out)
    assert [p.name for p in out.parent.iterdir()] == ["ab.nn.db"]
    with pytest.raises(UserError, match="exists; remove it"):
        build_database(out)


@pytest.mark.parametrize("then", ["raise RuntimeError('half-way')", "pass", "import absent_one"])
def test_a_database_that_cannot_be_built_leaves_nothing(api: Path, tmp_path: Path, then: str) -> None:
    api.write_text(f"import os; os.mkdir('db'); open('db/ab.nn.db', 'w').close()\n{then}")
    out = tmp_path / "new" / "ab.nn.db"
    with pytest.raises(UserError, match=r"RuntimeError: half-way|is not a LEMUR database|No module named 'absent_one'"):
        build_database(out)
    assert not list(out.parent.iterdir())


def test_a_database_whose_building_was_interrupted_is_refused(database: Path, tmp_path: Path) -> None:
    """As nn-dataset leaves it: its tables are made first, all trials are written in one transaction."""
    begun = tmp_path / "begun.db"
    with closing(sqlite3.connect(begun)) as connection, closing(sqlite3.connect(database)) as whole:
        for (sql,) in whole.execute("SELECT sql FROM sqlite_master WHERE type = 'table'"):
            connection.execute(sql)
        connection.commit()
    with pytest.raises(UserError, match="incomplete: one of its tables is empty"):
        check_database(begun)
    with pytest.raises(UserError, match=r"incomplete.*type: nngpt-ext host database --out"):
        bench_host(begun, folder=made(tmp_path, "TuneNNGen"))
