"""What a report shows."""

from __future__ import annotations

import numpy as np
import pytest

from nngpt_ext.evaluation import metrics
from nngpt_ext.evaluation.description import summary, tables
from nngpt_ext.evaluation.report import read_report, write_report
from nngpt_ext.views.wording import NO_NUMBER

from .conftest import PROBABILITY, TEST_ROWS, made_report, pair_rows, predicted


def table(report, title):
    return next(table for table in tables(report) if table.title == title)


def wins(count: int) -> dict:
    """Changes for a report on 40 networks, of which the model is right on `count` more than the prior is."""
    pairs = pair_rows([(f"n{i}", "cifar-10", "mnist", "mnist") for i in range(40)], "test")
    model = np.full(40, 0.1 if count >= 0 else 0.9)
    prior = np.where(np.arange(40) < abs(count), 1 - model, model)
    return {"pairs": pairs, "predictions": predicted(pairs, model), "baselines": {"pair_prior": prior}}


def test_summary_says_what_was_measured(report):
    text = summary(report)
    assert "\n" not in text
    for part in (
        "recipe",
        "embedded",
        "by_network",
        "75.0 % of 4 test pairs",
        "2 networks that training never saw",
    ):
        assert part in text
    assert text.endswith(
        "(accuracy minus that of the pair prior, on fewer than 30 networks) is +0.000 "
        "(95 % interval -1.000 to +0.333): no skill was shown."
    )


@pytest.mark.parametrize(
    ("count", "verdict"),
    [(30, ": skill was shown."), (1, "no skill was shown."), (-30, "the model is below the prior.")],
)
def test_summary_says_whether_skill_was_shown(count, verdict):
    assert summary(made_report(**wins(count))).endswith(verdict)


def test_one_network_shows_nothing():
    pairs = pair_rows(TEST_ROWS[:3], "test")
    report = made_report(
        pairs=pairs,
        predictions=predicted(pairs, PROBABILITY[:3]),
        baselines={"pair_prior": np.array([0.9, 0.2, 0.2])},
    )
    assert report.skill.value == 1.0
    assert summary(report).endswith("no skill was shown.")
    assert "1 network that" in summary(report)
    assert "is +1.000 (no interval): no skill was shown." in summary(report)


FEW = "With 29 test networks, fewer than 30, intervals are too narrow and show no skill."


@pytest.mark.parametrize("number", [29, 30])
def test_few_networks_show_no_skill_and_every_view_says_so(number, tmp_path):
    """Also where the interval is clear of zero; and a bootstrap without spread gives no interval."""
    pairs = pair_rows([(f"n{i}", "cifar-10", "mnist", "mnist") for i in range(number)], "test")
    changes = {"pairs": pairs, "predictions": predicted(pairs, np.full(number, 0.1)), "excluded": {}, "notes": []}
    for wrong in (0, number, 20):  # of the prior
        prior = np.where(np.arange(number) < wrong, 0.9, 0.1)
        report = made_report(**changes, baselines={"pair_prior": prior})
        assert report.skill.clear_of_zero == (wrong > 0)
        assert summary(report).endswith(": skill was shown." if wrong and number == 30 else ": no skill was shown.")
        assert ("on fewer than 30 networks" in summary(report)) == (number == 29)
        assert ("(no interval)" in summary(report)) == (wrong != 20)
        rows = {row[0]: row[1:] for row in table(report, "Headline").rows}
        assert (rows["skill"][1] == NO_NUMBER) == (wrong != 20)
        assert rows["accuracy"][1] == NO_NUMBER
        assert rows["skill"][2].endswith("; too few networks") == (number == 29)
        write_report(report, tmp_path)
        for file in ("report.md", "report.html"):
            assert (tmp_path / file).read_text().count(FEW) == (number == 29)
        assert (FEW in report._repr_html_()) == (number == 29)  # above the folded tables
        assert read_report(tmp_path).notes == ([FEW] if number == 29 else [])


def test_random_pairs_claim_no_unseen_networks():
    assert "never saw" not in summary(made_report(split="random_pairs"))


def test_every_table_is_there(report):
    assert [t.title for t in tables(report)] == [
        "Headline", "Notes", "Near-duplicates", "Per dataset: pairs that have it",
        "Per dataset: pairs it wins", "Epochs", "Excluded trials", "Run",
    ]  # fmt: skip
    for shown in tables(report):
        assert shown.rows
        assert all(len(row) == len(shown.header) for row in shown.rows)
        assert shown.marked <= set(range(len(shown.rows)))


def test_headline(report):
    rows = {row[0]: row[1:] for row in table(report, "Headline").rows}
    assert list(rows) == [
        "accuracy", "pair prior", "skill", "code_gbm", "recipe_gbm",
        "log loss", "Brier score", "ECE", "flip rate", "within-pair AUC",
    ]  # fmt: skip
    assert rows["accuracy"] == ("0.750", "0.000 to 1.000", "n = 4; too few networks")
    assert rows["pair prior"][:2] == ("0.750", "0.667 to 1.000")
    assert rows["skill"] == ("+0.000", "-1.000 to +0.333", "accuracy − pair prior; p = 1.00; too few networks")
    assert "accuracy − this -0.250 (-1.000 to +0.000)" in rows["recipe_gbm"][2]
    assert rows["flip rate"][0] == "0.250"
    assert "2 dataset pairs (2 rows)" in rows["within-pair AUC"][2]


def test_what_there_is_no_number_for(report):
    rows = {row[0]: row[1:] for row in table(report, "Per dataset: pairs it wins").rows}
    assert rows["svhn"] == (NO_NUMBER, NO_NUMBER, "0", NO_NUMBER)
    empty = table(made_report(near_duplicates=set()), "Near-duplicates")
    assert empty.rows[0][1:] == (NO_NUMBER, NO_NUMBER, "0", NO_NUMBER)


def test_epochs_mark_the_selected_one_and_label_the_peak(report):
    epochs = table(report, "Epochs")
    assert epochs.rows == [("1", NO_NUMBER, "0.500", "1.000"), ("2 (selected)", "0.250", "1.000", "0.750")]
    assert epochs.marked == {1}
    assert "Peak test accuracy 1.000 (the paper's way" in epochs.caption
    none = table(made_report(epochs=[], selected_epoch=None), "Epochs")
    assert none.rows == [(NO_NUMBER,) * 4]
    assert "Peak" not in none.caption


def test_excluded_and_notes(report):
    assert table(report, "Excluded trials").rows == [("accuracy outside [0, 1]", "3")]
    assert table(made_report(excluded={}), "Excluded trials").rows == [("none", "0")]
    assert table(report, "Notes").is_list
    assert ("3 trials were excluded: accuracy outside [0, 1] 3.",) in table(report, "Notes").rows
    assert "Notes" not in [t.title for t in tables(made_report(**wins(1), excluded={}, notes=[]))]


def test_a_metric_is_declared_once(monkeypatch, tmp_path):
    ours = metrics.Metric("mean", "of all probabilities", "mean probability", lambda test: test["probability_1"].mean())
    monkeypatch.setitem(metrics.METRICS, "mean", ours)
    write_report(made_report(), tmp_path)
    found = read_report(tmp_path)
    assert found.model_extra == {"mean": pytest.approx(np.mean(PROBABILITY))}
    assert ("mean probability", "0.550", NO_NUMBER, "of all probabilities") in table(found, "Headline").rows
    assert made_report(answers_only=True).mean is None
