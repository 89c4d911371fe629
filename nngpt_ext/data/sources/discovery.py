"""Which LEMUR to read: what was asked for, or the nearest that is there."""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path

from nngpt_ext.errors import UserError, unknown
from nngpt_ext.data.sources.api import ApiSource
from nngpt_ext.data.sources.package import PackageSource, installed_folder
from nngpt_ext.data.sources.sqlite import SqliteSource
from nngpt_ext.data.trials import Source

log = logging.getLogger(__name__)

KINDS = ("auto", "package", "sqlite", "api")
DATABASE = Path("db") / "ab.nn.db"
INSTALL = "pip install --no-deps nn-dataset==2.1.2"


def open_source(kind: str = "auto", path: str | Path | None = None) -> Source:
    """Open LEMUR.

    Args:
        kind: `package` (folder tree of nn-dataset), `sqlite` (ab.nn.db), `api` (`ab.nn.api`), or `auto`:
            `path` if given, else `db/ab.nn.db` here, else the installed package's tree, else the api.
        path: the folder `ab/nn` (or one that holds it) or the database file.

    Raises:
        UserError: for an unknown kind, and where there is nothing to read.
    """
    if kind not in KINDS:
        raise unknown("data source", kind, KINDS)
    if kind == "api":
        return ApiSource()
    if kind == "sqlite":
        return SqliteSource(path or DATABASE)
    if path is not None:
        given = Path(path)
        if not given.exists():
            raise UserError(f"no LEMUR at '{path}': there is no such file or folder")
        if given.is_file() and kind == "package":
            raise UserError(f"'{path}' is a file; source 'package' wants the folder ab/nn (or use source 'sqlite')")
        return _say(SqliteSource(given) if given.is_file() else PackageSource(_tree(given)), "its path was given")
    if kind == "auto" and DATABASE.is_file():
        return _say(SqliteSource(DATABASE), f"there is {DATABASE} here")
    folder = installed_folder()
    if folder is not None:
        return _say(PackageSource(folder), "the installed nn-dataset ships its records")
    try:
        version = metadata.version("nn-dataset")
    except metadata.PackageNotFoundError:
        raise UserError(f"no LEMUR found: nn-dataset is not installed; type: {INSTALL}") from None
    if kind == "package":
        raise UserError(f"nn-dataset {version} ships no records; type: {INSTALL}")
    return _say(ApiSource(), f"nn-dataset {version} ships no records")


def _tree(folder: Path) -> Path:
    return folder / "ab" / "nn" if (folder / "ab" / "nn" / "stat").is_dir() else folder


def _say(source: Source, why: str) -> Source:
    log.info("LEMUR: %s at %s, because %s", source.kind, source.location, why)
    return source
