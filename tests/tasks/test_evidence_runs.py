"""A run with early evidence, from records to answers about a user's own accuracies."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nngpt_ext import PredictionStore, Predictor, Query, RunResult, TaskConfig, run_task
from nngpt_ext.data.evidence import relative
from nngpt_ext.evaluation.description import summary
from nngpt_ext.host.node import make_dataset_compare_node
from nngpt_ext.predict.collection import Job, score_collection
from nngpt_ext.run_folder import record_adapter
from nngpt_ext.scoring.note import read_note
from nngpt_ext.settings import build_config
from nngpt_ext.tasks.pipeline import run_pipeline
from nngpt_ext.tasks.reporting import rebuild_report
from tests import models_made
from tests.tasks.conftest import LOADER, line

TASK: dict[str, Any] = {
    "prompt": "evidence",
    "model": {"base": "embedded-2"},
    "data": {
        "train_networks": 8, "validation_networks": 6, "test_networks": 5, "code_tokens": 32, "trials": "all",
        "test_trials": "random", "pairs_per_network": 12, "evidence": {"epochs": [1]},
    },
    "tuning": {"epochs": 1, "head": "lines", "offset": "pair_prior"},
}  # fmt: skip
CODE = models_made.sources()["AlexNet"]
SEEN = {"mnist": {1: 0.91}, "svhn": {1: 0.55}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Do not change its folder."""
    folder = tmp_path_factory.mktemp("evidence") / "run"
    return run_pipeline(build_config(TaskConfig, TASK), folder, resume=True, loader=LOADER)


@pytest.fixture(scope="module")
def of_one(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Trained with evidence on one dataset of a pair."""
    data = {"evidence": {"sides": "one"}, "pairs_per_network": 4, "validation_networks": 3, "test_networks": 2}
    config = build_config(TaskConfig, TASK, {"data": data})
    folder = tmp_path_factory.mktemp("of_one") / "run"
    return Predictor.from_run(run_pipeline(config, folder, resume=True, loader=LOADER).output_dir)


@pytest.fixture
def predictor(run: RunResult) -> Predictor:
    return Predictor.from_run(run.output_dir)


def test_the_report_has_the_rule_to_beat_and_the_cost(run: RunResult) -> None:
    assert {"early_rule", "bt_evidence", "bt_all"} < set(run.report.baselines)
    assert run.report.baselines["early_rule"].difference is not None
    assert "The early rule alone has " in summary(run.report)
    [cost] = [note for note in run.report.notes if note.startswith("Evidence: ")]
    assert "took 1 of 5 epochs of the trial that is compared, as much as 0.2 whole trainings" in cost
    assert "Trained on all trials; priors and test pairs are of random trials." in run.report.notes
    assert rebuild_report(run.output_dir) == run.report


def test_own_accuracies_are_divided_as_those_of_the_run_were(run: RunResult, predictor: Predictor) -> None:
    """What the run's test pairs were asked is asked again with the records' raw accuracies."""
    data = LOADER.data(build_config(TaskConfig, TASK).resolved(Path()).data)
    note = json.loads((run.output_dir / "adapter" / "task.json").read_text())
    assert note["early_best"] == {
        dataset: {str(epoch): value for epoch, value in best.items()} for dataset, best in data.early_best.items()
    }
    for row in data.part("test").head(4).itertuples():
        raw = {
            dataset: {1: known[1] * data.early_best[dataset][1]}
            for dataset, known in ((row.dataset_1, row.evidence_1), (row.dataset_2, row.evidence_2))
        }
        found = predictor.compare(data.sources[row.nn], row.dataset_1, row.dataset_2, evidence=raw)
        keys = run.predictions[["nn", "dataset_1", "dataset_2"]] == [row.nn, row.dataset_1, row.dataset_2]
        assert found.log_odds == pytest.approx(run.predictions.loc[keys.all(axis=1), "log_odds"].item(), abs=1e-5)


def test_an_epoch_is_a_number_or_text_and_answers_depend_on_accuracies(predictor: Predictor) -> None:
    one = predictor.compare(CODE, "mnist", "svhn", evidence=SEEN)
    text = json.loads(json.dumps(SEEN))
    assert predictor.compare(CODE, "mnist", "svhn", evidence=text) == one
    turned = predictor.compare(CODE, "svhn", "mnist", evidence=SEEN)
    assert turned.probability == pytest.approx(1 - one.probability)
    assert predictor.compare(CODE, "mnist", "svhn", evidence={**SEEN, "mnist": {1: 0.2}}).log_odds != one.log_odds


@pytest.mark.parametrize("given", [{}, {"mnist": None}, {"svhn": {1: 0.55}}, {"cifar-10": {1: 0.5}, "svhn": {1: 0.55}}])
def test_only_an_adapter_trained_so_answers_without_evidence_of_both(
    predictor: Predictor, of_one: Predictor, given: Any
) -> None:
    names = ", ".join(name for name in given if given[name]) or "no dataset"
    said = (
        f"early accuracies of {names} were given, and the adapter was trained with those of both datasets: give those "
        "of 'mnist' too, or train an adapter with data.evidence.sides: one"
    )
    assert line(lambda: predictor.compare(CODE, "mnist", "svhn", evidence=given)) == said
    assert line(lambda: predictor.rank(CODE, ["mnist", "svhn"], evidence=given)) == said
    state = {"nn_code": CODE, "datasets": ["mnist", "svhn"], "evidence": given}
    assert said in make_dataset_compare_node(predictor)(state)["dataset_compare_error"]
    both = of_one.compare(CODE, "mnist", "svhn", evidence=SEEN)
    assert of_one.compare(CODE, "mnist", "svhn", evidence=given).log_odds != both.log_odds


def test_other_sides_than_those_of_the_training_are_told_once(
    of_one: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = Predictor(of_one._files.folder)
    for seen in (SEEN, SEEN, {"mnist": SEEN["mnist"]}, {}):
        predictor.compare(CODE, "mnist", "svhn", evidence=seen)
    said = [one.message for one in caplog.records if "one dataset of each pair" in one.message]
    assert [line.split("not of ")[1].split(":")[0] for line in said] == ["both", "none"]


def test_an_older_adapter_was_trained_with_both(run: RunResult, tmp_path: Path) -> None:
    """Its note does not say so; its key and its control question are the same."""
    shutil.copytree(run.adapter, tmp_path / "adapter")
    note = json.loads((run.adapter / "task.json").read_text())
    assert note.pop("early_sides") == "both"
    (tmp_path / "adapter" / "task.json").write_text(json.dumps(note))
    record_adapter(tmp_path / "adapter")
    assert read_note(tmp_path / "adapter").prompt_hash == read_note(run.adapter).prompt_hash
    older, newer = Predictor(tmp_path / "adapter"), Predictor(run.adapter)
    answers = [one.compare(CODE, "mnist", "svhn", evidence=SEEN).log_odds for one in (older, newer)]
    assert answers[0] == answers[1]
    assert "trained with those of both" in line(lambda: older.compare(CODE, "mnist", "svhn", evidence={}))


def test_the_store_keeps_answers_by_what_was_shown(run: RunResult, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    predictor = Predictor.from_run(run.output_dir, store=url)
    other = {**SEEN, "mnist": {1: 0.2}}
    answers = [predictor.compare(CODE, "mnist", "svhn", evidence=seen) for seen in (SEEN, other)]
    again = Predictor.from_run(run.output_dir, store=url)
    assert [again.compare(CODE, "mnist", "svhn", evidence=seen) for seen in (SEEN, other)] == answers
    stored = PredictionStore.open(url).query()
    best = json.loads((run.output_dir / "adapter" / "task.json").read_text())["early_best"]
    share = relative({1: 0.55}, "svhn", {"svhn": {1: best["svhn"]["1"]}})[1]
    assert set(stored["given_2"]) == {f"early {share:.2f}"}
    assert stored["given_1"].nunique() == 2


def test_a_ranking_and_the_node_take_evidence(predictor: Predictor) -> None:
    found = predictor.rank(CODE, ["mnist", "svhn", "cifar-10"], evidence={**SEEN, "cifar-10": {1: 0.5}})
    [one] = predictor.compare_many([Query(CODE, "mnist", "svhn", evidence=SEEN)])
    assert next(c for c in found.comparisons if (c.dataset_1, c.dataset_2) == ("mnist", "svhn")).log_odds == (
        pytest.approx(one.log_odds)
    )
    state = {"nn_code": CODE, "datasets": ["mnist", "svhn"], "evidence": SEEN}
    answer = make_dataset_compare_node(predictor)(state)
    assert answer["predicted_best_dataset"] == one.winner
    assert "needs early accuracies" in make_dataset_compare_node(predictor)({**state, "evidence": None})[
        "dataset_compare_error"
    ]  # fmt: skip


def test_a_collection_has_evidence_of_each_network_or_of_all(run: RunResult, tmp_path: Path) -> None:
    predictor = Predictor.from_run(run.output_dir)
    own = [json.dumps(SEEN), None, json.dumps({"mnist": {"1": 91}})]
    frame = pd.DataFrame({"nn": ["a", "b", "c"], "nn_code": [CODE, CODE + "\n", CODE + "\n\n"], "evidence": own})
    frame.to_parquet(tmp_path / "codes.parquet")
    job = Job(str(run.adapter), ("mnist", "svhn"))

    def scored(**given: Any) -> Any:
        out = tmp_path / f"{len(given)}.parquet"
        found = score_collection(predictor, replace(job, **given), tmp_path / "codes.parquet", out)
        return dict(pd.read_parquet(out)[["nn", "log_odds"]].to_numpy()), [one.reason for one in found.refused]

    one = predictor.compare(CODE, "mnist", "svhn", evidence=SEEN)
    odds, refused = scored()
    assert odds == {"a": pytest.approx(one.log_odds, abs=1e-5)}
    assert "'b': prompt 'evidence' needs early accuracies for 'mnist': " in refused[0]
    assert "'c': the accuracy of 'mnist' at epoch 1 must be a number from 0 to 1, not 91" in refused[1]
    other = {**SEEN, "mnist": {1: 0.2}}
    odds, refused = scored(evidence=other)
    assert odds["a"] != odds["b"] == pytest.approx(predictor.compare(CODE, "mnist", "svhn", evidence=other).log_odds)
    assert len(refused) == 1
    assert "trained with those of both" in line(lambda: scored(evidence={}))
    said = line(lambda: scored(evidence={"mnist": {"2": 0.5}}, recipe=None))
    assert said.startswith("the evidence of 'mnist' is of epoch '2'; the adapter was trained with accuracies at epoch")


def test_an_answer_rests_on_early_accuracies(of_one: Predictor) -> None:
    def said(evidence: Any) -> list[str]:
        basis = of_one.basis(CODE, ["mnist", "svhn"], evidence=evidence)
        return [] if basis is None else basis.lines()

    assert said({}) == ["Early accuracies: relative to the best in training not trained yet."]
    [found] = said({"mnist": {1: 0.0001}, "svhn": {1: 0.0001}})
    assert found.startswith("Early accuracies: relative to the best in training 0.0001")
    assert ", below all in training (" in found


@pytest.mark.slow
def test_the_folds_of_families_are_pooled(tmp_path: Path) -> None:
    """Each fold divides accuracies by what its own training networks had."""
    families = {"split": "by_family", "folds": 2, "test_networks": 4}
    task = build_config(TaskConfig, TASK, {"data": families}).model_dump(exclude={"output_dir", "store"})
    found = run_task("dataset_compare", task, output_dir=tmp_path / "run")
    report = found.report
    assert [fold.fold for fold in report.folds] == [0, 1]
    assert report.n_test_networks == 8
    assert {"early_rule", "bt_evidence", "bt_all"} < set(report.baselines)
    assert len([note for note in report.notes if note.startswith("Evidence: ")]) == 1
    notes = [json.loads((tmp_path / "run" / f"fold-{i}" / "adapter" / "task.json").read_text()) for i in (0, 1)]
    assert notes[0]["early_best"] != notes[1]["early_best"]
    assert rebuild_report(tmp_path / "run") == report


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (None, "prompt 'evidence' needs early accuracies for 'mnist': evidence={'mnist': {1: 0.91}, 'svhn': {1: 0.5"),
        (0.9, "evidence must be accuracies by dataset and epoch, {'mnist': {1: 0.91}, …}, not 0.9"),
        ({"mnist": 0.9}, "the evidence of 'mnist' must be accuracies by epoch, as in {'mnist': {1: 0.91}, …}, not 0.9"),
        ({"mnist": {1: 91.2}}, "the accuracy of 'mnist' at epoch 1 must be a number from 0 to 1, not 91.2; if it is in "
                               "percent, give 0.912"),
        ({"mnist": {"1": -0.1}}, "the accuracy of 'mnist' at epoch 1 must be a number from 0 to 1, not -0.1"),
        ({"mnist": {1: "0.9"}}, "the accuracy of 'mnist' at epoch 1 must be a number from 0 to 1, not '0.9'"),
        ({"mnist": {1: float("nan")}}, "the accuracy of 'mnist' at epoch 1 must be a number from 0 to 1, not nan"),
        ({"mnist": {3: 0.9}}, "the evidence of 'mnist' is of epoch 3; the adapter was trained with accuracies at"),
        ({"mnist": {1: 0.9, 2: 0.9}}, "the evidence of 'mnist' is of epoch 1, 2; the adapter was trained with "
                                      "accuracies at epoch 1"),
        ({"mnist": {10**5000: 0.9}}, "the evidence of 'mnist' is of epoch "),
        ({"mnist": {1: 10**5000}}, "the accuracy of 'mnist' at epoch 1 must be a number from 0 to 1, not "),
        ({"mnist": {1: 1.5}}, "the accuracy of 'mnist' at epoch 1 must be a number from 0 to 1, not 1.5"),
        ({"mnist": {1: None}}, "the accuracy of 'mnist' at epoch 1 must be a number from 0 to 1, not None"),
        ({"mnist": {1: 0.9, "1": 0.2}}, "the evidence of 'mnist' has epoch 1 twice, as a number and as text; give one"),
        ({**SEEN, "cifar-10": {1: 91}}, "the accuracy of 'cifar-10' at epoch 1 must be a number from 0 to 1, not 91; "
                                        "if it is in percent, give 0.91"),
        ({**SEEN, "cifar-10": {1: 0.9, 7: 3}}, "the evidence of 'cifar-10' is of epoch 1, 7; the adapter was trained"),
        ({"mnsit": {1: 0.9}}, "unknown dataset 'mnsit' (did you mean 'mnist'?)"),
    ],
)  # fmt: skip
def test_wrong_values_are_one_clear_line(predictor: Predictor, evidence: Any, said: str) -> None:
    found = line(lambda: predictor.compare(CODE, "mnist", "svhn", evidence=evidence))
    assert found.startswith(said)
    assert ("percent" in found) == ("percent" in said)


def test_a_prompt_with_evidence_needs_its_epochs(tmp_path: Path) -> None:
    config = build_config(TaskConfig, TASK, {"data": {"evidence": {"epochs": []}}})
    said = (
        'prompt \'evidence\' shows early accuracies: set their epochs, for example data={"evidence": {"epochs": [1]}}'
    )
    assert line(lambda: run_pipeline(config, tmp_path / "run", resume=False, loader=LOADER)) == said
