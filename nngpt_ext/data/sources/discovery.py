"""Which records to read: the source that the configuration names, or the first one found."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from nngpt_ext.data.sources.api import ApiSource
from nngpt_ext.data.sources.package import PackageSource, installed_folder
from nngpt_ext.data.sources.sqlite import SqliteSource
from nngpt_ext.data.trials import Source
from nngpt_ext.declaration import Declarations
from nngpt_ext.errors import UserError, parsing, shown
from nngpt_ext.extras import pip

log = logging.getLogger(__name__)

DATABASE = Path("db") / "ab.nn.db"
INSTALL = pip("install --no-deps nn-dataset==2.1.2")
Found = tuple[Source, str]  # a source, and why it was chosen


@dataclass(frozen=True)
class SourceKind:
    """A kind of place that records are read from; `open` is called with the configured path, or None."""

    name: str
    description: str
    open: Callable[[Path | None], Found]


def open_source(kind: str = "auto", path: str | Path | None = None) -> Source:
    """Open a source of records.

    Args:
        kind: a name in `KINDS`.
        path: the folder `ab/nn` (or one that contains it) or the database file.

    Raises:
        UserError: for an unknown kind, and if there is nothing to read.
    """
    with parsing(f"cannot read LEMUR{'' if path is None else f' at {shown(path)}'}"):
        source, why = KINDS[kind].open(None if path is None else Path(path))
    log.info("LEMUR: %s at %s, because %s", source.kind, source.location, why)
    return source


def own_place(source: Source) -> str | None:
    """Where a source's records are, if they are not those of the installed nn-dataset."""
    folder = installed_folder()
    installed = source.kind == ApiSource.kind or (folder is not None and source.location == str(folder.resolve()))
    return None if installed else source.location


def _auto(path: Path | None) -> Found:
    if path is not None:
        return _given(path)
    if DATABASE.is_file():
        return SqliteSource(DATABASE), f"there is {DATABASE} here"
    return _installed() or (ApiSource(), f"nn-dataset {_version()} ships no records")


def _package(path: Path | None) -> Found:
    if path is None:
        found = _installed()
        if found is None:
            raise UserError(f"nn-dataset {_version()} ships no records; type: {INSTALL}")
        return found
    if path.is_file():
        raise UserError(f"'{path}' is a file; source 'package' needs the folder ab/nn (or use source 'sqlite')")
    return _given(path)


def _given(path: Path) -> Found:
    if not path.exists():
        raise UserError(f"no LEMUR at '{path}': there is no such file or folder")
    inner = path / "ab" / "nn"
    folder = inner if (inner / "stat").is_dir() else path
    return SqliteSource(path) if path.is_file() else PackageSource(folder), "its path was given"


def _installed() -> Found | None:
    folder = installed_folder()
    return (PackageSource(folder), "the installed nn-dataset ships its records") if folder else None


def _version() -> str:
    try:
        return metadata.version("nn-dataset")
    except metadata.PackageNotFoundError:
        raise UserError(f"no LEMUR found: nn-dataset is not installed; type: {INSTALL}") from None


KINDS = Declarations(
    "data source",
    [
        SourceKind("auto", "the path if given, else db/ab.nn.db here, else the installed package, else the API", _auto),
        SourceKind("package", "the folder tree ab/nn that nn-dataset 2.1.2 ships", _package),
        SourceKind("sqlite", "the database ab.nn.db", lambda path: (SqliteSource(path or DATABASE), "it was chosen")),
        SourceKind(
            "api", "ab.nn.api, which downloads or builds its database", lambda _: (ApiSource(), "it was chosen")
        ),
    ],
)
