"""Collections of source code: folders and tables, and what in them is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from nngpt_ext import UserError
from nngpt_ext.networks.codes import Network, Refused, read_codes

RECIPE = {"lr": 0.01, "batch": 32}


def test_a_folder_in_order_with_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.py").write_text("x = 2")
    (tmp_path / "deep" / "a.py").write_text("x = 1")
    (tmp_path / "c.py").write_text("def (")
    (tmp_path / "d.py").write_bytes(b"'\xff'")
    (tmp_path / "notes.txt").write_text("no network")
    found = list(read_codes(tmp_path))
    assert found[0] == Network("b", "x = 2")
    assert found[3] == Network("deep/a", "x = 1")
    assert [(type(one), one.nn) for one in found[1:3]] == [(Refused, "c"), (Refused, "d")]
    assert "is not Python" in found[1].reason
    assert "is not UTF-8" in found[2].reason


def test_a_table_with_recipes(tmp_path: Path) -> None:
    each = {"mnist": RECIPE, "svhn": RECIPE}
    frame = pd.DataFrame({"nn": ["b", "a", "c"], "nn_code": ["x = 1", "y = 2", None], "other": 1})
    frame["recipe"] = [json.dumps(RECIPE), json.dumps(each), "{"]
    frame.to_parquet(tmp_path / "codes.parquet")
    found = list(read_codes(tmp_path / "codes.parquet"))
    assert found[:2] == [Network("a", "y = 2", each), Network("b", "x = 1", RECIPE)]
    assert isinstance(found[2], Refused)
    frame.drop(columns="recipe").to_parquet(tmp_path / "plain.parquet")
    assert next(iter(read_codes(tmp_path / "plain.parquet"))) == Network("a", "y = 2", None)


def test_places_without_networks(tmp_path: Path) -> None:
    def line(place: Path) -> str:
        with pytest.raises(UserError) as error:
            list(read_codes(place))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "contains no network: give a folder of *.py files or a Parquet file" in line(tmp_path)
    assert "give a folder of *.py files or a Parquet file" in line(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_text("no table")
    assert "cannot read" in line(tmp_path / "bad.parquet")
    pd.DataFrame({"name": ["a"]}).to_parquet(tmp_path / "names.parquet")
    assert "has no column nn, nn_code" in line(tmp_path / "names.parquet")
    pd.DataFrame({"nn": ["a", "a"], "nn_code": ["x", "y"]}).to_parquet(tmp_path / "twice.parquet")
    assert "1 duplicate names, such as 'a'" in line(tmp_path / "twice.parquet")
    pd.DataFrame({"nn": [], "nn_code": []}).to_parquet(tmp_path / "empty.parquet")
    assert "contains no network" in line(tmp_path / "empty.parquet")
