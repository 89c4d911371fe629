"""The report: every number counted by hand, and the files it is written to."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from nngpt_ext.data.splits import SPLITS
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.report import read_report, write_report
from nngpt_ext.evaluation.statistics import bootstrap_networks, sign_flip_p

from .conftest import PROBABILITY, TEST_ROWS, made_report, pair_rows, predicted

NETWORKS = ["n1", "n1", "n1", "n2"]
RIGHT = [1, 1, 1, 0]
PRIOR = [0, 1, 1, 1]


def test_what_was_run(report):
    assert (report.task, report.prompt, report.base_model, report.split) == (
        "dataset_compare", "recipe", "embedded", "by_network",
    )  # fmt: skip
    counts = (report.n_train_pairs, report.n_validation_pairs, report.n_test_pairs, report.n_test_networks)
    assert counts == (3, 2, 4, 2)
    assert report.excluded == {"accuracy outside [0, 1]": 3}


def test_accuracy_and_skill(report):
    assert report.accuracy.value == 0.75
    assert report.accuracy.n == 4
    assert report.accuracy.ci95 == bootstrap_networks(RIGHT, NETWORKS, draws=2000, seed=0)
    gains = np.subtract(RIGHT, PRIOR)
    assert report.skill.value == 0.0
    assert report.skill.ci95 == bootstrap_networks(gains, NETWORKS, draws=2000, seed=0)
    assert report.skill.p == sign_flip_p(gains, NETWORKS) == 1.0
    assert not report.skill.clear_of_zero


def test_skill_is_against_the_pair_prior():
    report = made_report(baselines={"recipe_gbm": np.array(PROBABILITY), "pair_prior": np.array([0.9, 0.2, 0.2, 0.9])})
    assert report.skill.value == 0.5
    assert report.baselines["recipe_gbm"].difference.value == 0.0


def test_metrics_are_of_the_test_rows_only(report):
    y = np.array([False, True, True, True])
    chosen = np.where(y, PROBABILITY, 1 - np.array(PROBABILITY))
    assert report.log_loss == pytest.approx(-np.log(chosen).mean())
    assert report.brier == pytest.approx(((1 - chosen) ** 2).mean())
    assert report.ece == pytest.approx(np.abs(np.array(PROBABILITY) - y).mean())  # a row a bin
    assert report.flip_rate == 0.25
    # Of the pairs of datasets only cifar-10 and mnist has both answers: n2 (0.4) stands above n1 (0.1).
    assert report.within_pair_auc == 1.0
    assert (report.within_pair_auc_left_out.pairs, report.within_pair_auc_left_out.rows) == (2, 2)
    assert report.validation_accuracy == 0.5
    assert report.validation_log_loss == pytest.approx(math.log(2))


def test_near_duplicates_apart(report):
    near = report.near_duplicates
    assert (near.threshold, near.share_of_test_networks) == (0.85, 0.5)
    assert (near.with_.accuracy, near.with_.prior, near.with_.n) == (1.0, pytest.approx(2 / 3), 3)
    assert (near.without.accuracy, near.without.prior, near.without.n) == (0.0, 1.0, 1)


def test_no_data_no_number():
    near = made_report(near_duplicates=set()).near_duplicates.model_dump()
    assert near["share_of_test_networks"] == 0
    assert near["with"] == {"accuracy": None, "ci95": None, "prior": None, "n": 0, "networks": 0}
    assert near["without"]["n"] == 4


def test_per_dataset_is_a_table(report):
    table = report.per_dataset
    assert isinstance(table, pd.DataFrame)
    assert table.index.name == "dataset"
    assert list(table.index) == ["cifar-10", "mnist", "svhn"]
    assert table["involving_n"].tolist() == [3, 3, 2]
    assert table["as_answer_n"].tolist() == [2, 2, 0]
    assert table["involving_accuracy"].tolist() == pytest.approx([2 / 3, 2 / 3, 1.0])
    assert table["involving_prior"].tolist() == pytest.approx([2 / 3, 2 / 3, 1.0])
    assert table.loc["cifar-10", "as_answer_accuracy"] == 0.5
    assert table.loc["mnist", "as_answer_prior"] == 0.5
    assert table.loc["svhn", ["as_answer_accuracy", "as_answer_low", "as_answer_prior"]].isna().all()
    low, high = bootstrap_networks([1, 1, 0], ["n1", "n1", "n2"])
    assert tuple(table.loc["cifar-10", ["involving_low", "involving_high"]]) == (low, high)


def test_baselines(report):
    assert set(report.baselines) == {"pair_prior", "code_gbm", "recipe_gbm"}
    assert report.baselines["pair_prior"].accuracy == 0.75
    assert report.baselines["code_gbm"].accuracy == 0.0
    assert report.baselines["recipe_gbm"].accuracy == 1.0
    assert report.baselines["recipe_gbm"].ci95 == (1.0, 1.0)
    assert report.baselines["pair_prior"].log_loss == pytest.approx(-(math.log(0.4) + 3 * math.log(0.6)) / 4)


def test_epochs_and_the_papers_way(report):
    assert report.selected_epoch == 2
    assert report.peak_test_accuracy == 1.0  # of epoch 1, which validation did not select
    assert "paper" in report.peak_test_accuracy_is
    assert report.epochs[0].train_loss is None
    untested = made_report(epochs=[{"epoch": 1, "train_loss": 0.5}], selected_epoch=1)
    assert untested.peak_test_accuracy is None


def test_keys_of_report_json(report, tmp_path):
    write_report(report, tmp_path)
    data = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    keys = (
        "task prompt base_model split n_train_pairs n_test_pairs n_test_networks excluded accuracy skill "
        "near_duplicates within_pair_auc log_loss brier ece flip_rate per_dataset baselines epochs "
        "selected_epoch peak_test_accuracy timings versions config"
    )
    assert set(keys.split()) <= set(data)
    assert set(data["accuracy"]) == {"value", "ci95", "n"}
    assert set(data["skill"]) == {"value", "ci95", "p"}
    assert {"threshold", "share_of_test_networks", "with", "without"} == set(data["near_duplicates"])
    assert {"accuracy", "prior", "n"} <= set(data["near_duplicates"]["with"])
    assert data["per_dataset"]["mnist"] == {
        "involving": {
            "accuracy": pytest.approx(2 / 3),
            "ci95": [0.0, 1.0],
            "n": 3,
            "prior": pytest.approx(2 / 3),
        },
        "as_answer": {"accuracy": 1.0, "ci95": [1.0, 1.0], "n": 2, "prior": 0.5},
    }
    assert data["per_dataset"]["svhn"]["as_answer"] == {"accuracy": None, "ci95": None, "n": 0, "prior": None}
    assert {"accuracy", "ci95"} <= set(data["baselines"]["pair_prior"])
    assert {"epoch", "train_loss", "validation_accuracy", "test_accuracy"} <= set(data["epochs"][0])
    assert data["config"] == {"lora": {"r": 8}}
    assert len(data.pop("sha256")) == 64
    assert data == json.loads(json.dumps(report.model_dump(mode="json")))


def test_round_trip(report, tmp_path):
    write_report(report, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
    back = read_report(tmp_path)
    assert back == report
    pd.testing.assert_frame_equal(back.per_dataset, report.per_dataset)
    first = (tmp_path / "report.json").read_bytes()
    write_report(back, tmp_path)
    assert (tmp_path / "report.json").read_bytes() == first
    assert back != made_report(prompt="code_only")


def test_a_failed_write_leaves_the_old_files(report, tmp_path, monkeypatch):
    write_report(report, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("nngpt_ext.evaluation.report.to_page", lambda *shown: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(made_report(prompt="other"), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_reports_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="has no run"):
        read_report(tmp_path)
    for text in ("{", '{"task": "x"}', "[]"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(UserError, match="not a report"):
            read_report(tmp_path)


def test_nothing_to_report():
    validation = predicted(pair_rows(TEST_ROWS, "validation"), PROBABILITY)
    with pytest.raises(UserError, match="no test pair"):
        made_report(predictions=validation)


def test_baselines_have_to_fit():
    with pytest.raises(ValueError, match="pair_prior"):
        made_report(baselines={"code_gbm": np.full(4, 0.5)})
    with pytest.raises(ValueError, match="one length"):
        made_report(baselines={"pair_prior": np.full(3, 0.5)})


def test_notes_say_what_has_to_be_known():
    note = SPLITS["by_cluster"].warning
    # Given by the caller too it stands there once.
    few = "With 2 test networks, fewer than 30, intervals are too narrow and show no skill."
    excluded = "3 trials were excluded: accuracy outside [0, 1] 3."
    assert made_report(split="by_cluster", notes=[note, "x"]).notes == [note, few, excluded, "x"]
    some = predicted(pair_rows(TEST_ROWS[:3], "test"), PROBABILITY[:3])
    notes = made_report(predictions=some, baselines={"pair_prior": np.full(3, 0.6)}, notes=[]).notes
    assert notes[0] == "3 of the 4 test pairs were scored."
    assert notes[1].startswith("With 1 test network, ")


def test_the_same_report_twice():
    assert made_report() == made_report()
