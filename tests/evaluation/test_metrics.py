"""Metrics, by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from nngpt_ext.evaluation import metrics


def scored(p, first_wins, second) -> pd.DataFrame:
    """Predictions on pairs of the dataset `a` and a second one."""
    best = np.where(first_wins, "a", second)
    return pd.DataFrame({"probability_1": p, "dataset_1": "a", "dataset_2": second, "better_dataset": best})


answered = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80)


def test_by_hand():
    p, y = [0.9, 0.5, 0.2, 0.6], [True, True, True, False]
    assert metrics.correct(p, y).tolist() == [True, True, False, False]  # 0.5 is an answer: dataset_1
    assert metrics.accuracy(p, y) == 0.5
    assert metrics.log_loss(p, y) == pytest.approx(-(math.log(0.9) + math.log(0.5) + math.log(0.2) + math.log(0.4)) / 4)
    assert metrics.squared_errors(p, y).mean() == pytest.approx((0.01 + 0.25 + 0.64 + 0.36) / 4)


def test_log_loss_is_clipped():
    assert metrics.log_loss([0.0, 1.0], [True, False]) == pytest.approx(-math.log(1e-12), rel=1e-4)
    assert metrics.log_loss([1.0], [True]) == pytest.approx(0, abs=1e-11)


@settings(max_examples=60, deadline=None)
@given(answered)
def test_against_sklearn(rows):
    p, y = (np.array(column) for column in zip(*rows, strict=True))
    clipped = np.clip(p, 1e-12, 1 - 1e-12)
    assert metrics.accuracy(p, y) == pytest.approx(sk.accuracy_score(y, p >= 0.5))
    assert metrics.squared_errors(p, y).mean() == pytest.approx(sk.brier_score_loss(y, p))
    assert metrics.log_loss(p, y) == pytest.approx(sk.log_loss(y, clipped, labels=[False, True]), rel=1e-5, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_ece_against_sklearn(seed, size):
    # With distinct probabilities and equal bins sklearn's quantile bins are the same ones.
    generator = np.random.default_rng(seed)
    p, y = generator.random(15 * size), generator.random(15 * size) < 0.5
    share, mean = calibration_curve(y, p, n_bins=15, strategy="quantile")
    assert metrics.ece(p, y) == pytest.approx(np.abs(share - mean).mean())


def test_ece_by_hand():
    # Two bins: {0.1, 0.3} has no win, {0.6, 1.0} one: (|0 - 0.2| + |0.5 - 0.8|) / 2.
    assert metrics.ece([0.6, 0.1, 0.3, 1.0], [False, False, False, True], bins=2) == pytest.approx(0.25)
    # Odd sizes: bins of two and one row, weighted by their rows.
    assert metrics.ece([0.1, 0.3, 1.0], [False, False, False], bins=2) == pytest.approx((2 * 0.2 + 1) / 3)
    # Fewer rows than bins: one row a bin.
    assert metrics.ece([0.25, 0.5], [False, True]) == pytest.approx((0.25 + 0.5) / 2)


def test_ece_of_ties_does_not_depend_on_their_order():
    p = [0.75] * 40
    wins_first = [True] * 30 + [False] * 10
    assert metrics.ece(p, wins_first) == pytest.approx(0)
    assert metrics.ece(p, wins_first[::-1]) == pytest.approx(0)


@settings(max_examples=60, deadline=None)
@given(answered, st.randoms())
def test_ece_lies_between_0_and_1_in_any_order(rows, random):
    first = metrics.ece(*zip(*rows, strict=True))
    random.shuffle(rows)
    assert 0 <= first <= 1
    assert metrics.ece(*zip(*rows, strict=True)) == pytest.approx(first)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.4, 0.5, 0.8]), st.booleans(), st.sampled_from("xyz")), min_size=1))
def test_within_pair_auc_against_sklearn(rows):
    p, y, second = (np.array(column) for column in zip(*rows, strict=True))
    parts = [second == name for name in sorted(set(second))]
    both = [part for part in parts if len(set(y[part])) == 2]
    value, left_out = metrics.within_pair_auc(scored(p, y, second))
    assert left_out.pairs == len(parts) - len(both)
    assert left_out.rows == len(rows) - sum(part.sum() for part in both)
    if both:
        expected = np.average(
            [sk.roc_auc_score(y[part], p[part]) for part in both], weights=[part.sum() for part in both]
        )
        assert value == pytest.approx(expected)
    else:
        assert value is None


def test_within_pair_auc_of_who_does_not_look_is_a_half():
    y = np.array([True, True, True, False, False, False, False, True])
    second = ["m"] * 4 + ["s"] * 4
    p = np.where(np.array(second) == "m", 0.75, 0.25)  # right on 6 of 8
    assert metrics.accuracy(p, y) == 0.75
    assert metrics.within_pair_auc(scored(p, y, second))[0] == 0.5


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.log_loss, metrics.squared_errors, metrics.ece])
def test_bad_input(metric):
    with pytest.raises(ValueError, match="no rows"):
        metric([], [])
    with pytest.raises(ValueError, match="one length"):
        metric([0.5], [True, False])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        metric([1.5], [True])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        metric([float("nan")], [True])


@pytest.mark.parametrize("seed", range(3))
def test_reliability_against_sklearn(seed):
    generator = np.random.default_rng(seed)
    p = generator.permutation(np.linspace(0.01, 0.99, 300))
    y = generator.random(300) < p**2
    share, mean = calibration_curve(y, p, n_bins=15, strategy="quantile")
    bins = metrics.reliability(p, y)
    assert [b.share for b in bins] == pytest.approx(share)
    assert [b.probability for b in bins] == pytest.approx(mean)
    assert [b.n for b in bins] == [20] * 15
    assert metrics.ece(p, y) == pytest.approx(np.mean(np.abs(share - mean)))


def test_reliability_of_few_rows_has_as_many_bins():
    assert metrics.reliability([0.9, 0.2], [True, True]) == [metrics.Bin(0.2, 1.0, 1), metrics.Bin(0.9, 1.0, 1)]


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0]), st.booleans()), min_size=1))
def test_risk_coverage_against_each_threshold(rows):
    p, y = np.array([a for a, _ in rows]), np.array([b for _, b in rows])
    sure, right = np.maximum(p, 1 - p), (p >= 0.5) == y
    expected = [
        (np.mean(sure >= threshold), sk.accuracy_score(y[sure >= threshold], p[sure >= threshold] >= 0.5))
        for threshold in sorted(set(sure), reverse=True)
    ]
    found = [(point.coverage, point.accuracy) for point in metrics.risk_coverage(p, y)]
    assert np.array(found) == pytest.approx(np.array(expected))
    assert found[-1] == pytest.approx((1.0, right.mean()))
