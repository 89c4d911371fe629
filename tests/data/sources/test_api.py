"""`ab.nn.api`, stood in for.

Importing the real one builds a database of 635 MB, which takes five minutes, or downloads one. What stands in
for it here answers with the real one's own query on a small database of the real schema (`small.api_data`).
"""

from __future__ import annotations

import builtins
import functools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.sources.api import ApiSource
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.errors import UserError
from tests.data.small import api_data, one_line, write_database


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch):
    """Put a module in the place of `ab.nn.api` that answers from the given database."""

    def put(database: Path) -> None:
        @functools.lru_cache(maxsize=10)  # as there
        def data(only_best_accuracy: bool = False, *, task: str, metric: str, epoch: int | None = None) -> pd.DataFrame:
            assert not only_best_accuracy
            print("LEMUR root /somewhere")  # so does the real one
            return api_data(database, task, metric, epoch)

        modules = {name: ModuleType(name) for name in ("ab", "ab.nn", "ab.nn.api", "ab.nn.util", "ab.nn.util.Const")}
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
            parent, _, own = name.rpartition(".")
            if parent:
                setattr(modules[parent], own, module)
        given: Any = modules["ab.nn.api"]
        given.data = data
        constants: Any = modules["ab.nn.util.Const"]
        constants.db_file = database

    return put


def test_the_same_trials_as_the_tree(stand_in, tree: Path, database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(database)
    package, api = PackageSource(tree), ApiSource()
    for epoch in (5, None):
        left, right = (read_trials(source, epoch, cached=False) for source in (package, api))
        assert_frame_equal(left.frame, right.frame, check_exact=True)
        assert left.excluded == right.excluded == {}
    assert len(read_trials(api, 3, cached=False).frame) == 0
    shown = capsys.readouterr()
    assert shown.out == ""  # standard output is for results
    assert "LEMUR root" in shown.err


def test_the_same_sources_as_the_tree(stand_in, tree: Path, database: Path) -> None:
    stand_in(database)
    package, api = PackageSource(tree), ApiSource()
    assert api.networks() == package.networks()
    names = sorted(package.networks())
    assert api.sources(names) == package.sources(names)


def test_faults_are_counted_and_the_rest_is_the_same(stand_in, faulty_tree: Path, tmp_path: Path) -> None:
    stand_in(write_database(faulty_tree, tmp_path / "ab.nn.db"))
    tree, api = (read_trials(source, 5, cached=False) for source in (PackageSource(faulty_tree), ApiSource()))
    assert_frame_equal(tree.frame, api.frame, check_exact=True)
    assert sum(api.excluded.values()) == sum(tree.excluded.values())
    for reason in ("accuracy outside [0, 1]", "no facts of dataset 'imagenet-22k'", "network without source"):
        assert api.excluded[reason] == tree.excluded[reason]


def test_a_changed_database_is_noticed(stand_in, faulty_tree: Path, tmp_path: Path) -> None:
    file = write_database(faulty_tree, tmp_path / "ab.nn.db")
    stand_in(file)
    before = ApiSource().fingerprint(5)
    assert ApiSource().fingerprint(5) == before
    assert ApiSource().fingerprint(1) != before
    file.write_bytes(file.read_bytes() + b"\0" * 4096)
    assert ApiSource().fingerprint(5) != before


def test_an_api_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ab.nn.api", None)
    source = open_source("api")
    for ask in (lambda: source.fingerprint(5), lambda: read_trials(source, 5), source.networks):
        with pytest.raises(UserError) as error:
            ask()
        message = one_line(error.value)
        assert message.startswith("ab.nn.api cannot be imported (")
        assert "pip install --no-deps nn-dataset==2.1.2" in message


def test_what_the_api_needs_and_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """nn-dataset imports radon there; installed with --no-deps, it is not there."""

    def missing(name: str, *rest: object) -> object:
        if name == "ab.nn.api":
            raise ModuleNotFoundError("No module named 'radon.complexity'", name="radon.complexity")
        return original(name, *rest)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"No module named 'radon.complexity'\); type: .*pip install radon$"):
        open_source("api").fingerprint(5)
