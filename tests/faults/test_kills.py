"""Runs, collections and a study that are killed at random moments and resumed end as if nothing had happened.

Half of the kills come after a random time, half just before or after a random change of a file's name in the folder.
"""

from __future__ import annotations

import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from nngpt_ext import PredictionStore
from tests.faults.conftest import CONFIG, DATASETS, RECIPE
from tests.faults.ledger import SIZE, Ledger
from tests.faults.processes import Moment, changes, finish, kill, start_command

LEDGER = Ledger("kills")
KILLS = 2  # of one folder, at least
STUDY = {
    "title": "A small study",
    "common": {"data": CONFIG["data"], "tuning": {**CONFIG["tuning"], "epochs": 1}, "store": None},
    "cells": [
        {"prompts": ["code_only"], "bases": ["embedded"]},
        {"prompts": ["recipe"], "bases": ["embedded"], "tested_on": ["best", "random"]},
    ],
    "learning_curve": [4, 8],
}
Words = Callable[[Path], list[str]]


class Work(ABC):
    """Something that a command makes in a folder, and can continue."""

    def __init__(self, place: Path, finished: Path, config: Path, codes: Path) -> None:
        self.place, self.finished, self.config, self.codes = place, finished, config, codes
        began = time.monotonic()
        folder, log = self.fresh("whole")
        finish(start_command(self.command(folder), folder, log), log)
        self.seconds, self.changes = time.monotonic() - began, changes(log)
        self.whole, self.names = self.result(folder), names(folder)

    def fresh(self, name: str) -> tuple[Path, Path]:
        """An empty folder, and the file in which its command writes."""
        folder = self.place / f"{type(self).__name__}-{name}"
        folder.mkdir(parents=True)
        return folder, folder.with_suffix(".log")

    @abstractmethod
    def command(self, folder: Path) -> list[str]:
        """The words of the command, which are the same when it continues."""

    @abstractmethod
    def result(self, folder: Path) -> Any:
        """What must be identical."""


class ARun(Work):
    def command(self, folder: Path) -> list[str]:
        return ["run", "dataset_compare", "--config", str(self.config), "--out", str(folder / "run"), "--resume"]

    def result(self, folder: Path) -> Any:
        run = folder / "run"
        record, report = (json.loads((run / name).read_text()) for name in ("run.json", "report.json"))
        with PredictionStore.open(f"sqlite:///{run / 'predictions.db'}") as store:
            rows = store.query().drop(columns="created", errors="ignore")
        return {
            "predictions": pd.read_parquet(run / "predictions.parquet").to_dict("list"),
            "store": rows.sort_values("question").to_dict("list"),
            "record": {k: v for k, v in record.items() if k not in ("timings", "threads")},
            "report": {k: v for k, v in report.items() if k not in ("timings", "config")},
        }


class Scores(Work):
    def command(self, folder: Path) -> list[str]:
        store = f"sqlite:///{folder / 'answers.db'}"
        return [
            "score", "--run", str(self.finished), "--codes", str(self.codes), "--out", str(folder / "scored.parquet"),
            "--recipe", RECIPE, "--shard", "1", "--store", store, *DATASETS, "cifar-10",
        ]  # fmt: skip

    def result(self, folder: Path) -> Any:
        with PredictionStore.open(f"sqlite:///{folder / 'answers.db'}") as store:
            rows = store.query().drop(columns="created", errors="ignore")
        keys = ["nn", "dataset_1", "dataset_2"]
        return {
            "rows": pd.read_parquet(folder / "scored.parquet").sort_values(keys).to_dict("list"),
            "store": rows.sort_values("question").to_dict("list"),
        }


class AStudy(Work):
    def command(self, folder: Path) -> list[str]:
        file = self.place / "study.yaml"
        file.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
        return ["study", "--config", str(file), "--out", str(folder / "study"), "--resume"]

    def result(self, folder: Path) -> Any:
        found = json.loads((folder / "study" / "study.json").read_text())
        return {key: value for key, value in found.items() if key not in ("timings", "command")}


def names(folder: Path) -> list[str]:
    """All names in it, hidden ones too, except what SQLite keeps beside a database after a kill."""
    found = (str(p.relative_to(folder)) for p in folder.rglob("*"))
    return sorted(name for name in found if not name.endswith((".db-wal", ".db-shm", ".db-journal")))


WORKS: dict[str, type[Work]] = {"run": ARun, "score": Scores, "study": AStudy}
SHARES = {"run": 4, "score": 4, "study": 2}  # of ten folders
PLAN = [
    (kind, n)
    for n in range(SIZE.kills // KILLS // 10)
    for kind, many in SHARES.items()
    for n in range(n * many, (n + 1) * many)
]


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory, finished: Path, config: Path, codes: Path) -> Callable[[str], Work]:
    made: dict[str, Work] = {}

    def work(kind: str) -> Work:
        if kind not in made:
            made[kind] = WORKS[kind](tmp_path_factory.mktemp("killed"), finished, config, codes)
        return made[kind]

    return work


def killed(work: Work, name: str, chance: random.Random) -> tuple[Path, int, list[str]]:
    """Start a command over and over in one folder, kill it a few times, and let it come to its end."""
    folder, log = work.fresh(name)
    kills, how = 0, list[str]()
    for attempt in range(KILLS * 4):
        if kills == KILLS:
            break
        left = 1 - attempt / (KILLS * 4)  # what is done need not be done again, so later attempts are shorter
        moment, seconds = None, 0.05 + chance.random() * work.seconds * left
        if chance.random() < 0.5:
            moment, seconds = Moment(chance.randint(1, max(1, int(work.changes * left))), chance.random() < 0.5), 600.0
        process = start_command(work.command(folder), folder, log, moment)
        process.join(seconds)
        kill(process)
        if process.exitcode == 0:  # it was faster: nothing more can be lost in this folder
            break
        if process.exitcode != -9:
            how.append(f"exit {process.exitcode}: {log.read_text(errors='replace')[-1500:]}")
            return folder, kills, how
        kills += 1
        how.append(f"killed {f'at {moment}' if moment else f'after {seconds:.2f} s'}")
    finish(start_command(work.command(folder), folder, log), log)
    return folder, kills, how


@pytest.mark.parametrize(("kind", "number"), PLAN)
def test_killed_and_resumed(works: Callable[[str], Work], kind: str, number: int) -> None:
    case = f"{kind} {number}"
    if LEDGER.has(case):
        return
    work, kills, faults, chance = works(kind), 0, list[str](), random.Random(case)
    for again in range(KILLS * 3):
        if kills >= KILLS or faults:
            break
        try:
            folder, more, how = killed(work, f"{number}-{again}", chance)
        except AssertionError as error:
            faults.append(f"{case}: {error}")
            break
        kills += more
        faults += _wrong(work, folder, how)
    LEDGER.note(case, {"kills": kills, kind: 1}, faults)


def _wrong(work: Work, folder: Path, how: list[str]) -> list[str]:
    where = f"{', '.join(how) or 'not killed'}, in {folder}"
    if how and how[-1].startswith("exit"):
        return [where]
    found, wrong = work.result(folder), []
    for key, value in work.whole.items():
        if repr(found.get(key)) != repr(value):
            wrong.append(f"other {key}: {str(found.get(key))[:300]} for {str(value)[:300]}; {where}")
    if (left := names(folder)) != work.names:
        more, less = sorted(set(left) - set(work.names)), sorted(set(work.names) - set(left))
        wrong.append(f"left {more}, lost {less}; {where}")
    return wrong


def test_kills_in_all(figures: Callable[[str], dict[str, int]]) -> None:
    assert figures("kills").get("kills", 0) >= (SIZE.kills if len(LEDGER.cases()) == len(PLAN) else 0)
