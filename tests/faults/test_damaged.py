"""Every file of a run folder, damaged in five ways, before every command that reads the folder.

A command gives the figures of the whole folder, or names on standard error what it replaced, or stops with one line.
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
from tests.faults.damage import WAYS, damage
from tests.faults.ledger import DAMAGED, NAME, Ledger
from tests.faults.processes import kill, start_command

LEDGER = Ledger("damaged")
LATER = ("report.json", "run.json", "predictions.parquet", "predictions.db")  # what a run writes when it has scored
Case = tuple[str, str, str, int]  # state of the run, file, way, seed
Answer = tuple[Outcome, dict[str, Any]]  # what came out, and what must be as if nothing were damaged


class Harness:
    """The commands, the folders of a run in three states, and the answers if nothing is damaged."""

    def __init__(self, finished: Path, config: Path, codes: Path, place: Path) -> None:
        self.codes, self.work, self.whole = codes, place / "work", dict[str, Any]()
        self.again = ["run", "dataset_compare", "--config", str(config), "--resume", "--json", "--out"]
        self.query = ["--code", str(min(codes.iterdir())), "--recipe", RECIPE, "--json"]
        self.states = {"finished": finished, "scored": place / "scored", "halfway": place / "halfway"}
        shutil.copytree(finished, self.states["scored"], ignore=lambda *_: LATER)
        process = start_command([*self.again, str(self.states["halfway"])], place, place / "log")
        while not list(place.glob("halfway/checkpoints/history.json")):  # it has finished an epoch
            assert process.is_alive(), (place / "log").read_text()[-2000:]
            time.sleep(0.005)
        kill(process)
        assert not (self.states["halfway"] / "report.json").exists()
        self.before = {state: contents(folder) for state, folder in self.states.items()}
        asking: list[Callable[[Path], Answer]] = [self.compare, self.rank, self.score, self.predictor, self.adapter]
        asking += [self.report, self.hub, self.lm_eval, self.resume]
        self.commands = {"finished": asking, "scored": [self.resume], "halfway": [self.resume]}

    def cases(self) -> list[Case]:
        """The damages of a size, in a random order; half of the first ones are of the finished run.

        Of that one no command reads the checkpoints.
        """
        chance, found = random.Random(0), list[Case]()
        for state, held in self.before.items():
            seeds = {"flipped": 2, "exchanged": 6 if state == "finished" else 4}
            names = [name for name, content in held.items() if content is not None]
            for name in names if state != "finished" else [n for n in names if not n.startswith("checkpoints")]:
                found += [(state, name, way, seed) for way in WAYS for seed in range(seeds.get(way, 1))]
        return sorted(found, key=lambda one: chance.random() * (1 if one[0] == "finished" else 2.5))[:DAMAGED]

    def answer(self, case: Case, command: Callable[[Path], Answer], whole: bool) -> tuple[Outcome, Any, str]:
        """What a command answers about a copy, damaged or whole."""
        state, name, way, seed = case
        shutil.rmtree(self.work, ignore_errors=True)
        run = shutil.copytree(self.states[state], self.work / "run")
        how = "" if whole else damage(run / name, way, random.Random(f"{name} {seed}"))
        return *command(run), how

    def tried(self, case: Case) -> tuple[Counter[str], list[str]]:
        """Damage a file before each command, and judge what comes out."""
        counts, faults, (state, name, *_) = Counter[str](), list[str](), case
        commands = self.commands[state]
        for command in random.Random(str(case)).sample(commands, min(3 if NAME == "small" else 9, len(commands))):
            label = f"{state} {command.__name__}"
            if label not in self.whole:
                outcome, self.whole[label], _ = self.answer(case, command, whole=True)
                assert outcome.code == 0, f"{label}: {outcome.err}"
            outcome, answer, how = self.answer(case, command, whole=False)
            fault, whole = outcome.fault(), self.whole[label]
            other = [key for key in {**whole, **answer} if repr(whole.get(key)) != repr(answer.get(key))]
            if fault is None and outcome.code == 0 and other:
                names = {Path(name).name, *(part for part in Path(name).parts if part.startswith("checkpoint-"))}
                if not any(part in outcome.err for part in names):
                    fault = f"silently other {other[0]}: {answer.get(other[0])!r:.80} for {whole.get(other[0])!r:.80}"
                counts["told"] += fault is None
            counts["refused" if outcome.code == 2 else "answered"] += 1
            faults += [] if fault is None else [f"{state} {name} ({how}), {command.__name__}: {fault}"]
        return counts, faults

    def _json(self, *words: object) -> Answer:
        outcome = ask(*words)
        found = json.loads(outcome.out) if outcome.code == 0 else {}
        return outcome, {name: value for name, value in found.items() if name not in ("timings", "config")}

    def _asked(self, make: Callable[[], Predictor]) -> Answer:
        code, recipe = Path(self.query[1]).read_text(), json.loads(RECIPE)
        outcome = call(lambda: make().compare(code, *DATASETS, recipe=recipe))
        return outcome, {} if outcome.value is None else vars(outcome.value)

    def report(self, run: Path) -> Answer:
        return self._json("report", run, "--json")

    def compare(self, run: Path) -> Answer:
        return self._json("compare", "--run", run, *DATASETS, *self.query)

    def rank(self, run: Path) -> Answer:
        return self._json("rank", "--run", run, *self.query)

    def score(self, run: Path) -> Answer:
        out = self.work / "scored.parquet"
        outcome = ask("score", "--run", run, "--codes", self.codes, "--out", out, "--recipe", RECIPE, *DATASETS)
        return outcome, pd.read_parquet(out).to_dict("list") if outcome.code == 0 else {}

    def predictor(self, run: Path) -> Answer:
        return self._asked(lambda: Predictor.from_run(run))

    def adapter(self, run: Path) -> Answer:
        """An adapter by itself has no record of its files, so any answer is allowed."""
        return self._asked(lambda: Predictor.from_pretrained(run / "adapter"))[0], {}

    def hub(self, run: Path) -> Answer:
        return ask("export", "hub", "--run", run, "--out", self.work / "hub"), contents(self.work / "hub")

    def lm_eval(self, run: Path) -> Answer:
        out = self.work / "task"
        return ask("export", "lm-eval", "--run", run, "--out", out, "--networks", 1, "--no-base"), contents(out)

    def resume(self, run: Path) -> Answer:
        outcome, report = self._json(*self.again, run)
        rows = pd.read_parquet(run / "predictions.parquet").to_dict("list") if outcome.code == 0 else None
        return outcome, {**report, "rows": rows}


@pytest.fixture(scope="module")
def harness(finished: Path, config: Path, codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(finished, config, codes, tmp_path_factory.mktemp("damaged"))


@pytest.mark.parametrize("number", range(DAMAGED))
def test_a_damaged_folder(harness: Harness, number: int) -> None:
    case = harness.cases()[number]
    if not LEDGER.has(name := " ".join(map(str, case))):
        LEDGER.note(name, *harness.tried(case))


def test_the_whole_folders_are_as_they_were(harness: Harness, record_property: Callable[[str, object], None]) -> None:
    assert {state: contents(folder) for state, folder in harness.states.items()} == harness.before
    LEDGER.show(record_property)
