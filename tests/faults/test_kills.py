"""Runs, collections and a study that are killed and continued end as if nothing had happened.

A kill comes after a random time, or just before or after a random change of a name in the folder.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from nngpt_ext import PredictionStore
from tests.faults.conftest import CONFIG, DATASETS, RECIPE
from tests.faults.ledger import KILLS, Ledger
from tests.faults.processes import Moment, finish, kill, start_command

LEDGER = Ledger("kills")
EACH = 2  # kills of one folder
PLAN = ["run", "run", "score", "score", "study"] * (KILLS // EACH // 5)
STUDY = {
    "title": "A small study",
    "common": {"data": CONFIG["data"], "tuning": {**CONFIG["tuning"], "epochs": 1}, "store": None},
    "cells": [
        {"prompts": ["code_only"], "bases": ["embedded"]},
        {"prompts": ["recipe"], "bases": ["embedded"], "tested_on": ["best", "random"]},
    ],
    "learning_curve": [4, 8],
}


class Work:
    """What a command makes in a folder and can continue, and what comes of it if nobody kills it."""

    def __init__(self, place: Path, kind: str, words: list[str]) -> None:
        self.place, self.kind, self.words = place / kind, kind, words
        began = time.monotonic()
        folder, wrong = self.ended("whole")
        assert not wrong, wrong
        self.seconds, self.changes = time.monotonic() - began, int(Path(f"{folder}.log.changes").read_text())
        self.whole = self.result(folder)

    def started(self, name: str, moment: Moment | None = None) -> Any:
        """The process of its command in a folder of this name."""
        folder = self.place / name
        folder.mkdir(parents=True, exist_ok=True)
        words = [word.replace("HERE", str(folder)) for word in self.words]
        return start_command(words, folder, Path(f"{folder}.log"), moment)

    def ended(self, name: str) -> tuple[Path, str | None]:
        """Its folder when the command has come to its end, and what is wrong if that was not a good one."""
        return self.place / name, finish(self.started(name), Path(f"{self.place / name}.log"))

    def result(self, folder: Path) -> dict[str, Any]:
        """What must be the same: tables, records except times, rows of the store, and all names in the folder."""
        names = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.name.endswith((".db-wal", ".db-shm"))}
        found: dict[str, Any] = {"names": sorted(names)}
        for file in (file for name in sorted(names) if (file := folder / name).parent.name in (folder.name, self.kind)):
            if file.suffix == ".parquet":
                rows = pd.read_parquet(file)
                by = [name for name in ("nn", "dataset_1", "dataset_2") if name in rows]
                found[file.name] = rows.sort_values(by).to_dict("list")
            elif file.suffix == ".db":
                with PredictionStore.open(f"sqlite:///{file}") as store:
                    rows = store.query().drop(columns="created")
                found[file.name] = rows.sort_values(["question", "nn"]).to_dict("list")
            elif file.name in ("run.json", "report.json", "study.json"):
                for key, value in json.loads(file.read_text()).items():
                    if key not in ("timings", "threads", "config", "command", "files", "sha256", "run_sha256"):
                        found[f"{file.name} {key}"] = value
        return found

    def killed(self, name: str, chance: random.Random) -> list[str]:
        """How it was killed, `EACH` times or less often if it is faster."""
        how = list[str]()
        for left in (1.0, 0.7, 0.5, 0.3):  # what is done is not repeated
            moment, seconds = None, 0.05 + chance.random() * self.seconds * left
            if chance.random() < 0.5:
                moment, seconds = Moment(chance.randint(1, int(self.changes * left) + 1), chance.random() < 0.5), 600.0
            process = self.started(name, moment)
            process.join(seconds)
            kill(process)
            if process.exitcode != -9:
                assert process.exitcode == 0, Path(f"{self.place / name}.log").read_text(errors="replace")[-2000:]
                break
            how.append(f"killed {f'at {moment}' if moment else f'after {seconds:.2f} s'}")
            if len(how) == EACH:
                break
        return how

    def wrong(self, name: str) -> list[str]:
        """What is not as if nobody had killed it."""
        time.sleep(1)  # what is younger may belong to a process that runs, and stays
        folder, wrong = self.ended(name)
        if wrong:
            return [wrong]
        found, faults = self.result(folder), []
        for key, value in self.whole.items():
            if repr(found.get(key)) != repr(value):
                more = sorted({*found[key]} - {*value}) if key == "names" else str(found.get(key))[:300]
                less = sorted({*value} - {*found[key]}) if key == "names" else str(value)[:300]
                faults.append(f"{key}: {more} for {less}, in {folder}")
        return faults


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory, finished: Path, config: Path, codes: Path) -> Callable[[str], Work]:
    made, place = dict[str, Work](), tmp_path_factory.mktemp("killed")
    (place / "study.yaml").write_text(yaml.safe_dump(STUDY))
    score = ["score", "--run", finished, "--codes", codes, "--out", "HERE/scored.parquet", "--shard", "1"]
    score += ["--store", "sqlite:///HERE/answers.db", "--recipe", RECIPE, *DATASETS, "cifar-10"]
    words = {
        "run": ["run", "dataset_compare", "--config", config, "--out", "HERE/run", "--resume"],
        "score": score,
        "study": ["study", "--config", place / "study.yaml", "--out", "HERE/study", "--resume"],
    }

    def work(kind: str) -> Work:
        if kind not in made:
            made[kind] = Work(place, kind, list(map(str, words[kind])))
        return made[kind]

    return work


@pytest.mark.parametrize("number", range(len(PLAN)))
def test_killed_and_continued(works: Callable[[str], Work], number: int) -> None:
    if LEDGER.has(case := f"{PLAN[number]} {number}"):
        return
    work, kills, faults, chance = works(PLAN[number]), 0, list[str](), random.Random(case)
    for again in range(3 * EACH):
        if kills < EACH and not faults:
            kills += len(how := work.killed(f"{number}-{again}", chance))
            faults += [f"{', '.join(how)}: {one}" for one in work.wrong(f"{number}-{again}")]
    LEDGER.note(case, {"kills": kills, work.kind: 1}, faults)


def test_figures(record_property: Callable[[str, object], None]) -> None:
    LEDGER.show(record_property)
