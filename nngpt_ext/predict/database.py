"""The prediction store's tables, and how they are made in a database."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nngpt_ext.errors import UserError
from nngpt_ext.settings import hide_password

SCHEMA = 2
_WAIT = 60  # seconds a writer waits for another
_LOCK = 0x6E6E677074  # "nngpt": of PostgreSQL's advisory lock while tables are made
_metadata = sa.MetaData()
_schema = sa.Table("nngpt_ext_schema", _metadata, sa.Column("version", sa.Integer, nullable=False))
predictions = sa.Table(
    "predictions",
    _metadata,
    # One answer to one question of one adapter. Networks with the same source share it and keep their labels.
    sa.Column("question", sa.String(64), primary_key=True),
    sa.Column("nn", sa.String, primary_key=True, index=True),
    sa.Column("source", sa.String(64), nullable=False, index=True),  # sha256 of the source text
    sa.Column("epoch", sa.Integer),
    sa.Column("dataset_1", sa.String, nullable=False, index=True),
    sa.Column("dataset_2", sa.String, nullable=False, index=True),
    sa.Column("given_1", sa.String, nullable=False),  # what the prompt shows beside the name: the recipe, say
    sa.Column("given_2", sa.String, nullable=False),
    sa.Column("log_odds", sa.Double, nullable=False),
    sa.Column("probability_1", sa.Double, nullable=False),
    sa.Column("calibrated_1", sa.Double),
    sa.Column("flipped", sa.Boolean, nullable=False),
    sa.Column("abstain", sa.Boolean, nullable=False),
    sa.Column("predicted", sa.String, nullable=False),
    sa.Column("better_dataset", sa.String),  # the true answer, only where it was asked for
    sa.Column("prompt", sa.String, nullable=False),
    sa.Column("prompt_hash", sa.String(64), nullable=False),
    sa.Column("adapter", sa.String(64), nullable=False, index=True),  # AdapterFiles.hash
    sa.Column("calibration", sa.String(64), nullable=False),
    sa.Column("base_model", sa.String, nullable=False),
    sa.Column("tuning_epoch", sa.Integer),
    sa.Column("split", sa.String),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False, index=True),  # UTC
)
FAULTS = (sa.exc.SQLAlchemyError, OSError, ImportError, ValueError)  # ValueError: a port that is no number


def connect(url: str) -> sa.Engine:
    """An engine for the database; nothing is made yet."""
    engine = sa.create_engine(url, **_arguments(url))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
    elif engine.dialect.name != "postgresql":
        raise UserError(f"'{hide_password(url)}': the prediction store is SQLite or PostgreSQL")
    return engine


def _arguments(url: str) -> dict[str, Any]:
    if not url.startswith("sqlite"):
        return {}
    found: dict[str, Any] = {"connect_args": {"timeout": _WAIT}}
    if sa.make_url(url).database in (None, "", ":memory:"):
        # One connection, for one thread at a time: SQLAlchemy would give each thread an empty database of its own.
        found["connect_args"]["check_same_thread"] = False
        found |= {"poolclass": sa.QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": _WAIT}
    return found


def _prepare(connection: Any, _: Any) -> None:
    # Python's own transactions would begin too late: two readers that then write would refuse each other.
    connection.isolation_level = None
    until = time.monotonic() + _WAIT
    while connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:  # here SQLite itself does not wait for another's glance
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get("reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def make(url: str) -> sa.Engine:
    """Open a database and make the tables where there are none.

    Raises:
        UserError: when the address is none, the database cannot be reached, or its schema is another's.
    """
    try:
        engine = connect(url)
        file = sqlite_file(engine)
        if file is not None:
            check(url)  # what is another's stays as it is: the engine changes a file when it opens it
            file.parent.mkdir(parents=True, exist_ok=True)
        with engine.begin() as connection:  # one process at a time makes tables
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            found = _version(url, connection)
            if not found:
                _metadata.create_all(connection)
                connection.execute(_schema.insert().values(version=SCHEMA))
    except FAULTS as error:
        raise unusable(url, error) from None
    _check(url, found)
    return engine


def check(url: str) -> None:
    """See that a store can be opened, before hours of work whose results go there. Nothing is made.

    Raises:
        UserError: as `make`.
    """
    found: list[int] = []
    try:
        engine = sa.create_engine(url, **_arguments(url))
        file = sqlite_file(engine)
        if file is None or file.exists():
            with engine.connect() as connection:
                found = _version(url, connection)
        else:
            above = next(place for place in file.absolute().parents if place.exists())
            if not (above.is_dir() and os.access(above, os.W_OK)):
                raise PermissionError(f"no file can be made in '{above}'")
        engine.dispose()
    except FAULTS as error:
        raise unusable(url, error) from None
    _check(url, found)


def sqlite_file(engine: sa.Engine) -> Path | None:
    """The file of an SQLite database, None for one in memory or another database."""
    name = engine.url.database
    return Path(name) if engine.dialect.name == "sqlite" and name and name != ":memory:" else None


def absolute(url: str) -> str:
    """The address with an SQLite file's whole path, so that it means the same in another folder."""
    try:
        parsed = sa.make_url(url)
        file = sqlite_file(sa.create_engine(url))
    except FAULTS:
        return url
    return url if file is None else parsed.set(database=str(file.resolve())).render_as_string(hide_password=False)


def _version(url: str, connection: sa.Connection) -> list[int]:
    """The schema version that stands in a database; none where our tables are not there yet."""
    tables = set(sa.inspect(connection).get_table_names())  # at one moment: another process may be making them
    if _schema.name in tables:
        return list(connection.execute(sa.select(_schema.c.version)).scalars())
    if predictions.name in tables:
        raise UserError(
            f"'{hide_password(url)}' holds a table '{predictions.name}' that is not of a prediction store; "
            "give another store"
        )
    return []


def _check(url: str, found: list[int]) -> None:
    if found and found != [SCHEMA]:
        raise UserError(
            f"the prediction store '{hide_password(url)}' has schema {found[0]}, "
            f"this version reads {SCHEMA}; give another store"
        )


def unusable(url: str, error: Exception) -> UserError:
    """The line for a database that cannot be used."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return UserError(
            f"the prediction store '{hide_password(url)}' needs {error.name}: pip install 'nngpt-ext[postgres]', "
            "and write its address as postgresql+psycopg://user@host/name"
        )
    reason = str(getattr(error, "orig", None) or error).splitlines()[0]
    full = "disk is full" in reason or getattr(error, "errno", None) == errno.ENOSPC
    advice = "free some space and run the command again" if full else "an address looks like sqlite:///predictions.db"
    return UserError(f"cannot use the prediction store '{hide_password(url)}': {reason}; {advice}")
