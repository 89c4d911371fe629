"""The prediction store on a real PostgreSQL, started on loopback for these tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from nngpt_ext import PredictionStore, UserError
from tests.predict.test_store import QUESTIONS, predictions
from tests.predict.writers import write_at_once

pytestmark = pytest.mark.slow


def _tools() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places else None


RESTART: list[list[object]] = []  # the command that restarts the server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("psycopg")
    tools = _tools()
    if tools is None:
        pytest.skip("no PostgreSQL is installed")
    # Not below pytest's own folder, which each session closes to other users.
    folder = Path(tempfile.mkdtemp(prefix="nngpt_ext_postgres_"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses root
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    run = {"check": True, "capture_output": True, "cwd": "/"}
    subprocess.run([*as_user, tools / "initdb", "-D", data, "-U", "nngpt", "-A", "trust", "-E", "UTF8"], **run)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    control = [*as_user, tools / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], **run)
    RESTART[:] = [[*control, "-l", folder / "log", "-o", options, "-m", "fast", "restart"]]
    try:
        yield f"postgresql+psycopg://nngpt@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "fast", "stop"], **run)
        shutil.rmtree(folder)


def test_ten_processes_write_at_once_and_nothing_is_lost(url: str) -> None:
    found = write_at_once(url)
    assert len(found) == found["question"].nunique() == 10 * 50 + 50


def test_it_answers_like_sqlite(url: str) -> None:
    began = datetime.now(timezone.utc) - timedelta(seconds=1)
    with PredictionStore.open(url) as store:
        assert store.add(predictions(0.25, adapter="x")) == 3
        assert store.add(predictions(0.75, adapter="x").iloc[:2]) == 2
        found = store.query(adapter_hash="x", since=began)
        assert list(found[["nn", "dataset_1", "dataset_2"]].itertuples(index=False, name=None)) == QUESTIONS
        assert found["probability_1"].tolist() == [0.75, 0.75, 0.25]
        assert len(store.query(adapter_hash="x", dataset="svhn", min_confidence=0.7)) == 2
        assert len(store.find(found["question"])) == 3
        assert store.query(adapter_hash="x", until=began).empty


def test_a_restart_of_the_server_is_not_noticed(url: str) -> None:
    with PredictionStore.open(url) as store:
        store.add(predictions(adapter="restarted"))
        for _ in range(2):
            subprocess.run(RESTART[0], check=True, capture_output=True, cwd="/")
            assert len(store.query(adapter_hash="restarted")) == 3
            assert store.add(predictions(adapter="restarted")) == 3


def test_a_store_of_an_earlier_version_is_completed(url: str) -> None:
    import sqlalchemy as sa

    with PredictionStore.open(url) as store:
        store.add(predictions(adapter="earlier"))
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_predictions_confidence")
        connection.exec_driver_sql("ALTER TABLE predictions DROP COLUMN cut")
    with PredictionStore.open(url) as store:
        assert len(store.query(adapter_hash="earlier", min_confidence=0.5)) == 3
    found = sa.inspect(engine)
    assert "ix_predictions_confidence" in {index["name"] for index in found.get_indexes("predictions")}
    assert "cut" in {column["name"] for column in found.get_columns("predictions")}
    engine.dispose()


def test_a_foreign_table_is_refused(url: str) -> None:
    import sqlalchemy as sa

    other = url.rsplit("/", 1)[0] + "/other"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE other")
    foreign = sa.create_engine(other)
    with foreign.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE predictions (id INTEGER)")
    for call in (PredictionStore.open, PredictionStore.check):
        with pytest.raises(UserError, match="it has tables of another program \\(predictions\\)"):
            call(other)
    assert sa.inspect(foreign).get_table_names() == ["predictions"]
    engine.dispose()
    foreign.dispose()


def test_what_only_a_run_knows_is_not_wiped_out(url: str) -> None:
    with PredictionStore.open(url) as store:
        store.add(predictions(0.25, adapter="known"))
        store.add(predictions(0.75, adapter="known").drop(columns=["better_dataset", "split", "tuning_epoch"]))
        found = store.query(adapter_hash="known")
    assert found["probability_1"].tolist() == [0.75] * 3
    assert set(found["split"]) == {"test"}
    assert found["better_dataset"].notna().all()


def test_an_unreachable_server_is_one_line(url: str) -> None:
    gone = url.rsplit(":", 1)[0] + ":1/postgres"
    with pytest.raises(UserError) as error:
        PredictionStore.open(gone)
    assert "cannot use the prediction store" in str(error.value)
    assert "\n" not in str(error.value)
