"""Threads that ask at once in cold processes get one thread's answers; what a killed writer noted is in the store."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from nngpt_ext import PredictionStore, Predictor
from tests.faults.askers import THREADS, answers, questions
from tests.faults.ledger import ROOT, SIZE, Ledger
from tests.faults.processes import finish, kill, start
from tests.faults.writers import ROWS, batch, read, write
from tests.predict.test_postgres import url as postgres

__all__ = ["postgres"]

LEDGER = Ledger("races")
PROCESSES = -(-SIZE.answers // (THREADS * len(questions())))
ROUNDS = 4 if SIZE.kills < 100 else 20  # of writers that are killed, for each database


@pytest.fixture(scope="module")
def alone(finished: Path) -> list[float]:
    """What one thread is answered."""
    return answers(Predictor.from_run(finished), list(range(len(questions()))))


@pytest.mark.parametrize("number", range(PROCESSES))
def test_threads_of_a_cold_process(finished: Path, alone: list[float], number: int, tmp_path: Path) -> None:
    case = f"threads {number}"
    if LEDGER.has(case):
        return
    store = f"sqlite:///{tmp_path / 'answers.db'}" if number % 4 >= 2 else ""
    command = [
        sys.executable,
        "-m",
        "tests.faults.askers",
        str(finished),
        store,
        str(number),
        ("one", "each")[number % 2],
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.array(json.loads(done.stdout))
    wrong = int((np.abs(found - alone) > 1e-9).sum())
    faults = (
        [f"{case}: {wrong} of {found.size} answers are wrong, such as {found[0][:3]} for {alone[:3]}"] if wrong else []
    )
    if store:
        with PredictionStore.open(store) as kept:
            rows = kept.query()
        expected = sorted(np.round(alone, 9))
        if sorted(np.round(rows["log_odds"], 9)) != expected:
            faults.append(f"{case}: {len(rows)} rows in the store are not the {len(alone)} answers")
    LEDGER.note(case, {"answers": found.size, "wrong": wrong}, faults)


def killed_writers(url: str, seed: int, place: Path) -> tuple[int, list[str]]:
    """Three writers, each killed and started again, beside a reader: how many batches were noted, and what is wrong."""
    chance, log, notes = random.Random(seed), place / "log", place / "notes"
    first = 10_000 * seed
    reader = start(read, url, 10, log=log)
    for attempt in range(2):
        running = [start(write, url, n, first + 1000 * attempt, str(notes), log=log) for n in range(3)]
        time.sleep(1 + chance.random() * 2)
        for process in running:
            time.sleep(chance.random() * 0.2)
            if not process.is_alive():
                return 0, [f"a writer ended: {log.read_text()[-1500:]}"]
            kill(process)
    try:
        finish(reader, log)
    except AssertionError as error:
        return 0, [f"the reader failed: {error}"]
    noted = [tuple(map(int, line.split("-"))) for line in notes.read_text().splitlines()]
    with PredictionStore.open(url) as store:
        rows = store.query()
    there, sizes = set(rows["question"]), rows[rows["adapter"] != "all"].groupby("adapter").size()
    lost = [one for one in noted if not there.issuperset(batch(*one)["question"])]
    faults = [f"{len(lost)} of {len(noted)} batches are lost, such as {lost[:3]}"] if lost else []
    if (sizes != ROWS - 1).any():
        faults.append(f"batches in part: {sizes[sizes != ROWS - 1].to_dict()}")
    return len(noted), faults


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_writers_that_are_killed(kind: str, number: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    case = f"{kind} {number}"
    if LEDGER.has(case):
        return
    file = tmp_path / "answers.db"
    url = f"sqlite:///{file}" if kind == "sqlite" else request.getfixturevalue("postgres")
    batches, faults = killed_writers(url, number, tmp_path)
    if kind == "sqlite" and not faults:
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    LEDGER.note(case, {f"batches on {kind}": batches, f"kills on {kind}": 6}, faults)


def test_races_in_all(figures: Callable[[str], dict[str, int]]) -> None:
    figures("races")
