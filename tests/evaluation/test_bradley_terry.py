"""Bradley–Terry trees: turning a pair, what they may learn from, determinism, and what they reach on real pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.load import PairData
from nngpt_ext.evaluation.baselines import kind_prior, recipe_gbm
from nngpt_ext.evaluation.baselines.bradley_terry import (
    Contest,
    Sides,
    _inner_folds,
    bradley_terry,
    log_odds,
    ridge_scores,
    sigmoid,
)
from nngpt_ext.evaluation.baselines.features import Side, recipe_features, structure_features
from nngpt_ext.evaluation.metrics import first_wins

from .conftest import RECIPE_A, pair_rows


def with_pairs(pairs: pd.DataFrame, **more: object) -> PairData:
    made = {"sources": {}, "facts": LEMUR_FACTS, "excluded": {}, "source": "package", "fingerprint": ""}
    fields = {**made, "place": None, "networks": {}, "unpaired": 0, **more}
    training = pairs[pairs["split"] == "train"].reset_index(drop=True)
    return PairData(pairs=pairs, training=training, **fields)  # type: ignore[arg-type]


def learnable(n: int, seed: int) -> pd.DataFrame:
    """Pairs of three datasets won by the higher learning rate; a third of the networks tests."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(n):
        rates = dict(zip(("cifar-10", "mnist", "svhn"), rng.uniform(-5, -1, 3), strict=True))
        couples = [("cifar-10", "mnist"), ("cifar-10", "svhn"), ("mnist", "svhn")]
        rows = [(f"n{i}", a, b, a if rates[a] > rates[b] else b) for a, b in couples]
        pairs = pair_rows(rows, "test" if i % 3 == 0 else "train")
        for side in ("1", "2"):
            recipes = [{**RECIPE_A, "lr": 10 ** rates[name]} for name in pairs[f"dataset_{side}"]]
            pairs[f"recipe_{side}"] = recipes
        frames.append(pairs)
    return pd.concat(frames, ignore_index=True)


def accuracy(data: PairData) -> float:
    test = data.part("test")
    return float(((bradley_terry(data, recipe_features) >= 0.5) == first_wins(test)).mean())


def test_a_signal_of_the_recipes_is_found() -> None:
    data = with_pairs(learnable(240, 0))
    assert accuracy(data) > 0.9
    flat = data.pairs.assign(recipe_1=[RECIPE_A] * len(data.pairs), recipe_2=[RECIPE_A] * len(data.pairs))
    assert accuracy(with_pairs(flat)) < 0.65


def test_turning_a_pair_turns_the_answer() -> None:
    """Whatever was learned, the log-odds of the pair in the other order are the negative ones."""
    pairs = learnable(60, 1)
    found = bradley_terry(with_pairs(pairs), recipe_features)
    turned = pairs.rename(
        columns=lambda name: name[:-1] + {"1": "2", "2": "1"}[name[-1]] if name[-1:] in "12" else name
    )
    test = (pairs["split"] == "test").to_numpy()
    mixed = pd.concat([pairs[~test], turned[test]], ignore_index=True)[list(pairs.columns)]
    again = bradley_terry(with_pairs(mixed), recipe_features)
    # The prior does not know turned pairs (0.5): only the scores' difference is left, of the opposite sign.
    known = with_pairs(pairs)
    offset = log_odds(kind_prior(known.part("train"), known.part("test"), {}))
    assert log_odds(again) == pytest.approx(-(log_odds(found) - offset), abs=1e-9)


def test_answers_of_the_test_pairs_are_not_looked_at() -> None:
    data = with_pairs(learnable(60, 2))
    other = data.pairs.copy()
    test = other["split"] == "test"
    other.loc[test, "better_dataset"] = other.loc[test, "dataset_1"]
    assert np.array_equal(bradley_terry(data, recipe_features), bradley_terry(with_pairs(other), recipe_features))


def test_the_same_again() -> None:
    data = with_pairs(learnable(60, 3))
    assert np.array_equal(bradley_terry(data, recipe_features), bradley_terry(data, recipe_features))


def test_sides_are_numbered_once() -> None:
    pairs = pair_rows([("a", "cifar-10", "mnist", "mnist"), ("a", "cifar-10", "svhn", "svhn")])
    sides = Sides()
    assert sides.of(pairs).tolist() == [[0, 0], [1, 2]]
    assert sides.of(pairs.iloc[1:]).tolist() == [[0], [2]]
    assert [(one.nn, one.dataset) for one in sides.items] == [("a", "cifar-10"), ("a", "mnist"), ("a", "svhn")]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(5, 9), st.booleans(), st.floats(0.1, 3)), min_size=1, max_size=9)
)
def test_the_gradient_is_that_of_the_loss(rows: list[tuple[int, int, bool, float]]) -> None:
    first, second, won, weight = (np.array(column) for column in zip(*rows, strict=True))
    contest = Contest(np.stack([first, second]), won, weight, np.linspace(-1, 1, len(rows)))
    scores = np.sin(np.arange(10.0))
    slope, curve = contest.gradient(scores)
    for i in range(10):
        step = np.zeros(10)
        step[i] = 1e-4
        up, down, here = contest.loss(scores + step), contest.loss(scores - step), contest.loss(scores)
        assert slope[i] == pytest.approx((up - down) / 2e-4, abs=1e-5)
        assert curve[i] == pytest.approx((up - 2 * here + down) / 1e-8, abs=1e-4, rel=1e-2)


def test_a_ridge_regression_is_the_penalised_optimum() -> None:
    rng = np.random.default_rng(0)
    features, sides = rng.normal(size=(40, 3)), rng.integers(0, 40, (2, 300))
    won = rng.random(300) < sigmoid((features[sides[0]] - features[sides[1]]) @ np.array([1.0, -0.5, 0.0]))
    contest = Contest(sides, won, np.ones(300), np.zeros(300))
    weak, strong = (np.linalg.lstsq(features, one, rcond=None)[0] for one in ridge_scores(features, contest, (1, 1000)))
    assert weak == pytest.approx([1.0, -0.5, 0.0], abs=0.35)
    assert np.linalg.norm(strong) < 0.5 * np.linalg.norm(weak)
    slope = features.T @ contest.gradient(features @ weak)[0] + weak
    assert np.abs(slope).max() < 0.05


def test_inner_folds_choose_between_trees_and_a_ridge_regression() -> None:
    data = with_pairs(learnable(240, 0))
    noise = np.random.default_rng(0).normal(size=(10_000, 1))

    def line(_: PairData, sides: Sequence[Side]) -> np.ndarray:
        return np.array([[np.log10(one.recipe["lr"])] for one in sides])

    wins = first_wins(data.part("test"))
    assert (((bradley_terry(data, lambda _, sides: noise[: len(sides)], line)) >= 0.5) == wins).mean() > 0.95
    assert (((bradley_terry(data, line, lambda _, sides: noise[: len(sides)])) >= 0.5) == wins).mean() > 0.95


@given(st.floats(1e-9, 1 - 1e-9))
def test_log_odds_and_back(p: float) -> None:
    assert sigmoid(log_odds(np.array([p])))[0] == pytest.approx(p)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("a", "mnist", "svhn", "mnist")],
        [("a", "mnist", "svhn", "mnist"), ("b", "mnist", "svhn", "mnist")],
        [("a", "cifar-10", "mnist", "mnist"), ("a", "mnist", "svhn", "mnist"), ("b", "cifar-10", "svhn", "svhn")],
    ],
)
@pytest.mark.parametrize("features", [recipe_features, structure_features])
def test_tiny_training_sets_and_missing_values(rows, features) -> None:
    asked = pair_rows([("z", "mnist", "svhn", "mnist"), ("z", "celeba-gender", "places365", "places365")], "test")
    asked["recipe_1"] = [{"lr": None, "batch": None, "momentum": None, "dropout": None, "transform": None}] * 2
    pairs = pd.concat([pair_rows(rows), asked], ignore_index=True) if rows else asked
    data = with_pairs(pairs, sources=dict.fromkeys("abz", "class Net: pass\n"))
    found = bradley_terry(data, features)
    assert found.shape == (2,)
    assert ((found > 0) & (found < 1)).all()
    nothing = replace(data, pairs=pairs[pairs["split"] == "train"])
    assert bradley_terry(nothing, features).shape == (0,)


def test_families_that_weigh_little_never_choose_the_number_of_trees() -> None:
    names = np.array(["a", "b", "c", "d", "g", "g"], dtype=object)
    data = with_pairs(learnable(3, 0), weights={"g": 0.1}, families={"a": "f", "b": "f", "c": "h", "d": "i", "g": "G"})
    fold = _inner_folds(data, names)
    assert fold[4] == fold[5] == -1
    assert fold[0] == fold[1]  # one family
    assert sorted({*fold[:4]}) == [0, 1, 2]


def test_on_real_pairs(lemur) -> None:
    """A third of LEMUR, by_network: the recipes' numbers carry more than the boosted trees on pairs of recipes find."""
    pairs, sources = lemur
    data = with_pairs(pairs.reset_index(drop=True), sources=sources)
    test = data.part("test")
    gbm = ((recipe_gbm(data.training, test) >= 0.5) == first_wins(test)).mean()
    assert accuracy(data) > gbm + 0.005
