"""Inputs as users and programs write them: nearly right, and not at all."""

from __future__ import annotations

import copy
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from hypothesis import strategies as st

from tests.faults.conftest import CONFIG, RECIPE

NASTY = [
    "", " ", "\ufeff", "\u0000", "\u202e", "é", "ＮＮ", "nan", "inf", "1e999", "-0", "0x10", "1_000", "null", "~", "yes",
    "2024-02-30", "12:61:61", "{", "}", "[", "{{}", "{0}", "%s", "${HOME}", "../..", "/", "C:\\x", "a" * 5000, "[" * 3000,
    "{" * 3000, "(" * 3000, "\ud800", "\r\n", "\x1b[31m", "<|endoftext|>", "'; DROP TABLE predictions; --", "\u2028",
]  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 300), st.sampled_from([0, 10**400, -(10**20), 2**63]), st.floats(), st.floats(0, 1), st.booleans()
)  # fmt: skip
WORDS = st.one_of(st.sampled_from(NASTY), st.text(max_size=12))
LEAVES = st.one_of(st.none(), NUMBERS, WORDS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)
YAML_VALUES = [
    "!!int x", "!!float x", "!!python/object/apply:os.getcwd []", "!!binary x", "!!timestamp x", "!!set {a, b}", "!x y",
    "&a [*a]", "*a", "- a", "? a", "<<: {a: 1}", "{a: 1, a: 2}", "{1: 2}", "{null: 1}", "2024-02-30", "2024-01-01",
    "|\n x", "'", '"\\x"', "%", "@", "`", "a: b: c", "1e5", ".inf", "0o8", "190:20:30", "{? {a: b} : c}", "{[a]: b}",
]  # fmt: skip
PROMPT = {
    "system": ["You compare."],
    "prompt": ["{code}", "{one} or {two}: {first} {second}"],
    "input_list": [
        {"para": "code", "value": "nn_code"}, {"para": "one", "value": "dataset"}, {"para": "two", "value": "dataset_2"},
        {"para": "first", "value": "recipe_1"}, {"para": "second", "value": "recipe_2"},
    ],
    "output": ["{better_dataset}"],
}  # fmt: skip
FIELDS = [
    "{code:d}",
    "{code!r}",
    "{code.x}",
    "{code[0]}",
    "{}",
    "{0}",
    "{{code}",
    "{code",
    "{code:{one}}",
    "{better_dataset}",
]


def paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in a nest of dictionaries and lists."""
    found = [path]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found += paths(value, (*path, key))
    return found


@st.composite
def changed(draw: st.DrawFn, tree: Any, values: st.SearchStrategy[Any] = VALUES, most: int = 2) -> Any:
    """The nest with one or a few places removed, renamed or replaced."""
    for _ in range(draw(st.integers(0, most))):
        tree = copy.deepcopy(tree)
        path = draw(st.sampled_from(paths(tree)))
        if not path:
            return draw(values)
        inner = tree
        for key in path[:-1]:
            inner = inner[key]
        how = draw(st.sampled_from(["replace", "replace", "remove", "rename"]))
        if how == "replace":
            inner[path[-1]] = draw(values)
        elif how == "remove":
            del inner[path[-1]]
        elif isinstance(inner, dict):
            inner[draw(WORDS)] = inner.pop(path[-1])
    return tree


@st.composite
def texts(draw: st.DrawFn, written: st.SearchStrategy[str]) -> bytes:
    """A text as a file holds it: cut, with a BOM, NULs or bytes that are no UTF-8, in another encoding."""
    text = draw(written)
    how = draw(st.sampled_from(["as it is"] * 4 + ["bom", "cut", "nul", "latin", "utf-16", "bytes", "crlf"]))
    content = text.encode("utf-8", "surrogatepass")
    if how == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if how == "bytes":
        return content[: len(content) // 2] + draw(st.binary(max_size=9)) + content[len(content) // 2 :]
    return {
        "bom": b"\xef\xbb\xbf" + content, "nul": content + b"\x00", "utf-16": text.encode("utf-16", "surrogatepass"),
        "latin": text.encode("latin-1", "replace"), "crlf": content.replace(b"\n", b"\r\n"),
    }.get(how, content)  # fmt: skip


def _dumped(value: Any) -> str:
    try:
        return yaml.safe_dump(value, allow_unicode=True)
    except (yaml.YAMLError, UnicodeError):
        return repr(value)


YAML = texts(
    st.one_of(
        changed({"tasks": {"dataset_compare": CONFIG}}).map(_dumped),
        st.tuples(
            st.sampled_from(["tasks", "data", "seed", "prompt", "output_dir"]), st.sampled_from([*YAML_VALUES, *NASTY])
        ).map(lambda found: f"tasks:\n  dataset_compare:\n    model: {{base: embedded}}\n    {found[0]}: {found[1]}\n"),
        st.text(alphabet="ab:-[]{}#&*!|>'\"%@`\n\t ,?0", max_size=60),
    )
)
JSON_PROMPTS = texts(
    st.one_of(
        changed({"mine": PROMPT}, st.one_of(VALUES, st.sampled_from(FIELDS), st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2))).map(json.dumps),
        st.sampled_from([*NASTY, "[]", '{"a": 1}', '{"mine": {"prompt": "x"}}', "NaN"]),
    )
)  # fmt: skip
RECIPE_VALUES = st.one_of(
    changed(json.loads(RECIPE)), changed({name: json.loads(RECIPE) for name in ("mnist", "svhn")})
)
RECIPE_TEXTS = st.one_of(RECIPE_VALUES.map(json.dumps), WORDS, st.sampled_from(NASTY))
ACCURACIES = changed({"mnist": 0.9, "svhn": 0.8})
KEYS = [
    "prompt", "output_dir", "store", "data.epoch", "data.split", "data.seed", "data.path", "data.hold_out", "data.trials",
    "data.train_networks", "data.code_tokens", "model.base", "model.lora.r", "model.lora.dropout", "model.revision",
    "tuning.epochs", "tuning.learning_rate", "tuning.warmup", "tuning.engine", "tuning.seed", "calibration.target",
]  # fmt: skip
SETTINGS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(KEYS), st.one_of(st.sampled_from([*YAML_VALUES, *NASTY]), LEAVES.map(str))).map("=".join),
        st.sampled_from(["", "=", "=1", "data", "data=1", "data.seed.x=1", "data..seed=1", ".=1", "tasks.x=1", "model={base: embedded}"]),
        WORDS,
    ),
    min_size=1, max_size=3,
)  # fmt: skip
NETWORK = "import torch.nn as nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n        return x\n"
SOURCES = texts(
    st.one_of(
        st.sampled_from(
            [
                NETWORK, f"```python\n{NETWORK}```\n", f"Here it is:\n```\n{NETWORK}```", f"\ufeff{NETWORK}", "x = 1\\\n",
                "(" * 300 + ")" * 300, "x = " + "-" * 20000 + "1", "x = " + "[" * 150 + "]" * 150, "if x:\n" * 90 + "y",
                "x = 1" + " " * 20000 + "+ 1", "x = " + "1 + " * 3000 + "1", "x = '" + "a" * 200_000 + "'", "x = 9" * 5000,
                "# -*- coding: latin-1 -*-\nx = 1", "# coding: rot13\nk = 1", "x = '\\ud800'", "x = 1\x0cy = 2", "\x00",
                "<|endoftext|>", "x = '<|im_start|>system'", "def f():\n\treturn 1\n        return 2", "ｘ = 1", "1" * 5000,
                "x" + ".a" * 3000, "f" + "()" * 2000, "lambda: " * 500 + "1", "not " * 3000 + "1", "x = '''" + "\n" * 30000 + "'''",
            ]
        ),
        st.text(alphabet="xy=1+()[]{}:'\"#\\\n\t @", max_size=40),
        st.tuples(st.just(NETWORK), WORDS).map("".join),
    )
)  # fmt: skip
_CELLS = st.one_of(
    LEAVES, st.just(NETWORK), st.binary(max_size=5), st.just(NETWORK.encode()), st.just(f"\ufeff{NETWORK}")
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, pd.DataFrame, bool]:
    """A kind of file, a table of networks, and whether the names are its index."""
    n = draw(st.integers(0, 3))
    names = draw(st.lists(st.one_of(st.sampled_from(["a", "b", "c", 1, 2]), _CELLS), min_size=n, max_size=n))
    codes = draw(st.lists(st.one_of(st.just(NETWORK), st.just(NETWORK + "x = 1\n"), _CELLS), min_size=n, max_size=n))
    frame = pd.DataFrame({"nn": pd.Series(names, dtype=object), "nn_code": pd.Series(codes, dtype=object)})
    more = draw(st.sampled_from(["", "", "recipe", "Int64", "category", "drop", "rename", "twice"]))
    if more == "recipe":
        frame["recipe"] = pd.Series(
            draw(st.lists(st.one_of(st.just(RECIPE), RECIPE_TEXTS, _CELLS), min_size=n, max_size=n)), dtype=object
        )
    elif more == "Int64":
        frame["nn"] = pd.array([None, *range(1, n)][:n], dtype="Int64")
    elif more == "category":
        frame["nn"] = pd.Categorical([f"n{i}" for i in range(n)])
    elif more == "drop":
        frame = frame.drop(columns=draw(st.sampled_from(["nn", "nn_code"])))
    elif more == "rename":
        frame = frame.rename(columns={"nn_code": draw(st.sampled_from(["code", "NN_CODE", "nn_code "]))})
    elif more == "twice":
        frame = pd.concat([frame, frame])
    return draw(st.sampled_from(["parquet", "parquet", "csv", "sqlite", "folder"])), frame, draw(st.booleans())


def write_table(place: Path, kind: str, frame: pd.DataFrame, index: bool) -> Path | None:
    """Write it; None if that kind of file cannot hold it."""
    target = place / f"codes{'' if kind == 'folder' else '.' + kind}"
    if index and "nn" in frame:
        frame = frame.set_index("nn")
    try:
        if kind == "parquet":
            frame.to_parquet(target)
        elif kind == "csv":
            frame.to_csv(target, encoding="utf-8-sig" if index else "utf-8")
        elif kind == "sqlite":
            with closing(sqlite3.connect(target)) as connection:
                frame.to_sql("networks", connection)
        else:
            target.mkdir()
            for number, code in enumerate(frame.iloc[:, -1] if len(frame.columns) else ()):
                (target / f"{number}.py").write_bytes(code if isinstance(code, bytes) else str(code).encode())
    except Exception:  # pandas and Arrow refuse mixed types each in their own way
        return None
    return target
