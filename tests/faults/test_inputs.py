"""Whatever is given, the outcome is an answer or one line; nothing is half written, and no password is shown."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from nngpt_ext import PredictionStore, Predictor, run_task
from tests.data.small import write_database, write_tree
from tests.faults import inputs
from tests.faults.commands import Outcome, ask, call, contents
from tests.faults.conftest import CONFIG, DATASETS, RECIPE
from tests.faults.ledger import INPUTS, Ledger

LEDGER = Ledger("inputs")
CHUNK = 42  # inputs of one case


class Entrances:
    """Every way in: two runs, records, and an empty folder `work` for each input."""

    def __init__(self, run: Path, config: Path, place: Path) -> None:
        self.config, self.place, self.work = config, place, place / "work"
        small = {**CONFIG, "prompt": "normalized_accuracy", "tuning": {**CONFIG["tuning"], "epochs": 1}}
        other = run_task("dataset_compare", small, output_dir=place / "accuracies").output_dir
        self.predictor, self.other, self.run = Predictor.from_run(run), Predictor.from_run(other), run
        tree = write_tree(place)
        write_database(tree, place / "ab.nn.db")
        for file in tree.glob("stat/train/*/[12].json"):  # of other epochs
            file.unlink()
        self.compared = ["compare", "--run", run, *DATASETS, "--json", "--recipe"]

    def again(self, config: Path, *more: object) -> Iterator[Outcome]:
        """The finished run, if it is this one: no input starts a training."""
        yield ask("run", "dataset_compare", "--config", config, "--out", self.run, "--resume", *more)

    def written(self, name: str, content: bytes | str) -> Path:
        file = self.work / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def score(self, codes: Path) -> tuple[Outcome, pd.DataFrame, int]:
        """What came out, the rows, and how many networks were refused."""
        out, refused = self.work / "out.parquet", self.work / "out.parquet.refused.json"
        out.unlink(missing_ok=True)
        done = ask("score", "--run", self.run, "--codes", codes, "--out", out, "--recipe", RECIPE, *DATASETS)
        n = len(json.loads(refused.read_text())) if refused.is_file() else 0
        return done, pd.read_parquet(out) if done.code == 0 else pd.DataFrame(), n

    def setting(self, given: list[str]) -> Iterator[Outcome]:
        yield from self.again(self.config, *(word for one in given for word in ("--set", one.replace("\0", ""))))

    def project(self, given: bytes) -> Iterator[Outcome]:
        yield from self.again(self.written("nngpt.yaml", given))

    def study(self, given: bytes) -> Iterator[Outcome]:
        yield ask("study", "--config", self.written("study.yaml", given), "--out", self.work / "study", "--draw")

    def prompt(self, given: bytes) -> Iterator[Outcome]:
        config = {**CONFIG, "prompt": str(self.written("mine.json", given))}
        yield from self.again(self.written("config.yaml", yaml.safe_dump(config)))

    def variable(self, given: str) -> Iterator[Outcome]:
        """An adapter from elsewhere, whose prompt has such variables."""
        adapter = shutil.copytree(self.run / "adapter", self.work / "adapter")
        task = json.loads((adapter / "task.json").read_text())
        text = task["text"].replace("{nn_code}", given.replace("code", "nn_code"))
        self.written("adapter/task.json", json.dumps({**task, "text": text}))
        recipe = json.loads(RECIPE)
        yield call(lambda: Predictor.from_pretrained(adapter).compare(inputs.NETWORK, *DATASETS, recipe=recipe))

    def recipe(self, given: Any) -> Iterator[Outcome]:
        yield call(self.predictor.compare, inputs.NETWORK, *DATASETS, recipe=given)

    def text(self, given: str) -> Iterator[Outcome]:
        yield ask(*self.compared, given.replace("\0", ""), "--code", self.written("net.py", inputs.NETWORK))

    def accuracy(self, given: Any) -> Iterator[Outcome]:
        yield call(self.other.compare, inputs.NETWORK, *DATASETS, accuracies=given)

    def table(self, given: tuple[str, pd.DataFrame]) -> Iterator[Outcome]:
        file = inputs.write_table(self.work, *given)
        if file is not None:
            done, rows, refused = self.score(file)
            yield done
            if done.code == 0:
                names = rows["nn"].astype(str)
                assert rows["nn"].notna().all(), "a network without a name is scored"
                assert not names.str.fullmatch(r"\d+\.0").any(), "a whole number as a name has become another name"
                assert names.nunique() + refused == len(given[1]), "a network is neither scored nor refused"

    def source(self, given: bytes) -> Iterator[Outcome]:
        """A file on the command line and in a folder, its text in Python and in a table: one answer, or none."""
        file = self.written("codes/net.py", given)
        shell = ask(*self.compared, RECIPE, "--code", file)
        yield shell
        odds, places = {"shell": json.loads(shell.out)["log_odds"] if shell.code == 0 else None}, [file.parent]
        try:
            text = given.decode()
        except UnicodeDecodeError:
            pass
        else:
            python = call(self.predictor.compare, text, *DATASETS, recipe=json.loads(RECIPE))
            yield python
            assert python.code == 0 or not text.startswith("```") or "```" in python.err, "fences are not named"
            odds["python"] = None if python.value is None else python.value.log_odds
            places.append(self.work / "codes.parquet")
            pd.DataFrame({"nn": ["net"], "nn_code": [text]}).to_parquet(places[-1])
        for place in places:
            done, rows, _ = self.score(place)
            yield done
            odds[place.name] = rows["log_odds"].iloc[0] if len(rows) else None
        found = [value for value in odds.values() if value is not None]
        assert len(found) in (0, len(odds)), (
            f"refused by {[name for name, value in odds.items() if value is None]} only"
        )
        assert not found or max(found) - min(found) < 1e-3, f"other answers: {odds}"

    def folder(self, given: Any) -> Iterator[Outcome]:
        tree = shutil.copytree(self.place / "ab" / "nn", self.work / "ab" / "nn")
        for harm in given:
            inputs.harm_folder(tree, *harm)
        yield ask("pairs", "--lemur", tree, "--source", "package", "--json")

    def database(self, given: Any) -> Iterator[Outcome]:
        inputs.harm_database(shutil.copy(self.place / "ab.nn.db", self.work / "ab.nn.db"), *given)
        yield ask("pairs", "--lemur", self.work / "ab.nn.db", "--source", "sqlite", "--json")

    def store(self, given: str) -> Iterator[Outcome]:
        """No foreign file is changed, and no password shown."""
        shutil.copy(self.place / "ab.nn.db", self.work / "foreign.db")
        self.written("text.db", "no database")
        before = contents(self.work)

        def opened() -> int:
            with PredictionStore.open(given.replace("HERE", str(self.work))) as there:
                return len(there.query())

        done = call(opened)
        yield done
        after = contents(self.work)
        assert inputs.SECRET not in done.err, "a password is shown"
        assert all(name in after and after[name] == content for name, content in before.items()), (
            "changed what is not ours"
        )
        assert not any("file:" in name for name in after), "a URI is taken for a path"


TARGETS: dict[Callable[[Entrances, Any], Iterator[Outcome]], st.SearchStrategy[Any]] = {
    Entrances.setting: inputs.SETTINGS, Entrances.project: inputs.PROJECTS, Entrances.study: inputs.STUDIES,
    Entrances.prompt: inputs.PROMPTS, Entrances.recipe: inputs.RECIPES, Entrances.accuracy: inputs.ACCURACIES,
    Entrances.text: inputs.RECIPES.map(json.dumps) | inputs.WORDS, Entrances.table: inputs.tables(),
    Entrances.source: inputs.SOURCES, Entrances.folder: inputs.FOLDERS, Entrances.database: inputs.DATABASES,
    Entrances.store: inputs.STORES, Entrances.variable: st.sampled_from(inputs.FIELDS),
}  # fmt: skip


def judged(outcomes: Iterator[Outcome], work: Path, counts: Counter[str]) -> str | None:
    """What is wrong with what came out of one input."""
    counts["inputs"] += 1
    try:
        for outcome in outcomes:
            counts["refused" if outcome.code == 2 else "answered"] += 1
            if fault := outcome.fault():
                return fault
            hidden = [name for name in contents(work) if Path(name).name.startswith(".") or name.endswith(".parts")]
            assert not hidden, f"left behind: {hidden}"
    except AssertionError as error:
        return str(error).splitlines()[0]
    return None


@pytest.fixture(scope="module")
def entrances(finished: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Entrances:
    return Entrances(finished, config, tmp_path_factory.mktemp("given"))


@pytest.mark.parametrize("chunk", range(-(-INPUTS // (CHUNK * len(TARGETS)))))
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_inputs(entrances: Entrances, target: Any, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if LEDGER.has(case := f"{target.__name__} {chunk}"):
        return
    faults, counts, work = dict[str, str](), Counter[str](), entrances.work

    @seed(chunk)
    @settings(max_examples=CHUNK, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(TARGETS[target])
    def each(given: Any) -> None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        monkeypatch.chdir(work)
        fault, shown = judged(target(entrances, given), work, counts), repr(given)[:1000]
        if fault is not None:  # of all inputs with the same fault, the shortest
            faults[fault] = min(faults.get(fault, shown), shown, key=len)

    each()
    LEDGER.note(case, counts, [f"{shown}\n    {fault}" for fault, shown in faults.items()])


def test_figures(record_property: Callable[[str, object], None]) -> None:
    LEDGER.show(record_property)
