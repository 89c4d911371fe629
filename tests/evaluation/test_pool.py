"""Folds as one result: pooled rows, the best prior, and figures without the largest family and over families."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.evaluation.description import summary, tables
from nngpt_ext.evaluation.pool import FoldAnswers, best_prior, family_figures, pooled

from .conftest import made_report, pair_rows

BASELINES = {"pair_prior": np.full(4, 0.6), "kind_prior": np.array([0.4, 0.6, 0.6, 0.6])}  # all answers right


def fold(nn: str, *probability: float) -> FoldAnswers:
    rows = [(nn, "cifar-10", name, "cifar-10") for name in ("mnist", "svhn")][: len(probability)]
    return FoldAnswers(
        pair_rows(rows, "test"), {"pair_prior": np.array(probability)}, np.array([f"family of {nn}"] * len(rows))
    )


def test_folds_are_pooled_in_their_order() -> None:
    found = pooled([fold("a", 0.1, 0.2), fold("b", 0.3)])
    assert found.test["nn"].tolist() == ["a", "a", "b"]
    assert found.answers["pair_prior"].tolist() == [0.1, 0.2, 0.3]
    assert found.units.tolist() == ["family of a", "family of a", "family of b"]


def test_a_pair_is_tested_once() -> None:
    with pytest.raises(ValueError, match="more than one fold"):
        pooled([fold("a", 0.1), fold("a", 0.2)])


def test_folds_have_the_same_predictors() -> None:
    with pytest.raises(ValueError, match="other predictors"):
        pooled([fold("a", 0.1), FoldAnswers(fold("b", 0.1).test, {}, np.array(["f"]))])


def test_the_best_prior() -> None:
    right, wrong = np.array([True, True]), np.array([True, False])
    assert best_prior({"pair_prior": wrong, "kind_prior": right, "bt_recipe": right}) == "kind_prior"
    assert best_prior({"pair_prior": right, "kind_prior": right}) == "pair_prior"
    assert best_prior({"pair_prior": wrong, "bt_recipe": right}) == "pair_prior"


def test_what_a_family_decides() -> None:
    families = np.array(["a", "a", "a", "b", "c", "c"], dtype=object)
    correct = np.array([1, 1, 1, 0, 1, 0], dtype=bool)
    prior = np.array([0, 0, 1, 1, 1, 0], dtype=bool)
    found = family_figures(correct, prior, families)
    assert (found.families, found.largest, found.largest_share) == (3, "a", 0.5)
    assert found.without_largest is not None
    assert found.without_largest.accuracy.value == pytest.approx(1 / 3)
    assert found.without_largest.difference.value == pytest.approx(-1 / 3)
    assert found.mean.accuracy.value == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert found.mean.difference.value == pytest.approx((2 / 3 - 1 + 0) / 3)
    assert found.mean.accuracy.n == 3
    alone = family_figures(correct[:3], prior[:3], families[:3])
    assert alone.without_largest is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_any_rows(rows: list[tuple[str, bool, bool]]) -> None:
    names, correct, prior = (np.array(column) for column in zip(*rows, strict=True))
    found = family_figures(correct, prior, names.astype(object))
    means = [correct[names == name].mean() for name in set(names)]
    assert found.mean.accuracy.value == pytest.approx(np.mean(means))
    assert found.families == len(means)
    low, high = found.mean.accuracy.ci95
    assert min(means) - 1e-9 <= low <= high <= max(means) + 1e-9


def test_a_report_of_families_has_intervals_over_them() -> None:
    own = made_report()
    assert own.families is None
    assert own.skill_beyond_best_prior is not None
    assert own.skill_beyond_best_prior.prior == "pair_prior"
    assert own.skill_beyond_best_prior.value == own.skill.value
    joined = made_report(families={"n1": "f", "n2": "f"})
    assert joined.families is not None
    assert joined.families.families == 1
    assert joined.accuracy.value == own.accuracy.value
    assert joined.accuracy.ci95 == (joined.accuracy.value, joined.accuracy.value)  # one family has no spread
    assert own.accuracy.ci95[0] < own.accuracy.ci95[1]
    assert "There is one test family only: the intervals are points and say nothing about others." in joined.notes
    better = made_report(baselines={"pair_prior": np.array([0.9, 0.2, 0.2, 0.1])}, families={"n1": "f", "n2": "f"})
    assert better.skill.value > 0
    assert summary(better).endswith("no skill was shown.")


def test_the_report_names_the_best_prior_and_the_families() -> None:
    shown = tables(made_report(baselines=BASELINES, families={"n1": "f", "n2": "g"}))[0]
    rows = {row[0]: row[1:] for row in shown.rows}
    assert rows["skill beyond the best prior"][0] == "-0.250"
    assert rows["skill beyond the best prior"][2].startswith("accuracy − kind_prior; ")
    assert rows["without the largest family"][0] == "0.000"
    assert rows["mean over families"][0] == "0.500"
    assert shown.caption.endswith("bootstrap draws of families (a dash: the draws had no spread).")
    assert "skill beyond the best prior" not in {row[0] for row in tables(made_report())[0].rows}
