"""Whatever is given, the outcome is an answer or one line; nothing is written beside it, and no password is shown."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from nngpt_ext import Predictor, PredictionStore, run_task
from tests.data.small import write_database, write_tree
from tests.faults import inputs
from tests.faults.commands import Outcome, ask, call, contents
from tests.faults.conftest import CONFIG, DATASETS, RECIPE
from tests.faults.ledger import SIZE, Ledger
from tests.faults.records import DATABASES, FOLDERS, harm_database, harm_folder

LEDGER = Ledger("inputs")
CHUNK = 42  # inputs of one case
SECRET = "hunter2hunter2"


class Places(NamedTuple):
    """What the inputs are given to."""

    config: Path
    run: Path  # prompt `recipe`
    accuracies: Path  # prompt `normalized_accuracy`
    code: Path
    tree: Path
    database: Path
    predictors: dict[str, Predictor]

    def compare(self, run: Path, code: str, **given: Any) -> Outcome:
        """Ask in Python, with a predictor that is kept."""
        name = str(run)
        if name not in self.predictors:
            self.predictors[name] = Predictor.from_run(run)
        return call(self.predictors[name].compare, code, *DATASETS, **given)


@pytest.fixture(scope="module")
def places(finished: Path, config: Path, codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Places:
    place = tmp_path_factory.mktemp("given")
    small = {**CONFIG, "prompt": "normalized_accuracy", "tuning": {**CONFIG["tuning"], "epochs": 1}}
    other = run_task("dataset_compare", small, output_dir=place / "accuracies").output_dir
    tree = write_tree(place)
    code = place / "net.py"
    code.write_text(inputs.NETWORK)
    return Places(config, finished, Path(other), code, tree, write_database(tree, place / "ab.nn.db"), {})


def a_setting(at: Places, work: Path, given: list[str]) -> Iterator[Outcome]:
    words = [word for one in given for word in ("--set", one.replace("\0", ""))]
    yield ask("run", "dataset_compare", "--config", at.config, "--out", at.run, "--resume", *words)


def a_project(at: Places, work: Path, given: bytes) -> Iterator[Outcome]:
    (work / "nngpt.yaml").write_bytes(given)
    yield ask("run", "dataset_compare", "--config", work / "nngpt.yaml", "--out", at.run, "--resume")


def a_study(at: Places, work: Path, given: bytes) -> Iterator[Outcome]:
    (work / "study.yaml").write_bytes(given)
    yield ask("study", "--config", work / "study.yaml", "--out", work / "study", "--draw")


def a_prompt(at: Places, work: Path, given: bytes) -> Iterator[Outcome]:
    (work / "mine.json").write_bytes(given)
    config = {**CONFIG, "prompt": str(work / "mine.json")}
    (work / "config.yaml").write_text(yaml.safe_dump(config))
    yield ask("run", "dataset_compare", "--config", work / "config.yaml", "--out", at.run, "--resume")


def a_recipe_text(at: Places, work: Path, given: str) -> Iterator[Outcome]:
    text = given.replace("\0", "")
    yield ask("compare", "--run", at.run, "--code", at.code, "--recipe", text, *DATASETS, "--json")


def a_recipe(at: Places, work: Path, given: Any) -> Iterator[Outcome]:
    yield at.compare(at.run, inputs.NETWORK, recipe=given)


def accuracies(at: Places, work: Path, given: Any) -> Iterator[Outcome]:
    yield at.compare(at.accuracies, inputs.NETWORK, accuracies=given)


def a_table(at: Places, work: Path, given: tuple[str, pd.DataFrame, bool]) -> Iterator[Outcome]:
    table = inputs.write_table(work, *given)
    if table is not None:
        out = work / "out.parquet"
        done = ask("score", "--run", at.run, "--codes", table, "--out", out, "--recipe", RECIPE, *DATASETS, "--json")
        yield done
        if done.code == 0:
            rows = pd.read_parquet(out)
            assert rows["probability_1"].between(0, 1).all()
            refused = len(json.loads(file.read_text())) if (file := Path(f"{out}.refused.json")).is_file() else 0
            assert rows["nn"].nunique() + refused >= len(given[1]), "a network is neither scored nor refused"


def a_source(at: Places, work: Path, given: bytes) -> Iterator[Outcome]:
    """A file on the command line, the same text in Python and in a folder: one answer, or refused by all."""
    (work / "codes").mkdir()
    file = work / "codes" / "net.py"
    file.write_bytes(given)
    shell = ask("compare", "--run", at.run, "--code", file, "--recipe", RECIPE, *DATASETS, "--json")
    yield shell
    found = {"shell": round(json.loads(shell.out)["log_odds"], 4) if shell.code == 0 else None}
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = None
    if text is not None:
        python = at.compare(at.run, text, recipe=json.loads(RECIPE))
        yield python
        found["python"] = round(python.value.log_odds, 4) if python.code == 0 else None
    out = work / "out.parquet"
    score = ask("score", "--run", at.run, "--codes", work / "codes", "--out", out, "--recipe", RECIPE, *DATASETS)
    yield score
    found["folder"] = round(float(pd.read_parquet(out)["log_odds"].iloc[0]), 4) if score.code == 0 else None
    taken = {name: value is not None for name, value in found.items()}
    assert len(set(taken.values())) == 1, f"taken by one entrance and refused by another: {taken}"
    assert None in found.values() or max(found.values()) - min(found.values()) < 1e-3, f"other answers: {found}"


def lemur_folder(at: Places, work: Path, given: Any) -> Iterator[Outcome]:
    tree = shutil.copytree(at.tree, work / "ab" / "nn")
    harm_folder(tree, given)
    yield ask("pairs", "--lemur", tree, "--source", "package", "--json")


def lemur_database(at: Places, work: Path, given: Any) -> Iterator[Outcome]:
    file = shutil.copy(at.database, work / "ab.nn.db")
    harm_database(file, *given)
    yield ask("pairs", "--lemur", file, "--source", "sqlite", "--json")


def a_store(at: Places, work: Path, given: str) -> Iterator[Outcome]:
    """No foreign file is changed, and no password shown."""
    foreign = shutil.copy(at.database, work / "foreign.db")
    (work / "text.db").write_text("no database")
    before = contents(work)
    url = given.replace("HERE", str(work))

    def opened() -> int:
        with PredictionStore.open(url) as store:
            return len(store.query())

    done = call(opened)
    yield done
    assert SECRET not in done.err, "a password is shown"
    after = contents(work)
    assert all(after.get(name) == content for name, content in before.items()), "what is not ours was changed"
    with closing(sqlite3.connect(foreign)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    if done.code == 0:
        for name in set(after) - set(before):
            (work / name).unlink()


STORES = st.one_of(
    st.sampled_from(
        [
            "sqlite:///HERE/new.db", "sqlite:///HERE/foreign.db", "sqlite:///HERE/text.db", "sqlite:///HERE", "sqlite://",
            "sqlite:///HERE/none/new.db", "sqlite:///HERE/foreign.db?mode=ro", "sqlite:///HERE/new.db?timeout=x", "sqlite:",
            "HERE/new.db", "file:HERE/new.db", "sqlite:///file:HERE/new.db?uri=true", "sqlite+x:///HERE/a.db", "x://y", "://",
            f"postgresql://user:{SECRET}@127.0.0.1:1/x", f"postgresql+psycopg://user:{SECRET}@127.0.0.1:1/x",
            f"postgresql+psycopg://127.0.0.1:1/x?password={SECRET}", f"mysql://u:{SECRET}@127.0.0.1/x", f"http://u:{SECRET}@127.0.0.1/x",
            f"postgresql+psycopg://u:{SECRET}@127.0.0.1:port/x", f"sqlite://u:{SECRET}@host/x.db", f"sqlite:///HERE/n.db?password={SECRET}",
        ]
    ),
    st.tuples(st.just("sqlite:///HERE/"), inputs.WORDS).map("".join),
    inputs.WORDS,
)  # fmt: skip
STUDY = {
    "title": "x", "common": {"data": CONFIG["data"]}, "cells": [{"prompts": ["recipe"], "bases": ["embedded"], "tested_on": ["best"]}],
    "learning_curve": [3, 6],
}  # fmt: skip
Target = tuple[Callable[[Places, Path, Any], Iterator[Outcome]], st.SearchStrategy[Any]]
TARGETS: dict[str, Target] = {
    "settings": (a_setting, inputs.SETTINGS), "projects": (a_project, inputs.YAML), "prompts": (a_prompt, inputs.JSON_PROMPTS),
    "studies": (a_study, inputs.texts(inputs.changed(STUDY).map(inputs._dumped))), "recipe texts": (a_recipe_text, inputs.RECIPE_TEXTS),
    "recipes": (a_recipe, inputs.RECIPE_VALUES), "accuracies": (accuracies, inputs.ACCURACIES), "tables": (a_table, inputs.tables()),
    "sources": (a_source, inputs.SOURCES), "folders": (lemur_folder, FOLDERS), "databases": (lemur_database, DATABASES),
    "stores": (a_store, STORES),
}  # fmt: skip
CHUNKS = -(-SIZE.inputs // (CHUNK * len(TARGETS)))


def judged(target: Callable[..., Iterator[Outcome]], at: Places, work: Path, given: Any) -> str | None:
    """What is wrong with the outcomes of one input."""
    written: set[str] | None = None
    try:
        for outcome in target(at, work, given):
            if fault := outcome.fault():
                return fault
            now = set(contents(work))
            if outcome.code == 2 and written is not None and now - written:
                return f"left behind: {sorted(now - written)}"
            hidden = [name for name in now if Path(name).name.startswith(".") or name.endswith(".parts")]
            if hidden:
                return f"left behind: {hidden}"
            written = now
    except AssertionError as error:
        return str(error).splitlines()[0]
    return None


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("name", TARGETS)
def test_inputs(places: Places, name: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, (target, strategy) = f"{name} {chunk}", TARGETS[name]
    if LEDGER.has(case):
        return
    faults, tried = dict[str, str](), [0]
    work = tmp_path / "work"

    @seed(chunk)
    @settings(
        max_examples=CHUNK,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(given: Any) -> None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        monkeypatch.chdir(work)
        tried[0] += 1
        fault = judged(target, places, work, given)
        if fault is not None:  # of all inputs with the same fault, the shortest
            shown, kind = repr(given)[:1000], fault.replace(str(tmp_path), "…")
            faults[kind] = min(faults.get(kind, shown), shown, key=len)

    each()
    LEDGER.note(case, {"inputs": tried[0]}, [f"{name}: {shown}\n    {fault}" for fault, shown in faults.items()])


def test_inputs_in_all(figures: Callable[[str], dict[str, int]]) -> None:
    figures("inputs")
