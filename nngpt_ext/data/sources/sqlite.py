"""LEMUR as `ab.nn.api` stores it: the SQLite database ab.nn.db, opened read-only."""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import closing
from pathlib import Path
from typing import Any

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.data.trials import METRIC, RECIPE, TASK
from nngpt_ext.errors import UserError, setting, typed
from nngpt_ext.io import text_digest

_PARAMETER = "(SELECT value FROM prm WHERE prm.uid = s.prm AND prm.name = ? LIMIT 1)"
_NEEDED = {
    "nn": {"name", "code"},
    "prm": {"uid", "name", "value"},
    "stat": {"task", "metric", "nn", "dataset", "epoch", "accuracy", "prm", "transform"},
}


class SqliteSource:
    """Reads the tables `stat`, `prm` and `nn`."""

    kind = "sqlite"

    def __init__(
        self, path: str | Path, facts: Mapping[str, DatasetFacts] = LEMUR_FACTS, recipe: Mapping[str, str] = RECIPE
    ) -> None:
        self.facts, self.recipe = facts, recipe
        self.path = Path(path)
        self.location = str(self.path.resolve())
        if not self.path.is_file():
            raise UserError(f"no LEMUR database at '{path}'; give the path of ab.nn.db")
        found = {table: {row[1] for row in self.query(f"PRAGMA table_info({table})")} for table in _NEEDED}
        missing = ", ".join(table for table in _NEEDED if not found[table])
        lost = [f"{table}.{column}" for table in _NEEDED for column in sorted(_NEEDED[table] - found[table])]
        if lost:
            what = f"table {missing}" if missing else f"column {', '.join(lost)}"
            raise UserError(f"'{path}' is not a LEMUR database: it has no {what}; give the path of ab.nn.db")
        # nn-dataset's first import builds it, which takes minutes, and later accepts one that was cut off.
        if not all(any(self.query(f"SELECT 1 FROM {table} LIMIT 1")) for table in ("stat", "nn")):
            raise self._cut_off("one of its tables is empty")

    def _cut_off(self, why: str) -> UserError:
        return UserError(
            f"the LEMUR database '{self.path}' is incomplete: {why}, so its build was interrupted; remove it and "
            f"type nngpt-ext host database --out {shlex.quote(str(self.path))}, or leave out its path and read the "
            "installed package: "
            f"{typed('--source package, in a run ', '')}{setting('data.source', 'package')}"
        )

    def query(self, sql: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The rows that a statement selects; an error in one line if the database cannot be read."""
        try:
            uri = f"{self.path.resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as connection:
                yield from connection.execute(sql, values)
        except sqlite3.Error as error:
            if "readonly" in str(error):  # SQLite wants to roll back what a killed process had begun
                raise self._cut_off("a journal was left beside it") from None
            cure = "close the program that uses it" if "locked" in str(error) else "give the path of a whole ab.nn.db"
            raise UserError(f"cannot read the LEMUR database '{self.path}': {error}; {cure}") from None

    def fingerprint(self, epoch: int | None) -> str:
        parts = [str(epoch)]
        for suffix in ("", "-wal"):
            file = self.path.with_name(self.path.name + suffix)
            if file.exists():
                state = file.stat()
                parts.append(f"{suffix} {state.st_size} {state.st_mtime_ns}")
        return text_digest("\n".join(parts))

    def records(self, epoch: int | None) -> Iterator[tuple[Any, ...]]:
        own = [name for name in self.recipe if name != "transform"]
        values = ("s.transform" if name == "transform" else _PARAMETER for name in self.recipe)
        columns = ", ".join(("s.nn", "s.dataset", "s.epoch", "s.accuracy", *values))
        wanted = {"task": TASK, "metric": METRIC} | ({} if epoch is None else {"epoch": epoch})
        where = " AND ".join(f"s.{name} = ?" for name in wanted)
        return self.query(f"SELECT {columns} FROM stat s WHERE {where}", *own, *wanted.values())

    def networks(self) -> Set[str]:
        return {row[0] for row in self.query("SELECT name FROM nn WHERE code IS NOT NULL")}

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        # One text of names: SQLite limits the number of variables.
        some = "SELECT name, code FROM nn WHERE name IN (SELECT value FROM json_each(?))"
        return dict(self.query(some, json.dumps(list(names))))
