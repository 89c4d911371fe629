"""The prediction store's tables, and the database that holds them."""

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
_LOCK = 0x6E6E677074  # "nngpt": PostgreSQL's advisory lock while tables are created
_metadata = sa.MetaData()
_schema = sa.Table("nngpt_ext_schema", _metadata, sa.Column("version", sa.Integer, nullable=False))
predictions = sa.Table(
    "predictions",
    _metadata,
    # One answer of one adapter to one question, stored under each name of the network.
    sa.Column("question", sa.String(64), primary_key=True),
    sa.Column("nn", sa.String, primary_key=True, index=True),
    sa.Column("source", sa.String(64), nullable=False, index=True),  # sha256 of the source text
    sa.Column("epoch", sa.Integer),
    sa.Column("dataset_1", sa.String, nullable=False, index=True),
    sa.Column("dataset_2", sa.String, nullable=False, index=True),
    sa.Column("given_1", sa.String, nullable=False),  # what the prompt shows beside the name, for example the recipe
    sa.Column("given_2", sa.String, nullable=False),
    sa.Column("log_odds", sa.Double, nullable=False),
    sa.Column("probability_1", sa.Double, nullable=False),
    sa.Column("calibrated_1", sa.Double),
    sa.Column("flipped", sa.Boolean, nullable=False),
    sa.Column("abstain", sa.Boolean, nullable=False),
    sa.Column("predicted", sa.String, nullable=False),
    sa.Column("better_dataset", sa.String),  # the correct answer, only if it was requested
    sa.Column("prompt", sa.String, nullable=False),
    sa.Column("prompt_hash", sa.String(64), nullable=False),
    sa.Column("adapter", sa.String(64), nullable=False, index=True),  # AdapterFiles.hash
    sa.Column("calibration", sa.String(64), nullable=False),
    sa.Column("base_model", sa.String, nullable=False),
    sa.Column("tuning_epoch", sa.Integer),
    sa.Column("split", sa.String),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False, index=True),  # UTC
)
FAULTS = (sa.exc.SQLAlchemyError, OSError, ImportError, ValueError)  # ValueError: an invalid port


def connect(url: str) -> sa.Engine:
    """An engine for the database; nothing is created yet."""
    options: dict[str, Any] = {}
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": _WAIT}}
        if sa.make_url(url).database in (None, "", ":memory:"):
            # One connection, used by one thread at a time: otherwise each thread would get its own empty database.
            options["connect_args"]["check_same_thread"] = False
            options |= {"poolclass": sa.QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": _WAIT}
    engine = sa.create_engine(url, **options)
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise UserError(f"'{hide_password(url)}': the prediction store is SQLite or PostgreSQL")
    return engine


def _prepare(connection: Any, _: Any) -> None:
    # Python's own transactions begin too late: two readers that then write would block each other.
    connection.isolation_level = None
    until = time.monotonic() + _WAIT
    while connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:  # SQLite does not wait here by itself
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get("reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def make(url: str) -> sa.Engine:
    """Open a database and create the tables if they are missing.

    Raises:
        UserError: if the URL is invalid, the database cannot be reached, or its schema version differs.
    """
    try:
        check(url)  # first: the engine below changes an SQLite file when it opens it
        engine = connect(url)
        file = sqlite_file(engine)
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _prepare)
            sa.event.listen(engine, "begin", _begin)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        with engine.begin() as connection:  # one process at a time creates tables
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            if not _has_tables(url, connection):
                _metadata.create_all(connection)
                connection.execute(_schema.insert().values(version=SCHEMA))
    except FAULTS as error:
        raise unusable(url, error) from None
    return engine


def check(url: str) -> None:
    """Check that a store can be opened. Nothing is created.

    Raises:
        UserError: as `make`.
    """
    try:
        engine = connect(url)
        file = sqlite_file(engine)
        if file is None or file.exists():
            with engine.connect() as connection:
                _has_tables(url, connection)
        else:
            above = next(place for place in file.absolute().parents if place.exists())
            if not (above.is_dir() and os.access(above, os.W_OK)):
                raise PermissionError(f"cannot create a file in '{above}'")
        engine.dispose()
    except FAULTS as error:
        raise unusable(url, error) from None


def store_file(url: str) -> Path | None:
    """The file of a store's SQLite database, None for another database, one in memory, or an invalid URL."""
    try:
        return sqlite_file(sa.create_engine(url))
    except FAULTS:
        return None


def sqlite_file(engine: sa.Engine) -> Path | None:
    """The file of an SQLite database, None for one in memory or another database."""
    name = engine.url.database
    return Path(name) if engine.dialect.name == "sqlite" and name and name != ":memory:" else None


def absolute(url: str) -> str:
    """The URL with the absolute path of an SQLite file, so that it means the same in every folder."""
    try:
        parsed = sa.make_url(url)
        file = sqlite_file(sa.create_engine(url))
    except FAULTS:
        return url
    return url if file is None else parsed.set(database=str(file.resolve())).render_as_string(hide_password=False)


def _has_tables(url: str, connection: sa.Connection) -> bool:
    """Whether a database has the store's tables.

    Raises:
        UserError: if the schema version differs, or another program's table has the same name.
    """
    tables = set(sa.inspect(connection).get_table_names())  # read once: another process may be creating them
    if _schema.name in tables:
        found = connection.execute(sa.select(_schema.c.version)).scalar()
        if found not in (None, SCHEMA):
            raise UserError(
                f"the prediction store '{hide_password(url)}' has schema {found}, this version reads {SCHEMA}; "
                "give another store"
            )
        return found is not None
    if predictions.name in tables:
        raise UserError(
            f"'{hide_password(url)}' holds a table '{predictions.name}' that is not of a prediction store; "
            "give another store"
        )
    return False


def unusable(url: str, error: Exception) -> UserError:
    """The error for a database that cannot be used."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return UserError(
            f"the prediction store '{hide_password(url)}' needs {error.name}: pip install 'nngpt-ext[postgres]', "
            "and write its URL as postgresql+psycopg://user@host/name"
        )
    reason = str(getattr(error, "orig", None) or error).splitlines()[0]
    full = "disk is full" in reason or getattr(error, "errno", None) == errno.ENOSPC
    advice = "free some space and run the command again" if full else "a URL looks like sqlite:///predictions.db"
    return UserError(f"cannot use the prediction store '{hide_password(url)}': {reason}; {advice}")
