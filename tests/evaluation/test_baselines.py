"""The baselines: what they may learn from, what they reach on real pairs, and odd training sets."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from nngpt_ext.evaluation.baselines import code_gbm, pair_prior, recipe_gbm
from nngpt_ext.evaluation.baselines.trees import MAX_TRANSFORMS, _code_features
from nngpt_ext.evaluation.statistics import bootstrap_networks

from .conftest import pair_rows


def right(probability: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    return (probability >= 0.5) == (pairs["better_dataset"] == pairs["dataset_1"]).to_numpy()


def learnable(n: int, seed: int, by: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Pairs whose answer is told by one word of the source, or by dataset_1's learning rate, only."""
    generator = np.random.default_rng(seed)
    wins = generator.random(n) < 0.5
    pairs = pair_rows([(f"s{seed}n{i}", "cifar-10", "mnist", "cifar-10" if w else "mnist") for i, w in enumerate(wins)])
    if by == "recipe":
        for recipe, win in zip(pairs["recipe_1"], wins, strict=True):
            recipe["lr"] = float(10 ** (generator.uniform(-2, -1) if win else generator.uniform(-5, -4)))
    words = [
        f"class Net: {'Conv2d BatchNorm2d' if w and by == 'code' else 'Linear Dropout'} common x{i}"
        for i, w in enumerate(wins)
    ]
    return pairs, dict(zip(pairs["nn"], words, strict=True))


def test_prior_is_the_smoothed_share():
    mnist_svhn = [
        ("a", "mnist", "svhn", "mnist"),
        ("b", "mnist", "svhn", "mnist"),
        ("c", "mnist", "svhn", "svhn"),
    ]
    cifar_svhn = [("a", "cifar-10", "svhn", "svhn"), ("b", "cifar-10", "svhn", "cifar-10")]
    train = pair_rows([*mnist_svhn, ("a", "cifar-10", "mnist", "mnist"), *cifar_svhn])
    seen = [
        ("z", "cifar-10", "mnist", "mnist"),
        ("z", "mnist", "svhn", "mnist"),
        ("z", "cifar-10", "svhn", "svhn"),
    ]
    asked = pair_rows([*seen, ("z", "celeba-gender", "svhn", "svhn")])
    # (0+1)/(1+2), (2+1)/(3+2), (1+1)/(2+2), never seen.
    assert pair_prior(train, asked).tolist() == [1 / 3, 3 / 5, 0.5, 0.5]


def test_prior_does_not_look_at_answers_it_judges():
    train, asked = (
        pair_rows([("a", "mnist", "svhn", "mnist")]),
        pair_rows([("z", "mnist", "svhn", "mnist")] * 9),
    )
    flipped = asked.assign(better_dataset="svhn")
    assert pair_prior(train, asked).tolist() == pair_prior(train, flipped).tolist() == [2 / 3] * 9


@pytest.mark.parametrize("by", ["code", "recipe"])
def test_a_signal_is_found_only_where_it_is(by):
    train, sources = learnable(300, 0, by)
    test, more = learnable(200, 1, by)
    scores = {
        "code": right(code_gbm(train, test, sources | more), test).mean(),
        "recipe": right(recipe_gbm(train, test), test).mean(),
    }
    other = "recipe" if by == "code" else "code"
    assert scores[by] > 0.95
    assert scores[other] < 0.65


def test_nothing_is_fitted_on_what_is_judged():
    train, sources = learnable(120, 0, "code")
    test, more = learnable(60, 1, "code")
    whole = code_gbm(train, test, sources | more)
    one = test.iloc[[7]]
    # Alone, beside other sources and with other answers, a row gets the same probability.
    changed = {nn: text + " torch attention unseen" * 9 for nn, text in more.items()} | {
        one["nn"].iloc[0]: more[one["nn"].iloc[0]]
    }
    assert code_gbm(train, one, sources | changed) == pytest.approx(whole[[7]])
    assert code_gbm(train, test.assign(better_dataset="mnist"), sources | changed)[7] == pytest.approx(whole[7])
    assert recipe_gbm(train, one) == pytest.approx(recipe_gbm(train, test)[[7]])


def test_words_are_weighted_by_training_networks_only():
    _, sources = learnable(40, 0, "code")
    known = list(sources.values())
    fitted, alone = _code_features(known, ["Linear common x1"], seed=0)
    again, beside = _code_features(known, ["Linear common x1", *["Linear torch"] * 50], seed=0)
    assert np.array_equal(fitted, again)
    assert beside[0] == pytest.approx(alone[0], abs=1e-6)


def test_same_seed_same_probabilities():
    train, sources = learnable(80, 0, "recipe")
    test, more = learnable(20, 1, "recipe")
    assert np.array_equal(recipe_gbm(train, test, seed=3), recipe_gbm(train, test, seed=3))
    assert np.array_equal(code_gbm(train, test, sources | more), code_gbm(train, test, sources | more))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("a", "mnist", "svhn", "mnist")],
        [("a", "mnist", "svhn", "mnist"), ("b", "mnist", "svhn", "mnist")],  # one answer only
        [("a", "mnist", "svhn", "mnist"), ("b", "mnist", "svhn", "svhn")],
        [
            ("a", "cifar-10", "mnist", "mnist"),
            ("a", "mnist", "svhn", "mnist"),
            ("a", "cifar-10", "svhn", "svhn"),
        ],
    ],
)
@pytest.mark.parametrize("text", ["", "x", "import torch\nclass Net: pass\n"])
def test_tiny_training_sets(rows, text):
    empty = pair_rows([("a", "mnist", "svhn", "mnist")]).iloc[:0]
    train = pair_rows(rows) if rows else empty
    asked = pair_rows([("z", "mnist", "svhn", "mnist"), ("z", "celeba-gender", "places365", "places365")])
    sources = {"a": text, "b": text, "z": "def forward(self, x): return x"}
    for probability in (pair_prior(train, asked), code_gbm(train, asked, sources), recipe_gbm(train, asked)):
        assert probability.shape == (2,)
        assert ((probability >= 0) & (probability <= 1)).all()
    for probability in (code_gbm(train, asked.iloc[:0], sources), recipe_gbm(train, asked.iloc[:0])):
        assert probability.shape == (0,)


def test_one_answer_only_falls_back_to_the_prior():
    train = pair_rows([(f"n{i}", "mnist", "svhn", "mnist") for i in range(50)])
    assert recipe_gbm(train, train.iloc[:1]).tolist() == [51 / 52]


def test_what_recipes_lack_and_rare_transforms():
    train, _ = learnable(400, 0, "recipe")
    for i, recipe in enumerate(train["recipe_2"]):
        recipe.update({"momentum": None, "dropout": None, "transform": f"t{i % (MAX_TRANSFORMS + 30)}"})
    test, _ = learnable(50, 1, "recipe")
    for i, recipe in enumerate(test["recipe_2"]):
        recipe.update({"lr": [0.0, None, 0.1][i % 3], "batch": None, "transform": ["never seen", None][i % 2]})
    assert right(recipe_gbm(train, test), test).mean() > 0.95


def test_missing_sources_are_named():
    train, sources = learnable(10, 0, "code")
    with pytest.raises(ValueError, match="ghost"):
        code_gbm(train, pair_rows([("ghost", "mnist", "svhn", "mnist")]), sources)


def test_on_real_pairs(lemur):
    """A third of LEMUR: the recipes carry a signal, the source code none beyond the prior."""
    pairs, sources = lemur
    train, test = pairs[pairs["split"] == "train"], pairs[pairs["split"] == "test"]
    assert not set(train["nn"]) & set(test["nn"])
    prior = right(pair_prior(train, test), test).astype(int)
    recipe = right(recipe_gbm(train, test), test).astype(int)
    code = right(code_gbm(train, test, sources), test).astype(int)
    assert 0.75 < prior.mean() < 0.87
    assert bootstrap_networks(recipe - prior, test["nn"])[0] > 0.02
    assert bootstrap_networks(code - prior, test["nn"])[0] < 0.01
    assert abs(code.mean() - prior.mean()) < 0.05


def test_threads_change_nothing(lemur):
    """The last digits of the decomposition decide splits, and with them an accuracy."""
    texts = list(lemur[1].values())[:400]
    features = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            features.append(_code_features(texts[:300], texts[300:], seed=0))
    for one, two in zip(*features, strict=True):
        assert np.array_equal(one, two)


FEATURES = """
import json, sys
from threadpoolctl import threadpool_info
from nngpt_ext.evaluation.baselines.trees import _code_features
texts = json.load(sys.stdin)
fitted, asked = _code_features(texts[:300], texts[300:], seed=0)
print(sorted(i["architecture"] for i in threadpool_info() if i["internal_api"] == "openblas"))
print(fitted.tobytes().hex(), asked.tobytes().hex())
"""


def test_another_processor_changes_nothing(lemur):
    """OpenBLAS has other arithmetic for each processor: unrounded features gave 0.823 on one, 0.8255 on another."""
    if platform.machine() != "x86_64":
        pytest.skip("these are processors of x86-64")
    texts = json.dumps(list(lemur[1].values())[:400])
    printed = []
    for processor in ("Nehalem", "Haswell"):
        environment = {**os.environ, "OPENBLAS_CORETYPE": processor, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.check_output([sys.executable, "-c", FEATURES], input=texts, text=True, env=environment)
        printed.append(done.split("\n"))
    one, other = printed
    if one[0] == other[0]:
        pytest.skip("numpy's linear algebra is not OpenBLAS")
    assert one[1] == other[1]
