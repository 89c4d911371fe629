"""The prediction store: a table that runs and predictors write to and other tasks query."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from nngpt_ext.data.facts import LEMUR_FACTS, OTHERS
from nngpt_ext.errors import UserError, nearest_name, unknown
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.predict.database import CONFIDENCE, WAIT, check_database, open_database, predictions, readable_faults
from nngpt_ext.predict.question import NO_SOURCE
from nngpt_ext.run_folder import ADAPTER, BASE_FILE, PREDICTIONS, RECORD, read_record, read_table
from nngpt_ext.scoring.calibration import with_calibration
from nngpt_ext.scoring.logistic import logistic
from nngpt_ext.scoring.predictions import plausible
from nngpt_ext.settings import hide_password

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)

COLUMNS = tuple(column.name for column in predictions.columns)
_KEY = ("question", "nn")
_KNOWN_TO_RUNS = ("better_dataset", "split", "tuning_epoch")
_OF_A_RUN = ("source", "prompt_sha256", "given_1", "given_2", "log_odds")  # columns that older runs did not write
_ROUNDING = 1e-6  # between a probability and the logistic of its log-odds
_CHUNK = 500  # values in one statement; SQLite takes at most 32,766


class PredictionStore:
    """Predictions in a database: SQLite, or PostgreSQL for many writers.

    Open it with `PredictionStore.open(url)`, for example `sqlite:///predictions.db` or
    `postgresql+psycopg://user@host/name`. Several processes may write at the same time.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._url = hide_password(engine.url.render_as_string(hide_password=True))  # one may be in its options too

    @classmethod
    def open(cls, url: str, wait: float = WAIT) -> Self:
        """Open a store; a missing SQLite file is created.

        Args:
            url: of the database.
            wait: seconds that a writer waits for another one, in SQLite.

        Raises:
            UserError: if the URL is invalid, the database cannot be reached, or its schema version differs.
        """
        return cls(open_database(url, wait))

    @staticmethod
    def check(url: str) -> None:
        """Check that a store can be opened, before hours of work whose results go there. Nothing is created.

        Raises:
            UserError: as `open`.
        """
        check_database(url)

    def add(self, rows: pd.DataFrame) -> int:
        """Write rows in one transaction and return their number.

        Args:
            rows: the columns of `COLUMNS` without `created`; `better_dataset`, `split`, `tuning_epoch`, `epoch`
                and `calibrated_1` may be missing. Rows of the same question and network are replaced, except that
                values that only runs know (`better_dataset`, `split`, `tuning_epoch`) stay if the new row has none.
        """
        frame = rows.reindex(columns=[name for name in COLUMNS if name != "created"]).astype(object)
        return self.add_rows(frame.where(frame.notna(), None).to_dict("records"))

    def add_rows(self, rows: Iterable[Mapping[Any, Any]]) -> int:
        """`add` for mappings by column; a missing column is None.

        Raises:
            UserError: for a row whose numbers are not finite or contradict each other; then no row is written.
        """
        now = datetime.now(timezone.utc)
        found = {(row["question"], row["nn"]): row for row in rows}
        for row in found.values():
            if not _sound(row):
                raise UserError(
                    f"the answer about '{row['nn']}' ({row['dataset_1']}, {row['dataset_2']}) is not stored: log-odds "
                    f"{row.get('log_odds')}, probability {row.get('probability_1')} and winner {row.get('predicted')} "
                    "must be finite and consistent; run it again"
                )
        # All writers use the same order, which prevents deadlocks.
        values = [{name: _plain(found[key].get(name)) for name in COLUMNS} | {"created": now} for key in sorted(found)]
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        new = dialect.insert(predictions)
        others: dict[str, Any] = {name: new.excluded[name] for name in COLUMNS if name not in _KEY}
        # A writer that does not know these values keeps those that are stored.
        others |= {name: sa.func.coalesce(new.excluded[name], predictions.c[name]) for name in _KNOWN_TO_RUNS}
        statement = new.on_conflict_do_update(index_elements=list(_KEY), set_=others)
        if values:
            with readable_faults(self._url), self._engine.begin() as connection:
                connection.execute(statement, values)
        return len(values)

    def add_run(self, folder: str | Path, *, answers: bool = False) -> int:
        """Write a finished run's validation and test predictions and return their number.

        Args:
            folder: the run's folder.
            answers: whether to store the correct answers too; then queries of the store show those of the test set.

        Raises:
            UserError: for a folder without a finished run, a damaged adapter, and a run of an older version.
        """
        if (Path(folder) / RECORD).is_file():  # a run writes it after its answers are in the store
            read_record(Path(folder), checked=(PREDICTIONS, f"{ADAPTER}/{BASE_FILE}"))
        predicted, files = read_table(Path(folder) / PREDICTIONS), AdapterFiles(Path(folder) / ADAPTER)
        rows = stored_rows(predicted, files)
        return self.add(rows if answers else rows.drop(columns="better_dataset"))

    def find(self, questions: Iterable[str]) -> list[dict[str, Any]]:
        """Stored rows of questions (`AdapterFiles.question_key`), one for each name of their networks.

        Damaged rows (numbers not finite or inconsistent) are left out.
        """
        wanted = sorted(set(questions))
        found: list[dict[str, Any]] = []
        with readable_faults(self._url), self._engine.connect() as connection:
            for i in range(0, len(wanted), _CHUNK):
                chosen = sa.select(predictions).where(predictions.c.question.in_(wanted[i : i + _CHUNK]))
                found += [dict(row) for row in connection.execute(chosen).mappings() if _sound(row)]
        return found

    def query(
        self,
        *,
        nn: str | None = None,
        dataset: str | None = None,
        base_model: str | None = None,
        adapter_hash: str | None = None,
        prompt: str | None = None,
        min_confidence: float | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Stored predictions that meet all conditions, with `COLUMNS`, ordered by network and datasets.

        `probability_1` is P(`dataset_1` is the better one), uncalibrated; `calibrated_1` is the calibrated one. Priors
        are left out unless `nn` is `NO_SOURCE`, damaged rows always.

        Args:
            nn: a network's name.
            dataset: one of the two datasets.
            base_model: name of the base model.
            adapter_hash: the adapter's hash (`Predictor.adapter_hash`, column `adapter`), or its first digits.
            prompt: name of the prompt.
            min_confidence: lowest probability of the predicted dataset, calibrated if there is a calibration. Rows that
                abstain because the adapter was not trained on a dataset may be among them.
            since, until: when the prediction was written; a time without a zone is UTC.
            limit: how many rows at most, the newest ones.

        Raises:
            UserError: for a dataset that the store does not have, if it has one of almost the same name.
        """
        table = predictions.c
        select = sa.select(predictions)  # in no order, for which SQLite would leave the better index
        for column, value in ((table.nn, nn), (table.base_model, base_model), (table.prompt, prompt)):
            if value is not None:
                select = select.where(column == value)
        if nn is None:
            select = select.where(table.nn != NO_SOURCE)
        if dataset is not None:
            select = select.where(sa.or_(table.dataset_1 == dataset, table.dataset_2 == dataset))
        if adapter_hash is not None:
            # No index serves a prefix alone; a hash that begins with it lies between these two in every collation.
            select = select.where(table.adapter.between(adapter_hash, adapter_hash + "z" * 64))
            select = select.where(table.adapter.startswith(adapter_hash, autoescape=True))
        if min_confidence is not None:
            select = select.where(CONFIDENCE >= min_confidence)  # noqa: SIM300
        if since is not None:
            select = select.where(table.created >= _utc(since))
        if until is not None:
            select = select.where(table.created <= _utc(until))
        if limit is not None:
            select = select.order_by(table.created.desc()).limit(limit)
        with readable_faults(self._url), self._engine.connect() as connection:
            found = connection.execute(select).mappings().all()
            if not found and dataset is not None:
                _check_name(connection, dataset)
        rows = [row for row in found if _sound(row)]
        if len(rows) < len(found):
            log.warning("%d damaged rows of the store '%s' are left out", len(found) - len(rows), self._url)
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        frame["created"] = pd.to_datetime(frame["created"], utc=True)
        return frame.sort_values(["nn", "dataset_1", "dataset_2", "question"], ignore_index=True)

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def __enter__(self) -> PredictionStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stored_rows(predicted: pd.DataFrame, files: AdapterFiles) -> pd.DataFrame:
    """A run's predictions as rows of the store.

    Raises:
        UserError: for predictions of an older version.
    """
    missing = sorted(set(_OF_A_RUN) - set(predicted.columns))
    if missing:
        raise UserError(f"the run's predictions.parquet has no {', '.join(missing)}; run the task again")
    rows = predicted.assign(
        adapter=files.hash, calibration=files.calibration_hash, prompt_hash=files.note.prompt_hash, abstain=True
    )
    if files.calibration is not None:
        rows = with_calibration(rows, files.calibration, files.note.datasets)
    keys = zip(rows["source"], rows["prompt_sha256"], strict=True)
    return rows.assign(question=[files.question_key(source, filled) for source, filled in keys])


def _check_name(connection: sa.Connection, dataset: str) -> None:
    columns = sa.select(predictions.c.dataset_1).union(sa.select(predictions.c.dataset_2))
    names, others = set(connection.execute(columns).scalars()), (*LEMUR_FACTS, *OTHERS)
    if dataset not in names and nearest_name(dataset, names, others):
        raise unknown("dataset", dataset, names, others=others)


def _sound(row: Mapping[Any, Any]) -> bool:
    """Whether a row's numbers are plausible and consistent."""
    odds, calibrated = row.get("log_odds"), row.get("calibrated_1")
    try:
        if not plausible(odds) or not 0.0 <= (0.5 if calibrated is None else calibrated) <= 1.0:  # type: ignore[arg-type]
            return False
        winner = row["dataset_1"] if odds >= 0 else row["dataset_2"]  # type: ignore[operator]
        return abs(row["probability_1"] - logistic(odds)) <= _ROUNDING and row["predicted"] == winner  # type: ignore[arg-type]
    except (KeyError, TypeError):  # text or NULL, which SQLite allows in any column
        return False


def _utc(given: datetime) -> datetime:
    try:
        return (given if given.tzinfo else given.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except OverflowError:  # the first or last hours of the calendar in another time zone
        return (datetime.min if given.year == datetime.min.year else datetime.max).replace(tzinfo=timezone.utc)


def _plain(value: Any) -> Any:
    """A value as databases take it: Python's number for numpy's."""
    return value.item() if hasattr(value, "item") else value
