"""The prediction store: one table that runs write to and other tasks query."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

import pandas as pd
import sqlalchemy as sa

from nngpt_ext.config import hide_password
from nngpt_ext.errors import UserError

SCHEMA = 1
_metadata = sa.MetaData()
_schema = sa.Table("nngpt_ext_schema", _metadata, sa.Column("version", sa.Integer, nullable=False))
_predictions = sa.Table(
    "predictions",
    _metadata,
    # One answer to one question: the same adapter asked again replaces it.
    sa.Column("adapter", sa.String(64), primary_key=True),
    sa.Column("prompt", sa.String, primary_key=True),
    sa.Column("nn", sa.String, primary_key=True, index=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("dataset_1", sa.String, primary_key=True),
    sa.Column("dataset_2", sa.String, primary_key=True),
    sa.Column("probability_1", sa.Float, nullable=False),
    sa.Column("flipped", sa.Boolean, nullable=False),
    sa.Column("predicted", sa.String, nullable=False),
    sa.Column("base_model", sa.String, nullable=False),
    sa.Column("tuning_epoch", sa.Integer, nullable=False),
    sa.Column("split", sa.String, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
)
_FAULTS = (sa.exc.SQLAlchemyError, OSError, ImportError, ValueError)  # ValueError: a port that is no number
_KEY = [column.name for column in _predictions.primary_key.columns]


class PredictionStore:
    """Predictions in a database. True answers are not stored.

    Open it with `PredictionStore.open(url)`, for example `sqlite:///predictions.db`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> PredictionStore:
        """Open a store; an SQLite file is made where there is none.

        Raises:
            UserError: when the address is none, the database cannot be reached, or its schema is another's.
        """
        try:
            engine = sa.create_engine(url)
            file = _file(engine)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
            with engine.begin() as connection:
                _metadata.create_all(connection)
                found = connection.execute(sa.select(_schema.c.version)).scalars().all()
                if not found:
                    connection.execute(_schema.insert().values(version=SCHEMA))
        except _FAULTS as error:
            raise _unusable(url, error) from None
        _check_schema(url, list(found))
        return cls(engine)

    @staticmethod
    def check(url: str) -> None:
        """See that a store can be opened, before hours of work whose results go there. Nothing is made.

        Raises:
            UserError: as `open`.
        """
        found: list[int] = []
        try:
            engine = sa.create_engine(url)
            file = _file(engine)
            if file is None or file.exists():
                with engine.connect() as connection:
                    if sa.inspect(connection).has_table(_schema.name):
                        found = list(connection.execute(sa.select(_schema.c.version)).scalars())
            else:
                above = next(place for place in file.absolute().parents if place.exists())
                if not (above.is_dir() and os.access(above, os.W_OK)):
                    raise PermissionError(f"no file can be made in '{above}'")
            engine.dispose()
        except _FAULTS as error:
            raise _unusable(url, error) from None
        _check_schema(url, found)

    def add(self, predictions: pd.DataFrame, adapter: str) -> int:
        """Write predictions (columns of predictions.parquet) of one adapter; returns how many.

        Rows of the same question and adapter are replaced, all in one transaction.
        """
        now = datetime.now(timezone.utc)
        names = [column.name for column in _predictions.columns]
        frame = predictions.assign(adapter=adapter, created=now)[names].astype(object)
        rows = [dict(zip(names, row, strict=True)) for row in frame.itertuples(index=False, name=None)]
        same = sa.and_(*(_predictions.c[name] == sa.bindparam(f"key_{name}") for name in _KEY))
        keys = [{f"key_{name}": row[name] for name in _KEY} for row in rows]
        if rows:
            try:
                with self._engine.begin() as connection:
                    connection.execute(_predictions.delete().where(same), keys)
                    connection.execute(_predictions.insert(), rows)
            except sa.exc.SQLAlchemyError as error:
                raise _unusable(str(self._engine.url), error) from None
        return len(rows)

    def query(
        self,
        *,
        nn: str | None = None,
        dataset: str | None = None,
        base_model: str | None = None,
        prompt: str | None = None,
    ) -> pd.DataFrame:
        """Stored predictions: of a network, that involve a dataset, of a base model, of a prompt."""
        table = _predictions
        select = sa.select(table).order_by(*(table.c[name] for name in _KEY))
        for column, value in ((table.c.nn, nn), (table.c.base_model, base_model), (table.c.prompt, prompt)):
            if value is not None:
                select = select.where(column == value)
        if dataset is not None:
            select = select.where(sa.or_(table.c.dataset_1 == dataset, table.c.dataset_2 == dataset))
        try:
            with self._engine.connect() as connection:
                return pd.DataFrame(
                    connection.execute(select).mappings().all(), columns=[column.name for column in table.columns]
                )
        except sa.exc.SQLAlchemyError as error:
            raise _unusable(str(self._engine.url), error) from None

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> PredictionStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _file(engine: sa.Engine) -> Path | None:
    """The file of an SQLite database, None for one in memory or another database."""
    name = engine.url.database
    return Path(name) if engine.dialect.name == "sqlite" and name and name != ":memory:" else None


def _check_schema(url: str, found: list[int]) -> None:
    if found and found != [SCHEMA]:
        raise UserError(
            f"the prediction store '{hide_password(url)}' has schema {found[0]}, "
            f"this version reads {SCHEMA}; give another store"
        )


def _unusable(url: str, error: Exception) -> UserError:
    reason = str(getattr(error, "orig", None) or error).splitlines()[0]
    return UserError(
        f"cannot use the prediction store '{hide_password(url)}': {reason}; an address looks like sqlite:///predictions.db"
    )
