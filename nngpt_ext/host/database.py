"""LEMUR's database as `ab.nn.api` builds it at its first import, whole or not at all."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from nngpt_ext.errors import UserError
from nngpt_ext.host.reading import lacking_of
from nngpt_ext.host.root import DATABASE, check_database
from nngpt_ext.io import cannot_write


def build_database(out: Path) -> int:
    """Import `ab.nn.api` in a folder of its own and put the database it makes to `out`.

    Its import takes whatever stands in `db/ab.nn.db` for whole, also what an interrupted one has left; so it is
    built elsewhere and moved when that process has ended well.

    Returns:
        The number of trials in it, of all tasks.

    Raises:
        UserError: when `out` exists, something that the import needs is not there, or it fails.
    """
    if out.exists():
        raise UserError(f"'{out}' exists; remove it, or use it as it is")
    missing = lacking_of("ab.nn.api")
    if missing:
        raise UserError(f"ab.nn.api needs {', '.join(missing)}; type: pip install {' '.join(missing)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nngpt_ext_", dir=out.parent) as name:
            root = Path(name)
            (root / "README.md").touch()
            (root / "ab").mkdir()
            done = subprocess.run(
                [sys.executable, "-c", "import ab.nn.api"], cwd=root, text=True, capture_output=True,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            if done.returncode or not (root / DATABASE).is_file():
                last = (done.stderr.strip() or "it made no database").splitlines()[-1]
                raise UserError(f"ab.nn.api could not build its database: {last}")
            check_database(root / DATABASE)
            with closing(sqlite3.connect(root / DATABASE)) as connection:
                rows = int(connection.execute("SELECT count(*) FROM stat").fetchone()[0])
            shutil.move(root / DATABASE, out)
    except OSError as error:
        raise cannot_write(out, error) from None
    return rows
