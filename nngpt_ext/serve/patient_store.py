"""A server's store: questions are answered although it cannot be read, and what cannot be written waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nngpt_ext.errors import UserError
from nngpt_ext.predict.database import StoreFault, open_database, store_file
from nngpt_ext.predict.store import PredictionStore

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds that a question waits for another program's lock
REST = 5.0  # seconds until it is tried again
LAST = 60.0  # seconds for what is left when the server stops
_MOST = 20_000  # answers that are kept to be written later


class ServedStore(PredictionStore):
    """A store whose faults cost no answer. Threads may share it.

    While the database is locked by another program, full or gone, nothing is found in it, and what is added waits;
    `flush` tries to write that.
    """

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self._waiting: dict[tuple[Any, Any], Mapping[Any, Any]] = {}
        self._turn = threading.Lock()
        self._file = store_file(engine.url.render_as_string())  # one of SQLite has no password
        self._identity = _identity(self._file)
        self._until = 0.0  # before, it is not tried again

    @property
    def waiting(self) -> int:
        """The number of answers that are not written yet."""
        return len(self._waiting)

    def find(self, questions: Iterable[str]) -> list[dict[str, Any]]:
        """See `PredictionStore.find`."""
        if time.monotonic() >= self._until:
            try:
                return super().find(questions)
            except StoreFault as error:
                self._rest(error)
        return []

    def add_rows(self, rows: Iterable[Mapping[Any, Any]], now: bool = False) -> int:
        """See `PredictionStore.add_rows`; the number of those that were written.

        `now`: try it also if it has just failed.
        """
        with self._turn:
            self._waiting |= {(row["question"], row["nn"]): row for row in rows}
            if not self._waiting or (not now and time.monotonic() < self._until):
                return 0
            try:
                written = super().add_rows(self._waiting.values())
            except StoreFault as error:
                self._rest(error)
                if (lost := len(self._waiting) - _MOST) > 0:
                    self._waiting = dict(list(self._waiting.items())[lost:])
                    log.error("the oldest %d answers that could not be written are given up", lost)
                return 0
            self._waiting = {}
            return written

    def flush(self, last: bool = False) -> None:
        """Try to write what waits; at the `last` for up to a minute, until it is written.

        A file that was removed or replaced is opened anew: what is written to the old one is never seen.
        """
        if self._file is not None and _identity(self._file) != self._identity:
            self._reopen(self._file)
        end = time.monotonic() + (LAST if last else 0.0)
        while self._waiting:
            self.add_rows([], now=last)
            if not self._waiting or time.monotonic() >= end:
                break
            time.sleep(0.2)
        if last and self._waiting:
            log.error("%d answers were given, and could not be written to the store", len(self._waiting))

    def _reopen(self, file: Path) -> None:
        try:
            with self._turn:
                old = self._engine
                self._engine = open_database(old.url.render_as_string(), PATIENCE)
                old.dispose()
                self._identity = _identity(file)
            log.warning("the store '%s' was removed or replaced while it was served; it is used as it is now", file)
        except UserError as error:  # also if it has become another program's
            self._rest(error)

    def _rest(self, error: UserError) -> None:
        if time.monotonic() >= self._until + REST:
            log.warning("%s; until then answers are computed, and written later", error)
        self._until = time.monotonic() + REST


def _identity(file: Path | None) -> tuple[int, int] | None:
    """Which file this is on its device; None if it does not exist."""
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found is not None else None
