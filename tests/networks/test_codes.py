"""Collections of source code: folders and tables, and what in them is refused."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nngpt_ext import UserError
from nngpt_ext.networks.codes import Network, Refused, read_codes, said_of_skipped

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


def test_what_is_skipped_in_a_folder_and_how_many(tmp_path: Path) -> None:
    place, outside = tmp_path / "nets", tmp_path / "outside"
    kept = ["a.py", "venv.py", "deep/site/b.py", "venv/c.py"]
    left = [".venv/lib/d.py", ".venv/e.py", "my env/bin/f.py", "__pycache__/g.py", "deep/site-packages/h.py",
            ".ipynb_checkpoints/a-checkpoint.py", ".git/i.py", "node_modules/j.py", ".k.py"]  # fmt: skip
    for name in (*kept, *left, "../outside/l.py"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("x = 1")
    (place / "my env" / "pyvenv.cfg").touch()
    (place / ".cache").mkdir()  # without a file that is skipped
    (place / "m.py").symlink_to(outside / "l.py")
    (place / "n").symlink_to(outside)
    (place / "o.py").symlink_to(place / "a.py")
    os.mkfifo(place / "p.py")  # which nobody writes to
    skipped: Counter[str] = Counter()
    assert [one.nn for one in read_codes(place, skipped)] == ["a", "deep/site/b", "o", "venv", "venv/c"]
    assert skipped == {
        "'.venv/'": 2, "'my env/'": 1, "'__pycache__/'": 1, "'deep/site-packages/'": 1, "'.ipynb_checkpoints/'": 1,
        "'.git/'": 1, "'node_modules/'": 1, "hidden files": 1, "links": 2, "special files": 1,
    }  # fmt: skip
    said = said_of_skipped(skipped)
    assert said.startswith("12 files were skipped: '.venv/' 2, links 2, ")
    assert said.endswith(", and 5 other places")
    assert said_of_skipped({"links": 1}) == "1 file was skipped: links 1"
    # Whoever means such a folder gives it.
    assert [one.nn for one in read_codes(place / ".venv")] == ["e", "lib/d"]
    shutil.copytree(place / ".git", tmp_path / "only" / ".git")
    with pytest.raises(UserError, match=r"contains no network \(1 file was skipped: '\.git/' 1\): give a folder"):
        list(read_codes(tmp_path / "only"))


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


def read(file: Path, frame: pd.DataFrame, **options: Any) -> list[Network | Refused]:
    frame.to_parquet(file, **options)
    return list(read_codes(file))


@pytest.mark.parametrize(
    ("nn", "names"),
    [
        (pd.array([3, 1], "Int64"), ["1", "3"]), (pd.array([3, None], "Int64"), ["row 2", "3"]),
        ([1.0, 3.0], ["1", "3"]),
        ([3.0, None], ["row 2", "3"]), (["b", None], ["row 2", "b"]), ([b"b", b"a"], ["a", "b"]),
        ([b"b", b"\xff"], ["row 2", "b"]), (pd.Categorical(["b", "a"]), ["a", "b"]), (["b", ""], ["row 2", "b"]),
        (["b", "a\nc"], ["row 2", "b"]), ([1.5, 1.0], ["row 1", "1"]), ([True, False], ["row 1", "row 2"]),
        ([["a"], ["b"]], ["row 1", "row 2"]), ([10**18 + 1, 10**18], [str(10**18), str(10**18 + 1)]),
        (pd.to_datetime(["2024-01-01", None]), ["row 1", "row 2"]), ([float("inf"), float("nan")], ["row 1", "row 2"]),
    ],
)  # fmt: skip
def test_names_of_every_type(tmp_path: Path, nn: Any, names: list[str]) -> None:
    """A network is scored under its name, or refused by its row; as a column and as the index of the table."""
    frame = pd.DataFrame({"nn": nn, "nn_code": ["x = 1", "y = 2"]})
    for found in (read(tmp_path / "a.parquet", frame), read(tmp_path / "b.parquet", frame.set_index("nn"))):
        assert [one.nn for one in found] == names
        assert all(one.nn.startswith("row ") == isinstance(one, Refused) for one in found)
        for one in found:
            if isinstance(one, Refused):
                assert one.reason.startswith(
                    f"{one.nn}: a name must be printable text on one line, or a whole number, "
                )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ([b"x = 1", b"\xff"], "the source of 'b' is not UTF-8 (byte 0)"),
        (["x = 1", None], "the source of 'b' is missing"),
        (["x = 1", float("nan")], "the source of 'b' is missing"),
        (["x = 1", ""], "the source of 'b' is empty; give the network's Python code"),
        (["x = 1", "Here:\n```\nx\n```"], "it has Markdown fences"),
        (["x = 1", "nets/b.py"], "the source of 'b' is a path"),
        ([{"x": 1}, {"x": 2}], "the source of 'b' must be text, not dict"),
    ],
)
def test_sources_of_every_type(tmp_path: Path, code: list[Any], reason: str) -> None:
    found = read(tmp_path / "a.parquet", pd.DataFrame({"nn": ["a", "b"], "nn_code": code}))
    assert found[0] == Network("a", "x = 1") or "dict" in reason
    assert isinstance(found[1], Refused)
    assert reason in found[1].reason


@pytest.mark.parametrize("recipe", [[RECIPE, None], [json.dumps(RECIPE).encode(), None], [json.dumps(RECIPE), None]])
def test_recipes_of_every_type(tmp_path: Path, recipe: list[Any]) -> None:
    found = read(tmp_path / "a.parquet", pd.DataFrame({"nn": ["a", "b"], "nn_code": "x = 1", "recipe": recipe}))
    assert found == [Network("a", "x = 1", RECIPE), Network("b", "x = 1", None)]


@pytest.mark.parametrize("given", [{"svhn": {"1": 0.5}}, '{"svhn": {"1": 0.5}}'])
def test_early_accuracies_of_every_type(tmp_path: Path, given: Any) -> None:
    frame = pd.DataFrame({"nn": ["a", "b", "c"], "nn_code": "x = 1", "evidence": [given, None, given]})
    if isinstance(given, str):
        frame.loc[2, "evidence"] = "0.5"
    found = read(tmp_path / "a.parquet", frame)
    assert found[:2] == [Network("a", "x = 1", evidence={"svhn": {"1": 0.5}}), Network("b", "x = 1")]
    if isinstance(given, str):
        assert isinstance(found[2], Refused)
        assert "the evidence of 'c' must be a JSON object, for example" in found[2].reason


def test_deep_recipes_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"nn": ["a"], "nn_code": "x = 1", "recipe": "[" * 100_000})
    (found,) = read(tmp_path / "a.parquet", frame)
    assert isinstance(found, Refused)
    assert "the recipe of 'a' is not JSON (too deeply nested)" in found.reason


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    with contextlib.suppress(OSError):  # some file systems refuse them
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.py")).write_text("x = 1")
        (tmp_path / "b\nc.py").write_text("x = 1")
    named = [one.nn for one in read_codes(tmp_path) if isinstance(one, Network)]
    refused = [one for one in read_codes(tmp_path) if isinstance(one, Refused)]
    assert named == ["a"]
    assert all(one.nn.startswith("row ") and one.reason.isprintable() for one in refused)


def test_tables_of_other_programs(tmp_path: Path) -> None:
    frame = pd.DataFrame({"nn": ["a"], "nn_code": ["x = 1"]})
    frame.to_csv(tmp_path / "codes.csv")
    with closing(sqlite3.connect(tmp_path / "codes.db")) as database:
        frame.to_sql("networks", database)
    (tmp_path / "empty.parquet").touch()
    frame.to_parquet(tmp_path / "cut.parquet")
    content = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:-20])
    (tmp_path / "flipped.parquet").write_bytes(
        bytes(255 - b for b in content[4:600]).join([content[:4], content[600:]])
    )
    for name in ("codes.csv", "codes.db", "empty.parquet", "cut.parquet", "flipped.parquet"):
        with pytest.raises(UserError, match=r"'.*(\);|file:) give a folder of \*\.py files or a Parquet file with"):
            list(read_codes(tmp_path / name))


def test_a_column_that_stands_twice(tmp_path: Path) -> None:
    for twice in ("nn", "nn_code"):
        table = pa.table([["a"], ["x = 1"], ["b"]], names=["nn", "nn_code", twice])
        pq.write_table(table, tmp_path / "t.parquet")
        with pytest.raises(UserError, match=rf"t.parquet' has several columns '{twice}'$"):
            list(read_codes(tmp_path / "t.parquet"))


def test_places_without_networks(tmp_path: Path) -> None:
    def line(place: Path) -> str:
        with pytest.raises(UserError) as error:
            list(read_codes(place))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "contains no network: give a folder of *.py files or a Parquet file" in line(tmp_path)
    assert "give a folder of *.py files or a Parquet file" in line(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_text("no table")
    assert line(tmp_path / "bad.parquet").startswith(f"'{tmp_path / 'bad.parquet'}' is not a Parquet file: give")
    assert line(tmp_path / "bad.parquet").endswith(
        "give a folder of *.py files or a Parquet file with the columns nn and nn_code"
    )
    assert "cannot read 'aaa" in line(Path("a" * 5_000))
    pd.DataFrame({"name": ["a"]}).to_parquet(tmp_path / "names.parquet")
    assert "has no column nn, nn_code; it needs nn and nn_code" in line(tmp_path / "names.parquet")
    pd.DataFrame({"nn": ["a", "a"], "nn_code": ["x", "y"]}).to_parquet(tmp_path / "twice.parquet")
    assert "1 duplicate names, such as 'a'" in line(tmp_path / "twice.parquet")
    pd.DataFrame({"nn": [], "nn_code": []}).to_parquet(tmp_path / "empty.parquet")
    assert "contains no network" in line(tmp_path / "empty.parquet")
