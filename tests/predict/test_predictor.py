"""`Predictor` on a real run: it repeats the run's own answers, whoever asks and in whatever order."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nngpt_ext import PredictionStore, Predictor, Query, RunResult, UserError
from tests import models_made
from tests.predict.conftest import older

RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": None, "transform": "norm_32"}


@pytest.fixture(scope="module")
def predictor(run: RunResult) -> Predictor:
    return Predictor.from_run(run.output_dir)


@pytest.fixture(scope="module")
def code() -> str:
    return models_made.sources()["AlexNet"]


@pytest.fixture(scope="module")
def asked(run: RunResult, lemur_source: Any) -> tuple[pd.DataFrame, list[Query]]:
    """The run's own predictions, and the questions they answer."""
    rows = run.predictions
    sources = lemur_source.sources(sorted(rows["nn"].unique()))
    columns = rows[["nn", "dataset_1", "dataset_2"]].itertuples(index=False, name=None)
    return rows, [Query(sources[nn], one, two, nn=nn) for nn, one, two in columns]


def test_it_repeats_the_runs_own_answers(predictor: Predictor, asked: tuple[pd.DataFrame, list[Query]]) -> None:
    rows, queries = asked
    found = pd.DataFrame([dataclasses.asdict(c) for c in predictor.compare_many(iter(queries))])
    np.testing.assert_allclose(found["log_odds"], rows["log_odds"], atol=1e-4)
    np.testing.assert_allclose(found["probability"], rows["calibrated_1"], atol=1e-4)
    sure = rows["log_odds"].abs() > 1e-3
    assert (found["winner"] == rows["predicted"])[sure].all()
    assert found["nn"].tolist() == rows["nn"].tolist()


def test_from_the_runs_store_without_loading_a_model(run: RunResult, asked: tuple[pd.DataFrame, list[Query]]) -> None:
    rows, queries = asked
    stored = Predictor.from_run(run.output_dir, store=f"sqlite:///{run.output_dir / 'predictions.db'}")
    found = list(stored.compare_many(queries))
    assert [c.log_odds for c in found] == rows["log_odds"].tolist()
    assert [c.abstain for c in found] == rows["abstain"].tolist()
    assert stored._scorer is None


def test_the_order_of_the_arguments_never_changes_the_answer(predictor: Predictor, code: str) -> None:
    one, other = predictor.compare(code, "mnist", "cifar-10"), predictor.compare(code, "cifar-10", "mnist")
    assert one.probability + other.probability == 1
    assert one.log_odds == -other.log_odds
    assert (one.winner, one.flipped, one.abstain) == (other.winner, other.flipped, other.abstain)
    assert one.winner == ("mnist" if one.probability > 0.5 else "cifar-10")
    assert one.confidence == other.confidence == max(one.probability, other.probability)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.winner = "svhn"  # type: ignore[misc]


def test_a_ranking_is_all_pairs_put_together(predictor: Predictor, code: str) -> None:
    found = predictor.rank(code)
    assert sorted(found.datasets) == predictor.datasets == sorted(found.scores)
    assert list(found.scores.values()) == sorted(found.scores.values(), reverse=True)
    n = len(found.datasets)
    assert len(found.comparisons) == n * (n - 1) // 2
    for c in found.comparisons[:3]:
        assert c.probability == pytest.approx(predictor.compare(code, c.dataset_1, c.dataset_2).probability, abs=1e-4)
    assert 1 / n <= found.probability <= 1
    assert 0 <= found.intransitive <= 1
    two = predictor.rank(code, ["svhn", "mnist"])
    pair = predictor.compare(code, "mnist", "svhn")
    assert two.datasets[0] == pair.winner
    assert two.intransitive is None
    assert two.probability == pytest.approx(pair.confidence, abs=1e-4)


def test_rank_many_ranks_each(predictor: Predictor) -> None:
    sources = models_made.sources()
    found = list(
        predictor.rank_many([(sources["VGG"], "VGG"), (sources["AirNet"], None)], ["mnist", "svhn", "cifar-10"])
    )
    assert found[0].nn == "VGG"
    assert found[1].nn.startswith("source-")
    alone = predictor.rank(sources["AirNet"], ["mnist", "svhn", "cifar-10"])
    assert alone.scores == pytest.approx(found[1].scores, abs=1e-3)


def test_the_prior_sees_no_source(predictor: Predictor, code: str) -> None:
    prior = predictor.prior("mnist", "svhn")
    assert prior.nn == "no source"
    assert prior.log_odds != predictor.compare(code, "mnist", "svhn").log_odds
    assert prior.log_odds == -predictor.prior("svhn", "mnist").log_odds


def test_answers_are_kept_and_not_computed_again(run: RunResult, code: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'p.db'}"
    first = Predictor.from_run(run.output_dir, store=url).rank(code, ["mnist", "svhn", "cifar-10"], nn="mine")
    again = Predictor.from_run(run.output_dir, store=url)
    assert again.rank(code, ["mnist", "svhn", "cifar-10"], nn="mine") == first
    assert again._scorer is None
    with PredictionStore.open(url) as store:
        rows = store.query(nn="mine")
    assert len(rows) == 3
    assert rows["better_dataset"].isna().all()
    assert set(rows["prompt"]) == {"code_only"}


def test_rows_of_an_older_version_stay_readable_and_are_computed_again(
    run: RunResult, code: str, tmp_path: Path
) -> None:
    with PredictionStore.open(f"sqlite:///{tmp_path / 'new.db'}") as store:
        answer = Predictor.from_run(run.output_dir, store=store).compare(code, "mnist", "svhn", nn="mine")
        older = store.query(nn="mine").assign(question="0" * 64)  # a key that was made from other parts
    with PredictionStore.open(f"sqlite:///{tmp_path / 'older.db'}") as store:
        store.add(older.drop(columns="created"))
        assert Predictor.from_run(run.output_dir, store=store).compare(code, "mnist", "svhn", nn="mine") == answer
        assert store.query(nn="mine")["log_odds"].tolist() == [answer.log_odds] * 2


def test_the_same_source_under_other_names_has_rows_under_each(run: RunResult, code: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'p.db'}"
    predictor = Predictor.from_run(run.output_dir, store=url)
    first = predictor.compare(code, "mnist", "svhn", nn="first")
    found = list(predictor.compare_many([Query(code, "mnist", "svhn", nn=nn) for nn in ("second", "third", None)]))
    found += list(Predictor.from_run(run.output_dir, store=url).compare_many([Query(code, "svhn", "mnist", nn="4th")]))
    assert [c.nn for c in found[:2]] == ["second", "third"]
    together = [Query(code, "mnist", "cifar-10", nn=nn) for nn in ("first", "second")]  # both new, in one pass
    list(predictor.compare_many(together))
    with PredictionStore.open(url) as store:
        for nn in ("first", "second", "third", "4th"):
            rows = store.query(nn=nn, dataset="svhn")
            assert rows["log_odds"].tolist() == [first.log_odds]
        assert sorted(store.query(dataset="cifar-10")["nn"]) == ["first", "second"]
        assert len(store.query()) == 6  # and none for the question without a name


def test_what_a_run_knows_of_its_network_stays_under_its_name(
    run: RunResult, asked: tuple[pd.DataFrame, list[Query]], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'p.db'}"
    with PredictionStore.open(url) as store:
        store.add_run(run.output_dir, answers=True)
        before = store.query()
        query = asked[1][0]
        list(Predictor.from_run(run.output_dir, store=store).compare_many([query, replace(query, nn="mine")]))
        copy = store.query(nn="mine").iloc[0]
        assert copy["better_dataset"] is None
        assert copy["split"] is None
        assert copy["log_odds"] == asked[0]["log_odds"].iloc[0]
        assert len(store.query()) == len(before) + 1


def test_priors_are_kept_apart_from_what_is_about_networks(run: RunResult, tmp_path: Path) -> None:
    with PredictionStore.open(f"sqlite:///{tmp_path / 'p.db'}") as store:
        predictor = Predictor.from_run(run.output_dir, store=store)
        prior = predictor.prior("mnist", "svhn")
        assert store.query().empty
        assert store.query(nn="no source")["log_odds"].tolist() == [prior.log_odds]
        assert predictor.prior("mnist", "svhn") == prior


def test_a_bad_question_takes_none_of_those_before_it_along(predictor: Predictor, code: str) -> None:
    answers = predictor.compare_many(
        [Query(code, "mnist", "svhn"), Query(code, "mnist", "cifar-10"), Query(code, "svhn", "svhn")]
    )
    found = [next(answers), next(answers)]
    with pytest.raises(UserError, match="is compared with itself"):
        next(answers)
    assert [(c.dataset_1, c.dataset_2) for c in found] == [("mnist", "svhn"), ("mnist", "cifar-10")]


def test_a_source_is_read_once_for_all_its_questions(
    run: RunResult, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ast

    parsed: list[str] = []
    real = ast.parse
    monkeypatch.setattr(ast, "parse", lambda text, *more, **named: parsed.append(text) or real(text, *more, **named))
    Predictor.from_run(run.output_dir).rank(code)
    assert parsed.count(code) == 1


def test_a_prompt_that_shows_the_networks_name_cannot_be_asked(run: RunResult, tmp_path: Path) -> None:
    assert run.adapter is not None
    folder = older(shutil.copytree(run.adapter, tmp_path / "adapter"))
    note = json.loads((folder / "task.json").read_text())
    note |= {"text": note["text"] + " {name}", "columns": note["columns"] | {"name": "nn"}}
    (folder / "task.json").write_text(json.dumps(note))
    with pytest.raises(UserError, match="shows the network's name"):
        Predictor.from_pretrained(folder)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda p: p.compare("x = 1", "mnist", "svhn", accuracies=0.5), "accuracies must be one for each dataset"),
        (lambda p: p.compare("x = 1", "mnist", "svhn", accuracies={"mnist": "x"}), "accuracy of 'mnist' must be a num"),
        (lambda p: p.compare("x = 1", "mnist", "svhn", accuracies={"mnist": 2}), "number from 0 to 1, not 2"),
        (lambda p: list(p.compare_many([("x = 1", "mnist")])), "a question is a Query or a tuple of its fields"),
        (lambda p: list(p.compare_many([("a",) * 9])), "a question is a Query or a tuple of its fields"),
        (lambda p: list(p.compare_many(["abc"])), "a question is a Query or a tuple of its fields"),
        (lambda p: list(p.compare_many([None])), "a question is a Query or a tuple of its fields"),
        (lambda p: p.rank("x = 1", "mnist"), "datasets are a list of names, not 'mnist'"),
        (lambda p: p.rank("x = 1", ["mnist", 3]), "a dataset's name must be printable text on one line, not 3"),
        (lambda p: p.compare("x = 1", "mnist", "svhn", recipe={"mnist": RECIPE, "svhn": 3}), "the recipe for 'svhn'"),
    ],
)  # fmt: skip
def test_questions_of_a_wrong_kind(predictor: Predictor, ask: Callable[[Predictor], Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        ask(predictor)
    assert "\n" not in str(error.value)


def test_true_answers_are_stored_only_if_asked(run: RunResult, tmp_path: Path) -> None:
    with PredictionStore.open(f"sqlite:///{run.output_dir / 'predictions.db'}") as store:
        assert store.query()["better_dataset"].isna().all()
    with PredictionStore.open(f"sqlite:///{tmp_path / 'p.db'}") as store:
        assert store.add_run(run.output_dir, answers=True) == len(run.predictions)
        assert store.query()["better_dataset"].notna().all()
        with pytest.raises(UserError, match="is missing; the run is not finished"):
            store.add_run(tmp_path)


def test_a_dataset_that_lemur_does_not_have(asking: Callable[[str], Path], code: str) -> None:
    adapter = asking("metadata")
    with pytest.raises(UserError, match=r"unknown dataset 'flowers'.*facts=\{'flowers'"):
        Predictor.from_pretrained(adapter).compare(code, "flowers", "mnist")
    small, large = (Predictor.from_pretrained(adapter, facts={"flowers": (n, 64, 3, 17)}) for n in (1_000, 900_000))
    assert small.compare(code, "flowers", "mnist").log_odds != large.compare(code, "flowers", "mnist").log_odds
    for wrong in ((1, 2, 3), ("many", 1, 1, 1), (0, 1, 1, 1), None, "1234"):
        with pytest.raises(UserError, match="facts of 'flowers' are"):
            Predictor.from_pretrained(adapter, facts={"flowers": wrong})
    for name in ("", " ", 3):
        with pytest.raises(UserError, match="facts are of a dataset with a name"):
            Predictor.from_pretrained(adapter, facts={name: (1, 1, 1, 1)})


def test_recipes_one_for_all_or_one_for_each(asking: Callable[[str], Path], code: str) -> None:
    predictor = Predictor.from_pretrained(asking("recipe"))
    one = predictor.compare(code, "mnist", "svhn", recipe=RECIPE)
    assert predictor.compare(code, "mnist", "svhn", recipe={"mnist": RECIPE, "svhn": RECIPE}) == one
    other = predictor.compare(code, "mnist", "svhn", recipe={"mnist": RECIPE, "svhn": {**RECIPE, "lr": 1.0}})
    assert other.log_odds != one.log_odds
    for wrong, message in (
        (None, "needs a recipe for 'mnist'"),
        ({"mnist": RECIPE}, "no recipe for 'svhn'; recipes were given for mnist"),
        ({"lr": 0.1, "bach": 3}, "a recipe has unknown bach"),
        ("lr 0.1", "the recipe for 'mnist' must be a mapping"),
    ):
        with pytest.raises(UserError, match=message):
            predictor.compare(code, "mnist", "svhn", recipe=wrong)  # type: ignore[arg-type]


def test_structures_measured_or_given(asking: Callable[[str], Path], tmp_path: Path) -> None:
    code = (Path(__file__).parents[2] / "examples" / "alexnet.py").read_text()
    url = f"sqlite:///{tmp_path / 'predictions.db'}"
    predictor = Predictor.from_pretrained(asking("structure"), store=url)
    measured = predictor.compare(code, "mnist", "svhn", structure="measure")
    known = predictor.structures(code, ["svhn", "mnist"])
    assert [known[name].parameters for name in ("mnist", "svhn")] == [7_505_610, 7_506_762]
    numbers = {name: one.numbers() for name, one in known.items()}
    assert predictor.compare(code, "mnist", "svhn", structure=numbers) == measured
    assert predictor.rank(code, ["mnist", "svhn"], structure="measure").comparisons == (measured,)
    other = predictor.compare(code, "mnist", "svhn", structure={**numbers, "svhn": {"layers": 90}})
    assert other.log_odds != measured.log_odds
    assert predictor.prior("mnist", "svhn", structure=known).log_odds != measured.log_odds
    with PredictionStore.open(url) as store:
        rows = store.query(nn=measured.nn)
    texts = ["params 0.7 layers 0.4 last 0.2", "params unknown layers 0.9 last unknown"]
    assert [sorted(rows[name].unique()) for name in ("given_1", "given_2")] == [texts[:1], texts]
    for wrong, message in (
        (None, "prompt 'structure' needs a structure for 'mnist': structure='measure'"),
        ({"mnist": known["mnist"]}, "no structure for 'svhn'; structures were given for mnist"),
    ):
        with pytest.raises(UserError, match=message):
            predictor.compare(code, "mnist", "svhn", structure=wrong)
    message = r"^network 'bad' has no structure on 'mnist' \(1x28x28, 10 classes\): OSError: x$"
    with pytest.raises(UserError, match=message):
        predictor.compare("raise OSError('x')", "mnist", "svhn", structure="measure", nn="bad")


def test_no_code_runs_unless_it_is_asked_for(asking: Callable[[str], Path], predictor: Predictor) -> None:
    code = "raise OSError('it ran')"
    assert predictor.compare(code, "mnist", "svhn", structure="measure").winner  # a prompt without structures
    numbers = {"mnist": {"layers": 3}, "svhn": {"layers": 3}}
    assert Predictor.from_pretrained(asking("structure")).compare(code, "mnist", "svhn", structure=numbers).winner


def test_what_the_answer_rests_on(run: RunResult, asking: Callable[[str], Path], code: str, tmp_path: Path) -> None:
    found = Predictor.from_run(run.output_dir).basis(code, ["mnist", "svhn"])
    assert found is not None
    assert (found.networks, found.kind, found.of_kind, found.numbers) == (8, "giant", 5, {})
    trained = run.adapter / "basis.json" if run.adapter else Path()
    older(shutil.copytree(trained.parent, tmp_path / "old"))
    (tmp_path / "old" / "basis.json").unlink()
    old = Predictor.from_pretrained(tmp_path / "old")
    assert old.basis(code) is None
    # No answer depends on it.
    assert old.adapter_hash == Predictor.from_run(run.output_dir).adapter_hash
    assert old.fingerprint == Predictor.from_run(run.output_dir).fingerprint


def test_accuracies_where_the_prompt_shows_them(asking: Callable[[str], Path], code: str) -> None:
    predictor = Predictor.from_pretrained(asking("normalized_accuracy"))
    with pytest.raises(UserError, match="needs an accuracy for 'mnist'"):
        predictor.compare(code, "mnist", "svhn")
    one, other = (predictor.compare(code, "mnist", "svhn", accuracies={"mnist": x, "svhn": 0.5}) for x in (0.1, 0.9))
    assert one.log_odds != other.log_odds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x = 1", "mnist", "mnist"), "'mnist' is compared with itself; name two datasets"),
        (("x = 1", "mnist", "svhn\n"), "a dataset's name must be printable text on one line"),
        (("def (", "mnist", "svhn"), "the network's source is not Python"),
        (("", "mnist", "svhn"), "is empty"),
    ],
)
def test_bad_questions(predictor: Predictor, arguments: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        predictor.compare(*arguments)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="two datasets or more, not mnist"):
        predictor.rank("x = 1", ["mnist", "mnist"])


def _damage_weights(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def _other_base(folder: Path) -> None:
    note = json.loads((folder / "nngpt_ext.json").read_text())
    (folder / "nngpt_ext.json").write_text(json.dumps(note | {"base_sha256": "0" * 64}))


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)


def _without_half(weights: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(weights.items())[::2])


def _not_numbers(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: values * float("nan") for name, values in weights.items()}


def _unfilled(folder: Path) -> None:
    note = json.loads((folder / "task.json").read_text())
    (folder / "task.json").write_text(json.dumps(note | {"text": note["text"] + " {nope}"}))


def _calibration_folder(folder: Path) -> None:
    (folder / "calibration.json").unlink()
    (folder / "calibration.json").mkdir()


def _scaled(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: values * 1.5 if "lora_B" in name else values for name, values in weights.items()}


def _other_answer(folder: Path) -> None:
    note = json.loads((folder / "task.json").read_text())
    note["known_answer"]["log_odds"][1] += 0.01
    (folder / "task.json").write_text(json.dumps(note))


def _broken_answer(folder: Path) -> None:
    note = json.loads((folder / "task.json").read_text())
    note["known_answer"]["log_odds"] = [float("nan"), 0.0]
    (folder / "task.json").write_text(json.dumps(note))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_damage_weights, "the adapter in .* is damaged"),
        (lambda folder: _rewrite(folder, _without_half), r"is damaged \(\d+ weights are missing, such as"),
        (lambda folder: _rewrite(folder, _not_numbers), "the model's scores are not finite numbers"),
        (
            lambda folder: _rewrite(folder, _scaled),
            r"answers its control question with log-odds .* they were .*damag",
        ),
        (_other_answer, r"when it was written \(cpu, float32\) they were"),
        (_broken_answer, r"task\.json' is damaged .*known_answer"),
        (_unfilled, r"task\.json' is damaged .*variable \{nope\} is not in input_list"),
        (_calibration_folder, r"calibration\.json' is damaged"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), r"adapter_config\.json' is damaged"),
        (_other_base, "was trained on 'embedded'"),
        (lambda folder: (folder / "task.json").write_text("{"), r"task\.json' is damaged"),
        (lambda folder: (folder / "task.json").write_text("{}"), r"task\.json' is damaged"),
        (lambda folder: (folder / "task.json").unlink(), "it has no task.json; run the task again"),
        (lambda folder: (folder / "nngpt_ext.json").write_text("[]"), r"nngpt_ext\.json' is damaged"),
        (lambda folder: (folder / "calibration.json").write_text("x"), r"calibration\.json' is damaged"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "no adapter in"),
    ],
)
def test_a_damaged_adapter_is_one_line(
    run: RunResult, tmp_path: Path, code: str, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "adapter"
    assert run.adapter is not None
    older(shutil.copytree(run.adapter, folder))
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        Predictor.from_pretrained(folder).compare(code, "mnist", "svhn")
    assert "\n" not in str(error.value)


def test_without_a_calibration_it_always_abstains_and_says_so_once(
    run: RunResult, tmp_path: Path, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "adapter"
    assert run.adapter is not None
    older(shutil.copytree(run.adapter, folder))
    (folder / "calibration.json").unlink()
    predictor = Predictor.from_pretrained(folder)
    with caplog.at_level(logging.WARNING, "nngpt_ext"):
        found = predictor.rank(code, ["mnist", "svhn", "cifar-10"])
    assert all(c.abstain for c in found.comparisons)
    assert [r.message for r in caplog.records] == ["the adapter has no calibration: every answer abstains"]
    assert found.comparisons[0].probability == pytest.approx(1 / (1 + np.exp(-found.comparisons[0].log_odds)))


def test_it_is_said_of_answers_from_the_store_too(
    run: RunResult, tmp_path: Path, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "adapter"
    assert run.adapter is not None
    older(shutil.copytree(run.adapter, folder))
    (folder / "calibration.json").unlink()
    url = f"sqlite:///{tmp_path / 'p.db'}"
    Predictor.from_pretrained(folder, store=url).compare(code, "mnist", "svhn")
    caplog.clear()
    again = Predictor.from_pretrained(folder, store=url)
    with caplog.at_level(logging.WARNING, "nngpt_ext"):
        assert again.compare(code, "mnist", "svhn").abstain
        again.compare(code, "svhn", "mnist")
    assert again._scorer is None
    assert [r.message for r in caplog.records] == ["the adapter has no calibration: every answer abstains"]


def test_another_scorer_computes_the_log_odds(run: RunResult, code: str, tmp_path: Path) -> None:
    class Remote:
        asked: list[tuple[str, str]]

        def log_odds(self, questions: Any, sources: Any, advance: Any = None) -> np.ndarray:
            self.asked = [(one.dataset_1, one.dataset_2) for one in questions]
            assert set(sources.values()) == {code}
            return np.array([[1.0, 2.0]] * len(questions))

    assert run.adapter is not None
    remote = Remote()
    predictor = Predictor(run.adapter, store=f"sqlite:///{tmp_path / 'p.db'}", scorer=remote)
    found = predictor.compare(code, "svhn", "mnist")
    assert remote.asked == [("mnist", "svhn")]
    assert (found.winner, found.log_odds) == ("mnist", -1.5)
    with PredictionStore.open(f"sqlite:///{tmp_path / 'p.db'}") as store:
        row = store.query(adapter_hash=predictor.adapter_hash[:12]).iloc[0]
    assert row["probability_1"] == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert row["calibrated_1"] == pytest.approx(1 - found.probability)


@pytest.mark.parametrize("odds", [[np.nan, 1.0], [1.0, np.inf], [1e36, 1e36], [1.0]])
def test_no_scorer_makes_it_answer_what_is_no_number(run: RunResult, code: str, odds: list[float]) -> None:
    class Broken:
        def log_odds(self, questions: Any, sources: Any, advance: Any = None) -> np.ndarray:
            return np.array([odds] * len(questions))

    assert run.adapter is not None
    with pytest.raises(UserError, match="the scorer's log-odds are not finite and plausible numbers"):
        Predictor(run.adapter, scorer=Broken()).compare(code, "svhn", "mnist")


def test_folders_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no run$"):
        Predictor.from_run(tmp_path)
    with pytest.raises(UserError, match="no adapter in"):
        Predictor.from_pretrained(tmp_path)


def test_a_full_disk_under_the_store_is_one_line(run: RunResult, code: str, tmp_path: Path) -> None:
    import sqlalchemy as sa

    store = PredictionStore.open(f"sqlite:///{tmp_path / 'p.db'}")
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    # A database that may not grow: what SQLite meets on a full disk. The limit is a connection's own.
    sa.event.listen(
        store._engine, "checkout", lambda opened, *_: opened.execute(f"PRAGMA max_page_count = {pages}")
    )  # fmt: skip
    with pytest.raises(UserError, match=r"cannot use the prediction store '.*': database or disk is full") as error:
        Predictor.from_run(run.output_dir, store=store).rank(code)
    assert "a URL looks like" not in str(error.value)
    assert "\n" not in str(error.value)
    assert store.query().empty
