"""A store that is locked, or whose table is gone, costs no answer; what could not be written is written later."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from nngpt_ext import Client, PredictionStore, RunResult
from nngpt_ext.serve import patient_store
from nngpt_ext.serve.deployment import Deployment
from tests.serve.conftest import Running, served
from tests.serve.test_app import CODE, problem

ROW = {
    "source": "s", "epoch": 5, "dataset_1": "a", "dataset_2": "b", "given_1": "", "given_2": "",
    "log_odds": 0.0, "probability_1": 0.5, "flipped": False, "abstain": True, "predicted": "a", "prompt": "p",
    "prompt_hash": "h", "adapter": "x", "calibration": "", "base_model": "m",
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def own_server(run: RunResult, file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(patient_store, "PATIENCE", 0.5)
    deployment = Deployment([f"demo={run.output_dir}"], store=f"sqlite:///{file}")
    deployment.load()
    with served(deployment) as found:
        yield found


def unwritten(server: Running) -> float:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith("nngpt_ext_unwritten_answers ")).split()[1])


def stored(file: Path) -> set[str]:
    with PredictionStore.open(f"sqlite:///{file}") as rows:
        return set(rows.query()["nn"])


def test_a_locked_store_costs_no_answer(own_server: Running, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Client(own_server.url) as client:
        with closing(sqlite3.connect(file)) as other:
            other.execute("BEGIN EXCLUSIVE")
            began = time.monotonic()
            for i in range(5):
                assert client.compare(f"{CODE}# {i}\n", "mnist", "svhn", nn=f"n{i}").winner
            assert time.monotonic() - began < 20  # and not a minute for each
            assert unwritten(own_server) == 5
            other.rollback()
        assert "database is locked" in caplog.text
        own_server.service.deployment.store.flush(last=True)  # type: ignore[union-attr]
        assert unwritten(own_server) == 0
        assert stored(file) == {f"n{i}" for i in range(5)}
        again = httpx.get(f"{own_server.url}/v1/predictions").json()
        assert len(again) == 5


def test_what_waits_is_written_when_the_server_stops(run: RunResult, file: Path) -> None:
    deployment = Deployment([f"demo={run.output_dir}"], store=f"sqlite:///{file}")
    with served(deployment) as server, Client(server.url) as client, closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert client.rank(CODE, nn="late").datasets
        other.rollback()
    assert stored(file) == {"late"}


def test_a_store_without_its_table(own_server: Running, file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("DROP TABLE predictions")
        other.commit()
    refused = httpx.get(f"{own_server.url}/v1/predictions")
    said = problem(refused, 503)
    assert said == "the server's store cannot be used now (no such table: predictions); ask again in 5 s"
    assert refused.headers["Retry-After"] == "5"
    with Client(own_server.url) as client:
        assert client.compare(CODE, "mnist", "svhn").winner


def test_the_last_answers_wait_for_another_program(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while another thread tries to write them."""
    monkeypatch.setattr(patient_store, "LAST", 20.0)
    own = patient_store.ServedStore.open(f"sqlite:///{file}", 0.3)
    other = sqlite3.connect(file, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    assert own.add_rows([{**ROW, "question": "q", "nn": "late"}]) == 0
    own._until = 0.0
    threads = [threading.Thread(target=own.flush), threading.Timer(1.5, lambda: (other.rollback(), other.close()))]
    for one in threads:
        one.start()
    own.flush(last=True)
    for one in threads:
        one.join()
    assert own.waiting == 0
    assert stored(file) == {"late"}


def test_answers_that_wait_are_bounded(
    run: RunResult, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patient_store, "_MOST", 3)
    own = patient_store.ServedStore.open(f"sqlite:///{file}", 0.1)
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for i in range(3):
            assert own.add_rows([{**ROW, "question": f"q{i}{j}", "nn": "n"} for j in range(2)]) == 0
            own._until = 0.0
        assert own.waiting == 3
        other.rollback()
    assert "the oldest 1 answers that could not be written are given up" in caplog.text
    own.flush(last=True)
    assert len(own.query()) == 3


def test_a_store_that_is_removed_is_made_anew(
    own_server: Running, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = own_server.service.deployment.store
    assert store is not None
    with Client(own_server.url) as client:
        client.compare(CODE, "mnist", "svhn", nn="before")
        for one in file.parent.glob("store.db*"):
            one.unlink()
        store.flush()
        client.compare(CODE, "mnist", "svhn", nn="after")
    assert f"the store '{file}' was removed or replaced while it was served" in caplog.text
    assert stored(file) == {"after"}
    with closing(sqlite3.connect(file.with_name("other.db"))) as other:
        other.execute("CREATE TABLE books (title)")
    file.with_name("other.db").replace(file)
    caplog.clear()
    with Client(own_server.url) as client:
        store.flush()
        assert client.compare(CODE, "mnist", "svhn", nn="last").winner
    assert "is not a prediction store: it has tables of another program (books)" in caplog.text
