"""Five ways to damage a file, each reproducible by its seed."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd

Damage = Callable[[Path, random.Random], str]


def removed(file: Path, chance: random.Random) -> str:
    file.unlink()
    return "removed"


def emptied(file: Path, chance: random.Random) -> str:
    file.write_bytes(b"")
    return "emptied"


def halved(file: Path, chance: random.Random) -> str:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return "cut in half"


def flipped(file: Path, chance: random.Random) -> str:
    """Eight bytes in a row, somewhere in the middle half."""
    content = bytearray(file.read_bytes())
    start = chance.randrange(len(content) // 4, max(len(content) * 3 // 4, len(content) // 4 + 1))
    for i in range(start, min(start + 8, len(content))):
        content[i] ^= chance.randrange(1, 256)
    file.write_bytes(bytes(content))
    return f"8 bytes flipped at {start}"


def exchanged(file: Path, chance: random.Random) -> str:
    """Valid content of its type that is not its own, or a folder in its place."""
    kind = chance.choice(["folder", "sibling", "form", "form", "value", "value"])
    if kind == "folder":
        file.unlink()
        file.mkdir()
        return "a folder in its place"
    if kind == "sibling":
        others = sorted(p for p in file.parents[1].rglob(f"*{file.suffix}") if p.is_file() and p != file)
        others = [p for p in others if p.name == file.name] or others
        if others:
            other = chance.choice(others)
            shutil.copyfile(other, file)
            return f"the content of {other.parent.name}/{other.name}"
    return _by_type(file, chance, form=kind == "form")


def _by_type(file: Path, chance: random.Random, form: bool) -> str:
    if file.suffix == ".json":
        return _json(file, chance, form)
    if file.suffix == ".yaml":
        text = chance.choice(["[]\n", "null\n", "a: 1\n", "3\n"])
        file.write_text(text if form else file.read_text().replace("5", "7").replace("recipe", "code_only"))
        return f"YAML {text!r}" if form else "YAML with other values"
    if file.suffix == ".parquet":
        frame = pd.read_parquet(file)
        if form:
            frame = chance.choice([frame.iloc[:, :1], frame.astype(str), frame.iloc[:0]])
            what = f"a table of {frame.shape} and {frame.dtypes.iloc[0]}"
        else:
            frame, what = chance.choice([(frame.iloc[len(frame) // 3 :], "a third of the rows lost"), _moved(frame)])
        frame.to_parquet(file, index=False)
        return what
    if file.suffix == ".safetensors":
        from safetensors.numpy import load_file, save_file

        tensors = load_file(file)
        save_file(dict(list(tensors.items())[:1]) if form else {n: t * 1.5 for n, t in tensors.items()}, file)
        return "one tensor only" if form else "other weights"
    if file.suffix == ".db":
        file.unlink()
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(f"CREATE TABLE {'other' if form else 'predictions'} (id INTEGER)")
        return "a foreign database"
    file.write_text("something else\n")
    return "another text"


def _moved(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The numbers of one column in another order."""
    name = next(name for name in ("log_odds", "probability_1", "pair_prior", *frame.columns) if name in frame)
    return frame.assign(**{name: frame[name].to_numpy()[::-1]}), f"column {name} in reverse order"


def _json(file: Path, chance: random.Random, form: bool) -> str:
    content = json.loads(file.read_text(encoding="utf-8"))
    if form or not isinstance(content, dict) or not content:
        text = chance.choice(["[]", "{}", "null", "1", '"text"', '[{"epoch": "x"}]', "[" * 5000])
        file.write_text(text)
        return f"JSON {text[:20]}"
    key = chance.choice(sorted(content))
    value = content[key]
    changed = chance.choice([None, "text", [value], {"a": value}, -1, *([value * 2 + 1] * 4 if _number(value) else [])])
    file.write_text(json.dumps({**content, key: changed}))
    return f"JSON with {key} = {json.dumps(changed)[:40]}"


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


WAYS: dict[str, Damage] = {way.__name__: way for way in (removed, emptied, halved, flipped, exchanged)}
