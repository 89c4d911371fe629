"""Intervals and p-values over networks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nngpt_ext.evaluation.statistics import bootstrap_measure, bootstrap_networks, sign_flip_p

rows = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([-1.0, 0.0, 0.5, 1.0])), min_size=1, max_size=40)


def test_interval_is_that_of_whole_networks():
    # Two networks, 1 and 0: three of four resamples are (1, 1), (0, 0) or mixed, so both ends are reached.
    values, networks = [1.0] * 10 + [0.0] * 10, ["a"] * 10 + ["b"] * 10
    assert bootstrap_networks(values, networks) == (0.0, 1.0)
    # As twenty networks of one row each the same numbers are far surer.
    low, high = bootstrap_networks(values, [f"n{i}" for i in range(20)])
    assert 0.2 < low < 0.35
    assert 0.65 < high < 0.8


@pytest.mark.filterwarnings("ignore:::numpy")  # of one draw there is no standard error
def test_interval_weighs_networks_by_their_rows():
    # The mean is over rows: of a and b drawn once each it is 9/10, which no mean of networks would be.
    low, high = bootstrap_networks([1.0] * 9 + [0.0], ["a"] * 9 + ["b"], draws=400)
    assert (low, high) == (0.0, 1.0)
    means = {tuple(bootstrap_networks([1.0] * 9 + [0.0], ["a"] * 9 + ["b"], draws=1, seed=s)) for s in range(30)}
    assert means == {(0.0, 0.0), (0.9, 0.9), (1.0, 1.0)}


def test_interval_agrees_with_a_plain_bootstrap():
    generator = np.random.default_rng(3)
    networks = np.repeat([f"n{i}" for i in range(40)], generator.integers(1, 12, 40))
    values = (generator.random(len(networks)) < 0.8).astype(float)
    parts = [values[networks == nn] for nn in sorted(set(networks))]
    means = [np.concatenate([parts[i] for i in generator.integers(0, 40, 40)]).mean() for _ in range(4000)]
    assert bootstrap_networks(values, networks, draws=4000) == pytest.approx(
        np.percentile(means, [2.5, 97.5]), abs=0.01
    )


def test_interval_of_a_measure_that_is_a_mean_is_the_interval_of_the_mean():
    generator = np.random.default_rng(3)
    networks = np.repeat([f"n{i}" for i in range(40)], generator.integers(1, 12, 40))
    generator.shuffle(networks)  # a network's rows need not follow each other
    values = (generator.random(len(networks)) < 0.8).astype(float)
    found = bootstrap_measure(lambda drawn: float(values[drawn].mean()), networks, draws=4000)
    assert found == pytest.approx(bootstrap_networks(values, networks, draws=4000), abs=0.01)
    assert bootstrap_measure(lambda drawn: float(len(drawn)), ["a"] * 3) == (3.0, 3.0)
    with pytest.raises(ValueError, match="no rows"):
        bootstrap_measure(lambda drawn: 0.0, [])


def test_interval_covers_the_truth():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        # Networks differ in how often they are right; the expected mean is 0.8 whatever their sizes are.
        sizes = generator.integers(1, 22, 60)
        right = generator.random(sizes.sum()) < np.repeat(generator.beta(8, 2, 60), sizes)
        low, high = bootstrap_networks(right, np.repeat(np.arange(60).astype(str), sizes), draws=500)
        hits += low <= 0.8 <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_one_network_has_an_interval_of_no_width():
    assert bootstrap_networks([1.0, 0.0], ["a", "a"]) == (0.5, 0.5)


@settings(max_examples=40, deadline=None)
@given(rows, st.randoms())
def test_interval_does_not_depend_on_the_order_of_rows(data, random):
    shuffled = list(data)
    random.shuffle(shuffled)
    intervals = [bootstrap_networks([v for _, v in d], [n for n, _ in d], draws=200) for d in (data, shuffled)]
    assert intervals[0] == pytest.approx(intervals[1])
    values = [v for _, v in data]
    assert min(values) - 1e-12 <= intervals[0][0] <= intervals[0][1] <= max(values) + 1e-12


def test_same_seed_same_result_other_seed_another():
    values, networks = np.random.default_rng(1).random(90), np.repeat([f"n{i}" for i in range(30)], 3)
    assert bootstrap_networks(values, networks, seed=1) == bootstrap_networks(values, networks, seed=1)
    assert bootstrap_networks(values, networks, seed=1) != bootstrap_networks(values, networks, seed=2)
    centred = values - values.mean() + 0.04
    assert sign_flip_p(centred, networks, seed=1) == sign_flip_p(centred, networks, seed=1)
    assert sign_flip_p(centred, networks, seed=1) != sign_flip_p(centred, networks, seed=2)


def test_p_agrees_with_all_sign_patterns():
    sums = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 0.5, "e": -1.0, "f": 2.5}
    seen = abs(sum(sums.values()))
    patterns = [sum(s * v for s, v in zip(signs, sums.values(), strict=True))
                for signs in itertools.product((1, -1), repeat=len(sums))]  # fmt: skip
    exact = np.mean([abs(total) >= seen for total in patterns])
    assert sign_flip_p(list(sums.values()), list(sums)) == pytest.approx(exact, abs=0.01)


def test_p_counts_networks_not_rows():
    # 200 rows, all better: as networks of their own beyond doubt, as two networks p is 1/2.
    gains = np.ones(200)
    assert sign_flip_p(gains, [f"n{i}" for i in range(200)]) == 1 / 10_001
    assert sign_flip_p(gains, ["a"] * 100 + ["b"] * 100) == pytest.approx(0.5, abs=0.02)
    assert sign_flip_p(gains, ["a"] * 200) == 1.0


def test_p_of_no_difference_is_one():
    assert sign_flip_p([0, 0, 0], ["a", "b", "c"]) == 1.0


def test_p_is_two_sided_and_uniform_without_an_effect():
    generator = np.random.default_rng(0)
    networks = np.repeat([f"n{i}" for i in range(30)], 4)
    gains = generator.choice([-1, 0, 1], 120)
    assert sign_flip_p(gains, networks) == sign_flip_p(-gains, networks)
    below = [sign_flip_p(generator.choice([-1, 0, 1], 120), networks, draws=300) <= 0.1 for _ in range(300)]
    assert 0.05 < np.mean(below) < 0.16


@pytest.mark.parametrize("measure", [bootstrap_networks, sign_flip_p])
def test_bad_input(measure):
    with pytest.raises(ValueError, match="no rows"):
        measure([], [])
    with pytest.raises(ValueError, match="one length"):
        measure([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="not finite"):
        measure([1.0, float("nan")], ["a", "b"])


@pytest.mark.parametrize("seed", range(3))
def test_p_against_scipy(seed):
    generator = np.random.default_rng(seed)
    networks = np.repeat([f"n{i}" for i in range(11)], generator.integers(1, 8, 11))
    gains = generator.choice([-1.0, 0.0, 1.0], len(networks), p=[0.25, 0.3, 0.45])
    sums = np.array([gains[networks == nn].sum() for nn in dict.fromkeys(networks)])
    exact = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_p(gains, networks) == pytest.approx(exact, abs=0.015)
