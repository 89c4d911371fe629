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
from tests.faults.ledger import ANSWERS, KILLS, ROOT, Ledger
from tests.faults.processes import finish, kill, start
from tests.faults.racers import THREADS, answers, batch, in_part, questions, read, write
from tests.predict.test_postgres import url as postgres

__all__ = ["postgres"]

LEDGER = Ledger("races")


@pytest.fixture(scope="module")
def alone(finished: Path) -> list[float]:
    """What one thread is answered."""
    return answers(Predictor.from_run(finished), random.Random(0))


@pytest.mark.parametrize("number", range(-(-ANSWERS // (THREADS * len(questions())))))
def test_threads_of_a_cold_process(finished: Path, alone: list[float], number: int, tmp_path: Path) -> None:
    if LEDGER.has(case := f"threads {number}"):
        return
    url, how = f"sqlite:///{tmp_path / 'answers.db'}" if number % 4 >= 2 else "", ("one", "each")[number % 2]
    command = [sys.executable, "-m", "tests.faults.racers", str(finished), url, str(number), how]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        LEDGER.note(case, {}, [done.stderr[-3000:]])
    found = np.array(json.loads(done.stdout))
    wrong = int((np.abs(found - alone) > 1e-9).sum())
    faults = [f"{wrong} answers are wrong: {found[0][:3]} for {alone[:3]}"] if wrong else []
    if url:
        with PredictionStore.open(url) as store:
            rows = sorted(store.query()["log_odds"])
        if len(rows) != len(alone) or not np.allclose(rows, sorted(alone), rtol=0, atol=1e-9):
            faults.append(f"{len(rows)} rows in the store are not the {len(alone)} answers")
    LEDGER.note(case, {"answers": found.size, "wrong": wrong}, faults)


def killed_writers(url: str, seed: int, place: Path) -> tuple[int, list[str]]:
    """Three writers, each killed and started again, beside a reader: how many batches were noted, and what is wrong."""
    chance, log, notes = random.Random(seed), place / "log", place / "notes"
    reader = start(read, url, 10, log=log)
    for again in range(2):
        running = [start(write, url, n, 10_000 * (2 * seed + again), str(notes), log=log) for n in range(3)]
        until = time.monotonic() + 60
        while not notes.is_file() and time.monotonic() < until:  # on a busy machine, writers begin late
            time.sleep(0.1)
        time.sleep(1 + chance.random() * 2)
        for process in running:
            time.sleep(chance.random() * 0.2)
            if not process.is_alive():
                return 0, [f"a writer ended: {log.read_text()[-1500:]}"]
            kill(process)
    if wrong := finish(reader, log):
        return 0, [f"the reader failed: {wrong}"]
    noted = [tuple(map(int, line.split("-"))) for line in notes.read_text().splitlines()]
    with PredictionStore.open(url) as store:
        rows = store.query()
    there = set(rows["question"])
    lost = [one for one in noted if not there.issuperset(batch(*one)["question"])]
    faults = [f"{len(lost)} of {len(noted)} batches are lost, such as {lost[:3]}"] if lost else []
    return len(noted), faults + ([f"in part: {half}"] if (half := in_part(rows)) else [])


@pytest.mark.parametrize("number", range(KILLS // 5))
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_writers_that_are_killed(kind: str, number: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if LEDGER.has(case := f"{kind} {number}"):
        return
    file = tmp_path / "answers.db"
    url = f"sqlite:///{file}" if kind == "sqlite" else request.getfixturevalue("postgres")
    batches, faults = killed_writers(url, number, tmp_path)
    if kind == "sqlite":
        with closing(sqlite3.connect(file)) as connection:
            faults += [told for (told,) in connection.execute("PRAGMA integrity_check") if told != "ok"]
    LEDGER.note(case, {f"batches on {kind}": batches, f"kills on {kind}": 6}, faults)


def test_figures(record_property: Callable[[str, object], None]) -> None:
    LEDGER.show(record_property)
