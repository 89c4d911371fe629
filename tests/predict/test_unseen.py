"""Datasets that the adapter was not trained on: every answer about them abstains and says why."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markupsafe import escape
from typer.testing import CliRunner

from nngpt_ext import PredictionStore, Predictor, Query, RunResult, UserError
from nngpt_ext.cli import app
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.predict.store import stored_rows
from nngpt_ext.scoring.scorer import LocalScorer
from nngpt_ext.tasks.workbench import calibrated
from tests import models_made

FLOWERS = {"flowers": (1020, 224, 3, 102)}
RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": None, "transform": "norm_32"}
ALEXNET = Path(__file__).parents[2] / "examples" / "alexnet.py"
WHY = "never trained on 'flowers'; this adapter was not tested on unseen datasets"

Sure = Callable[..., Path]


@pytest.fixture
def sure(asking: Callable[[str], Path]) -> Sure:
    """Makes an adapter with a threshold that every answer reaches."""

    def made(prompt: str = "code_only", trained: list[str] | None = None) -> Path:
        folder = asking(prompt)
        for name, change in (("calibration.json", {"threshold": 0.5}), ("task.json", {"datasets": trained})):
            if change != {"datasets": None}:
                content = json.loads((folder / name).read_text())
                (folder / name).write_text(json.dumps(content | change))
        return folder

    return made


@pytest.fixture(scope="module")
def code() -> str:
    return models_made.sources()["AlexNet"]


def test_a_comparison_abstains_in_either_order_and_without_a_source(sure: Sure, code: str) -> None:
    predictor = Predictor.from_pretrained(sure(), facts=FLOWERS)
    found = [
        predictor.compare(code, "flowers", "mnist"), predictor.compare(code, "mnist", "flowers"),
        predictor.prior("flowers", "mnist"), *predictor.compare_many([Query(code, "svhn", "flowers")]),
    ]  # fmt: skip
    assert [(c.abstain, c.unseen, c.reason) for c in found] == [(True, ("flowers",), WHY)] * 4
    both = predictor.compare(code, "pets", "flowers")
    assert (both.abstain, both.unseen) == (True, ("pets", "flowers"))
    assert both.reason == WHY.replace("'flowers'", "'pets', 'flowers'")
    known = predictor.compare(code, "mnist", "svhn")
    assert (known.abstain, known.unseen, known.reason) == (False, (), None)


def test_a_ranking_abstains_and_names_them(sure: Sure, code: str) -> None:
    predictor = Predictor.from_pretrained(sure(), facts=FLOWERS)
    found = predictor.rank(code, ["pets", "mnist", "flowers", "svhn"])
    assert (found.abstain, found.unseen) == (True, ("flowers", "pets"))
    assert found.reason == WHY.replace("'flowers'", "'flowers', 'pets'")
    assert [c.abstain for c in found.comparisons] == [bool(c.unseen) for c in found.comparisons]
    assert sum(c.abstain for c in found.comparisons) == 5
    known = predictor.rank(code)
    assert (known.abstain, known.unseen, known.reason) == (False, (), None)


def test_a_ranking_abstains_where_that_of_its_best_dataset_does(sure: Sure, code: str) -> None:
    adapter = sure()
    calibration = json.loads((adapter / "calibration.json").read_text())
    (adapter / "calibration.json").write_text(json.dumps(calibration | {"threshold": 1.0}))
    found = Predictor.from_pretrained(adapter).rank(code, ["mnist", "svhn", "cifar-10"])
    assert (found.abstain, found.unseen) == (True, ())
    assert found.reason == f"it is too unsure in 2 of 2 comparisons of {found.datasets[0]}"


def test_an_adapter_that_was_tested_on_unseen_datasets_answers_with_that_calibration(
    sure: Sure, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = sure()
    calibration = json.loads((adapter / "calibration.json").read_text())
    before = Predictor.from_pretrained(adapter).fingerprint
    (adapter / "calibration.json").write_text(json.dumps(calibration | {"unseen": True}))
    predictor = Predictor.from_pretrained(adapter)
    found = predictor.rank(code, ["flowers", "mnist", "svhn"])
    assert (found.abstain, found.unseen, found.reason) == (False, (), None)
    assert caplog.messages == [
        "the adapter was not trained on 'flowers': answers about it are calibrated on other unseen datasets"
    ]
    assert predictor.fingerprint != before
    (adapter / "calibration.json").write_text(json.dumps(calibration | {"unseen": True, "threshold": None}))
    unsure = Predictor.from_pretrained(adapter).compare(code, "flowers", "mnist")
    assert (unsure.abstain, unsure.unseen) == (True, ())


def test_a_dataset_of_lemur_that_it_was_not_trained_on(sure: Sure, code: str, caplog: pytest.LogCaptureFixture) -> None:
    predictor = Predictor.from_pretrained(sure(trained=["cifar-10", "mnist", "svhn"]))
    found = predictor.compare(code, "mnist", "places365")
    assert (found.abstain, found.unseen) == (True, ("places365",))
    assert not predictor.compare(code, "mnist", "svhn").abstain
    assert not predictor.rank(code).abstain
    assert caplog.messages == []  # no typing error: it is known


@pytest.mark.parametrize("prompt", ["code_only", "recipe"])
def test_a_prompt_without_facts_asks_for_none_and_a_typing_error_is_seen(
    sure: Sure, code: str, caplog: pytest.LogCaptureFixture, prompt: str
) -> None:
    predictor = Predictor.from_pretrained(sure(prompt))
    with caplog.at_level(logging.WARNING, "nngpt_ext"):
        found = [predictor.compare(code, "minst", "svhn", recipe=RECIPE) for _ in range(2)]
        predictor.rank(code, ["svhn", "pets", "minst"], recipe=RECIPE)
    assert [(c.abstain, c.unseen) for c in found] == [(True, ("minst",))] * 2
    unused = ["prompt 'code_only' does not show what was given and is not used: recipe"]
    assert caplog.messages == [
        "the adapter was not trained on 'minst' (did you mean 'mnist'?): answers about it abstain",
        *(unused if prompt == "code_only" else []),
        "the adapter was not trained on 'pets': answers about it abstain",
    ]


@pytest.mark.parametrize("prompt", ["metadata", "metadata_only"])
def test_a_prompt_with_facts_still_asks_for_them(sure: Sure, code: str, prompt: str) -> None:
    adapter = sure(prompt)
    accuracies = {"flowers": 0.5, "mnist": 0.5}
    with pytest.raises(UserError, match=r"unknown dataset 'flowers'.*facts=\{'flowers'"):
        Predictor.from_pretrained(adapter).compare(code, "flowers", "mnist", accuracies=accuracies)
    found = Predictor.from_pretrained(adapter, facts=FLOWERS).compare(code, "flowers", "mnist", accuracies=accuracies)
    assert (found.abstain, found.unseen) == (True, ("flowers",))


NO_NAMES = ["", " ", "a\nb", "mnist\n", "a\u2028b", "a\rb", "a\0b", "\ud800", 3, None, ["mnist"]]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_refused_in_one_line(sure: Sure, code: str, name: Any) -> None:
    adapter = sure()
    predictor = Predictor.from_pretrained(adapter)
    asks: list[Callable[[], Any]] = [
        lambda: predictor.compare(code, "mnist", name),
        lambda: predictor.prior(name, "mnist"),
        lambda: predictor.rank(code, ["mnist", "svhn", name]),
    ]
    for ask in asks:
        with pytest.raises(UserError, match=r"a dataset's name must be printable text on one line, not ") as error:
            ask()
        assert str(error.value).isprintable()
    if not isinstance(name, list):
        with pytest.raises(UserError, match="facts are of a dataset with a name"):
            Predictor.from_pretrained(adapter, facts={name: (1, 1, 1, 1)})


def test_a_special_token_in_a_name_ends_no_answer(sure: Sure, code: str) -> None:
    predictor = Predictor.from_pretrained(sure())
    predictor.compare(code, "mnist", "svhn")
    scorer = predictor._scorer
    assert isinstance(scorer, LocalScorer)
    tokenizer = scorer.base.tokenizer
    name = f"flowers{tokenizer.eos_token}mnist"
    found = predictor.compare(code, name, "mnist")
    assert (found.abstain, found.unseen) == (True, (name,))
    asked = predictor.check(Query(code, name, "mnist"))
    encoded = scorer.encode([asked.question], {asked.source: code})
    for one in encoded.groups[0]:
        for option in one.answers:
            assert (option == tokenizer.eos_token_id).sum() == 1
        assert (one.prompt == tokenizer.eos_token_id).sum() == 0


def test_the_store_has_it_and_what_an_older_version_stored_is_put_right(sure: Sure, code: str, tmp_path: Path) -> None:
    adapter, file = sure(), tmp_path / "p.db"
    url = f"sqlite:///{file}"
    first = Predictor.from_pretrained(adapter, store=url)
    for nn in ("first", "second"):
        first.compare(code, "flowers", "mnist", nn=nn)
    first.compare(code, "mnist", "svhn", nn="first")
    with PredictionStore.open(url) as store:
        written = store.query()
    assert written["abstain"].tolist() == [True, False, True]  # first: flowers, mnist and svhn; second: flowers
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE predictions SET abstain = 0, better_dataset = 'mnist', split = 'test'")
        database.commit()
    again = Predictor.from_pretrained(adapter, store=url)
    asked = [Query(code, "mnist", "flowers", nn="second"), Query(code, "mnist", "flowers", nn="third")]
    assert [(c.abstain, c.unseen) for c in again.compare_many(asked)] == [(True, ("flowers",))] * 2
    assert not again.compare(code, "mnist", "svhn").abstain
    assert again._scorer is None
    with PredictionStore.open(url) as store:
        found = store.query()
    assert found["nn"].tolist() == ["first", "first", "second", "third"]
    assert found["abstain"].tolist() == [True, False, True, True]
    assert found["split"].fillna("none").tolist() == ["test", "test", "test", "none"]
    assert found["log_odds"].iloc[:3].tolist() == written["log_odds"].tolist()


def test_a_runs_own_rows_abstain_too(run: RunResult, sure: Sure) -> None:
    adapter = sure(trained=["cifar-10", "mnist", "svhn"])
    unseen = ~run.predictions[["dataset_1", "dataset_2"]].isin(["cifar-10", "mnist", "svhn"]).all(axis=1)
    assert unseen.any()
    assert not unseen.all()
    assert stored_rows(run.predictions, AdapterFiles(adapter))["abstain"].tolist() == unseen.tolist()
    # As the run writes them: with no pair but those of unseen datasets, no threshold lets one through.
    own = run.predictions.drop(columns=["calibrated_1", "abstain"])
    right = own.assign(log_odds=own["better_dataset"].eq(own["dataset_1"]).map({True: 5.0, False: -5.0}))
    fitted = calibrated(right, adapter, 0.95)
    assert Predictor(adapter).threshold is not None
    assert fitted.loc[unseen, "abstain"].all()
    assert not fitted.loc[~unseen, "abstain"].any()


def asked(*arguments: object) -> Any:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found


def test_compare_in_the_shell(sure: Sure) -> None:
    base = ("compare", "--run", sure(), "--code", ALEXNET, "flowers", "mnist", "--facts", "flowers=1020,224,3,102")
    said = asked(*base).stdout
    assert re.match(rf"(mnist|flowers) \(abstains: {WHY}\)\n", said)
    assert "threshold" not in said
    assert "probability" not in said
    assert "P(" not in said
    found = json.loads(asked(*base, "--json").stdout)
    assert (found["abstain"], found["unseen"], found["prior"]["abstain"]) == (True, ["flowers"], True)


def test_rank_in_the_shell(sure: Sure) -> None:
    base = ("rank", "--run", sure(), "--code", ALEXNET)
    said = " ".join(asked(*base, "flowers", "mnist", "svhn").stdout.split())
    assert said.count(WHY) == 1
    assert said.startswith(f"About alexnet the model abstains: {WHY}.")
    found = json.loads(asked(*base, "flowers", "mnist", "svhn", "--json").stdout)
    assert (found["abstain"], found["unseen"]) == (True, ["flowers"])
    assert "abstain" not in asked(*base).stdout
    found = json.loads(asked(*base, "--json").stdout)
    assert (found["abstain"], found["unseen"]) == (False, [])


def test_a_typing_error_in_the_shell(sure: Sure) -> None:
    found = asked("compare", "--run", sure(), "--code", ALEXNET, "minst", "svhn", "--json")
    assert "the adapter was not trained on 'minst' (did you mean 'mnist'?)" in found.stderr
    assert json.loads(found.stdout)["unseen"] == ["minst"]


def test_score_in_the_shell(sure: Sure, tmp_path: Path) -> None:
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes" / "alexnet.py").write_text(ALEXNET.read_text())
    base = ("score", "--run", sure(), "--codes", tmp_path / "codes", "--facts", "flowers=1020,224,3,102")
    names = ("flowers", "mnist", "svhn")
    found = asked(*base, "--out", tmp_path / "a.parquet", *names)
    assert f"predictions about flowers abstain: {WHY}" in found.stdout.splitlines()
    rows = pd.read_parquet(tmp_path / "a.parquet")
    abstained = rows.set_index(["dataset_1", "dataset_2"])["abstain"].to_dict()
    assert abstained == {("flowers", "mnist"): True, ("flowers", "svhn"): True, ("mnist", "svhn"): False}
    for _ in range(2):  # the second time it is complete
        said = json.loads(asked(*base, "--out", tmp_path / "a.parquet", *names, "--json").stdout)
        assert said["unseen"] == ["flowers"]
    said = asked(*base, "--out", tmp_path / "b.parquet", "mnist", "svhn").stdout
    assert "abstain" not in said


def test_parts_of_an_adapter_with_other_datasets_are_others(sure: Sure) -> None:
    adapter = sure()
    before = Predictor.from_pretrained(adapter).fingerprint
    note = json.loads((adapter / "task.json").read_text())
    (adapter / "task.json").write_text(json.dumps(note | {"datasets": ["mnist", "svhn"]}))
    assert Predictor.from_pretrained(adapter).fingerprint != before


def test_in_a_notebook(sure: Sure, code: str) -> None:
    predictor = Predictor.from_pretrained(sure(), facts=FLOWERS)
    for found, known in (
        (predictor.compare(code, "flowers", "mnist"), predictor.compare(code, "mnist", "svhn")),
        (predictor.rank(code, ["flowers", "mnist", "svhn"]), predictor.rank(code, ["mnist", "svhn"])),
    ):
        assert f"abstains: {escape(WHY)}." in found._repr_html_()
        assert "does best" not in found._repr_html_()
        assert "does better" not in found._repr_html_()
        assert "threshold" not in found._repr_html_()
        assert "never trained" not in known._repr_html_()
