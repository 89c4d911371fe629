"""The prediction store's tables, in a file of SQLite or in PostgreSQL."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nngpt_ext.errors import UserError, reason, shown
from nngpt_ext.extras import install_extra
from nngpt_ext.settings import hide_password

SCHEMA = 2
WAIT = 60  # seconds a writer waits for another
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
    sa.Column("cut", sa.Boolean),  # whether only the beginning of the source was read; NULL: unknown
    sa.Column("source_tokens", sa.Integer),  # of the whole source; NULL: unknown, or the prompt shows no source
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
_P = "coalesce(calibrated_1, probability_1)"
# The winner's probability. A database uses the index only for the same text.
CONFIDENCE: sa.ColumnElement[float] = sa.literal_column(
    f"(CASE WHEN {_P} >= 0.5 THEN {_P} ELSE 1.0 - {_P} END)", sa.Double()
)
sa.Index("ix_predictions_confidence", CONFIDENCE, _table=predictions)


class StoreFault(UserError):
    """A database does not do what it should, perhaps for now; `why` is its reason without its place."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


def open_database(url: str, wait: float = WAIT) -> sa.Engine:
    """See `PredictionStore.open`."""
    check_database(url)  # first: opening an SQLite file below changes it
    file = store_file(url)
    with readable_faults(url):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        engine = _connect(url, wait)
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _prepare)
        with engine.begin() as connection:  # one process at a time creates tables
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            if not _has_tables(url, connection):
                _metadata.create_all(connection)
                connection.execute(_schema.insert().values(version=SCHEMA))
            _complete(connection)
    return engine


def check_database(url: str) -> None:
    """See `PredictionStore.check`."""
    with readable_faults(url):
        engine, file = _connect(url), store_file(url)
        if file is None or file.exists():
            if file is not None:
                _look(url, file)
            with engine.connect() as connection:
                _has_tables(url, connection)
        else:
            above = next(place for place in file.absolute().parents if place.exists())
            if not (above.is_dir() and os.access(above, os.W_OK)):
                raise PermissionError(f"cannot create a file in '{above}'")
        engine.dispose()


def _look(url: str, file: Path) -> None:
    """Refuse another program's database before it is opened, which would finish or undo what was left in a journal."""
    address = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
    with suppress(sqlite3.Error), closing(sqlite3.connect(address, uri=True)) as there:
        found = there.execute("SELECT name FROM sqlite_master WHERE type != 'index' AND name NOT LIKE 'sqlite_%'")
        _refuse_foreign(url, {str(name) for (name,) in found})


def _refuse_foreign(url: str, tables: set[str]) -> None:
    if tables and _schema.name not in tables:
        names = ", ".join(sorted(tables)[:3])
        raise UserError(
            f"{_quoted(url)} is not a prediction store: it has tables of another program ({names}); "
            "give the store a database of its own, for example sqlite:///predictions.db"
        )


def _quoted(url: str) -> str:
    return shown(hide_password(url), 300)


def _parsed(url: str) -> sa.URL:
    """The parts of a store's URL; nothing is opened."""
    wrong, advice = None, "sqlite:///predictions.db or postgresql+psycopg://user@host/name"
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
    except Exception:  # whose reason may quote a password
        backend, wrong = "", "it is not a database URL"
    if backend == "sqlite" and (parsed.query or parsed.host or parsed.username or str(parsed.database)[:5] == "file:"):
        wrong = "a URL of SQLite has the path of a file, and neither options nor a user"
    elif backend not in ("sqlite", "postgresql", ""):
        wrong = "it is neither SQLite nor PostgreSQL"
    elif backend and "@" in (parsed.host or ""):  # the end of a password
        wrong = "an @ in a password is written as %40"
    if wrong:
        raise UserError(f"cannot use the prediction store {_quoted(url)}: {wrong}; write for example {advice}")
    return parsed


def _connect(url: str, wait: float = WAIT) -> sa.Engine:
    if _parsed(url).get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)  # a server that was restarted has closed pooled connections
    # A writer takes its lock before it reads anything, so that two of them wait for each other instead of failing.
    arguments: dict[str, Any] = {"timeout": wait, "isolation_level": "IMMEDIATE"}
    if store_file(url) is not None:
        return sa.create_engine(url, connect_args=arguments)
    # In memory: one connection, used by one thread at a time, or each thread would have its own empty database.
    return sa.create_engine(
        url, connect_args={**arguments, "check_same_thread": False}, poolclass=sa.QueuePool, pool_size=1,
        max_overflow=0, pool_timeout=wait,
    )  # fmt: skip


def _prepare(connection: Any, _: Any) -> None:
    with suppress(sqlite3.OperationalError):  # another process holds a lock: the next connection changes the mode
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def store_file(url: str) -> Path | None:
    """The file of an SQLite database; None for one in memory, another database, or an invalid URL."""
    try:
        parsed = _parsed(url)
    except UserError:
        return None
    name = parsed.database
    return Path(name) if parsed.get_backend_name() == "sqlite" and name and name != ":memory:" else None


def absolute(url: str) -> str:
    """The URL with the absolute path of an SQLite file, so that it means the same in every folder."""
    file = store_file(url)
    if file is None:
        return url
    return sa.make_url(url).set(database=str(file.resolve())).render_as_string(hide_password=False)


def _has_tables(url: str, connection: sa.Connection) -> bool:
    """Whether a database has the store's tables; an error if they are of another schema or another program."""
    tables = set(sa.inspect(connection).get_table_names())  # read once: another process may be creating them
    _refuse_foreign(url, tables)
    found = connection.execute(sa.select(_schema.c.version)).scalar() if _schema.name in tables else None
    if found not in (None, SCHEMA):
        raise UserError(
            f"the prediction store {_quoted(url)} has schema {found}, this version reads {SCHEMA}; give another store"
        )
    return found is not None


def _complete(connection: sa.Connection) -> None:
    """Add the column and the indexes that a store of an earlier version lacks; both versions can use it then."""
    inspector = sa.inspect(connection)
    there = {column["name"] for column in inspector.get_columns(predictions.name)}
    for column in predictions.columns:
        if column.name not in there:
            kind = column.type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {predictions.name} ADD COLUMN {column.name} {kind}")
    if connection.dialect.name == "sqlite":  # whose expressions SQLAlchemy does not read
        indexes = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'index'").scalars())
    else:
        indexes = {index["name"] for index in inspector.get_indexes(predictions.name)}
    for index in predictions.indexes:
        if index.name not in indexes:
            with suppress(sa.exc.DBAPIError), connection.begin_nested():  # only a table's owner may
                index.create(connection)


@contextmanager
def readable_faults(url: str) -> Iterator[None]:
    """Turns the errors of a database into a `UserError` of one line, a `StoreFault` unless a driver is missing."""
    try:
        yield
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(
            f"the prediction store {_quoted(url)} needs {error.name}: {install_extra('postgres')}, "
            "and write its URL as postgresql+psycopg://user@host/name"
        ) from None
    except Exception as error:  # each driver has its own
        why = reason(getattr(error, "orig", None) or error)
        line = f"cannot use the prediction store {_quoted(url)}: {why}; {_advice(url, why, error)}"
        raise StoreFault(line, why) from None


def _advice(url: str, why: str, error: Exception) -> str:
    """What to do about an error of a database."""
    file, other = store_file(url), "give another place, for example sqlite:///predictions.db"
    if "disk is full" in why or getattr(error, "errno", None) == errno.ENOSPC:
        return "free some space and run the command again"
    if "locked" in why:
        return "another program is writing to it: run the command again when that is done"
    if file is None:
        return "check the host, the port, the database, the user and the password in its URL"
    return f"it is a folder: {other}" if os.path.isdir(file) else other  # noqa: PTH112 (for any name)
