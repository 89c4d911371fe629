"""Inputs as users and programs write them: nearly right, and not at all."""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from hypothesis import strategies as st

from tests.faults.conftest import CONFIG, DATASETS, RECIPE

NASTY = [
    "", " ", "\ufeff", "\0", "\u202e", "é", "ＮＮ", "nan", "inf", "1e999", "-0", "0x10", "1_000", "null", "~", "{", "[",
    "2024-02-30", "12:61:61", "{{}", "{0}", "%s", "${HOME}", "../..", "/", "C:\\x", "a" * 5000, "[" * 3000, "{" * 3000,
    "(" * 3000, "\ud800", "\r\n", "\x1b[31m", "<|endoftext|>", "'; DROP TABLE predictions; --", "\u2028", "yes",
]  # fmt: skip
YAML_VALUES = [
    *(f"!!{tag} x" for tag in ("int", "float", "binary", "timestamp", "set", "omap", "pairs", "null", "bool", "x")),
    "'", "!!python/object/apply:os.getcwd []", "&a [*a]", "*a", "- a", "? a", "<<: {a: 1}", "{a: 1, a: 2}", "{1: 2}",
    "{[a]: b}", "{null: 1}", "2024-02-30", "2024-01-01", "|\n x", '"\\x"', "%", "@", "`", "a: b: c", "1e5", ".inf",
    "0o8", "[1, 2]", "190:20:30", "{? {a: b} : c}", "{a: {b: {c: 1}}}", "=", "<<: [1]",
]  # fmt: skip
NETWORK = "import torch.nn as nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n        return x\n"
CODES = [
    NETWORK, f"```python\n{NETWORK}```\n", f"Here it is:\n```\n{NETWORK}```", f"\ufeff{NETWORK}", "x = 1\\\n", "\0",
    "(" * 300 + ")" * 300, f"x = {'-' * 20000}1", f"x = {'[' * 150}{']' * 150}", "if x:\n" * 90 + "y", "ｘ = 1",
    "x\r= 1", f"x = 1{' ' * 20000}+ 1", f"x = {'1 + ' * 3000}1", f"x = '{'a' * 200_000}'", "x = 9" * 5000,
    "lambda: " * 500 + "1", "# -*- coding: latin-1 -*-\nx = 1", "# coding: rot13\nk = 1", "x = '\\ud800'",
    "x = 1\x0cy = 2", "1" * 5000, "f''", "<|endoftext|>", "x = '<|im_start|>system'",
    "def f():\n\treturn 1\n        return 2", f"x{'.a' * 3000}", "f'{x!z}'", f"f{'()' * 2000}", "not " * 3000 + "1",
    f"x = '''{chr(10) * 30000}'''", "x = 0777", "print 1", f"#{' x' * 50_000}", NETWORK.replace("\n", "\r\n"),
    NETWORK.replace("\n", "\r"), "".join(f"{' ' * i}if 1:\n" for i in range(99)),
]  # fmt: skip
PROMPT = {
    "system": ["You compare."],
    "prompt": ["{code}", "{one} or {two}: {first} {second}"],
    "input_list": [{"para": "code", "value": "nn_code"}, {"para": "one", "value": "dataset"}]
    + [{"para": para, "value": f"{value}_{n}"} for para, value, n in (("two", "dataset", 2), ("first", "recipe", 1))]
    + [{"para": "second", "value": "recipe_2"}],
    "output": ["{better_dataset}"],
}
FIELDS = ["{code:d}", "{code!r}", "{code.x}", "{code[0]}", "{}", "{0}", "{{code}", "{code", "{code:{one}}", "{x}", "}"]
STUDY = {
    "common": {"data": CONFIG["data"]}, "learning_curve": [3, 6],
    "cells": [{"prompts": ["recipe"], "bases": ["embedded"], "tested_on": ["best"], "settings": {"data": {"seed": 1}}}],
}  # fmt: skip
KEYS = ["prompt", "output_dir", "store", "data.epoch", "data.split", "data.seed", "data.path", "data.hold_out", "model"]
KEYS += ["data.trials", "data.code_tokens", "model.lora", "model.base", "tuning.epochs", "tuning.warmup", "data.x.y"]
WORDS = st.sampled_from(NASTY) | st.text(max_size=12)
NUMBERS = st.integers(-3, 300) | st.sampled_from([10**400, -(10**20), 2**63]) | st.floats() | st.booleans()
LEAVES = st.none() | NUMBERS | WORDS
VALUES = st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(WORDS, v, max_size=3), max_leaves=6)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in a nest of dictionaries and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(deeper for key, value in items for deeper in places(value, (*path, key)))]


@st.composite
def changed(draw: st.DrawFn, tree: Any, values: st.SearchStrategy[Any] = VALUES, most: int = 2) -> Any:
    """The nest with one or a few places removed, renamed or replaced."""
    for _ in range(draw(st.integers(0, most))):
        tree = copy.deepcopy(tree)
        path = draw(st.sampled_from(places(tree)))
        if not path:
            return draw(values)
        inner = tree
        for key in path[:-1]:
            inner = inner[key]
        how = draw(st.sampled_from(["replace", "replace", "remove", "rename"]))
        old = inner.pop(path[-1])
        if how == "replace":
            inner.insert(path[-1], draw(values)) if isinstance(inner, list) else inner.update({path[-1]: draw(values)})
        elif how == "rename" and isinstance(inner, dict):
            inner[draw(WORDS)] = old
    return tree


@st.composite
def texts(draw: st.DrawFn, written: st.SearchStrategy[str]) -> bytes:
    """A text as a file holds it: cut, with a BOM, NULs or bytes that are no UTF-8, in another encoding."""
    text, how = draw(written), draw(st.integers(0, 11))
    content = text.encode("utf-8", "surrogatepass")
    middle = draw(st.integers(0, len(content))) if how < 2 else 0
    return {
        0: content[:middle], 1: content[:middle] + draw(st.binary(max_size=5)) + content[middle:], 2: content + b"\0",
        3: b"\xef\xbb\xbf" + content, 4: text.encode("utf-16", "surrogatepass"), 5: text.encode("latin-1", "replace"),
    }.get(how, content)  # fmt: skip


def _dumped(value: Any) -> str:
    try:
        return yaml.safe_dump(value, allow_unicode=True)
    except (yaml.YAMLError, UnicodeError):
        return repr(value)


SETTINGS = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from([*YAML_VALUES, *NASTY]) | LEAVES.map(str)).map("=".join)
    | st.sampled_from(["", "=", "=1", "data", "data=1", "data.seed.x=1", "data..seed=1", ".=1"]),
    min_size=1, max_size=3,
)  # fmt: skip
LINES = st.tuples(st.sampled_from(["tasks", "data", "prompt", "store"]), st.sampled_from([*YAML_VALUES, *NASTY]))
PROJECT_LINES = LINES.map(lambda found: f"tasks:\n  dataset_compare:\n    {found[0]}: {found[1]}\n")
SCRAPS = st.text(alphabet="ab:-[]{}#&*!|>'\"%@`\n\t ,?0", max_size=60)
PROJECTS = texts(changed({"tasks": {"dataset_compare": CONFIG}}).map(_dumped) | PROJECT_LINES | SCRAPS)
STUDIES = texts(changed(STUDY).map(_dumped) | LINES.map(lambda found: f"common:\n  {found[0]}: {found[1]}\n") | SCRAPS)
FILLED = st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2)
PROMPTS = texts(
    changed({"mine": PROMPT}, VALUES | FILLED).map(json.dumps) | st.sampled_from([*NASTY, "[]", '{"a": 1}'])
)
RECIPES = changed(json.loads(RECIPE)) | changed({name: json.loads(RECIPE) for name in DATASETS})
ACCURACIES = changed(dict.fromkeys(DATASETS, 0.9))
SOURCES = texts(st.sampled_from(CODES) | SCRAPS | WORDS.map(NETWORK.__add__))
SECRET = "hunter2hunter2"
_AT = f"u:{SECRET}@127.0.0.1"
STORES = st.sampled_from(
    [
        *(f"sqlite:///HERE/{name}" for name in ("new.db", "foreign.db", "text.db", "", "none/n.db", "n.db?timeout=x")),
        *(f"{kind}://{_AT}/x" for kind in ("postgresql", "mysql", "http", "sqlite")), "sqlite://", "://", "sqlite:",
        "x:y", "HERE/new.db", "file:HERE/new.db", "sqlite:///file:HERE/new.db?uri=true", "sqlite:///HERE/foreign.db?mode=ro",
        f"postgresql+psycopg://{_AT}:port/x", f"postgresql+psycopg://127.0.0.1:1/x?password={SECRET}",
        f"postgresql+psycopg://{_AT}:1/x", f"sqlite:///HERE/n.db?password={SECRET}", "sqlite+x:///HERE/a.db",
    ]
) | st.tuples(st.sampled_from(["sqlite:///HERE/", ""]), WORDS).map("".join)  # fmt: skip
CELLS = LEAVES | st.sampled_from([NETWORK, NETWORK.encode(), *CODES[:5]]) | st.binary(max_size=5)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, pd.DataFrame]:
    """A kind of file and a table of networks."""
    n = draw(st.integers(0, 3))

    def column(often: list[Any]) -> pd.Series:
        cells = st.sampled_from(often) if draw(st.booleans()) else st.sampled_from(often) | CELLS
        return pd.Series(draw(st.lists(cells, min_size=n, max_size=n)), dtype=object)

    frame = pd.DataFrame({"nn": column(["a", "b", "c"]), "nn_code": column([NETWORK, NETWORK + "x = 1\n"])})
    how = draw(st.sampled_from(["", "", "recipe", "Int64", "float", "bytes", "category", "rename", "twice", "index"]))
    if how == "recipe":
        frame["recipe"] = column([RECIPE, None])
    elif how in ("Int64", "float", "category"):
        frame["nn"] = pd.Series([None, 1, 2][:n] if draw(st.booleans()) else [3, 1, 2][:n], dtype=how)
    elif how == "bytes":
        frame["nn_code"] = [NETWORK.encode()] * n
    elif how == "rename":
        frame.columns = pd.Index(["nn", draw(st.just("code") | WORDS)])
    frame = {"twice": pd.concat([frame, frame]), "index": frame.set_index("nn")}.get(how, frame)
    return draw(st.sampled_from(["parquet", "parquet", "parquet", "csv", "sqlite"])), frame


def write_table(place: Path, kind: str, frame: pd.DataFrame) -> Path | None:
    """Write it; None if that kind of file cannot hold it."""
    target = place / f"codes.{kind}"
    try:
        if kind == "sqlite":
            with closing(sqlite3.connect(target)) as connection:
                frame.to_sql("networks", connection)
        else:
            frame.to_parquet(target) if kind == "parquet" else frame.to_csv(target, encoding="utf-8-sig")
    except Exception:  # pandas and Arrow refuse mixed types each in their own way
        return None
    return target


_WRONG = ["NULL", "'high'", "X'00ff'", "9e999", "-1", "rowid", "5.5", "''", "'m' || char(10)", "95.5", "'0.9'", "'a b'"]
_INDEXED, _WHERE = ("accuracy", "epoch", "nn", "dataset", "prm", "transform"), ("", " WHERE rowid % 3")
STATEMENTS = [
    *(f"DROP TABLE {table}" for table in ("nn", "prm", "stat", "transform")), "ALTER TABLE prm RENAME TO params",
    *(f"ALTER TABLE stat RENAME COLUMN {name} TO other" for name in ("accuracy", "nn", "epoch", "prm", "dataset")),
    *(f"UPDATE stat SET {name} = {value}{where}" for name in _INDEXED for value in _WRONG for where in _WHERE),
    *(f"UPDATE nn SET code = {value}" for value in ("X'ff00'", "''", "12", "'def ('", "char(65279) || code")),
    *(f"UPDATE prm SET {name} = {value}" for name in ("value", "name", "uid") for value in _WRONG[1:6]),
    "UPDATE stat SET accuracy = accuracy * 100", "UPDATE stat SET accuracy = accuracy || ' %'", "DELETE FROM nn",
    "ALTER TABLE nn RENAME COLUMN code TO source", "ALTER TABLE stat DROP COLUMN duration", "DELETE FROM stat",
    "INSERT INTO stat SELECT id || 'x', accuracy, epoch, duration, task, dataset, nn, transform, metric, prm FROM stat",
    "PRAGMA journal_mode = WAL", "PRAGMA user_version = 9", "DELETE FROM prm",
]  # fmt: skip
TRIAL = {**json.loads(RECIPE), "accuracy": 0.5, "duration": 1, "uid": "a"}
TRIALS = changed([TRIAL, TRIAL | {"uid": "b"}], VALUES | st.sampled_from([95.5, "0.9", "95 %", True]), 3).map(
    json.dumps
)
RECORDS = texts(TRIALS | st.sampled_from([*NASTY, *CODES, "[]", "{}", "[[]]", "[1]", '[{"accuracy": 1e999}]']))
HARMS = ["records", "network", "all records", "removed", "percent", "place", "epoch", "folder", "part"]
FOLDERS = st.lists(st.tuples(st.sampled_from(HARMS), st.integers(0, 999), RECORDS), max_size=3)
DATABASES = st.tuples(
    st.lists(st.sampled_from(STATEMENTS), max_size=2, unique=True),
    st.sampled_from(["whole"] * 9 + ["cut", "flipped", "text", "empty"]),
)


def harm_folder(tree: Path, kind: str, number: int, content: bytes) -> None:
    """Change a LEMUR folder ab/nn in place, as far as what is there after other changes allows."""
    pattern = "nn/*.py" if kind == "network" else "stat/train/*/*.json"
    files = sorted(p for p in tree.glob(pattern) if p.is_file())
    file = files[number % len(files)] if files else tree / "none"
    names = ["x", "a_b", "img-classification_new_acc_AlexNet", "_._._", "img-classification_mnist_acc_"]
    with suppress(OSError, TypeError, ValueError, KeyError):
        if kind == "place":
            file.parent.rename(file.parents[1] / names[number % 5])
        elif kind == "epoch":
            file.rename(file.with_name(["x.json", "05.json", "-5.json", "5.0.json", "٥.json"][number % 5]))
        elif kind == "part":
            shutil.rmtree(tree / ["nn", "stat", "transform"][number % 3])
        elif kind in ("removed", "folder"):
            file.unlink()
            file.mkdir() if kind == "folder" else None
        elif kind == "percent":
            for one in files[:: number % 3 + 1]:
                trials = [{**trial, "accuracy": trial["accuracy"] * 100} for trial in json.loads(one.read_bytes())]
                one.write_text(json.dumps(trials))
        else:
            for one in files if kind == "all records" else [file]:
                one.write_bytes(content)


def harm_database(file: Path, statements: list[str], how: str) -> None:
    """Change a LEMUR database in place."""
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            with suppress(sqlite3.Error):  # after another one it may not apply
                connection.execute(statement)
        connection.commit()
    content = file.read_bytes()
    turned = content[:5000] + bytes(255 - b for b in content[5000:9000]) + content[9000:]
    wrong = {"cut": content[: len(content) * 2 // 3], "flipped": turned, "text": b"nn,dataset\nA,b\n", "empty": b""}
    file.write_bytes(wrong.get(how, content))
