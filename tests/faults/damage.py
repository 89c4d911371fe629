"""Five ways to damage a file, each reproducible by its seed; each says what it did."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

WAYS = ("removed", "emptied", "halved", "flipped", "exchanged")
TEXTS = ["[]", "{}", "null", "1", "text", '[{"epoch": "x"}]', "[" * 5000, "a: 1"]


def damage(file: Path, way: str, chance: random.Random) -> str:
    """Damage a file."""
    content = file.read_bytes()
    if way == "removed":
        file.unlink()
    elif way == "flipped":  # eight bytes in the middle half
        start = chance.randrange(len(content) // 4, len(content) * 3 // 4 + 1)
        turned = bytes(b ^ chance.randrange(1, 256) for b in content[start : start + 8])
        file.write_bytes(content[:start] + turned + content[start + 8 :])
        return f"8 bytes flipped at {start}"
    elif way == "exchanged":
        return _exchanged(file, chance)
    else:
        file.write_bytes(b"" if way == "emptied" else content[: len(content) // 2])
    return way


def _exchanged(file: Path, chance: random.Random) -> str:
    """Valid content that is not its own, in form or in values only, or a folder in its place."""
    how = chance.choice(["folder", "other", "form", "form", "values", "values"])
    others = [
        p for p in sorted(file.parents[1].rglob(file.name)) if p.is_file() and p.read_bytes() != file.read_bytes()
    ]
    if how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "other" and others:
        shutil.copyfile(other := chance.choice(others), file)
        return f"the {file.name} of {other.parent.name}"
    elif file.suffix == ".parquet":
        frame = pd.read_parquet(file)
        turned = [frame.assign(**{n: frame[n].to_numpy()[::-1]}) for n in frame.select_dtypes("float")]
        forms = [frame.iloc[:, :1], frame.astype(str), frame.iloc[:0]]
        (found := chance.choice(forms if how == "form" else [frame.iloc[len(frame) // 3 :], *turned])).to_parquet(file)
        return f"{how}: a table of {found.shape}, {found.dtypes.iloc[-1]}"
    elif file.suffix == ".safetensors":
        from safetensors.numpy import load_file, save_file

        tensors: dict[str, Any] = load_file(file)
        save_file(dict(list(tensors.items())[:1]) if how == "form" else {n: t * 2 for n, t in tensors.items()}, file)
    elif file.suffix == ".db":
        file.unlink()
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(f"CREATE TABLE {'other' if how == 'form' else 'predictions'} (id INTEGER)")
    else:
        text = file.read_text(encoding="utf-8", errors="replace")
        if how == "form":
            text = chance.choice(TEXTS)
        elif file.suffix == ".json" and isinstance(content := json.loads(text), dict) and content:
            key = chance.choice(sorted(content))
            value = content[key]
            numbers = [2 * value + 1, value / 3] * 3 if isinstance(value, int | float) else []
            text = json.dumps({**content, key: chance.choice([None, "text", [value], {"a": value}, *numbers])})
            how = f"{key} = {json.loads(text)[key]!r:.60}"
        else:
            text = text.replace("5", "7").replace("recipe", "code_only")
        file.write_text(text, encoding="utf-8")
        return f"{how}: {text[:60]!r}"
    return f"exchanged: {how}"
