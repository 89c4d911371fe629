"""A root: the folder that the host must be started in, for it reads conf and LEMUR's database from there.

The host takes the current folder, or the nearest above it with `ab/` and `README.md`, for its project: prompts and
LLM presets come from `ab/gpt/conf`, the database from `db/ab.nn.db`. Where there is no database, importing the
host builds one of 635 MB, or downloads it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.host.layout import Host

DATABASE = Path("db") / "ab.nn.db"
CONF = Path("ab") / "gpt" / "conf"
# The preset whose file the host opens at import.
BUILT_IN_PRESET = "nngpt_ds_coder_1.3b_instruct.json"


@contextmanager
def bare_root(host: Host, database: Path | None = None) -> Iterator[Path]:
    """A temporary root with the host's own conf, and a database: the given one, or one without rows."""
    with tempfile.TemporaryDirectory(prefix="nngpt_ext_host_") as name:
        root = Path(name)
        (root / "README.md").touch()
        (root / "ab").mkdir()
        (root / "ab" / "gpt").symlink_to(host.folder)
        (root / "db").mkdir()
        if database is not None:
            (root / DATABASE).symlink_to(database.resolve())
        else:
            write_empty_database(root / DATABASE)
        yield root


def write_empty_database(file: Path) -> None:
    """A database without rows, beside which the host can be imported: it neither builds one nor downloads it."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE nn (name TEXT PRIMARY KEY, code TEXT NOT NULL, id TEXT NOT NULL)")
        connection.commit()


def host_path(host: Host) -> str:
    """PYTHONPATH with which a child imports this very host, and this package."""
    ours = Path(__file__).parents[2]
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(host.folder.parents[1]), str(ours), *([before] if before else [])])


def run_in(
    root: Path, host: Host, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None,
    capture: bool = True,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a module of this package (`-m …`) in a root, where it imports the host."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture else sys.stderr, stderr=subprocess.PIPE if capture else None,
        env={**os.environ, "PYTHONPATH": host_path(host), "TOKENIZERS_PARALLELISM": "false", **(environment or {})},
    )  # fmt: skip


def said(done: subprocess.CompletedProcess[str], mark: str, doing: str) -> Any:
    """The JSON that a child printed last, behind its mark.

    Raises:
        UserError: when it failed, with the last line of what it said.
    """
    lines = [line for line in done.stdout.splitlines() if line.startswith(mark)]
    if done.returncode or not lines:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise UserError(f"{doing} failed: {last}")
    return json.loads(lines[-1][len(mark) :])


def check_database(file: Path) -> None:
    """See that a database is there and has trials: the host takes one that was half built for whole.

    Raises:
        UserError: when it is not.
    """
    from nngpt_ext.data.sources.sqlite import SqliteSource
    from nngpt_ext.data.trials import METRIC, TASK

    SqliteSource(file)
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT 1 FROM stat WHERE task = ? AND metric = ? LIMIT 1", (TASK, METRIC)).fetchone()
    if row is None:
        raise UserError(f"the LEMUR database '{file}' holds no trials; remove it and build it again with ab.nn.api")
