"""The prediction store: one table that runs and predictors write to and other tasks query."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import sqlalchemy as sa

from nngpt_ext.errors import UserError
from nngpt_ext.predict.calibration import logistic
from nngpt_ext.predict.database import FAULTS, check, make, predictions, unusable
from nngpt_ext.run_folder import ADAPTER, PREDICTIONS

COLUMNS = tuple(column.name for column in predictions.columns)
_KEY = ("question", "nn")
_KNOWN_TO_RUNS = ("better_dataset", "split", "tuning_epoch")
NO_SOURCE = "no source"  # the name under which a model's own prior stands
_ROUNDING = 1e-6  # between a probability and the logistic of its log-odds
_CHUNK = 500  # values in one statement: SQLite takes 32,766 in all


class PredictionStore:
    """Predictions in a database: SQLite, or PostgreSQL where many write.

    Open it with `PredictionStore.open(url)`, for example `sqlite:///predictions.db` or
    `postgresql+psycopg://user@host/name`. Several processes may write at once.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(reads=True)

    @classmethod
    def open(cls, url: str) -> PredictionStore:
        """Open a store; an SQLite file is made where there is none.

        Raises:
            UserError: when the address is none, the database cannot be reached, or its schema is another's.
        """
        return cls(make(url))

    @staticmethod
    def check(url: str) -> None:
        """See that a store can be opened, before hours of work whose results go there. Nothing is made.

        Raises:
            UserError: as `open`.
        """
        check(url)

    def add(self, rows: pd.DataFrame) -> int:
        """Write rows, all in one transaction; returns how many.

        Args:
            rows: the columns of `COLUMNS` without `created`; `better_dataset`, `split`, `tuning_epoch`, `epoch`
                and `calibrated_1` may be missing. Rows of the same question and network are replaced, but what
                only runs know (`better_dataset`, `split`, `tuning_epoch`) stays where the new row lacks it.
        """
        frame = rows.reindex(columns=[name for name in COLUMNS if name != "created"]).astype(object)
        return self.add_rows(frame.where(frame.notna(), None).to_dict("records"))

    def add_rows(self, rows: Iterable[Mapping[Any, Any]]) -> int:
        """`add` for mappings by column; columns that a row lacks, or that are None in it, are unknown.

        Raises:
            UserError: for a row whose figures are not finite or contradict each other; then none is written.
        """
        now = datetime.now(timezone.utc)
        found = {(row["question"], row["nn"]): row for row in rows}
        for row in found.values():
            if not _sound(row):
                raise UserError(
                    f"the answer about '{row['nn']}' ({row['dataset_1']}, {row['dataset_2']}) is not stored: log-odds "
                    f"{row.get('log_odds')}, probability {row.get('probability_1')} and winner {row.get('predicted')} "
                    "must be finite and agree; ask again, or run the task again"
                )
        # One order for all who write: no deadlock.
        values = [{name: _plain(found[key].get(name)) for name in COLUMNS} | {"created": now} for key in sorted(found)]
        if self._engine.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert
        else:
            from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
        new = insert(predictions)
        others: dict[str, Any] = {name: new.excluded[name] for name in COLUMNS if name not in _KEY}
        # Whoever does not know these does not wipe out what another wrote.
        others |= {name: sa.func.coalesce(new.excluded[name], predictions.c[name]) for name in _KNOWN_TO_RUNS}
        statement = new.on_conflict_do_update(index_elements=list(_KEY), set_=others)
        if values:
            try:
                with self._engine.begin() as connection:
                    connection.execute(statement, values)
            except FAULTS as error:
                raise self._unusable(error) from None
        return len(values)

    def add_run(self, folder: str | Path, *, answers: bool = False) -> int:
        """Write a finished run's validation and test predictions; returns how many.

        Args:
            folder: the run's folder.
            answers: whether the true answers are stored too. Then whoever queries the store can look at the
                test set.

        Raises:
            UserError: when the folder holds no finished run.
        """
        from nngpt_ext.predict.adapter import stored_rows

        file = Path(folder) / PREDICTIONS
        try:
            found = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise UserError(f"'{folder}' holds no finished run: cannot read '{file}' ({error})") from None
        rows = stored_rows(found, Path(folder) / ADAPTER)
        return self.add(rows if answers else rows.drop(columns="better_dataset"))

    def find(self, questions: Iterable[str]) -> list[dict[str, Any]]:
        """Stored rows of these questions (`nngpt_ext.predict.keys.question_hash`), one for each name of a network.

        Rows that are damaged (figures not finite, or at odds with each other) count as absent.
        """
        wanted = sorted(set(questions))
        found: list[dict[str, Any]] = []
        try:
            with self._reader.connect() as connection:
                for i in range(0, len(wanted), _CHUNK):
                    chosen = sa.select(predictions).where(predictions.c.question.in_(wanted[i : i + _CHUNK]))
                    found += [dict(row) for row in connection.execute(chosen).mappings() if _sound(row)]
        except FAULTS as error:
            raise self._unusable(error) from None
        return found

    def query(
        self,
        *,
        nn: str | None = None,
        dataset: str | None = None,
        base_model: str | None = None,
        adapter: str | None = None,
        prompt: str | None = None,
        min_confidence: float | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> pd.DataFrame:
        """Stored predictions as a table with `COLUMNS`, all conditions met, in order of network and datasets.

        Priors, which are about no network, are left out unless `nn` is `NO_SOURCE`; damaged rows always are.

        Args:
            nn: a network's name.
            dataset: one that stands on either side.
            base_model: name of the base model.
            adapter: the adapter's hash (`Predictor.adapter`), or how it begins.
            prompt: name of the prompt.
            min_confidence: probability of the predicted dataset at least, calibrated where it is. Rows that abstain
                may be among them: those about datasets that the adapter was not trained on.
            since, until: when it was written; a time without a zone is UTC.
        """
        table = predictions.c
        select = sa.select(predictions).order_by(table.nn, table.dataset_1, table.dataset_2, table.question)
        for column, value in ((table.nn, nn), (table.base_model, base_model), (table.prompt, prompt)):
            if value is not None:
                select = select.where(column == value)
        if nn is None:
            select = select.where(table.nn != NO_SOURCE)
        if dataset is not None:
            select = select.where(sa.or_(table.dataset_1 == dataset, table.dataset_2 == dataset))
        if adapter is not None:
            select = select.where(table.adapter.startswith(adapter, autoescape=True))
        if min_confidence is not None:
            probability = sa.func.coalesce(table.calibrated_1, table.probability_1)
            select = select.where(sa.or_(probability >= min_confidence, 1.0 - probability >= min_confidence))
        if since is not None:
            select = select.where(table.created >= self._time(since))
        if until is not None:
            select = select.where(table.created <= self._time(until))
        try:
            with self._reader.connect() as connection:
                rows = [row for row in connection.execute(select).mappings() if _sound(row)]
        except FAULTS as error:
            raise self._unusable(error) from None
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        frame["created"] = pd.to_datetime(frame["created"], utc=True)
        return frame

    def _time(self, given: datetime) -> datetime:
        aware = given if given.tzinfo else given.replace(tzinfo=timezone.utc)
        aware = aware.astimezone(timezone.utc)
        return aware.replace(tzinfo=None) if self._engine.dialect.name == "sqlite" else aware

    def _unusable(self, error: Exception) -> UserError:
        return unusable(self._engine.url.render_as_string(hide_password=True), error)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> PredictionStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sound(row: Mapping[Any, Any]) -> bool:
    """Whether a row's figures are finite and say the same."""
    figures: Iterator[Any] = (row.get(name) for name in ("log_odds", "probability_1", "calibrated_1"))
    odds, probability, calibrated = figures
    try:
        if not math.isfinite(odds) or not 0.0 <= (0.5 if calibrated is None else calibrated) <= 1.0:
            return False
        winner = row["dataset_1"] if odds >= 0 else row["dataset_2"]
        return abs(probability - logistic(odds)) <= _ROUNDING and row["predicted"] == winner
    except TypeError:  # a text or nothing, which SQLite may hold anywhere
        return False


def _plain(value: Any) -> Any:
    """A value as databases take it: numpy's numbers as Python's."""
    return value.item() if hasattr(value, "item") else value
