"""LEMUR folders and databases that are not as LEMUR makes them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from tests.faults.inputs import NASTY, NETWORK, VALUES, WORDS, changed, texts

TRIAL = {
    "lr": 0.01, "batch": 8, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32", "accuracy": 0.5, "duration": 1,
    "uid": "a",
}  # fmt: skip
STATEMENTS = [
    "ALTER TABLE stat RENAME COLUMN accuracy TO acc", "ALTER TABLE stat RENAME COLUMN nn TO network", "DROP TABLE prm",
    "DROP TABLE nn", "DROP TABLE stat", "DROP TABLE transform", "ALTER TABLE prm RENAME TO params", "DELETE FROM stat",
    "ALTER TABLE stat DROP COLUMN duration", "ALTER TABLE nn RENAME COLUMN code TO source", "DELETE FROM prm",
    "UPDATE stat SET accuracy = accuracy * 100", "UPDATE stat SET accuracy = accuracy * 100 WHERE rowid % 2",
    "UPDATE stat SET accuracy = 'high'", "UPDATE stat SET accuracy = CAST(accuracy AS TEXT) || ' %'",
    "UPDATE stat SET accuracy = NULL WHERE rowid % 3", "UPDATE stat SET accuracy = X'00ff'", "UPDATE stat SET accuracy = 9e999",
    "UPDATE stat SET epoch = 'five'", "UPDATE stat SET epoch = NULL", "UPDATE stat SET epoch = 5.5", "UPDATE stat SET nn = NULL",
    "UPDATE stat SET nn = rowid", "UPDATE stat SET nn = X'fffe' WHERE rowid % 2", "UPDATE stat SET dataset = NULL",
    "UPDATE stat SET dataset = 'flowers' WHERE dataset = 'mnist'", "UPDATE stat SET dataset = 7", "UPDATE stat SET prm = NULL",
    "UPDATE stat SET dataset = 'm' || char(10) || 'n' WHERE dataset = 'mnist'", "UPDATE stat SET transform = NULL",
    "UPDATE nn SET code = X'ff00'", "UPDATE nn SET code = ''", "UPDATE nn SET code = 12", "UPDATE nn SET code = 'def ('",
    "DELETE FROM nn WHERE rowid % 2", "UPDATE prm SET value = 'x' WHERE name = 'lr'", "UPDATE prm SET value = NULL",
    "UPDATE prm SET value = 9e999", "UPDATE prm SET name = 'lr'", "UPDATE prm SET uid = 'a'", "UPDATE stat SET task = 'other'",
    "INSERT INTO stat (id, accuracy, epoch, task, dataset, metric, nn, prm, transform) "
    "SELECT id || 'x', accuracy, epoch, task, dataset, metric, nn, prm, transform FROM stat",
    "CREATE VIEW other AS SELECT * FROM stat", "PRAGMA journal_mode = WAL", "PRAGMA user_version = 9",
]  # fmt: skip


class Harm(NamedTuple):
    """What is done to a folder of records: which file (counted), and its new content; None removes it."""

    kind: str
    number: int
    content: bytes | None


_TRIALS = st.one_of(
    changed(
        [TRIAL, TRIAL | {"uid": "b", "accuracy": 0.7}],
        st.one_of(VALUES, st.sampled_from([95.5, "0.9", "95 %", True])),
        most=3,
    ).map(json.dumps),
    st.sampled_from([*NASTY, "[]", "{}", "null", "[[]]", "[1]", '[{"accuracy": NaN}]', '[{"accuracy": 1e999}]']),
)
FOLDERS = st.lists(
    st.one_of(
        st.builds(Harm, st.just("records"), st.integers(0, 999), st.one_of(st.none(), texts(_TRIALS))),
        st.builds(Harm, st.just("network"), st.integers(0, 999), st.one_of(st.none(), texts(st.one_of(st.just(NETWORK), WORDS)))),
        st.builds(Harm, st.sampled_from(["all records", "percent", "place", "epoch", "folder", "flat"]), st.integers(0, 999), texts(_TRIALS)),
    ),
    max_size=3,
)  # fmt: skip
DATABASES = st.tuples(
    st.lists(st.sampled_from(STATEMENTS), max_size=3, unique=True),
    st.sampled_from(["whole"] * 5 + ["cut", "flipped", "text", "empty", "folder"]),
)


def harm_folder(tree: Path, harms: list[Harm]) -> None:
    """Change a folder ab/nn in place."""
    for kind, number, content in harms:
        records = sorted(p for p in (tree / "stat" / "train").rglob("*.json") if p.is_file())
        files = sorted((tree / "nn").glob("*.py")) if kind == "network" else records
        if not files:
            return
        file = files[number % len(files)]
        if kind in ("records", "network"):
            file.unlink()
            if content is not None:
                file.write_bytes(content)
        elif kind == "all records":
            for one in records:
                one.write_bytes(content or b"")
        elif kind == "percent":
            for one in records[:: number % 3 + 1]:
                try:
                    trials = json.loads(one.read_bytes())
                    one.write_text(json.dumps([{**t, "accuracy": t["accuracy"] * 100} for t in trials]))
                except (TypeError, ValueError, KeyError):
                    continue
        elif kind == "place":
            file.parent.rename(
                file.parents[1] / ["x", "a_b", "img-classification_new_acc_AlexNet", "_._._"][number % 4]
            )
        elif kind == "epoch":
            file.rename(file.with_name(["x.json", "05.json", "-5.json", "5.0.json", "٥.json"][number % 5]))
        elif kind == "folder":
            file.unlink()
            file.mkdir()
        else:
            shutil.rmtree(tree / ["nn", "stat", "transform"][number % 3])


def harm_database(file: Path, statements: list[str], how: str) -> None:
    """Change a database in place."""
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            try:
                connection.execute(statement)
            except sqlite3.Error:  # after another one it may not apply
                continue
        connection.commit()
    content = file.read_bytes()
    if how == "cut":
        file.write_bytes(content[: len(content) * 2 // 3])
    elif how == "flipped":
        file.write_bytes(content[:5000] + bytes(255 - b for b in content[5000:9000]) + content[9000:])
    elif how == "text":
        file.write_text("nn,dataset,epoch,accuracy\nAlexNet,mnist,5,0.9\n")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "folder":
        file.unlink()
        file.mkdir()
