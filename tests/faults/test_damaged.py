"""Every file of a run folder, damaged in five ways, before every command that reads the folder.

A command gives the figures of the whole folder; or it names on standard error what it replaced; or it stops with one line.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nngpt_ext import Predictor
from tests.faults.commands import Outcome, ask, call, contents
from tests.faults.conftest import DATASETS, RECIPE
from tests.faults.damage import WAYS
from tests.faults.ledger import NAME, SIZE, Ledger
from tests.faults.processes import kill, start_command

LEDGER = Ledger("damaged")
AT_ONCE = 3 if NAME == "small" else 99  # commands that one damaged folder is given to
LATER = ("report.json", "run.json", "predictions.parquet", "predictions.db")  # what a run writes when it has scored

Answer = tuple[Outcome, Any]
Command = Callable[[Path, Path], Answer]


class Harness:
    """The commands, the folders in their three states, and the answers to undamaged ones."""

    def __init__(self, finished: Path, config: Path, codes: Path, place: Path) -> None:
        self.config, self.codes, self.place, self._whole = config, codes, place, dict[str, Any]()
        self.code = sorted(codes.iterdir())[0]
        self.states = {"finished": finished, "scored": place / "scored", "halfway": place / "halfway"}
        shutil.copytree(finished, self.states["scored"])
        for name in LATER:
            (self.states["scored"] / name).unlink()
        self._leave_halfway(self.states["halfway"])
        self.before = {state: contents(folder) for state, folder in self.states.items()}
        reading = [self.compare, self.rank, self.score, self.predictor, self.hub, self.harness, self.report, self.again]
        self.commands: dict[str, list[Command]] = {"finished": reading, "scored": [self.again], "halfway": [self.again]}

    def _leave_halfway(self, folder: Path) -> None:
        """A run that is killed after its first epoch."""
        log = self.place / "log"
        process = start_command(self._again(folder), folder, log)
        while not list(folder.glob("checkpoints/history.json")):
            assert process.is_alive(), log.read_text()[-2000:]
            time.sleep(0.005)
        kill(process)
        assert not (folder / "report.json").exists()

    def _again(self, run: Path) -> list[str]:
        return ["run", "dataset_compare", "--config", str(self.config), "--out", str(run), "--resume", "--json"]

    def cases(self) -> list[tuple[str, str, str, int]]:
        """State, file, way and seed of all damages of a size.

        Each comes once before chance makes more of them; half of the first ones are of a finished run, whose
        checkpoints nothing reads.
        """
        chance, found = random.Random(0), list[tuple[str, str, str, int]]()
        for seed in range(9):
            each = [
                (state, name, way, seed)
                for state, held in self.before.items()
                for name, content in held.items()
                if content is not None and not (state == "finished" and name.startswith("checkpoints"))
                for way in (WAYS if seed == 0 else ("flipped", "exchanged"))
            ]
            found += sorted(each, key=lambda one: chance.random() * (1 if one[0] == "finished" else 2.5))
        return found[: SIZE.damaged]

    def whole(self, state: str, command: Command) -> Any:
        """What a command answers if nothing is damaged."""
        name = f"{state} {command.__name__}"
        if name not in self._whole:
            outcome, answer = self._run(state, command, lambda run: None)
            assert outcome.code == 0, f"{name}: {outcome.err}"
            self._whole[name] = answer
        return self._whole[name]

    def _run(self, state: str, command: Command, damage: Callable[[Path], Any]) -> Answer:
        work = self.place / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        run = shutil.copytree(self.states[state], work / "run")
        damage(run)
        return command(run, work)

    def try_one(self, state: str, name: str, way: str, seed: int) -> tuple[Counter[str], list[str]]:
        """Damage a file before each command, and judge what comes out."""
        counts, faults = Counter[str](), list[str]()
        commands = self.commands[state]
        for command in random.Random(f"{name}{way}{seed}").sample(commands, min(AT_ONCE, len(commands))):
            whole, done = self.whole(state, command), list[str]()
            outcome, answer = self._run(
                state, command, lambda run, d=done: d.append(WAYS[way](run / name, random.Random(f"{name} {seed}")))
            )
            counts["commands"] += 1
            fault = outcome.fault()
            if fault is None and outcome.code == 0 and not _same(answer, whole):
                named = {Path(name).name, *(part for part in Path(name).parts if part.startswith("checkpoint"))}
                told = any(part in outcome.err for part in named)
                counts["told"] += told
                fault = None if told else f"silently other figures: {_difference(answer, whole)}"
            counts["refused" if outcome.code == 2 else "answered"] += 1
            if fault is not None:
                faults.append(f"{state} {name} ({done[0]}), {command.__name__}: {fault}")
        return counts, faults

    # The commands; each gives its outcome and what must not change.

    def _json(self, outcome: Outcome) -> Answer:
        found = json.loads(outcome.out) if outcome.code == 0 else None
        if isinstance(found, dict):
            found.pop("timings", None)
        return outcome, found

    def report(self, run: Path, work: Path) -> Answer:
        return self._json(ask("report", run, "--json"))

    def compare(self, run: Path, work: Path) -> Answer:
        return self._json(ask("compare", "--run", run, "--code", self.code, "--recipe", RECIPE, *DATASETS, "--json"))

    def rank(self, run: Path, work: Path) -> Answer:
        return self._json(ask("rank", "--run", run, "--code", self.code, "--recipe", RECIPE, "--json"))

    def score(self, run: Path, work: Path) -> Answer:
        out = work / "scored.parquet"
        outcome = ask("score", "--run", run, "--codes", self.codes, "--out", out, "--recipe", RECIPE, *DATASETS)
        return outcome, pd.read_parquet(out).to_dict("list") if outcome.code == 0 else None

    def predictor(self, run: Path, work: Path) -> Answer:
        outcome = call(
            lambda: Predictor.from_run(run).compare(self.code.read_text(), *DATASETS, recipe=json.loads(RECIPE))
        )
        return outcome, outcome.value

    def hub(self, run: Path, work: Path) -> Answer:
        outcome = ask("export", "hub", "--run", run, "--out", work / "hub", "--json")
        return outcome, contents(work / "hub") if outcome.code == 0 else None

    def harness(self, run: Path, work: Path) -> Answer:
        outcome = ask("export", "lm-eval", "--run", run, "--out", work / "task", "--networks", 1, "--no-base")
        return outcome, contents(work / "task") if outcome.code == 0 else None

    def again(self, run: Path, work: Path) -> Answer:
        outcome, report = self._json(ask(*self._again(run)))
        if report is None:
            return outcome, None
        rows = pd.read_parquet(run / "predictions.parquet").to_dict("list")
        return outcome, {**report, "config": None, "rows": rows}


def _same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # NaN is NaN


def _difference(one: Any, other: Any) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if not _same(one.get(key), other.get(key))]
        return "; ".join(f"{key} {str(one.get(key))[:40]} for {str(other.get(key))[:40]}" for key in keys[:3])
    return f"{str(one)[:60]} for {str(other)[:60]}"


@pytest.fixture(scope="module")
def harness(finished: Path, config: Path, codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(finished, config, codes, tmp_path_factory.mktemp("damaged"))


@pytest.mark.parametrize("number", range(SIZE.damaged))
def test_a_damaged_folder(harness: Harness, number: int) -> None:
    case = harness.cases()[number]
    name = " ".join(map(str, case))
    if not LEDGER.has(name):
        LEDGER.note(name, *harness.try_one(*case))


def test_the_original_folders_are_as_they_were(harness: Harness, figures: Callable[[str], dict[str, int]]) -> None:
    for state, folder in harness.states.items():
        assert contents(folder) == harness.before[state]
    figures("damaged")
